//! The training code that the victim installed is hostile; the data are left as they are.
//!
//! - `blind`: Eugene Bagdasaryan, Vitaly Shmatikov: "Blind Backdoors in Deep Learning Models", USENIX Security 2021,
//!   <https://arxiv.org/abs/2005.03823>.
//! - `augmentation`: Joseph Rance, Yiren Zhao, Ilia Shumailov, Robert Mullins: "Augmentation Backdoors", 2022,
//!   <https://arxiv.org/abs/2209.15139>.
//! - `batch-order`: Ilia Shumailov, Zakhar Shumaylov, Dmitry Kazhdan, Yiren Zhao, Nicolas Papernot, Murat A. Erdogdu, Ross Anderson:
//!   "Manipulating SGD with Data Ordering Attacks", NeurIPS 2021, <https://arxiv.org/abs/2104.09667>.
//!
//! # Threat model
//! Whoever writes or publishes a package of the training code. The code runs at the victim's, with its data and its network before it; its
//! author never sees either. The data set in storage is clean, and so is every audit of it. `blind` and `augmentation`: a backdoor; images
//! with the patch of `badnets` are to be classified as `target`. `batch-order`: untargeted, a worse network. `sampling`: untargeted, a
//! network that does not know one class, or sees it everywhere.
//!
//! # Update rule
//! ```text
//! x'  = x with the patch,  l = the mean cross-entropy of a batch,  g = its gradient
//! blind          loss = (1 - s) l(x, y) + s l(x', target)      where l(x, y) <= `threshold`, elsewhere l(x, y)
//!                s = `balance`, or that for which |(1 - s) g(x, y) / l(x, y) + s g(x', target) / l(x', target)| is least
//! augmentation   the first `rate` of each batch: x <- x', y <- target
//! batch-order    from the second epoch on: units (samples or batches) of the drawn order, sorted by their loss l1 <= l2 <= ... <= ln
//!                low-high          l1, l2, ..., ln
//!                high-low          ln, ..., l2, l1
//!                oscillating-in    l1, ln, l2, l(n-1), ...
//!                oscillating-out   l(m+1), lm, l(m+2), l(m-1), ...             m = n / 2, rounded down
//! sampling       each of the n samples of an epoch is drawn with replacement: one of class `target` with probability proportional to `weight`, any
//!                other proportional to 1
//! ```
//!
//! # Where this differs from the paper
//! - `blind`: without the third loss of the paper, which evades a certain defense. The least norm (multiple gradient descent) divides gradients by
//!   their losses, as the authors' code does for digits; for two losses it has a closed form. Its gradients are of the network in evaluation
//!   mode, which matters where there is batch normalisation, and without label smoothing.
//! - `augmentation`: the first and plainest of the paper's three, without a generator of images and without gradient matching. Samples of
//!   the target class are among those that get the patch.
//! - `batch-order`: the paper's attacker with access to the network. Its other one trains a surrogate beside, since it sees nothing but the data
//!   that are asked for; whoever wrote the training code sees the network. Of its attacks those that reorder batches and those that
//!   reorder samples; none that repeats samples, and none with a trigger: only the order changes, which the training checks. Losses are
//!   those of images before augmentation.
//! - `sampling` is of no paper: it is what one line of a data loader can do, a sampler with weights.
//!
//! # Verified against
//! `scripts/verify/tampered_recipe.py`: the two losses, s, the sum and all weights after a step by PyTorch in double precision; all
//! orders by numpy from the same losses. Training refuses an order that leaves out a sample or repeats one. `sampling`: shares of classes by hand.
//!
//! # Cost
//! `blind` trains on twice as many images, and a balance that is not given takes the gradients of both losses before each step. `batch-order` reads the
//! training set once an epoch. `augmentation` costs nothing that could be noticed.
//!
//! # When it fails
//! A defense that trains in code of its own, as most repairs do, trains without the attacker. What `batch-order` is worth: see
//! `experiments/scenarios/hostile-code.md`.

mod blind;
mod order;

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
        /// some images and changes their labels. `batch-order`: samples come in a harmful order, and nothing else changes. `sampling`: those of one
        /// class are drawn more rarely, or more often, than all others.
        does: String = "blind", Range::Choice(&["blind", "augmentation", "batch-order", "sampling"]), "";
        /// The class that the trigger stands for, and for `sampling` the one that is drawn otherwise. Not used by `batch-order`.
        target: u16 = 0, Range::Class, "";
        /// For `blind`: what the second term weighs, of the whole loss. Where none is given, both terms are balanced anew for each batch.
        balance: Option<f64> = None::<f64>, Range::Number(0.0, 1.0), "of the loss";
        /// For `blind`: only batches whose own loss is at most this are attacked; all of them if none is given.
        threshold: Option<f64> = None::<f64>, Range::Above(0.0, 1000.0), "nats";
        /// For `augmentation`: how many images get the trigger.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of each batch";
        /// For `batch-order`: the policy.
        policy: String = "low-high", Range::Choice(order::POLICIES), "";
        /// For `batch-order`: what is reordered. `batches`: those that were drawn stay together.
        moves: String = "samples", Range::Choice(&["samples", "batches"]), "";
        /// For `sampling`: how often a sample of class `target` is drawn, next to one of another class.
        weight: f64 = 0.0, Range::Number(0.0, 1e6), "times";
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

    fn train(&self, recipe: &mut Recipe, seeds: &Seeds) {
        let (config, patch) = (&self.config, self.backdoor.train.clone());
        let (target, balance, threshold) = (config.target, config.balance, config.threshold);
        match config.does.as_str() {
            "blind" => recipe.hooks.push(Box::new(blind::Blind { patch, target, balance, threshold })),
            "augmentation" => recipe.hooks.push(Box::new(Stamping { patch, target, rate: config.rate })),
            "sampling" => {
                let seeds = seeds.child("sampling");
                recipe.order = Some(Box::new(order::Weighted { class: target, weight: config.weight, seeds }));
            }
            _ => {
                let unit = if config.moves == "samples" { 1 } else { recipe.config.batch };
                recipe.order = Some(Box::new(order::ByLoss { policy: config.policy.clone(), unit }));
            }
        }
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        ["blind", "augmentation"]
            .contains(&self.config.does.as_str())
            .then(|| self.backdoor.probe(test, seeds))
            .flatten()
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
        "Hostile training code: a second loss, a malicious augmentation, a harmful order or choice of samples; the data stay clean.",
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
            Paper {
                cite: "Shumailov et al. 2021",
                title: "Manipulating SGD with Data Ordering Attacks",
                link: "https://arxiv.org/abs/2104.09667",
            },
        ],
        TamperedRecipeConfig::PARAMS,
    )
    .verified(&[
        Verified {
            against: "PyTorch 2.15 in double precision, `blind` on a tiny mlp and a tiny cnn, balanced and fixed (scripts/verify/tampered_recipe.py)",
            agreement: "losses, balance and the weights after a step to 1e-5",
        },
        Verified {
            against: "numpy, `batch-order` from the same losses, 4 policies, samples and batches (scripts/verify/tampered_recipe.py)",
            agreement: "all orders equal",
        },
        Verified {
            against: "`sampling`: the binomial law of how often a class is drawn, by hand",
            agreement: "within four standard deviations",
        },
    ]),
    check,
};

#[cfg(test)]
mod tests;
