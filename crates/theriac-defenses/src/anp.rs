//! `anp`: prune the neurons whose disturbance hurts most.
//!
//! Dongxian Wu, Yisen Wang: "Adversarial Neuron Pruning Purifies Backdoored Deep Models", NeurIPS 2021,
//! <https://arxiv.org/abs/2110.14430>.
//!
//! # Assumptions
//! The defender has the model and a few clean, correctly labelled samples; it knows neither trigger nor target. Without any trigger, a
//! small change of the backdoor's neurons makes a backdoored model answer the target class, which a clean model withstands.
//!
//! # Rule
//! For neuron `c` with weights `w_c` and bias `b_c`: a mask `m_c`, which begins at 1, and disturbances `d_c` and `e_c` within `epsilon`.
//! ```text
//! L(m, d, e) = mean cross-entropy of the network with weights (m_c + d_c) w_c and biases (1 + e_c) b_c
//! repeat `iterations` times, on a batch of the trusted set:
//!     (d, e) <- epsilon sign(grad_(d, e) L(m, 0, 0))
//!     g      <- alpha grad_m L(m, 0, 0) + (1 - alpha) grad_m L(m, d, e)
//!     v      <- momentum v + g,   m <- clip(m - lr v, 0, 1)
//! prune the neurons with m_c <= threshold: w_c <- 0
//! ```
//!
//! # Where this differs from the paper
//! - Neurons are the channels of all batch normalisations, as in the authors' program, or, in a network without any, the channels and
//!   neurons of all layers but the last. As in the paper, masks act on weights alone: a pruned neuron keeps its bias.
//! - The authors' program starts the disturbances at random within `epsilon`, adds `epsilon` times the sign and does not bring the sum
//!   back into the bound. Here they start at zero, so that one step leads to a corner of the bound, and nothing is random but the
//!   batches. For one step it is the same as the gradient that the masks need anyway, so an iteration takes two passes, not three.
//! - Batch normalisation uses its running statistics; in the authors' program it is in training mode while masks are learnt.
//! - The paper's 2000 iterations are the default; so are epsilon, alpha, learning rate and threshold. `drop` is not in the paper: it
//!   stops pruning where the trusted set would lose more than that, in the order of the masks, so that no threshold ruins a model.
//! - Batches are those of the recipe by which the suspect was trained; images are not augmented.
//!
//! # Verified against
//! `scripts/verify/repairs.py`, a tiny `cnn` and a tiny `resnet`: all masks after 6 steps are those of PyTorch to 1e-4, where autograd
//! finds the gradients of masks and disturbances through the network. Tests below: they agree with central differences.
//!
//! # When it fails
//! On `cnn`, which has no batch normalisation, it does not remove a patch from MNIST at the thresholds that were tried:
//! `experiments/repairs`, with a curve over its strength on CIFAR-10, where a small `resnet` of a few hundred channels keeps 52 to 97 % of the
//! success. It has not been measured on the large networks with thousands of neurons that the paper prunes.

use std::collections::BTreeMap;

use theriac_core::{Dataset, Facts, Hook, MethodInfo, Paper, ParamError, Range, Values, Verified, Wish, config};
use theriac_nn::parameters::{self, Parameter};
use theriac_nn::{Batch, Network, cross_entropies, parameter_gradients};
use theriac_train::TrainError;

use crate::{Defense, DefenseEntry, DefenseError, RepairContext, repairing};

config! {
    /// Parameters of `anp`.
    pub struct Anp {
        /// Size of the trusted set.
        trusted: f64 = 0.05, Range::Above(0.0, 1.0), "of the training set";
        /// Largest relative change of a neuron's weights and bias.
        epsilon: f64 = 0.4, Range::Number(0.0, 10.0), "of the weights";
        /// How much the undisturbed loss counts; the rest is the disturbed one.
        alpha: f64 = 0.2, Range::Number(0.0, 1.0), "";
        /// Step size of the masks.
        lr: f64 = 0.2, Range::Above(0.0, 10.0), "";
        /// What is kept of the masks' velocity at each step.
        momentum: f64 = 0.9, Range::Number(0.0, 0.9999), "";
        /// Steps of the masks, each on one batch.
        iterations: usize = 2000, Range::Whole(1, 1_000_000), "steps";
        /// The largest mask that is pruned.
        threshold: f64 = 0.2, Range::Number(0.0, 1.0), "";
        /// What pruning may cost in accuracy on the trusted set.
        drop: f64 = 0.04, Range::Number(0.0, 1.0), "of all answers";
    }
}

