//! `abl`: find what is learnt too easily, train without it, and unlearn it.
//!
//! Yige Li, Xixiang Lyu, Nodens Koren, Lingjuan Lyu, Bo Li, Xingjun Ma: "Anti-Backdoor Learning: Training Clean Models on Poisoned Data",
//! NeurIPS 2021, <https://arxiv.org/abs/2110.11571>.
//!
//! # Assumptions
//! The defender has the training data and trains the model; it needs no clean data. A backdoor is learnt faster than anything else, so
//! its samples have the smallest losses early in training.
//!
//! # Rule
//! ```text
//! isolate:  a fresh network, `epochs` times over all data, by local gradient ascent (LGA):
//!           theta <- theta - lr sign(L - gamma) grad L        L: mean cross-entropy of the batch
//!           the `isolated` of the samples with the smallest losses are taken out
//! train:    the model, on the rest
//! unlearn:  theta <- theta - unlearn_lr sign(L - ceiling) grad L
//!           on what was taken out, `unlearn_epochs` times
//! ```
//!
//! # Where this differs from the paper
//! - The paper isolates with the network that it goes on training; here isolation has a network of its own (hook `vet`), and the model
//!   is trained from the start on the rest, by the victim's recipe. What unlearning needs is the same: a model that knows the backdoor
//!   from the samples that were not isolated, and some that were.
//! - The learning rate does not move during isolation, otherwise the recipe is the victim's.
//! - Unlearning is stochastic gradient ascent with momentum 0.9 and a constant rate. The paper takes 5e-4 and no ceiling. Where the model
//!   is certain of a sample, its gradient all but vanishes and that rate moves nothing in the few steps that a small data set gives;
//!   a larger one leaves no limit to how far it climbs, and takes everything else along. The ceiling is that limit.
//!
//! # Verified against
//! `scripts/verify/repairs.py`, a tiny `cnn` and a tiny `resnet`: the losses of 8 steps of local gradient ascent, those of all samples
//! after them, and all weights after 3 steps up the loss of the isolated samples are those of PyTorch to 1e-4.
//!
//! # When it fails
//! What is learnt first need not be the poison. On clean data the easiest samples are taken out and unlearnt, which costs accuracy.
//! Unlearning is the weak half: a model that is certain of the isolated samples has next to no gradient there. On MNIST with `cnn` all
//! that is isolated is poison, and yet no `unlearn_lr` that was tried removes the backdoor without the model: `experiments/repairs`.

use theriac_core::{Facts, Hook, MethodInfo, Paper, ParamError, Range, Values, Verified, config, threat::samples_at};
use theriac_nn::Network;
use theriac_train::{Recipe, Schedule, TrainConfig};

use crate::vetting::{most_suspicious, removal};
use crate::{Defense, DefenseEntry, DefenseError, RepairContext, Verdict, VetContext, repairing};

config! {
    /// Parameters of `abl`.
    pub struct Abl {
        /// Loss below which a batch is climbed instead of descended, while samples are isolated.
        gamma: f64 = 0.5, Range::Number(0.0, 100.0), "nats";
        /// Passes over the training set before samples are isolated.
        epochs: usize = 20, Range::Whole(1, 10_000), "epochs";
        /// How many samples are isolated.
        isolated: f64 = 0.01, Range::Above(0.0, 1.0), "of the training set";
        /// Passes over what was isolated, up its loss.
        unlearn_epochs: usize = 20, Range::Whole(1, 10_000), "epochs";
        /// Learning rate of these.
        unlearn_lr: f64 = 0.01, Range::Above(0.0, 10.0), "";
        /// Loss above which a batch is descended again.
        ceiling: f64 = 5.0, Range::Above(0.0, 1e9), "nats";
    }
}

impl Abl {
    /// How samples are isolated.
    fn isolation(&self, victim: &TrainConfig) -> Recipe {
        let config = TrainConfig { epochs: self.epochs, schedule: Schedule::Constant, ..victim.unmeasured() };
        Recipe { ascend_below: Some(self.gamma), ..config.into() }
    }

    /// How they are unlearnt.
    fn unlearning(&self, context: &RepairContext) -> Recipe {
        let config = repairing::tuning(context, self.unlearn_epochs, self.unlearn_lr, 5e-4);
        let config = TrainConfig { schedule: Schedule::Constant, ..config };
        Recipe { ascend_below: Some(self.ceiling), ..config.into() }
    }
}

impl Defense for Abl {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let seeds = context.seeds.child("isolation");
        let fresh = context.victim.reinitialised(&seeds);
        let recipe = self.isolation(context.recipe);
        let learner = repairing::tuned(&fresh, context.data, &recipe, &seeds, context.session)?;
        let losses = theriac_nn::losses(&learner.logits(context.data), &context.data.labels());
        let scores: Vec<f64> = losses.into_iter().map(|loss| -loss).collect();
        let everything: Vec<usize> = (0..context.data.len()).collect();
        let isolated = most_suspicious(&everything, &scores, samples_at(self.isolated, context.data.len()));
        Ok(removal(ENTRY.info.name, context, scores, isolated))
    }

    fn repair(&self, context: &RepairContext) -> Result<Network, DefenseError> {
        if context.removed.is_empty() {
            return Ok(context.model.clone());
        }
        let recipe = self.unlearning(context);
        repairing::tuned(context.model, context.removed, &recipe, context.seeds, context.session)
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "abl",
        &[Hook::Vet, Hook::Repair],
        "Isolates the samples that are learnt too easily, trains without them, and unlearns them.",
        &[Paper {
            cite: "Li et al. 2021",
            title: "Anti-Backdoor Learning: Training Clean Models on Poisoned Data",
            link: "https://arxiv.org/abs/2110.11571",
        }],
        Abl::PARAMS,
    )
    .verified(&[Verified {
        against: "PyTorch 2.15 in double precision, a tiny `cnn` and a tiny `resnet` on 12 images (scripts/verify/repairs.py)",
        agreement: "losses of 8 steps of local gradient ascent, those of all samples after them, and all weights after 3 steps of unlearning to 1e-4",
    }]),
    check,
};

fn check(values: &Values, _facts: &Facts) -> Result<Box<dyn Defense>, Vec<ParamError>> {
    Ok(Box::new(Abl::from_values(values)?))
}

#[cfg(test)]
mod tests;
