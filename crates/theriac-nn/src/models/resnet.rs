//! `resnet` and `preact-resnet18`: pre-activation residual networks for small images.
//!
//! He, Zhang, Ren, Sun: "Identity Mappings in Deep Residual Networks", 2016, <https://arxiv.org/abs/1603.05027>.
//!
//! A block is `x + conv(relu(bn(conv(relu(bn(x))))))`; where the size changes, the shortcut is a 1x1 convolution of `relu(bn(x))`.
//!
//! # Where this differs from the paper
//! - The stem is one 3x3 convolution without pooling, as is usual for 32 x 32 images.
//! - There is no normalisation before the last pooling, as in the implementation behind the published backdoor benchmark
//!   (BackdoorBench), whose figures are our reference.
//! - The running variance uses the biased batch variance (Burn's batch normalisation; PyTorch's is unbiased).

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Linear};
use burn::tensor::{Device, Tensor, activation::relu};
use theriac_core::{Facts, Kind, MethodInfo, Paper, ParamError, Range, Shape, config};

use super::{ModelEntry, cnn::conv, mlp::linear};
use crate::architecture::{Architecture, Taps};
use crate::ops::{self, conv::conv as conv2d, residual::residual};
use crate::tangent::{self, Dual};

config! {
    /// Parameters of `resnet`.
    pub struct ResNetConfig {
        /// Channels of the first stage; each later stage doubles them and halves the image.
        width: usize = 16, Range::Whole(1, 512), "channels";
        /// Residual blocks of each stage.
        blocks: usize = 1, Range::Whole(1, 32), "blocks";
        /// Number of stages.
        stages: usize = 4, Range::Whole(1, 5), "stages";
    }
}

config! {
    /// `preact-resnet18` has no parameters: width 64, four stages of two blocks.
    pub struct PreActResNet18Config {}
}

/// A pre-activation residual network.
#[derive(Module, Debug)]
pub struct PreActResNet {
    stem: Conv2d,
    blocks: Vec<Block>,
    pub(crate) head: Linear,
    /// What an attacker added to the graph; see [`crate::Implant`].
    #[module(skip)]
    pub(crate) implant: Option<crate::Implant>,
}

/// One pre-activation residual block.
#[derive(Module, Debug)]
pub struct Block {
    norm1: BatchNorm,
    conv1: Conv2d,
    norm2: BatchNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Block {
    pub(crate) fn new(inputs: usize, outputs: usize, stride: usize, device: &Device) -> Self {
        let shortcut = || conv([inputs, outputs], 1, stride, false, device);
        Self {
            norm1: BatchNormConfig::new(inputs).init(device),
            conv1: conv([inputs, outputs], 3, stride, false, device),
            norm2: BatchNormConfig::new(outputs).init(device),
            conv2: conv([outputs, outputs], 3, 1, false, device),
            shortcut: Self::resizes(inputs, outputs, stride).then(shortcut),
        }
    }

    /// Whether what goes around the block must be brought to the size of what comes out of it.
    fn resizes(inputs: usize, outputs: usize, stride: usize) -> bool {
        stride != 1 || inputs != outputs
    }

    /// On the processor `[batch, height, width, channels]`, elsewhere `[batch, channels, height, width]`.
    pub(crate) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        if ops::runs(&input) {
            let (norms, convs) = ([&self.norm1, &self.norm2], [&self.conv1, &self.conv2]);
            return residual(input, norms, convs, self.shortcut.as_ref());
        }
        self.stock(input)
    }

    /// By the framework's own operations: `[batch, channels, height, width]`.
    pub(crate) fn stock(&self, input: Tensor<4>) -> Tensor<4> {
        let active = relu(self.norm1.forward(input.clone()));
        let shortcut = match &self.shortcut {
            Some(resize) => resize.forward(active.clone()),
            None => input,
        };
        let x = self.conv1.forward(active);
        self.conv2.forward(relu(self.norm2.forward(x))) + shortcut
    }

