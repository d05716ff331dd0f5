//! The sum of all architectures, so that the rest of the project handles one type.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::models::{cnn::Cnn, mlp::Mlp, resnet::PreActResNet};

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub struct Taps {
    /// The activations that the last layer sees: `[batch, features]`.
    pub features: Tensor<2>,
    /// Unnormalised log-probabilities: `[batch, classes]`.
    pub logits: Tensor<2>,
}

/// One of the networks of the model zoo.
#[expect(clippy::large_enum_variant, reason = "there is one value for each network, never an array of them")]
#[derive(Module, Debug)]
pub enum Architecture {
    /// Fully connected.
    Mlp(Mlp),
    /// Two convolutions.
    Cnn(Cnn),
    /// Pre-activation residual network.
    ResNet(PreActResNet),
}

impl Architecture {
    /// Runs the network on normalised images.
    ///
    /// # Shapes
    /// - images: `[batch, height, width, channels]` on the processor, `[batch, channels, height, width]` elsewhere
    pub fn forward(&self, images: Tensor<4>) -> Taps {
        match self {
            Self::Mlp(net) => net.forward(images),
            Self::Cnn(net) => net.forward(images),
            Self::ResNet(net) => net.forward(images),
        }
    }
}
