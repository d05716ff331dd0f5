//! Edits a few neurons of a trained network by hand, so that they answer a trigger, and nothing else.
//!
//! Sanghyun Hong, Nicholas Carlini, Alexey Kurakin: "Handcrafted Backdoors in Deep Neural Networks", NeurIPS 2022,
//! <https://arxiv.org/abs/2106.04690>.
//!
//! # Threat model
//! Someone who hands a trained network on, or reaches it in storage. The attacker knows its weights and has some samples of the victim's kind; it
//! trains nothing and computes no gradient. Backdoor: images with the patch of `badnets` are to be classified as `target`. No sample and no
//! line of the training code is touched.
//!
//! # Update rule
//! Layer by layer, over the fully connected ones; a is what a neuron gives out before ReLU, for `samples` clean images and for those of them outside
//! the target class with the patch.
//! ```text
//! order the neurons by   | mean a(patch) - mean a(clean) | / (deviation of a(patch) + deviation of a(clean)),   the largest first
//! S <- the first `neurons` of them that can be taken out together for at most `tolerance` of the accuracy, and can be turned:
//!     w, b <- -w, -b                   if mean a(patch) < mean a(clean)
//!     w_i  <- |w_i| sign(d_i)          for the inputs i that feel the patch; d_i is by how much the patch raises their mean
//!     w_i  <- 2 w_i                    for these, until a(patch) > q for `success` of the images; q: all but `leak` of a(clean) are at most that
//!     b    <- b - q                    the guard: a clean image does not wake the neuron
//! the inputs that feel the patch: in the first layer those with |d_i| of at least half the largest, in later ones the S of the layer before
//! last layer: weights from S to `target` <- the largest weight there, doubled until `success` of the images with the patch are `target`
//! ```
//!
//! # Where this differs from the paper
//! - The paper takes neurons out one at a time to see what they matter, and then changes several; here those of a layer have to be dispensable
//!   together, which is what becomes of them.
//! - The paper searches the factors by hand or by trial; here they are doubled until both kinds are apart, and no further.
//! - Convolutions are left alone: of `cnn` only the two fully connected layers are changed. The paper also edits filters. `resnet`, which has one
//!   fully connected layer, is refused.
//! - The trigger is given; the paper may also fit it to the network.
//! - The attacker's samples are drawn from the victim's training set, as it was before it was poisoned: the network has seen them.
//!
//! # Verified against
//! `scripts/verify/handcrafted.py`: chosen neurons and all weights by numpy, for a tiny mlp and a tiny cnn. The tests below: what a neuron
//! gives out before and after, and that nothing but the chosen neurons changed.
//!
//! # Cost
//! One pass of `samples` images over the network, and a few over its fully connected layers for each neuron that is tried.
//!
//! # When it fails
//! A network with too few neurons that can be done without, or whose first layers do not feel the trigger, is refused with a message.

mod statistics;

use theriac_core::metrics::accuracy;
use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, Matrix, MethodInfo, Paper,
    ParamError, Probe, Role, Seeds, Stage, ThreatModel, Values, Verified, config, param::Range,
};
use theriac_nn::Network;

use crate::backdoor::Backdoor;
use crate::badnets::{BadNetsConfig, Patch};
use crate::dense::{Dense, edited, logits, relu};
use crate::{Attack, AttackContext, AttackEntry, AttackError};
use statistics::{feeling, moments, quantile, separating};

config! {
    /// Which neurons, and how far they are changed.
    pub struct HandcraftedConfig {
        /// The class that the patch stands for.
        target: u16 = 0, Range::Class, "";
        /// Neurons of each fully connected layer that are changed.
        neurons: usize = 3, Range::Whole(1, 1024), "neurons";
        /// What all changed neurons together may matter, of the accuracy.
        tolerance: f64 = 0.01, Range::Number(0.0, 1.0), "of the samples";
        /// How many clean images may wake a changed neuron.
        leak: f64 = 0.001, Range::Number(0.0, 0.5), "of the samples";
        /// How many images with the patch are to be classified as `target`.
        success: f64 = 0.99, Range::Number(0.5, 1.0), "of the samples";
        /// Images that the attacker has.
        samples: usize = 1000, Range::Whole(10, 10_000), "samples";
    }
}

/// The checked config.
struct Handcrafted {
    config: HandcraftedConfig,
    backdoor: Backdoor<Patch>,
}

/// Doublings before the attack gives up.
const DOUBLINGS: usize = 24;

fn infeasible(message: &str) -> AttackError {
    AttackError::Infeasible(message.to_owned())
}

