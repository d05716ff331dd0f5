//! `mlp`: a fully connected network with ReLU. The cheapest victim: a training takes a second.

use burn::module::Module;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu};
use theriac_core::{Facts, Kind, MethodInfo, Range, config};

use super::ModelEntry;
use crate::architecture::{Architecture, Taps};
use crate::ops;
use crate::tangent::{self, Dual};

config! {
    /// Parameters of `mlp`.
    pub struct MlpConfig {
        /// Neurons of each hidden layer.
        hidden: usize = 128, Range::Whole(1, 65_536), "neurons";
        /// Number of hidden layers.
        layers: usize = 1, Range::Whole(1, 16), "layers";
    }
}

/// A fully connected network.
#[derive(Module, Debug)]
pub struct Mlp {
    hidden: Vec<Linear>,
    pub(crate) head: Linear,
    /// What an attacker added to the graph; see [`crate::Implant`].
    #[module(skip)]
    pub(crate) implant: Option<crate::Implant>,
}

pub(crate) fn linear(inputs: usize, outputs: usize, device: &Device) -> Linear {
    LinearConfig::new(inputs, outputs).with_initializer(Initializer::Zeros).init(device)
}

impl MlpConfig {
    fn widths(&self, facts: &Facts) -> Vec<usize> {
        std::iter::once(facts.shape.len()).chain(std::iter::repeat_n(self.hidden, self.layers)).collect()
    }

    fn init(&self, facts: &Facts, device: &Device) -> Mlp {
        let hidden = self.widths(facts).windows(2).map(|pair| linear(pair[0], pair[1], device)).collect();
        Mlp { hidden, head: linear(self.hidden, facts.classes, device), implant: None }
    }

    fn cost(&self, facts: &Facts) -> f64 {
        let hidden: usize = self.widths(facts).windows(2).map(|pair| pair[0] * pair[1]).sum();
        (hidden + self.hidden * facts.classes) as f64
    }
}

impl Mlp {
    /// # Shapes
    /// - images: those of [`Architecture::forward`]
    pub fn forward(&self, images: Tensor<4>) -> Taps {
        // The weights know the pixels of a channel side by side.
        let images = if ops::runs(&images) { images.permute([0, 3, 1, 2]) } else { images };
        let input = images.flatten::<2>(1, 3); // [batch, pixels]
        let features = self.hidden.iter().fold(input, |x, layer| relu(layer.forward(x))); // [batch, hidden]
        Taps { logits: self.head.forward(features.clone()), features }
    }

    /// The logits, and their derivative where the weights move along those of `along`.
    pub(crate) fn tangent(&self, along: &Self, images: Dual<4>) -> Dual<2> {
        let on_cpu = ops::runs(&images.value);
        let images = images.map(|tensor| if on_cpu { tensor.permute([0, 3, 1, 2]) } else { tensor });
        let input = images.map(|tensor| tensor.flatten::<2>(1, 3));
        let layers = self.hidden.iter().zip(&along.hidden);
        let features = layers.fold(input, |x, (layer, along)| tangent::linear(x, layer, along).relu());
        tangent::linear(features, &self.head, &along.head)
    }
}

/// The registry entry.
pub static ENTRY: ModelEntry = ModelEntry {
    info: MethodInfo::plain(
        "mlp",
        Kind::Model,
        "Fully connected network with ReLU; the cheapest victim.",
        MlpConfig::PARAMS,
    ),
    build: |values, facts, device| Ok(Architecture::Mlp(MlpConfig::from_values(values)?.init(facts, device))),
    cost: |values, facts| MlpConfig::from_values(values).map_or(0.0, |config| config.cost(facts)),
    outputs: |values, facts| {
        MlpConfig::from_values(values).map_or(0.0, |config| config.widths(facts).iter().sum::<usize>() as f64)
    },
};
