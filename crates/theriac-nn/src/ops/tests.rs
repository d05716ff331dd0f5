//! Each operation against the framework's own, forward and backward.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use theriac_core::Seeds;

use super::conv::conv as conv2d;
use super::enter::enter;
use super::pooled::conv_relu_pool;
use crate::models::cnn::conv as layer;
use crate::models::resnet::Block;
use crate::{init, parameters};

fn noise<const D: usize>(shape: [usize; D], name: &str, device: &Device) -> Tensor<D> {
    let mut stream = Seeds::new(5).stream(name);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Whether all values are near, measured by the largest of them. What is not a number is near nothing.
fn near(found: &[f32], expected: &[f32]) -> bool {
    let largest = expected.iter().fold(1e-3_f32, |largest, value| largest.max(value.abs()));
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4 * largest)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().unwrap()
}

fn to_rows(images: Tensor<4>) -> Tensor<4> {
    images.permute([0, 2, 3, 1])
}

/// Output and gradients (of the input and of every parameter) of `module` by `forward`, for a fixed gradient of the output.
fn outcome<M: Module>(
    module: &M,
    input: Tensor<4>,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
) -> Vec<(String, Vec<f32>)> {
    let input = input.require_grad();
    let output = forward(module, input.clone());
    let weights = noise(output.dims(), "gradient", &output.device());
    let mut results = vec![("output".to_owned(), values(output.clone().inner()))];
    let mut gradients = (output * weights).sum().backward();
    let of_input = input.grad_remove(&mut gradients).unwrap();
    results.push(("input".to_owned(), values(of_input)));
    let gradients = burn::optim::GradientsParams::from_grads(gradients, module);
    let mut visitor = Gathered { gradients, results };
    module.visit(&mut visitor);
    visitor.results
}

struct Gathered {
    gradients: burn::optim::GradientsParams,
    results: Vec<(String, Vec<f32>)>,
}

impl burn::module::ModuleVisitor for Gathered {
    fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let shape = format!("parameter {:?}", gradient.dims());
            self.results.push((shape, values(gradient)));
        }
    }
}

fn agree(found: &[(String, Vec<f32>)], expected: &[(String, Vec<f32>)]) {
    assert_eq!(found.len(), expected.len());
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        assert!(near(found, expected), "{name}: {found:?} {expected:?}");
    }
}

#[test]
fn a_convolution_is_the_frameworks() {
    let device = Device::flex().autodiff();
    for (channels, kernel, stride, bias) in [
        ([3, 8], 3, 1, true),
        ([16, 32], 3, 1, false),
        ([5, 7], 3, 2, true),
        ([16, 16], 1, 2, false),
        ([1, 1], 3, 1, true),
    ] {
        let layer = init::initialise(layer(channels, kernel, stride, bias, &device), &Seeds::new(1));
        let images = noise([6, channels[0], 9, 10], "images", &device);
        let found =
            outcome(&layer, images.clone(), |layer, images| conv2d(to_rows(images), layer).permute([0, 3, 1, 2]));
        agree(&found, &outcome(&layer, images, |layer, images| layer.forward(images)));
    }
}

#[test]
fn a_pooled_convolution_is_the_frameworks() {
    let device = Device::flex().autodiff();
    let pool = || burn::nn::pool::MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
    // The last one has many weights and few pixels, which threads share out in another way.
    for (batch, channels, size) in
        [(1, [1, 5], [7, 6]), (3, [16, 16], [9, 8]), (2, [3, 40], [4, 5]), (2, [256, 512], [2, 3])]
    {
        let layer = init::initialise(layer(channels, 3, 1, true, &device), &Seeds::new(1));
        let images = noise([batch, channels[0], size[0], size[1]], "images", &device);
        let found = outcome(&layer, images.clone(), |layer, images| {
            conv_relu_pool(to_rows(images), layer).permute([0, 3, 1, 2])
        });
        agree(&found, &outcome(&layer, images, |layer, images| relu(pool().forward(layer.forward(images)))));
    }
}

