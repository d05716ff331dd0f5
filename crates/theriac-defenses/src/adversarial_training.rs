//! `adversarial-training`: train on adversarial examples made on the fly.
//!
//! Aleksander Madry, Aleksandar Makelov, Ludwig Schmidt, Dimitris Tsipras, Adrian Vladu: "Towards Deep Learning Models Resistant to
//! Adversarial Attacks", ICLR 2018, <https://arxiv.org/abs/1706.06083>.
//!
//! # Assumptions
//! The defender controls training and needs no clean data. Poison within the bound loses its meaning; a large patch trigger does not.
//!
//! # Rule
//! ```text
//! min_theta  E_(x, y)  max_{|x' - x|_inf <= epsilon}  L(f_theta(x'), y)
//! ```
//! with the inner maximum by projected gradient descent from a random start.
//!
//! # Where this differs from the paper
//! - The paper defends against adversarial examples at test time. That the same training also weakens poison is an observation of later
//!   work; methods made for it, which train on poison of their own making, are not this one.
//! - `share` mixes clean and adversarial samples in one batch; the paper's 1.0 is the default.
//! - Default `epsilon` 8/255 and 7 steps of `2.5 epsilon / steps`, the paper's CIFAR-10 setting up to the step length (2/255 there).
//! - The inner maximum is taken in evaluation mode of batch normalisation, so that its statistics see each batch once.
//!
//! # Verified against
//! `scripts/verify/adversarial.py`: three epochs in PyTorch in double precision, with the same weights, draws and batches; see the record.
//! Robustness by the test below.

use theriac_core::seed::Stream;
use theriac_core::{Facts, Hook, MethodInfo, Paper, ParamError, Range, Values, Verified, config};
use theriac_nn::Network;
use theriac_nn::burn::tensor::Tensor;
use theriac_train::{BatchHook, Direction, Minibatch, Pgd, Recipe};

use crate::{Defense, DefenseEntry, DefenseError};

config! {
    /// Parameters of `adversarial-training`.
    pub struct AdversarialTraining {
        /// Largest change of one pixel.
        epsilon: u8 = 8u8, Range::Whole(1, 255), "of 255";
        /// Steps of projected gradient descent for each batch.
        steps: usize = 7, Range::Whole(1, 1000), "steps";
        /// Adversarial part of each batch.
        share: f64 = 1.0, Range::Above(0.0, 1.0), "of the batch";
    }
}

impl Defense for AdversarialTraining {
    fn train(&self, recipe: &mut Recipe) -> Result<(), DefenseError> {
        recipe.hooks.push(Box::new(self.clone()));
        Ok(())
    }
}

impl BatchHook for AdversarialTraining {
    fn apply(&self, network: &Network, batch: Minibatch, stream: &mut Stream) -> Minibatch {
        let Minibatch { images, labels, mixed } = batch;
        let pgd = Pgd::of(self.epsilon, self.steps);
        let count = ((labels.len() as f64 * self.share).round() as usize).clamp(1, labels.len());
        let attacked = images.clone().narrow(0, 0, count);
        let attacked = pgd.perturb(network, attacked, &labels[..count], Direction::Away, stream);
        let images = match labels.len() - count {
            0 => attacked,
            rest => Tensor::cat(vec![attacked, images.narrow(0, count, rest)], 0),
        };
        Minibatch { images, labels, mixed }
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "adversarial-training",
        &[Hook::Train],
        "Trains on adversarial examples that are made afresh for every batch.",
        &[Paper {
            cite: "Madry et al. 2018",
            title: "Towards Deep Learning Models Resistant to Adversarial Attacks",
            link: "https://arxiv.org/abs/1706.06083",
        }],
        AdversarialTraining::PARAMS,
    )
    .verified(&[Verified {
        against: "PyTorch 2.15 in double precision, a tiny `cnn` and a tiny `resnet` on 12 images, four fifths of each batch adversarial \
                  (scripts/verify/adversarial.py)",
        agreement: "the first batch to 3.4e-8, all weights after three epochs to 2.5e-7",
    }]),
    check,
};

