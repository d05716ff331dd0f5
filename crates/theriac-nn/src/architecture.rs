//! The sum of all architectures, so that the rest of the project handles one type.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::implant::Implant;
use crate::models::{cnn::Cnn, mlp::Mlp, resnet::PreActResNet};
use crate::tangent::Dual;

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
        self.forward_showing(images, &mut |_| {})
    }

    /// The same, and shows `see` what each stage gives out: a pooled convolution, or all blocks of one size. A fully connected network
    /// has no such stage.
    ///
    /// # Shapes
    /// - images: those of [`Architecture::forward`]; so is what `see` is shown
    pub(crate) fn forward_showing(&self, images: Tensor<4>, see: &mut dyn FnMut(&Tensor<4>)) -> Taps {
        let seen = self.implant().is_some().then(|| images.clone());
        let taps = match self {
            Self::Mlp(net) => net.forward(images),
            Self::Cnn(net) => net.forward(images, see),
            Self::ResNet(net) => net.forward(images, see),
        };
        match self.implant().zip(seen) {
            Some((implant, images)) => {
                let classes = taps.logits.dims()[1];
                Taps { logits: taps.logits + implant.answer(&images, classes), ..taps }
            }
            None => taps,
        }
    }

    /// What an attacker added to the graph, if there is anything.
    pub fn implant(&self) -> Option<&Implant> {
        match self {
            Self::Mlp(net) => net.implant.as_ref(),
            Self::Cnn(net) => net.implant.as_ref(),
            Self::ResNet(net) => net.implant.as_ref(),
        }
    }

    pub(crate) fn implant_mut(&mut self) -> &mut Option<Implant> {
        match self {
            Self::Mlp(net) => &mut net.implant,
            Self::Cnn(net) => &mut net.implant,
            Self::ResNet(net) => &mut net.implant,
        }
    }

    /// The linear layer that reads the last features which come by channel: those of the last convolution, or of the last hidden layer
    /// where there is none. Row `r` of its weights reads channel `r % channels`.
    pub fn reader(&self) -> &'static str {
        match self {
            Self::Mlp(_) | Self::ResNet(_) => "head",
            Self::Cnn(_) => "hidden",
        }
    }

    fn head(&mut self) -> &mut Linear {
        match self {
            Self::Mlp(net) => &mut net.head,
            Self::Cnn(net) => &mut net.head,
            Self::ResNet(net) => &mut net.head,
        }
    }

    /// The same network in training, of which only the last layer has gradients. Batch normalisation stays in evaluation mode.
    pub fn train_head(self) -> Self {
        let mut frozen = self.freeze();
        let head = frozen.head();
        *head = head.clone().set_require_grad(true);
        frozen.train()
    }

    /// The same features with the last layer of `other`, a network of the same architecture.
    pub fn with_head_of(mut self, mut other: Self) -> Self {
        self.head().clone_from(other.head());
        self
    }

    /// The logits of normalised images, and their derivative where all weights move along those of `along`, a network of the same
    /// architecture.
    ///
    /// # Panics
    /// If the architectures differ.
    pub(crate) fn tangent(&self, along: &Self, images: Tensor<4>) -> Dual<2> {
        let images = Dual { value: images, slope: None };
        match (self, along) {
            (Self::Mlp(net), Self::Mlp(along)) => net.tangent(along, images),
            (Self::Cnn(net), Self::Cnn(along)) => net.tangent(along, images),
            (Self::ResNet(net), Self::ResNet(along)) => net.tangent(along, images),
            _ => panic!("a network moves along one of its own architecture"),
        }
    }
}
