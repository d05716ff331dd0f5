//! What the repairing defenses share: the samples that the defender has, and training on them.

use theriac_core::metrics::accuracy;
use theriac_core::{Dataset, Seeds, Session, threat::samples_at};
use theriac_nn::Network;
use theriac_train::{Optimizer, Recipe, Schedule, TrainConfig, TrainingSet, train};

use crate::{DefenseError, RepairContext};

/// The samples that the defender has: `share` of `clean`, the clean training set, at least two, drawn from the stream `trusted`.
pub(crate) fn trusted(clean: &Dataset, seeds: &Seeds, share: f64) -> Dataset {
    let pool: Vec<usize> = (0..clean.len()).collect();
    let count = samples_at(share, pool.len()).max(2);
    clean.select(&seeds.stream("trusted").choose(&pool, count))
}

/// Stochastic gradient descent with momentum 0.9 and cosine decay, whatever the suspect was trained with: another optimizer's values mean
/// something else. Batches, label smoothing and augmentation are the suspect's.
pub(crate) fn tuning(context: &RepairContext, epochs: usize, lr: f64, weight_decay: f64) -> TrainConfig {
    TrainConfig {
        epochs,
        lr,
        schedule: Schedule::Cosine,
        optimizer: Optimizer::Sgd,
        momentum: 0.9,
        nesterov: false,
        weight_decay,
        ..context.recipe.unmeasured()
    }
}

/// `model` after a training on `data`.
pub(crate) fn tuned(
    model: &Network,
    data: &Dataset,
    recipe: &Recipe,
    seeds: &Seeds,
    session: &dyn Session,
) -> Result<Network, DefenseError> {
    let set = TrainingSet { train: data, test: data, probe: None };
    Ok(train(model.clone(), set, recipe, seeds, session)?.network)
}

/// The share of `data` that `model` answers as they are labelled; 0 without data.
pub(crate) fn share_correct(model: &Network, data: &Dataset) -> f64 {
    accuracy(&model.predict(data), &data.labels()).unwrap_or(0.0)
}

#[cfg(test)]
pub(crate) mod testing;
