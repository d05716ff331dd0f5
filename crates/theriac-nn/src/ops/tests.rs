//! Each operation against the framework's own, forward and backward.

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use theriac_core::Seeds;

use super::conv::conv as conv2d;
use super::pool::relu_pool;
use crate::models::cnn::conv as layer;
use crate::models::resnet::Block;
use crate::{init, parameters};

fn noise<const D: usize>(shape: [usize; D], name: &str, device: &Device) -> Tensor<D> {
    let mut stream = Seeds::new(5).stream(name);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The largest difference, relative to the largest value.
fn error<const D: usize>(found: Tensor<D>, expected: Tensor<D>) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let largest = expected.clone().abs().max().into_scalar::<f32>();
    (found - expected).abs().max().into_scalar::<f32>() / largest.max(1e-6)
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
    let mut results = vec![("output".to_owned(), output.clone().inner().into_data().try_to_vec::<f32>().unwrap())];
    let mut gradients = (output * weights).sum().backward();
    let of_input = input.grad_remove(&mut gradients).unwrap();
    results.push(("input".to_owned(), of_input.into_data().try_to_vec::<f32>().unwrap()));
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
            self.results.push((shape, gradient.into_data().try_to_vec::<f32>().unwrap()));
        }
    }
}

fn agree(found: &[(String, Vec<f32>)], expected: &[(String, Vec<f32>)]) {
    assert_eq!(found.len(), expected.len());
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        let largest = expected.iter().fold(1e-3_f32, |largest, value| largest.max(value.abs()));
        let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        let error = differences.fold(0.0, f32::max) / largest;
        assert!(error < 1e-4 && found.len() == expected.len(), "{name}: {error}");
    }
}

#[test]
fn a_convolution_is_the_frameworks() {
    let device = Device::flex().autodiff();
    for (channels, kernel, stride, bias) in
        [([3, 8], 3, 1, true), ([16, 32], 3, 1, false), ([5, 7], 3, 2, true), ([16, 16], 1, 2, false)]
    {
        let layer = init::initialise(layer(channels, kernel, stride, bias, &device), &Seeds::new(1));
        let images = noise([6, channels[0], 9, 10], "images", &device);
        let found =
            outcome(&layer, images.clone(), |layer, images| conv2d(to_rows(images), layer).permute([0, 3, 1, 2]));
        agree(&found, &outcome(&layer, images, |layer, images| layer.forward(images)));
    }
}

#[test]
fn pooling_is_the_frameworks() {
    let device = Device::flex().autodiff();
    let pool = burn::nn::pool::MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
    let images = noise([3, 5, 7, 6], "images", &device);
    let found = outcome(&pool, images.clone(), |_, images| relu_pool(to_rows(images)).permute([0, 3, 1, 2]));
    agree(&found, &outcome(&pool, images, |pool, images| relu(pool.forward(images))));
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
        assert!(error(output, stock.stock(plain)) < 1e-4);
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