    /// The output, and its derivative where the weights move along those of `along`.
    fn tangent(&self, along: &Self, input: Dual<4>) -> Dual<4> {
        let active = tangent::norm(input.clone(), &self.norm1, &along.norm1).relu();
        let shortcut = match (&self.shortcut, &along.shortcut) {
            (Some(resize), Some(along)) => tangent::conv(active.clone(), resize, along),
            _ => input,
        };
        let x = tangent::conv(active, &self.conv1, &along.conv1);
        let x = tangent::norm(x, &self.norm2, &along.norm2).relu();
        tangent::conv(x, &self.conv2, &along.conv2) + shortcut
    }
}

impl ResNetConfig {
    /// Inputs, outputs and stride of each block.
    fn plan(&self) -> Vec<(usize, usize, usize)> {
        let mut plan = Vec::new();
        let mut inputs = self.width;
        for stage in 0..self.stages {
            let outputs = self.width << stage;
            for block in 0..self.blocks {
                plan.push((inputs, outputs, if stage > 0 && block == 0 { 2 } else { 1 }));
                inputs = outputs;
            }
        }
        plan
    }

    /// Channels of the last stage.
    fn features(&self) -> usize {
        self.width << (self.stages - 1)
    }

    fn check(&self, facts: &Facts) -> Result<(), Vec<ParamError>> {
        let smallest = facts.shape.height.min(facts.shape.width);
        // Halves are rounded up, so 5 pixels become 3, 2 and 1; only then there is nothing to halve.
        let mut sizes = std::iter::successors(Some(smallest), |size| Some(size.div_ceil(2)));
        let useful = 1 + sizes.position(|size| size <= 1).unwrap_or(0);
        if self.stages > useful {
            let message = format!(
                "an image of {smallest} pixels is down to one after {useful} stages, found {}; expected at most {useful}",
                self.stages
            );
            return Err(vec![ParamError::new("stages", message)]);
        }
        Ok(())
    }

    fn init(&self, facts: &Facts, device: &Device) -> PreActResNet {
        let block = |(inputs, outputs, stride)| Block::new(inputs, outputs, stride, device);
        PreActResNet {
            stem: conv([facts.shape.channels, self.width], 3, 1, false, device),
            blocks: self.plan().into_iter().map(block).collect(),
            head: linear(self.features(), facts.classes, device),
            implant: None,
        }
    }

    fn cost(&self, facts: &Facts) -> f64 {
        let Shape { channels, mut height, mut width } = facts.shape;
        let mut cost = 9 * height * width * channels * self.width;
        for (inputs, outputs, stride) in self.plan() {
            (height, width) = (height.div_ceil(stride), width.div_ceil(stride));
            let shortcut = if Block::resizes(inputs, outputs, stride) { inputs } else { 0 };
            cost += height * width * outputs * (9 * (inputs + outputs) + shortcut);
        }
        (cost + self.features() * facts.classes) as f64
    }

    /// Two convolutions a block, each with its normalised input.
    fn outputs(&self, facts: &Facts) -> f64 {
        let Shape { mut height, mut width, .. } = facts.shape;
        let mut outputs = height * width * self.width;
        for (_, channels, stride) in self.plan() {
            (height, width) = (height.div_ceil(stride), width.div_ceil(stride));
            outputs += 4 * height * width * channels;
        }
        outputs as f64
    }
}

impl PreActResNet {
    /// # Shapes
    /// - images and what `see` is shown: those of [`Architecture::forward`]
    pub(crate) fn forward(&self, images: Tensor<4>, see: &mut dyn FnMut(&Tensor<4>)) -> Taps {
        let on_cpu = ops::runs(&images);
        let mut x = if on_cpu { conv2d(images, &self.stem) } else { self.stem.forward(images) };
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            if self.blocks.get(index + 1).is_none_or(|next| next.conv1.stride != [1, 1]) {
                see(&x);
            }
        }
        let pixels = if on_cpu { [1, 2] } else { [2, 3] };
        let features = x.mean_dims(&pixels).flatten::<2>(1, 3); // [batch, channels]
        Taps { logits: self.head.forward(features.clone()), features }
    }

    /// The logits, and their derivative where the weights move along those of `along`.
    pub(crate) fn tangent(&self, along: &Self, images: Dual<4>) -> Dual<2> {
        let pixels = if ops::runs(&images.value) { [1, 2] } else { [2, 3] };
        let x = tangent::conv(images, &self.stem, &along.stem);
        let x = self.blocks.iter().zip(&along.blocks).fold(x, |x, (block, along)| block.tangent(along, x));
        let features = x.map(|tensor| tensor.mean_dims(&pixels).flatten::<2>(1, 3));
        tangent::linear(features, &self.head, &along.head)
    }
}

