//! The loss with a second term.

use std::collections::BTreeMap;

use theriac_core::Label;
use theriac_core::seed::Stream;
use theriac_nn::burn::tensor::Tensor;
use theriac_nn::parameters::Parameter;
use theriac_nn::{Batch, Network, cross_entropies, parameter_gradients};
use theriac_train::{BatchHook, Minibatch};

use super::stamp;
use crate::badnets::Patch;

/// Both losses of a batch.
pub struct Blind {
    pub patch: Patch,
    pub target: Label,
    pub balance: Option<f64>,
    pub threshold: Option<f64>,
}

impl BatchHook for Blind {
    /// The batch with triggered copies behind it: their weighted mean is the sum of both losses.
    fn apply(&self, network: &Network, batch: Minibatch, _stream: &mut Stream) -> Minibatch {
        let Minibatch { images, mut labels, .. } = batch;
        let above = |bound: f64| {
            let losses = cross_entropies(network.forward(images.clone()).logits, &labels);
            f64::from(losses.mean().into_scalar::<f32>()) > bound
        };
        if self.threshold.is_some_and(above) {
            return Minibatch::new(images, labels);
        }
        let (count, targets) = (labels.len(), vec![self.target; labels.len()]);
        let mut copies = Batch::from_tensor(images.clone());
        stamp(&self.patch, &mut copies, count);
        let copies = copies.into_tensor(&network.device);
        let share = self.balance.unwrap_or_else(|| {
            let both = [(&images, &labels), (&copies, &targets)];
            shortest(both.map(|(images, labels)| {
                parameter_gradients(network, images.clone(), |taps| cross_entropies(taps.logits, labels).mean())
            }))
        });
        labels.extend(targets);
        let images = Tensor::cat(vec![images, copies], 0);
        let weights = [1.0 - share, share].iter().flat_map(|&weight| vec![weight as f32; count]).collect();
        Minibatch { weights, ..Minibatch::new(images, labels) }
    }
}

/// The share of the second of two losses for which the sum of both gradients, each divided by its loss, is shortest.
pub fn shortest(both: [(f64, BTreeMap<String, Parameter>); 2]) -> f64 {
    let [a, b] = both.map(|(loss, gradients)| -> Vec<f64> {
        let values = gradients.into_values().flat_map(|gradient| gradient.values);
        values.map(|value| f64::from(value) / loss.max(f64::MIN_POSITIVE)).collect()
    });
    // a + s (b - a) is shortest where it is perpendicular to b - a.
    let (mut along, mut length) = (0.0, 0.0);
    for (a, b) in a.iter().zip(&b) {
        along += a * (a - b);
        length += (a - b) * (a - b);
    }
    if length > 0.0 { (along / length).clamp(0.0, 1.0) } else { 0.5 }
}