/// The neurons of one layer: where their weights and biases are.
#[derive(Clone, Debug, PartialEq)]
struct Layer {
    weight: String,
    bias: Option<String>,
    neurons: usize,
    /// Weights of a neuron that lie side by side; the neurons' turns repeat.
    run: usize,
}

impl Layer {
    /// The neuron of the weight at `place`.
    fn neuron(&self, place: usize) -> usize {
        place / self.run % self.neurons
    }
}

/// All layers with neurons: batch normalisations, or whatever else is not the head.
fn layers(model: &Network) -> Vec<Layer> {
    let parameters = parameters::read(&model.module);
    let of_kind = |weight: &str, bias: &str| {
        let layer = |(name, parameter): (&String, &Parameter)| {
            let place = name.strip_suffix(weight).filter(|place| !place.ends_with("head."))?;
            let bias = Some(format!("{place}{bias}")).filter(|bias| parameters.contains_key(bias));
            // A linear weight is [inputs, neurons]; all others have their neurons first.
            let (neurons, run) = match parameter.shape[..] {
                [_, neurons] => (neurons, 1),
                [neurons, ..] => (neurons, parameter.values.len() / neurons),
                [] => return None,
            };
            Some(Layer { weight: name.clone(), bias, neurons, run })
        };
        parameters.iter().filter_map(layer).collect::<Vec<_>>()
    };
    let norms = of_kind("gamma", "beta");
    if norms.is_empty() { of_kind("weight", "bias") } else { norms }
}

/// What is learnt about the neurons of a model.
struct Masks<'a> {
    model: &'a Network,
    layers: Vec<Layer>,
    values: BTreeMap<String, Parameter>,
    /// One a neuron, layer by layer.
    masks: Vec<f64>,
    velocity: Vec<f64>,
}

impl<'a> Masks<'a> {
    fn new(model: &'a Network) -> Self {
        let layers = layers(model);
        let count = layers.iter().map(|layer| layer.neurons).sum();
        let values = parameters::read(&model.module);
        Self { model, layers, values, masks: vec![1.0; count], velocity: vec![0.0; count] }
    }

    /// Each layer with the place of its first neuron among all.
    fn placed(&self) -> impl Iterator<Item = (usize, &Layer)> {
        self.layers.iter().scan(0, |next, layer| {
            *next += layer.neurons;
            Some((*next - layer.neurons, layer))
        })
    }

    /// The network whose neurons have their weights multiplied by `weights` and their biases by `biases`.
    fn scaled(&self, weights: &[f64], biases: &[f64]) -> Network {
        let mut factors = BTreeMap::new();
        for (first, layer) in self.placed() {
            let mut keep = |name: &String, factor: &dyn Fn(usize) -> f64| {
                let shape = self.values[name].shape.clone();
                let values = (0..self.values[name].values.len()).map(|place| factor(place) as f32).collect();
                factors.insert(name.clone(), Parameter { shape, values });
            };
            keep(&layer.weight, &|place| weights[first + layer.neuron(place)]);
            if let Some(bias) = &layer.bias {
                keep(bias, &|place| biases[first + place]);
            }
        }
        Network { module: parameters::scale(self.model.module.clone(), &factors), ..self.model.clone() }
    }

    /// The gradients of the mean loss of a batch with respect to the factors of weights and of biases.
    fn gradients(&self, batch: &Batch, labels: &[u16], weights: &[f64], biases: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let images = batch.to_tensor(&self.model.device);
        let loss = |taps: theriac_nn::Taps| cross_entropies(taps.logits, labels).mean();
        let (_, slopes) = parameter_gradients(&self.scaled(weights, biases), images, loss);
        let (mut of_weights, mut of_biases) = (vec![0.0; self.masks.len()], vec![0.0; self.masks.len()]);
        for (first, layer) in self.placed() {
            // The factor multiplies all weights of its neuron, so its slope is the sum of theirs times the weights.
            let product = |name: &String| slopes[name].values.iter().zip(&self.values[name].values);
            for (place, (slope, weight)) in product(&layer.weight).enumerate() {
                of_weights[first + layer.neuron(place)] += f64::from(*slope) * f64::from(*weight);
            }
            for (place, (slope, bias)) in layer.bias.iter().flat_map(product).enumerate() {
                of_biases[first + place] = f64::from(*slope) * f64::from(*bias);
            }
        }
        (of_weights, of_biases)
    }