#[test]
fn a_residual_block_is_the_frameworks() {
    let device = Device::flex().autodiff();
    for (inputs, outputs, stride) in [(16, 16, 1), (16, 32, 2), (5, 6, 1)] {
        let fresh = || init::initialise(Block::new(inputs, outputs, stride, &device), &Seeds::new(1)).train();
        let images = noise([4, inputs, 8, 6], "images", &device) * 2.0 + 0.5;
        let [ours, stock] = [fresh(), fresh()];
        let rows = |block: &Block, images: Tensor<4>| block.forward(to_rows(images)).permute([0, 3, 1, 2]);
        agree(&outcome(&ours, images.clone(), rows), &outcome(&stock, images.clone(), Block::stock));
        // The running statistics too, and with them the block in evaluation mode.
        let [ours, stock] = [ours.valid(), stock.valid()];
        for (name, found) in parameters::read(&ours) {
            let expected = &parameters::read(&stock)[&name].values;
            agree(&[(name, found.values)], &[(String::new(), expected.clone())]);
        }
        let plain = images.clone().inner();
        let output = ours.forward(to_rows(plain.clone())).permute([0, 3, 1, 2]);
        assert!(near(&values(output), &values(stock.stock(plain))));
        agree(&outcome(&ours, images.clone(), rows), &outcome(&stock, images, Block::stock));
    }
}

#[test]
fn weights_without_gradients_are_constants() {
    let device = Device::flex();
    let block = init::initialise(Block::new(16, 16, 1, &device), &Seeds::new(1)).valid();
    let images = noise([2, 16, 4, 4], "images", &device.clone().autodiff()).require_grad();
    let mut gradients = block.forward(to_rows(images.clone())).sum().backward();
    assert_eq!(images.grad_remove(&mut gradients).unwrap().dims(), [2, 16, 4, 4]);
}

/// Four steps of an optimizer from the same weights along the same gradients.
fn steps<O: burn::optim::Optimizer>(optimizer: &O, device: &Device) -> Vec<f32> {
    let (mut weights, mut state) = (noise([3, 7], "weights", device), None);
    for step in 0..4 {
        let gradient = noise([3, 7], &format!("gradient {step}"), device);
        (weights, state) = optimizer.step(0.05, weights, gradient, state);
    }
    values(weights)
}

#[test]
fn descent_is_the_frameworks() {
    use burn::optim::decay::WeightDecayConfig;
    use burn::optim::{SgdConfig, momentum::MomentumConfig};
    let device = Device::flex();
    for nesterov in [false, true] {
        let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov };
        let decay = WeightDecayConfig::new(0.1);
        let theirs = SgdConfig::new().with_momentum(Some(momentum)).with_weight_decay(Some(decay)).build();
        let ours = crate::Sgd { momentum: 0.9, weight_decay: 0.1, nesterov };
        assert!(near(&steps(&ours, &device), &steps(&theirs, &device)));
    }
}

#[test]
fn adam_is_the_frameworks() {
    use burn::optim::decay::WeightDecayConfig;
    use burn::optim::{AdamConfig, AdamWConfig};
    let device = Device::flex();
    let ours = |decoupled| crate::Adam { beta_1: 0.8, beta_2: 0.99, epsilon: 1e-8, weight_decay: 0.1, decoupled };
    let theirs = AdamConfig::new().with_beta_1(0.8).with_beta_2(0.99).with_epsilon(1e-8);
    let theirs = theirs.with_weight_decay(Some(WeightDecayConfig::new(0.1))).build();
    assert_eq!(steps(&ours(false), &device), steps(&theirs, &device));
    let theirs = AdamWConfig::new().with_beta_1(0.8).with_beta_2(0.99).with_epsilon(1e-8).with_weight_decay(0.1);
    assert_eq!(steps(&ours(true), &device), steps(&theirs.build(), &device));
}

#[test]
fn images_enter_as_by_the_frameworks_operations() {
    let device = Device::flex().autodiff();
    let channels = [(0.2_f32, 0.5_f32), (0.4, 0.3), (0.1, 2.0)];
    for count in [1, 3] {
        let images = noise([2, count, 5, 4], "images", &device);
        let column = |pick: fn(&(f32, f32)) -> f32| {
            let values: Vec<f32> = channels[..count].iter().map(pick).collect();
            Tensor::<4>::from_data(TensorData::new(values, [1, count, 1, 1]), &device)
        };
        let none = burn::nn::pool::MaxPool2dConfig::new([1, 1]).init();
        let found = outcome(&none, images.clone(), |_, images| enter(images, &channels[..count]));
        let expected = outcome(&none, images, |_, images| {
            to_rows((images - column(|channel| channel.0)) / column(|channel| channel.1))
        });
        agree(&found, &expected);
    }
}