const PAPERS: &[Paper] = &[Paper {
    cite: "He et al. 2016",
    title: "Identity Mappings in Deep Residual Networks",
    link: "https://arxiv.org/abs/1603.05027",
}];

const EIGHTEEN: ResNetConfig = ResNetConfig { width: 64, blocks: 2, stages: 4 };

/// The registry entry of the configurable network.
pub static ENTRY: ModelEntry = ModelEntry {
    info: MethodInfo {
        papers: PAPERS,
        ..MethodInfo::plain(
            "resnet",
            Kind::Model,
            "Pre-activation residual network with chosen width and depth.",
            ResNetConfig::PARAMS,
        )
    },
    build: |values, facts, device| {
        let config = ResNetConfig::from_values(values)?;
        config.check(facts)?;
        Ok(Architecture::ResNet(config.init(facts, device)))
    },
    cost: |values, facts| ResNetConfig::from_values(values).map_or(0.0, |config| config.cost(facts)),
    outputs: |values, facts| ResNetConfig::from_values(values).map_or(0.0, |config| config.outputs(facts)),
};

/// The registry entry of the benchmark network.
pub static PREACT_RESNET18: ModelEntry = ModelEntry {
    info: MethodInfo {
        papers: PAPERS,
        ..MethodInfo::plain(
            "preact-resnet18",
            Kind::Model,
            "The network of the published backdoor benchmark: width 64, four stages of two blocks.",
            PreActResNet18Config::PARAMS,
        )
    },
    build: |values, facts, device| {
        PreActResNet18Config::from_values(values)?;
        EIGHTEEN.check(facts)?;
        Ok(Architecture::ResNet(EIGHTEEN.init(facts, device)))
    },
    cost: |_, facts| EIGHTEEN.cost(facts),
    outputs: |_, facts| EIGHTEEN.outputs(facts),
};

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::Values;

    fn facts(size: usize) -> Facts {
        Facts {
            shape: Shape { channels: 1, height: size, width: size + 2 },
            classes: 10,
            train: 1,
            test: 1,
            sources: 1,
        }
    }

    #[test]
    fn as_many_stages_as_there_is_something_to_halve() {
        let device = crate::device::open("cpu").unwrap();
        let build = |size: usize, stages: u64| {
            let values: Values = [("stages".to_owned(), stages.into()), ("width".to_owned(), 2u64.into())].into();
            (ENTRY.build)(&values, &facts(size), &device)
        };
        for (size, most) in [(1, 1), (2, 2), (4, 3), (5, 4), (8, 4), (9, 5)] {
            let network = build(size, most).unwrap();
            let logits = network.forward(Tensor::zeros([1, size, size + 2, 1], &device)).logits;
            assert_eq!(logits.dims(), [1, 10]);
            if most < 5 {
                let error = build(size, most + 1).unwrap_err()[0].to_string();
                assert!(error.contains(&format!("`stages`: an image of {size} pixels")), "{error}");
            }
        }
        assert!((PREACT_RESNET18.build)(&Values::new(), &facts(4), &device).is_err());
    }

    #[test]
    fn the_cost_is_the_sum_over_all_layers() {
        let facts =
            Facts { shape: Shape { channels: 3, height: 5, width: 7 }, classes: 10, train: 1, test: 1, sources: 1 };
        let stem = 9 * 35 * 3 * 4;
        // The second stage is 3 x 4; its shortcut is a 1 x 1 convolution.
        let (first, second) = (9 * 35 * 4 * (4 + 4), 12 * 8 * (9 * (4 + 8) + 4));
        let config = ResNetConfig { width: 4, blocks: 1, stages: 2 };
        assert_eq!(config.cost(&facts), (stem + first + second + 8 * 10) as f64);
    }
}