    /// One step of the masks.
    fn step(&mut self, config: &Anp, batch: &Batch, labels: &[u16]) {
        let ones = vec![1.0; self.masks.len()];
        let (natural, natural_biases) = self.gradients(batch, labels, &self.masks, &ones);
        // Unlike `f64::signum`, nothing moves where there is no slope.
        let sign = |slope: f64| if slope == 0.0 { 0.0 } else { slope.signum() };
        let away = |(from, slope): (&f64, &f64)| from + config.epsilon * sign(*slope);
        let weights: Vec<f64> = self.masks.iter().zip(&natural).map(away).collect();
        let biases: Vec<f64> = ones.iter().zip(&natural_biases).map(away).collect();
        let (robust, _) = self.gradients(batch, labels, &weights, &biases);
        for (at, mask) in self.masks.iter_mut().enumerate() {
            let slope = config.alpha * natural[at] + (1.0 - config.alpha) * robust[at];
            self.velocity[at] = config.momentum * self.velocity[at] + slope;
            *mask = (*mask - config.lr * self.velocity[at]).clamp(0.0, 1.0);
        }
    }

    /// The network without the neurons of the smallest masks, up to the threshold and as long as the trusted set allows.
    fn prune(&self, config: &Anp, trusted: &Dataset) -> Network {
        let least = repairing::share_correct(self.model, trusted) - config.drop;
        let mut order: Vec<usize> = (0..self.masks.len()).filter(|&at| self.masks[at] <= config.threshold).collect();
        order.sort_by(|&a, &b| self.masks[a].total_cmp(&self.masks[b]));
        let (ones, mut weights) = (vec![1.0; self.masks.len()], vec![1.0; self.masks.len()]);
        let mut best = self.model.clone();
        for neurons in order.chunks(self.masks.len().div_ceil(64)) {
            neurons.iter().for_each(|&at| weights[at] = 0.0);
            let pruned = self.scaled(&weights, &ones);
            if repairing::share_correct(&pruned, trusted) < least {
                break;
            }
            best = pruned;
        }
        best
    }
}

impl Defense for Anp {
    fn repair(&self, context: &RepairContext) -> Result<Network, DefenseError> {
        let trusted = repairing::trusted(context.trusted, context.seeds, self.trusted);
        let mut masks = Masks::new(context.model);
        let batch = context.recipe.batch.min(trusted.len());
        let everything: Vec<usize> = (0..trusted.len()).collect();
        let mut stream = context.seeds.stream("anp/batches");
        for iteration in 0..self.iterations {
            let chosen = stream.choose(&everything, batch);
            let labels: Vec<u16> = chosen.iter().map(|&index| trusted.label(index)).collect();
            masks.step(self, &Batch::gather(&trusted, &chosen), &labels);
            context.session.progress((iteration + 1) as f64 / self.iterations as f64);
            if context.session.wish() == Wish::Stop {
                return Err(TrainError::Stopped.into());
            }
        }
        Ok(masks.prune(self, &trusted))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "anp",
        &[Hook::Repair],
        "Prunes the neurons that stand a disturbance of their weights least.",
        &[Paper {
            cite: "Wu and Wang 2021",
            title: "Adversarial Neuron Pruning Purifies Backdoored Deep Models",
            link: "https://arxiv.org/abs/2110.14430",
        }],
        Anp::PARAMS,
    )
    .verified(&[Verified {
        against: "PyTorch 2.15 in double precision, a tiny `cnn` and a tiny `resnet` on 12 images (scripts/verify/repairs.py)",
        agreement: "all masks after 6 steps to 1e-4",
    }]),
    check,
};

fn check(values: &Values, _facts: &Facts) -> Result<Box<dyn Defense>, Vec<ParamError>> {
    Ok(Box::new(Anp::from_values(values)?))
}

#[cfg(test)]
mod tests;
