//! `cnn`: the usual two-convolution network for MNIST: conv3x3 - ReLU - pool - conv3x3 - ReLU - pool - hidden - classes.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Initializer, Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor, activation::relu};
use theriac_core::{Facts, Kind, MethodInfo, Range, config};

use super::{ModelEntry, mlp::linear};
use crate::architecture::{Architecture, Taps};
use crate::ops::{self, pooled::conv_relu_pool};
use crate::tangent::{self, Dual};

config! {
    /// Parameters of `cnn`.
    pub struct CnnConfig {
        /// Channels of the first convolution; the second has twice as many.
        width: usize = 32, Range::Whole(1, 1024), "channels";
        /// Neurons of the hidden layer.
        hidden: usize = 128, Range::Whole(1, 65_536), "neurons";
    }
}

/// Two convolutions and two linear layers.
#[derive(Module, Debug)]
pub struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    hidden: Linear,
    pub(crate) head: Linear,
    pool: MaxPool2d,
    /// What an attacker added to the graph; see [`crate::Implant`].
    #[module(skip)]
    pub(crate) implant: Option<crate::Implant>,
}

pub(crate) fn conv(channels: [usize; 2], kernel: usize, stride: usize, bias: bool, device: &Device) -> Conv2d {
    let padding = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .with_bias(bias)
        .with_initializer(Initializer::Zeros)
        .init(device)
}

impl CnnConfig {
    fn flat(&self, facts: &Facts) -> usize {
        2 * self.width * (facts.shape.height / 4) * (facts.shape.width / 4)
    }

    fn init(&self, facts: &Facts, device: &Device) -> Cnn {
        Cnn {
            conv1: conv([facts.shape.channels, self.width], 3, 1, true, device),
            conv2: conv([self.width, 2 * self.width], 3, 1, true, device),
            hidden: linear(self.flat(facts), self.hidden, device),
            head: linear(self.hidden, facts.classes, device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            implant: None,
        }
    }

    fn cost(&self, facts: &Facts) -> f64 {
        let pixels = facts.shape.height * facts.shape.width;
        let conv1 = 9 * pixels * facts.shape.channels * self.width;
        let conv2 = 9 * (pixels / 4) * self.width * 2 * self.width;
        (conv1 + conv2 + self.flat(facts) * self.hidden + self.hidden * facts.classes) as f64
    }

    fn outputs(&self, facts: &Facts) -> f64 {
        let pixels = facts.shape.height * facts.shape.width;
        (pixels / 4 * self.width + self.flat(facts) + self.hidden + facts.classes) as f64
    }
}

impl Cnn {
    /// # Shapes
    /// - images and what `see` is shown: those of [`Architecture::forward`]
    pub(crate) fn forward(&self, images: Tensor<4>, see: &mut dyn FnMut(&Tensor<4>)) -> Taps {
        let x = if ops::runs(&images) {
            let x = conv_relu_pool(images, &self.conv1); // [batch, height / 2, width / 2, width]
            see(&x);
            let x = conv_relu_pool(x, &self.conv2); // [batch, height / 4, width / 4, 2 width]
            see(&x);
            x
        } else {
            // ReLU and max-pooling commute, and after pooling there is a quarter of the values.
            let x = relu(self.pool.forward(self.conv1.forward(images))); // [batch, width, height / 2, width / 2]
            see(&x);
            let x = relu(self.pool.forward(self.conv2.forward(x))); // [batch, 2 width, height / 4, width / 4]
            see(&x);
            x.permute([0, 2, 3, 1])
        };
        let features = relu(self.hidden.forward(x.flatten::<2>(1, 3))); // [batch, hidden]
        Taps { logits: self.head.forward(features.clone()), features }
    }

    /// The logits, and their derivative where the weights move along those of `along`.
    pub(crate) fn tangent(&self, along: &Self, images: Dual<4>) -> Dual<2> {
        let on_cpu = ops::runs(&images.value);
        let x = tangent::pool(tangent::conv(images, &self.conv1, &along.conv1)).relu();
        let x = tangent::pool(tangent::conv(x, &self.conv2, &along.conv2)).relu();
        let x = x.map(|tensor| if on_cpu { tensor } else { tensor.permute([0, 2, 3, 1]) });
        let x = x.map(|tensor| tensor.flatten::<2>(1, 3));
        let features = tangent::linear(x, &self.hidden, &along.hidden).relu();
        tangent::linear(features, &self.head, &along.head)
    }
}

/// The registry entry.
pub static ENTRY: ModelEntry = ModelEntry {
    info: MethodInfo::plain(
        "cnn",
        Kind::Model,
        "Two 3x3 convolutions with max-pooling and one hidden layer; the usual MNIST network.",
        CnnConfig::PARAMS,
    ),
    build: |values, facts, device| {
        let config = CnnConfig::from_values(values)?;
        if facts.shape.height < 4 || facts.shape.width < 4 {
            let size = format!("{} x {}", facts.shape.height, facts.shape.width);
            let message = format!("`cnn` pools twice and needs images of at least 4 x 4 pixels, found {size}");
            return Err(vec![theriac_core::ParamError::new("name", message)]);
        }
        Ok(Architecture::Cnn(config.init(facts, device)))
    },
    cost: |values, facts| CnnConfig::from_values(values).map_or(0.0, |config| config.cost(facts)),
    outputs: |values, facts| CnnConfig::from_values(values).map_or(0.0, |config| config.outputs(facts)),
};

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::{Shape, Values};

    #[test]
    fn images_must_survive_two_poolings() {
        let device = crate::device::open("cpu").unwrap();
        let build = |height: usize, width: usize| {
            let facts =
                Facts { shape: Shape { channels: 1, height, width }, classes: 3, train: 1, test: 1, sources: 1 };
            let values: Values = [("width".to_owned(), 2u64.into())].into();
            (ENTRY.build)(&values, &facts, &device)
        };
        let logits = build(4, 4).unwrap().forward(Tensor::zeros([1, 4, 4, 1], &device)).logits;
        assert_eq!(logits.dims(), [1, 3]);
        for (height, width) in [(3, 4), (4, 3)] {
            let error = build(height, width).unwrap_err()[0].to_string();
            assert!(error.contains(&format!("at least 4 x 4 pixels, found {height} x {width}")), "{error}");
        }
    }
}