fn check(values: &Values, _facts: &Facts) -> Result<Box<dyn Defense>, Vec<ParamError>> {
    Ok(Box::new(AdversarialTraining::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Golden, stripes, toy_network};
    use theriac_core::{Dataset, Seeds};
    use theriac_nn::Batch;
    use theriac_train::{Schedule, TrainConfig, TrainingSet, train};

    fn trained(defended: bool, data: &Dataset) -> Network {
        let config = TrainConfig { epochs: 8, batch: 32, ..TrainConfig::default() };
        let mut recipe = Recipe::from(config);
        if defended {
            let defense = AdversarialTraining { epsilon: 40, steps: 4, share: 1.0 };
            defense.train(&mut recipe).unwrap();
        }
        let set = TrainingSet { train: data, test: data, probe: None };
        train(toy_network(data), set, &recipe, &Seeds::new(1), &()).unwrap().network
    }

    /// Mean loss under an untargeted attack of the size trained against, and accuracy without one.
    fn attacked_and_clean(network: &Network, data: &Dataset) -> (f64, f64) {
        let pgd = Pgd { step_size: 10.0 / 255.0, ..Pgd::of(40, 10) };
        let indices: Vec<usize> = (0..data.len()).collect();
        let images = Batch::gather(data, &indices).to_tensor(&network.device);
        let mut stream = Seeds::new(2).stream("attack");
        let attacked = pgd.perturb(network, images, &data.labels(), Direction::Away, &mut stream);
        let attacked = network.logits_of(&Batch::from_tensor(attacked));
        let loss = theriac_nn::losses(&attacked, &data.labels()).iter().sum::<f64>() / data.len() as f64;
        (loss, theriac_core::metrics::accuracy(&network.predict(data), &data.labels()).unwrap())
    }

    #[test]
    fn it_makes_a_network_robust_without_ruining_it_and_is_deterministic() {
        let data = stripes(300, 1);
        let (plain, _) = attacked_and_clean(&trained(false, &data), &data);
        let (robust, clean) = attacked_and_clean(&trained(true, &data), &data);
        assert!(robust < plain / 2.0 && clean > 0.9, "loss under attack {plain} -> {robust}, clean accuracy {clean}");
        assert_eq!(trained(true, &data).encode(), trained(true, &data).encode());
    }

    #[test]
    fn batches_and_weights_are_those_of_pytorch() {
        use crate::repairing::testing::{assert_near, assert_weights, golden_data, golden_networks};
        let tables = [
            include_str!("../tests/golden/adversarial_training_cnn.csv"),
            include_str!("../tests/golden/adversarial_training_resnet.csv"),
        ];
        let (data, seeds) = (golden_data(), Seeds::new(1));
        for (text, [network, _]) in tables.into_iter().zip(golden_networks()) {
            let rows = Golden::table(text);
            let defense = AdversarialTraining { share: 0.8, ..AdversarialTraining::default() };
            let mut order: Vec<usize> = (0..data.len()).collect();
            seeds.stream("train/order/0").shuffle(&mut order);
            let labels = order[..5].iter().map(|&sample| data.label(sample)).collect();
            let first = Minibatch::new(Batch::gather(&data, &order[..5]).into_tensor(&network.device), labels);
            let first = defense.apply(&network, first, &mut seeds.stream("train/hook/0")).images;
            let first: Vec<f64> = Batch::from_tensor(first).pixels.into_iter().map(f64::from).collect();
            assert_near(&first, &rows[0], 1e-6, "the first batch");
            let config = TrainConfig { epochs: 3, batch: 5, schedule: Schedule::Constant, ..TrainConfig::default() };
            let mut recipe = Recipe::from(config);
            defense.train(&mut recipe).unwrap();
            let set = TrainingSet { train: &data, test: &data, probe: None };
            assert_weights(&train(network, set, &recipe, &seeds, &()).unwrap().network, &rows[1..]);
        }
    }

    #[test]
    fn only_the_share_is_perturbed() {
        let data = stripes(10, 1);
        let network = toy_network(&data);
        let indices: Vec<usize> = (0..10).collect();
        let clean = Batch::gather(&data, &indices);
        let defense = AdversarialTraining { share: 0.3, ..AdversarialTraining::default() };
        let mut stream = Seeds::new(3).stream("hook");
        let batch = Minibatch::new(clean.to_tensor(&network.device), data.labels());
        let images = Batch::from_tensor(defense.apply(&network, batch, &mut stream).images);
        let size = clean.shape.len();
        let differs = |at: usize| clean.pixels[at * size..][..size] != images.pixels[at * size..][..size];
        assert_eq!((0..10).map(differs).collect::<Vec<_>>(), [[true; 3].as_slice(), &[false; 7]].concat());
    }
}