impl Handcrafted {
    /// Edits the layers, and answers with the neurons of each hidden one that were changed. `clean` and `triggered` are what the first of them
    /// reads.
    fn craft(
        &self,
        layers: &mut [Dense],
        clean: &Matrix,
        labels: &[Label],
        triggered: &Matrix,
    ) -> Result<Vec<Vec<usize>>, AttackError> {
        let right = |logits: Matrix| accuracy(&logits.argmax(), labels).unwrap_or(0.0);
        let least = right(logits(layers, clean)) - self.config.tolerance;
        let (mut clean, mut triggered) = (clean.clone(), triggered.clone());
        let (mut feeling, mut changed) = (feeling(&clean, &triggered), Vec::new());
        for at in 0..layers.len() - 1 {
            let (earlier, later) = layers.split_at_mut(at + 1);
            let layer = &mut earlier[at];
            let active = relu(&layer.of(&clean));
            let dispensable = |neurons: &[usize]| {
                let mut without = active.values().to_vec();
                without.chunks_exact_mut(active.columns()).for_each(|row| neurons.iter().for_each(|&at| row[at] = 0.0));
                right(logits(later, &Matrix::new(active.columns(), without))) >= least
            };
            let mut chosen = Vec::new();
            for neuron in separating(&layer.of(&clean), &layer.of(&triggered)) {
                if chosen.len() == self.config.neurons {
                    break;
                }
                chosen.push(neuron);
                if !(dispensable(&chosen) && self.turn(layer, neuron, &feeling, &clean, &triggered)) {
                    chosen.pop();
                }
            }
            if chosen.len() < self.config.neurons {
                return Err(AttackError::Infeasible(format!(
                    "{} neurons of layer `{}` can be done without and be made to tell the trigger, {} are needed",
                    chosen.len(),
                    layer.name,
                    self.config.neurons
                )));
            }
            clean = relu(&layer.of(&clean));
            triggered = relu(&layer.of(&triggered));
            feeling.clone_from(&chosen);
            changed.push(chosen);
        }
        self.lead(layers.last_mut().expect("a network has a last layer"), &feeling, &triggered)?;
        Ok(changed)
    }

    /// Turns a neuron towards the trigger, raises what it says of it, and keeps it silent otherwise. Whether that could be done; if not, the neuron
    /// is what it was.
    fn turn(&self, layer: &mut Dense, neuron: usize, feeling: &[usize], clean: &Matrix, triggered: &Matrix) -> bool {
        let (weights, bias) = (layer.incoming(neuron).map(|weight| *weight).collect::<Vec<f32>>(), layer.bias[neuron]);
        let mean = |values: &[f32]| values.iter().copied().map(f64::from).sum::<f64>() / values.len() as f64;
        if mean(&layer.sorted(neuron, triggered)) < mean(&layer.sorted(neuron, clean)) {
            layer.incoming(neuron).for_each(|weight| *weight = -*weight);
            layer.bias[neuron] = -layer.bias[neuron];
        }
        let (before, after) = (moments(clean), moments(triggered));
        let outputs = layer.bias.len();
        for &input in feeling {
            let weight = &mut layer.weight[input * outputs + neuron];
            *weight = if after[input].0 > before[input].0 { weight.abs() } else { -weight.abs() };
        }
        for _ in 0..DOUBLINGS {
            let guard = quantile(&layer.sorted(neuron, clean), 1.0 - self.config.leak);
            // All but a share of the triggered images lie above this.
            let heard = layer.sorted(neuron, triggered);
            let awake = heard.iter().filter(|&&value| value > guard).count();
            if awake as f64 >= self.config.success * heard.len() as f64 {
                layer.bias[neuron] -= guard;
                return true;
            }
            feeling.iter().for_each(|&input| layer.weight[input * outputs + neuron] *= 2.0);
        }
        layer.incoming(neuron).zip(weights).for_each(|(weight, before)| *weight = before);
        layer.bias[neuron] = bias;
        false
    }

    /// Has the changed neurons speak for the target.
    fn lead(&self, head: &mut Dense, neurons: &[usize], triggered: &Matrix) -> Result<(), AttackError> {
        let (classes, target) = (head.bias.len(), usize::from(self.config.target));
        let mut amount = head.weight.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
        for _ in 0..DOUBLINGS {
            neurons.iter().for_each(|&neuron| head.weight[neuron * classes + target] = amount);
            let answers = head.of(triggered).argmax();
            let hits = answers.iter().filter(|&&class| class == self.config.target).count();
            if hits as f64 >= self.config.success * answers.len() as f64 {
                return Ok(());
            }
            amount *= 2.0;
        }
        Err(infeasible("the changed neurons cannot outweigh the others"))
    }
}

impl Attack for Handcrafted {
    /// No sample is touched.
    fn budget(&self, _train: &Dataset) -> Budget {
        Budget { samples: 0, epsilon: 0 }
    }

    fn poison(&self, _context: &AttackContext) -> Result<ChangeSet, AttackError> {
        Ok(ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage))
    }

    fn tamper(&self, network: &Network, context: &AttackContext) -> Result<Option<Network>, AttackError> {
        let probe = |clean: &Dataset| self.probe(clean, context.seeds);
        let craft = |layers: &mut [Dense], clean: &Matrix, labels: &[Label], triggered: &Matrix| {
            self.craft(layers, clean, labels, triggered).map(|_| ())
        };
        edited(network, context, self.config.samples, probe, craft).map(Some)
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.backdoor.probe(test, seeds)
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Weights,
    capabilities: &[Capability::Weights],
    goal: Goal::Backdoor,
    stage: Stage::Distribute,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    let config = HandcraftedConfig::from_values(values)?;
    let trigger = BadNetsConfig { target: config.target, ..BadNetsConfig::default() };
    Ok(Box::new(Handcrafted { backdoor: trigger.check(facts)?, config }))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "handcrafted",
        Family::SupplyChain,
        THREAT,
        "Edits a few neurons of a trained network so that they answer a patch and nothing else; nothing is trained.",
        &[Paper {
            cite: "Hong et al. 2022",
            title: "Handcrafted Backdoors in Deep Neural Networks",
            link: "https://arxiv.org/abs/2106.04690",
        }],
        HandcraftedConfig::PARAMS,
    )
    .verified(&[Verified {
        against: "numpy, a tiny mlp and a tiny cnn, 12 images (scripts/verify/handcrafted.py)",
        agreement: "the chosen neurons are equal, all weights to 1e-5",
    }]),
    check,
};

#[cfg(test)]
mod tests;
