//! `fine-pruning`: cut the channels that clean data leave asleep, then go on training on these data.
//!
//! Kang Liu, Brendan Dolan-Gavitt, Siddharth Garg: "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks",
//! RAID 2018, <https://arxiv.org/abs/1805.12185>.
//!
//! # Assumptions
//! The defender has the model and a few clean, correctly labelled samples; it knows neither trigger nor target. The backdoor has
//! channels of its own, which clean data do not wake. An attacker who knows of this puts both into the same channels; for that case the
//! paper adds the training.
//!
//! # Rule
//! ```text
//! a_c   = mean over trusted images and places of |channel c of the last convolution|
//! prune channels by ascending a_c while the accuracy on the trusted set is at least its first value - drop
//! theta <- theta - lr grad L(f_theta(x), y)      for (x, y) in the trusted set, `epochs` times; pruned channels stay pruned
//! ```
//!
//! # Where this differs from the paper
//! - A channel is pruned where it is read: its weights in the linear layer that follows are held at zero.
//! - `|.|`: the paper's channels have passed a ReLU and are never negative. Those of `resnet` are sums of a convolution and a shortcut
//!   without one; a strongly negative channel is not asleep.
//! - The convolution of `cnn` is followed by max-pooling, so its places are those that pooling leaves. `mlp` has no convolution: its
//!   last hidden layer takes that place.
//! - One channel at a time, or a 64th of all where there are more than 64: each try asks the network for the whole trusted set.
//! - The accuracy is taken on the trusted set, the only clean data there are. The paper accepts 4 %,
//!   the default is 1 %.
//! - The training is that of `fine-tuning`; the paper gives no settings.
//!
//! # Verified against
//! `scripts/verify/repairs.py`, a tiny `cnn` and a tiny `resnet`: mean activations are those of PyTorch to 1e-5, all weights after two
//! channels were pruned and 5 steps made to 1e-4.
//!
//! # When it fails
//! Where the backdoor sits in channels that clean data use, pruning finds nothing, and what helps is the training alone. The measured
//! effect is in `experiments/repairs`.

use std::collections::BTreeMap;

use theriac_core::{Dataset, Facts, Hook, MethodInfo, Paper, ParamError, Range, Values, Verified, config};
use theriac_nn::burn::tensor::Tensor;
use theriac_nn::parameters::{self, Parameter};
use theriac_nn::{Batch, Network, forward_maps};
use theriac_train::Recipe;

use crate::{Defense, DefenseEntry, DefenseError, RepairContext, repairing};

/// Images that are looked at together.
const TOGETHER: usize = 250;
/// Tries of which pruning takes no more, give or take one.
const TRIES: usize = 64;

config! {
    /// Parameters of `fine-pruning`.
    pub struct FinePruning {
        /// Size of the trusted set.
        trusted: f64 = 0.05, Range::Above(0.0, 1.0), "of the training set";
        /// What pruning may cost in accuracy on the trusted set.
        drop: f64 = 0.01, Range::Number(0.0, 1.0), "of all answers";
        /// Passes over the trusted set after pruning.
        epochs: usize = 50, Range::Whole(1, 10_000), "epochs";
        /// Largest learning rate of these, cosine to zero.
        lr: f64 = 0.1, Range::Above(0.0, 10.0), "";
        /// Strength of the L2 penalty, which is all that moves a model where it already fits the trusted set.
        weight_decay: f64 = 0.01, Range::Number(0.0, 10.0), "";
    }
}

/// The mean absolute activation of each channel of the last convolution, or of each neuron of the last hidden layer.
pub fn activity(model: &Network, data: &Dataset) -> Vec<f64> {
    let indices: Vec<usize> = (0..data.len()).collect();
    let mut sums: Vec<f64> = Vec::new();
    for chunk in indices.chunks(TOGETHER) {
        let images = Batch::gather(data, chunk).into_tensor(&model.device);
        let (taps, mut maps) = forward_maps(&model.module, &model.normalisation, images);
        let last: Tensor<2> = match maps.pop() {
            Some(map) => map.abs().mean_dims(&[1, 2]).flatten(1, 3), // [batch, channels]
            None => taps.features.abs(),
        };
        let means = last.sum_dim(0).into_data_as::<f32>().try_to_vec::<f32>().expect("the data were converted to f32");
        sums.resize(means.len(), 0.0);
        sums.iter_mut().zip(means).for_each(|(sum, mean)| *sum += f64::from(mean));
    }
    sums.iter().map(|sum| sum / data.len() as f64).collect()
}

/// Factors that silence `channels`, of `all`, where they are read.
pub fn silence(model: &Network, channels: &[usize], all: usize) -> BTreeMap<String, Parameter> {
    let ending = format!("{}.weight", model.module.reader());
    let weights = parameters::read(&model.module).into_iter().find(|(name, _)| name.ends_with(&ending));
    let (name, mut factors) = weights.expect("every architecture has the layer that it names");
    let columns = factors.shape[1];
    for (row, values) in factors.values.chunks_exact_mut(columns).enumerate() {
        values.fill(if channels.contains(&(row % all)) { 0.0 } else { 1.0 });
    }
    [(name, factors)].into()
}

impl FinePruning {
    /// The model without its most dormant channels, and the factors that keep them out.
    fn prune(&self, model: &Network, trusted: &Dataset) -> (Network, BTreeMap<String, Parameter>) {
        let activity = activity(model, trusted);
        let all = activity.len();
        let mut order: Vec<usize> = (0..all).collect();
        order.sort_by(|&a, &b| activity[a].total_cmp(&activity[b]));
        let least = repairing::share_correct(model, trusted) - self.drop;
        let mut best = (model.clone(), BTreeMap::new());
        for count in (1..all).step_by(all.div_ceil(TRIES)) {
            let factors = silence(model, &order[..count], all);
            let pruned = Network { module: parameters::scale(model.module.clone(), &factors), ..model.clone() };
            if repairing::share_correct(&pruned, trusted) < least {
                break;
            }
            best = (pruned, factors);
        }
        best
    }
}

impl Defense for FinePruning {
    fn repair(&self, context: &RepairContext) -> Result<Network, DefenseError> {
        let trusted = repairing::trusted(context.trusted, context.seeds, self.trusted);
        let (pruned, keep) = self.prune(context.model, &trusted);
        let recipe = Recipe { keep, ..repairing::tuning(context, self.epochs, self.lr, self.weight_decay).into() };
        repairing::tuned(&pruned, &trusted, &recipe, context.seeds, context.session)
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "fine-pruning",
        &[Hook::Repair],
        "Prunes the channels that clean data leave asleep, then goes on training.",
        &[Paper {
            cite: "Liu et al. 2018",
            title: "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks",
            link: "https://arxiv.org/abs/1805.12185",
        }],
        FinePruning::PARAMS,
    )
    .verified(&[Verified {
        against: "PyTorch 2.15 in double precision, a tiny `cnn` and a tiny `resnet` on 12 images (scripts/verify/repairs.py)",
        agreement: "mean activations to 1e-5; all weights after pruning two channels and 5 steps to 1e-4",
    }]),
    check,
};

fn check(values: &Values, _facts: &Facts) -> Result<Box<dyn Defense>, Vec<ParamError>> {
    Ok(Box::new(FinePruning::from_values(values)?))
}

#[cfg(test)]
mod tests;
