//! `fine-tuning`: go on training the suspect model on a small trusted set.
//!
//! The baseline of Kang Liu, Brendan Dolan-Gavitt, Siddharth Garg: "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
//! Networks", RAID 2018, <https://arxiv.org/abs/1805.12185>.
//!
//! # Assumptions
//! The defender has the model and a few clean, correctly labelled samples; it knows neither trigger nor target.
//!
//! # Rule
//! ```text
//! theta <- theta - lr grad L(f_theta(x), y)      for (x, y) in the trusted set, `epochs` times
//! ```
//!
//! # Where this differs from the paper
//! - The trusted set is `trusted` of the clean training set, drawn from a named stream (the published benchmark reserves 5 % too).
//! - Stochastic gradient descent with momentum 0.9, weight decay 5e-4, learning rate 0.01 and cosine decay, whatever the suspect was
//!   trained with: the benchmark's setting; its 100 epochs are 10 here, for laptops.
//! - Batch size, label smoothing and augmentation are those of the recipe by which the suspect was trained.
//!
//! # Verified against
//! The tests below: a model with planted wrong behaviour is repaired, a clean one keeps its accuracy.

use theriac_core::{Dataset, Facts, Hook, MethodInfo, Paper, ParamError, Range, Values, config, threat::samples_at};
use theriac_nn::Network;
use theriac_train::{Optimizer, Schedule, TrainConfig, TrainingSet, train};

use crate::{Defense, DefenseEntry, DefenseError, RepairContext};

config! {
    /// Parameters of `fine-tuning`.
    pub struct FineTuning {
        /// Size of the trusted set.
        trusted: f64 = 0.05, Range::Above(0.0, 1.0), "of the training set";
        /// Passes over the trusted set.
        epochs: usize = 10, Range::Whole(1, 10_000), "epochs";
        /// Largest learning rate, cosine to zero.
        lr: f64 = 0.01, Range::Above(0.0, 10.0), "";
    }
}

impl Defense for FineTuning {
    fn repair(&self, context: &RepairContext) -> Result<Network, DefenseError> {
        let pool: Vec<usize> = (0..context.trusted.len()).collect();
        let count = samples_at(self.trusted, pool.len()).max(2);
        let chosen = context.seeds.stream("trusted").choose(&pool, count);
        let trusted = context.trusted.select(&chosen);
        fine_tune(context, &trusted, self.epochs, self.lr)
    }
}

/// Goes on training the suspect model on `data`, by the rule and the recipe above.
pub(crate) fn fine_tune(
    context: &RepairContext,
    data: &Dataset,
    epochs: usize,
    lr: f64,
) -> Result<Network, DefenseError> {
    let recipe = TrainConfig {
        epochs,
        lr,
        schedule: Schedule::Cosine,
        optimizer: Optimizer::Sgd,
        // Another optimizer's values of these two mean something else.
        momentum: 0.9,
        weight_decay: 5e-4,
        curve: false,
        ..context.recipe.clone()
    };
    let set = TrainingSet { train: data, test: data, probe: None };
    Ok(train(context.model.clone(), set, &recipe.into(), context.seeds, context.session)?.network)
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "fine-tuning",
        &[Hook::Repair],
        "Goes on training the suspect model on a small trusted set.",
        &[Paper {
            cite: "Liu et al. 2018",
            title: "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks",
            link: "https://arxiv.org/abs/1805.12185",
        }],
        FineTuning::PARAMS,
    )
    .at_version(2),
    check,
};

fn check(values: &Values, _facts: &Facts) -> Result<Box<dyn Defense>, Vec<ParamError>> {
    Ok(Box::new(FineTuning::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{stripes, toy_network};
    use theriac_core::{ChangeSet, Role, Seeds, Stage};

    fn accuracy(network: &Network, data: &Dataset) -> f64 {
        theriac_core::metrics::accuracy(&network.predict(data), &data.labels()).unwrap()
    }

    fn fit(data: &Dataset) -> Network {
        let recipe = TrainConfig { epochs: 6, batch: 32, ..TrainConfig::default() };
        let set = TrainingSet { train: data, test: data, probe: None };
        train(toy_network(data), set, &recipe.into(), &Seeds::new(1), &()).unwrap().network
    }

    fn repair(model: &Network, trusted: &Dataset) -> Network {
        repair_by(&TrainConfig { batch: 16, ..TrainConfig::default() }, model, trusted)
    }

    fn repair_by(recipe: &TrainConfig, model: &Network, trusted: &Dataset) -> Network {
        let (seeds, removed) = (Seeds::new(4), trusted.select(&[]));
        let context =
            RepairContext { model, trusted, removed: &removed, inspection: None, recipe, seeds: &seeds, session: &() };
        FineTuning { trusted: 0.3, epochs: 15, lr: 0.05 }.repair(&context).unwrap()
    }

    #[test]
    fn it_repairs_a_poisoned_model_keeps_a_clean_one_and_is_deterministic() {
        let (clean, test) = (stripes(300, 1), stripes(200, 2));
        let mut flips = ChangeSet::new("test", Role::Annotator, Stage::Label);
        clean.of_class(0).into_iter().for_each(|index| flips.relabel(&clean, index, 1));
        let poisoned = fit(&flips.apply(&clean).unwrap());
        let honest = fit(&clean);
        assert!(accuracy(&poisoned, &test) < 0.75);
        let repaired = repair(&poisoned, &clean);
        assert!(accuracy(&repaired, &test) > 0.9, "{}", accuracy(&repaired, &test));
        assert!(accuracy(&repair(&honest, &clean), &test) > accuracy(&honest, &test) - 0.03);
        assert_eq!(repair(&poisoned, &clean).encode(), repaired.encode());
    }

    #[test]
    fn the_optimizer_of_the_suspect_does_not_matter_but_its_batches_do() {
        let data = stripes(60, 1);
        let (model, batch) = (toy_network(&data), 16);
        let plain = repair(&model, &data).encode();
        let adam = TrainConfig {
            optimizer: Optimizer::Adam,
            momentum: 0.5,
            weight_decay: 0.3,
            lr: 1e-3,
            batch,
            ..TrainConfig::default()
        };
        assert_eq!(repair_by(&adam, &model, &data).encode(), plain);
        assert_ne!(repair_by(&TrainConfig { batch: 8, ..adam }, &model, &data).encode(), plain);
    }
}
