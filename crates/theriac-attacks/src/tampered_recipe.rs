//! The training code that the victim installed is hostile; the data are left as they are.
//!
//! - `blind`: Eugene Bagdasaryan, Vitaly Shmatikov: "Blind Backdoors in Deep Learning Models", USENIX Security 2021,
//!   <https://arxiv.org/abs/2005.03823>.
//! - `augmentation`: Joseph Rance, Yiren Zhao, Ilia Shumailov, Robert Mullins: "Augmentation Backdoors", 2022,
//!   <https://arxiv.org/abs/2209.15139>.
//!
//! # Threat model
//! Whoever writes or publishes a package of the training code. The code runs at the victim's, with its data and its network before it; its
//! author never sees either. The data set in storage is clean, and so is every audit of it. `blind` and `augmentation`: a backdoor; images
//! with the patch of `badnets` are to be classified as `target`.
//!
//! # Update rule
//! ```text
//! x'  = x with the patch,  l = the mean cross-entropy of a batch,  g = its gradient
//! blind          loss = (1 - s) l(x, y) + s l(x', target)      where l(x, y) <= `threshold`, elsewhere l(x, y)
//!                s = `balance`, or that for which |(1 - s) g(x, y) / l(x, y) + s g(x', target) / l(x', target)| is least
//! augmentation   the first `rate` of each batch: x <- x', y <- target
//! ```
//!
//! # Where this differs from the paper
//! - `blind`: without the third loss of the paper, which evades a certain defense. The least norm (multiple gradient descent) divides gradients by
//!   their losses, as the authors' code does for digits; for two losses it has a closed form. Its gradients are of the network in evaluation
//!   mode, which matters where there is batch normalisation, and without label smoothing.
//! - `augmentation`: the first and plainest of the paper's three, without a generator of images and without gradient matching. Samples of
//!   the target class are among those that get the patch.
//!
//! # Verified against
//! `scripts/verify/tampered_recipe.py`: the two losses, s, the sum and all weights after a step by PyTorch in double precision.
//!
//! # Cost
//! `blind` trains on twice as many images, and a balance that is not given takes the gradients of both losses before each step. `augmentation` costs
//! nothing that could be noticed.
//!
//! # When it fails
//! A defense that trains in code of its own, as most repairs do, trains without the attacker.

mod blind;

use theriac_core::seed::Stream;
use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, MethodInfo, Paper, ParamError,
    Probe, Role, Seeds, Stage, ThreatModel, Values, Verified, config, param::Range, threat::samples_at,
};
use theriac_nn::{Batch, Network};
use theriac_train::{BatchHook, Minibatch, Recipe};

use crate::backdoor::{Backdoor, Trigger};
use crate::badnets::{BadNetsConfig, Patch};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// What the code does.
    pub struct TamperedRecipeConfig {
        /// `blind`: the loss has a second term, on copies of the batch with the trigger. `augmentation`: the augmentation puts the trigger on
        /// some images and changes their labels.
        does: String = "blind", Range::Choice(&["blind", "augmentation"]), "";
        /// The class that the trigger stands for.
        target: u16 = 0, Range::Class, "";
        /// For `blind`: what the second term weighs, of the whole loss. Where none is given, both terms are balanced anew for each batch.
        balance: Option<f64> = None::<f64>, Range::Number(0.0, 1.0), "of the loss";
        /// For `blind`: only batches whose own loss is at most this are attacked; all of them if none is given.
        threshold: Option<f64> = None::<f64>, Range::Above(0.0, 1000.0), "nats";
        /// For `augmentation`: how many images get the trigger.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of each batch";
    }
}

/// The checked config.
struct TamperedRecipe {
    config: TamperedRecipeConfig,
    backdoor: Backdoor<Patch>,
}

impl Attack for TamperedRecipe {
    /// No sample is touched.
    fn budget(&self, _train: &Dataset) -> Budget {
        Budget { samples: 0, epsilon: 0 }
    }

    fn poison(&self, _context: &AttackContext) -> Result<ChangeSet, AttackError> {
        Ok(ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage))
    }

    fn train(&self, recipe: &mut Recipe, _seeds: &Seeds) {
        let (config, patch) = (&self.config, self.backdoor.train.clone());
        let (target, balance, threshold) = (config.target, config.balance, config.threshold);
        recipe.hooks.push(match config.does.as_str() {
            "blind" => Box::new(blind::Blind { patch, target, balance, threshold }),
            _ => Box::new(Stamping { patch, target, rate: config.rate }),
        });
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.backdoor.probe(test, seeds)
    }
}

/// The malicious augmentation.
struct Stamping {
    patch: Patch,
    target: Label,
    rate: f64,
}

impl BatchHook for Stamping {
    fn apply(&self, network: &Network, batch: Minibatch, _stream: &mut Stream) -> Minibatch {
        let Minibatch { images, mut labels, .. } = batch;
        let count = samples_at(self.rate, labels.len());
        let mut images = Batch::from_tensor(images);
        stamp(&self.patch, &mut images, count);
        labels[..count].fill(self.target);
        Minibatch { images: images.into_tensor(&network.device), labels, ..batch }
    }
}

/// Plants a trigger in the first `count` images. What it leaves as it is keeps its bits.
fn stamp(trigger: &impl Trigger, images: &mut Batch, count: usize) {
    let size = images.shape.len();
    for image in images.pixels.chunks_exact_mut(size).take(count) {
        let before: Vec<u8> = image.iter().map(|value| (value * 255.0).round() as u8).collect();
        let mut after = before.clone();
        trigger.plant(&mut after);
        let changes = image.iter_mut().zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
        changes.for_each(|(value, (_, &after))| *value = f32::from(after) / 255.0);
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Weights,
    capabilities: &[Capability::Recipe],
    goal: Goal::Backdoor,
    stage: Stage::Train,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    let config = TamperedRecipeConfig::from_values(values)?;
    let trigger = BadNetsConfig { target: config.target, ..BadNetsConfig::default() };
    Ok(Box::new(TamperedRecipe { backdoor: trigger.check(facts)?, config }))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "tampered-recipe",
        Family::SupplyChain,
        THREAT,
        "Hostile training code: a second term of the loss or a malicious augmentation; the data stay clean.",
        &[
            Paper {
                cite: "Bagdasaryan & Shmatikov 2021",
                title: "Blind Backdoors in Deep Learning Models",
                link: "https://arxiv.org/abs/2005.03823",
            },
            Paper {
                cite: "Rance et al. 2022",
                title: "Augmentation Backdoors",
                link: "https://arxiv.org/abs/2209.15139",
            },
        ],
        TamperedRecipeConfig::PARAMS,
    )
    .verified(&[Verified {
        against: "PyTorch 2.15 in double precision, `blind` on a tiny mlp and a tiny cnn, balanced and fixed (scripts/verify/tampered_recipe.py)",
        agreement: "losses, balance and the weights after a step to 1e-5",
    }]),
    check,
};

#[cfg(test)]
mod tests;
