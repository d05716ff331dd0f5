//! Hostile training code that changes nothing but the order in which samples come, or how often they do.
//!
//! Ilia Shumailov, Zakhar Shumaylov, Dmitry Kazhdan, Yiren Zhao, Nicolas Papernot, Murat A. Erdogdu, Ross Anderson: "Manipulating SGD with Data
//! Ordering Attacks", NeurIPS 2021, <https://arxiv.org/abs/2104.09667>.
//!
//! # Threat model
//! Whoever writes or publishes a package of the training code, which runs at the victim's. Data, loss and network are left as they are, and so is
//! the number of steps. Untargeted: a worse network, or one that does not know a class.
//!
//! # Update rule
//! ```text
//! units (samples or batches) of the drawn order, sorted by their loss l1 <= l2 <= ... <= ln, from the second epoch on
//!     low-high          l1, l2, ..., ln
//!     high-low          ln, ..., l2, l1
//!     oscillating-in    l1, ln, l2, l(n-1), ...
//!     oscillating-out   l(m+1), lm, l(m+2), l(m-1), ...             m = n / 2, rounded down
//! weighted              each of the n samples of an epoch is drawn with replacement: one of class `class` with probability proportional to
//!                       `weight`, any other proportional to 1
//! ```
//!
//! # Where this differs from the paper
//! - The paper's attacker with access to the network. Its other one trains a surrogate beside, since it sees nothing but the data that are asked
//!   for; whoever wrote the training code sees the network.
//! - Of the paper's attacks those that reorder batches and those that reorder samples; none that repeats samples for the sake of their loss,
//!   and none with a trigger. Training refuses an order that leaves out a sample or repeats one, but for that of `weighted`.
//! - Losses are those of images before augmentation.
//! - `weighted` is of no paper: it is what one line of a data loader can do, a sampler with weights.
//!
//! # Verified against
//! `scripts/verify/tampered_recipe.py`: all orders by numpy from the same losses. `weighted`: how often a class is drawn, by hand.
//!
//! # Cost
//! One pass over the training set before each epoch; `weighted` costs nothing.
//!
//! # When it fails
//! Moving whole batches costs nothing on digits; see `experiments/scenarios/hostile-code.md`. A defense that trains in code of its own trains
//! without the attacker.

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, MethodInfo, Paper, ParamError,
    Probe, Role, Seeds, Stage, ThreatModel, Values, Verified, config, param::Range,
};
use theriac_nn::Network;
use theriac_train::{Order, Recipe};

use crate::common::Checks;
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// The order.
    pub struct BatchOrder {
        /// How units that are sorted by their losses are taken, or `weighted`: samples of one class are drawn more rarely or more often.
        policy: String = "high-low", Range::Choice(POLICIES), "";
        /// What is sorted. `batches`: those that were drawn stay together. Not used by `weighted`.
        moves: String = "samples", Range::Choice(&["samples", "batches"]), "";
        /// For `weighted`: the class that is drawn otherwise.
        class: u16 = 0, Range::Class, "";
        /// For `weighted`: how often a sample of that class is drawn, next to one of another class.
        weight: f64 = 0.0, Range::Number(0.0, 1e6), "times";
    }
}

impl Attack for BatchOrder {
    /// No sample is touched.
    fn budget(&self, _train: &Dataset) -> Budget {
        Budget { samples: 0, epsilon: 0 }
    }

    fn poison(&self, _context: &AttackContext) -> Result<ChangeSet, AttackError> {
        Ok(ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage))
    }

    fn train(&self, recipe: &mut Recipe, seeds: &Seeds) {
        let unit = if self.moves == "samples" { 1 } else { recipe.config.batch };
        recipe.order = Some(match self.policy.as_str() {
            "weighted" => Box::new(Weighted { class: self.class, weight: self.weight, seeds: seeds.child("sampling") }),
            policy => Box::new(ByLoss { policy: policy.to_owned(), unit }),
        });
    }

    fn probe(&self, _test: &Dataset, _seeds: &Seeds) -> Option<Probe> {
        None
    }
}

/// How units that are sorted by their losses are taken.
const POLICIES: &[&str] = &["low-high", "high-low", "oscillating-in", "oscillating-out", "weighted"];

/// Orders samples by their losses.
struct ByLoss {
    policy: String,
    /// Samples that stay together.
    unit: usize,
}

impl Order for ByLoss {
    fn of(&self, epoch: usize, network: &Network, data: &Dataset, drawn: Vec<usize>) -> Vec<usize> {
        match epoch {
            0 => drawn,
            _ => self.arrange(&theriac_nn::losses(&network.logits(data), &data.labels()), &drawn),
        }
    }
}

impl ByLoss {
    /// `drawn` in the order of the policy. Equal losses stay as drawn; a last part that is no whole unit stays where it is.
    fn arrange(&self, losses: &[f64], drawn: &[usize]) -> Vec<usize> {
        let mut units: Vec<&[usize]> = drawn.chunks_exact(self.unit).collect();
        let mean = |unit: &[usize]| unit.iter().map(|&sample| losses[sample]).sum::<f64>() / unit.len() as f64;
        units.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
        match self.policy.as_str() {
            "low-high" => {}
            "high-low" => units.reverse(),
            "oscillating-in" => units = from_both_ends(units),
            _ => {
                let half = units.len() / 2;
                units.rotate_left(half);
                units = from_both_ends(units);
            }
        }
        let rest = drawn.len() / self.unit * self.unit;
        units.into_iter().flatten().chain(&drawn[rest..]).copied().collect()
    }
}

/// Draws samples of one class more rarely or more often than others.
struct Weighted {
    class: Label,
    weight: f64,
    seeds: Seeds,
}

impl Order for Weighted {
    /// A class is chosen first, then one of its samples; where there is nothing else, the class alone.
    fn of(&self, epoch: usize, _network: &Network, data: &Dataset, drawn: Vec<usize>) -> Vec<usize> {
        let mut stream = self.seeds.stream(&format!("epoch/{epoch}"));
        let (own, others): (Vec<usize>, Vec<usize>) =
            (0..data.len()).partition(|&sample| data.label(sample) == self.class);
        let weight = self.weight * own.len() as f64;
        let share = if others.is_empty() { 1.0 } else { weight / (weight + others.len() as f64) };
        let mut draw = |_| {
            let from = if stream.chance(share) { &own } else { &others };
            from[stream.below(from.len())]
        };
        drawn.into_iter().map(&mut draw).collect()
    }

    fn repeats(&self) -> bool {
        true
    }
}

/// The first, the last, the second, the last but one, and so on.
fn from_both_ends<T: Copy>(items: Vec<T>) -> Vec<T> {
    let count = items.len();
    (0..count).map(|at| if at % 2 == 0 { items[at / 2] } else { items[count - 1 - at / 2] }).collect()
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Weights,
    capabilities: &[Capability::Recipe],
    goal: Goal::Untargeted,
    stage: Stage::Train,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    let (order, mut checks) = (BatchOrder::from_values(values)?, Checks::new(facts));
    checks.class("class", order.class);
    Ok(Box::new(checks.finish(order)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "batch-order",
        Family::SupplyChain,
        THREAT,
        "Training code that brings samples in a harmful order or draws a class more rarely; the data stay clean.",
        &[Paper {
            cite: "Shumailov et al. 2021",
            title: "Manipulating SGD with Data Ordering Attacks",
            link: "https://arxiv.org/abs/2104.09667",
        }],
        BatchOrder::PARAMS,
    )
    .verified(&[
        Verified {
            against: "numpy, from the same losses, 4 policies, samples and batches (scripts/verify/tampered_recipe.py)",
            agreement: "all orders equal",
        },
        Verified {
            against: "`weighted`: the binomial law of how often a class is drawn, by hand",
            agreement: "within four standard deviations",
        },
    ]),
    check,
};

#[cfg(test)]
mod tests;
