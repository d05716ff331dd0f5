//! Derivatives along a direction of the weights, and how they change with the images.
//!
//! For attacks that match gradients: with weights `w`, a direction `v` and a loss `L(x, w)`,
//!
//! ```text
//! grad_x <v, grad_w L(x, w)> = grad_x d/dh L(x, w + h v)    at h = 0
//! ```
//!
//! The framework differentiates once only. So each layer also passes on the derivative of its output along `v`, by the rule of the
//! product (Pearlmutter, "Fast Exact Multiplication by the Hessian", 1994), and an ordinary backward pass goes through both.
//!
//! [`gradient_difference`] comes near the same by two ordinary gradients, and is what the exact way is tested against: in double precision,
//! where nothing switches between the two sides, they agree to 4.2e-11 of their length. On new networks and 25 images of 3 x 32 x 32 it
//! takes 0.42 to 0.54 of the time of the exact way for `cnn` and `resnet`, 0.86 for `mlp` (`benches/derivatives.rs`, two busy cores). But
//! of so many ReLUs and maxima some always switch: over distances from 0.001 to 1 at most 86 to 89 % of the pixels of `cnn` and `resnet`
//! have the sign of the exact derivative, at 0.01 only 57 to 72 %. So it is a second opinion, and attacks take the exact way.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear};
use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};
use theriac_core::Label;

use crate::network::{Network, cross_entropies, input_gradient_of};
use crate::ops::{self, conv::conv as conv2d};
use crate::parameters::{self, Parameter};

/// Activations, and their derivative along a direction of the weights; images have none.
#[derive(Clone, Debug)]
pub(crate) struct Dual<const D: usize> {
    pub value: Tensor<D>,
    pub slope: Option<Tensor<D>>,
}

impl<const D: usize> Dual<D> {
    /// The same linear map of both.
    pub fn map<const E: usize>(self, map: impl Fn(Tensor<D>) -> Tensor<E>) -> Dual<E> {
        Dual { value: map(self.value), slope: self.slope.map(map) }
    }

    /// `change`, and what the slope so far becomes by `carry`, a linear map.
    fn slope<const E: usize>(&self, change: Tensor<E>, carry: impl Fn(Tensor<D>) -> Tensor<E>) -> Option<Tensor<E>> {
        Some(match self.slope.clone() {
            Some(slope) => carry(slope) + change,
            None => change,
        })
    }

    /// A rectifier: the slope ends where the value does.
    pub fn relu(self) -> Self {
        let off = self.value.clone().lower_equal_elem(0.0);
        self.map(|tensor| tensor.mask_fill(off.clone(), 0.0))
    }
}

impl std::ops::Add for Dual<4> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let slope = match (self.slope, other.slope) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        Self { value: self.value + other.value, slope }
    }
}

/// `x w + b`, where the weights move along `along`.
pub(crate) fn linear(x: Dual<2>, layer: &Linear, along: &Linear) -> Dual<2> {
    let slope = x.slope(along.forward(x.value.clone()), |slope| slope.matmul(layer.weight.val()));
    Dual { value: layer.forward(x.value), slope }
}

/// The same for a convolution. Activations are `[batch, height, width, channels]` on the processor, `[batch, channels, height, width]`
/// elsewhere, here and below.
pub(crate) fn conv(x: Dual<4>, layer: &Conv2d, along: &Conv2d) -> Dual<4> {
    let run = |x: Tensor<4>, layer: &Conv2d| if ops::runs(&x) { conv2d(x, layer) } else { layer.forward(x) };
    let unbiased = Conv2d { bias: None, ..layer.clone() };
    let slope = x.slope(run(x.value.clone(), along), |slope| run(slope, &unbiased));
    Dual { value: run(x.value, layer), slope }
}

/// Batch normalisation by its running statistics.
pub(crate) fn norm(x: Dual<4>, layer: &BatchNorm, along: &BatchNorm) -> Dual<4> {
    let channels = layer.gamma.val().dims()[0];
    let shape = if ops::runs(&x.value) { [1, 1, 1, channels] } else { [1, channels, 1, 1] };
    let spread = |tensor: Tensor<1>| tensor.reshape(shape);
    let deviation = spread((layer.running_var.value() + layer.epsilon).sqrt());
    let normal = (x.value.clone() - spread(layer.running_mean.value())) / deviation.clone();
    let [gamma, beta] = [&layer.gamma, &layer.beta].map(|parameter| spread(parameter.val()));
    let [along_gamma, along_beta] = [&along.gamma, &along.beta].map(|parameter| spread(parameter.val()));
    let change = normal.clone() * along_gamma + along_beta;
    let slope = x.slope(change, |slope| slope / deviation.clone() * gamma.clone());
    Dual { value: normal * gamma + beta, slope }
}

/// The largest of each 2 x 2 values, the first of those that are equal; a last odd row or column is left out.
pub(crate) fn pool(x: Dual<4>) -> Dual<4> {
    let on_cpu = ops::runs(&x.value);
    let windows = |tensor: Tensor<4>| {
        let [batch, a, b, c] = tensor.dims();
        // [batch, rows, columns, channels, 4] or [batch, channels, rows, columns, 4]
        if on_cpu {
            let (rows, columns) = (a / 2, b / 2);
            let even = tensor.slice([0..batch, 0..2 * rows, 0..2 * columns, 0..c]);
            even.reshape([batch, rows, 2, columns, 2, c])
                .permute([0, 1, 3, 5, 2, 4])
                .reshape([batch, rows, columns, c, 4])
        } else {
            let (rows, columns) = (b / 2, c / 2);
            let even = tensor.slice([0..batch, 0..a, 0..2 * rows, 0..2 * columns]);
            even.reshape([batch, a, rows, 2, columns, 2])
                .permute([0, 1, 2, 4, 3, 5])
                .reshape([batch, a, rows, columns, 4])
        }
    };
    let x = x.map(windows);
    let largest = x.value.clone().argmax(4); // [batch, .., .., .., 1]
    x.map(|tensor| tensor.gather(4, largest.clone()).squeeze_dim(4))
}

/// The derivative of the mean cross-entropy of images with these labels along a direction of all weights and biases, by their dotted
/// path, and its gradient with respect to the images. Batch normalisation is in evaluation mode.
///
/// # Shapes
/// - images: `[batch, channels, height, width]` in `[0, 1]`, on the network's device without gradients; so is the answer
///
/// # Panics
/// If the direction has an entry that the network has not, or one of another shape.
pub fn directional_gradient(
    network: &Network,
    images: Tensor<4>,
    labels: &[Label],
    direction: &BTreeMap<String, Parameter>,
) -> (f64, Tensor<4>) {
    let mut along = parameters::read(&network.module);
    for (name, parameter) in &mut along {
        match direction.get(name) {
            Some(entry) => parameter.clone_from(entry),
            // Running statistics do not move.
            None => parameter.values.fill(0.0),
        }
    }
    // A mere clone would share its running statistics with the network and overwrite them.
    let along = parameters::write(network.module.valid(), &along).expect("a direction has the shapes of the weights");
    let device = network.device.clone().autodiff();
    let images = Tensor::from_inner(images).to_device(&device).require_grad();
    let entered = network.normalisation.apply(images.clone());
    let logits = network.module.tangent(&along, entered);
    let [batch, classes] = logits.value.dims();
    let mut wanted = vec![0.0f32; batch * classes];
    labels.iter().enumerate().for_each(|(row, &label)| wanted[row * classes + usize::from(label)] = 1.0);
    let wanted = Tensor::from_data(TensorData::new(wanted, [batch, classes]), &device);
    let slope = logits.slope.expect("every network ends in weights");
    let loss = ((softmax(logits.value, 1) - wanted) * slope).sum() / batch as f64;
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let mut gradients = loss.backward();
    (value, images.grad_remove(&mut gradients).expect("the loss depends on the images"))
}

/// The gradient of [`directional_gradient`] from two ordinary ones, at weights that are moved along the direction to both sides:
///
/// ```text
/// grad_x <v, grad_w L(x, w)> = (grad_x L(x, w + h v) - grad_x L(x, w - h v)) / (2 h) + O(h^2)      h = distance / |v|
/// ```
///
/// Liu, Simonyan, Yang: "DARTS: Differentiable Architecture Search", ICLR 2019, <https://arxiv.org/abs/1806.09055>, take a distance of
/// 0.01. The order of the error holds where nothing switches between the two sides. Where a ReLU or a pooled maximum does, its jump is
/// divided by `2 h`, however small that is; and what single precision rounds off is divided by it, too.
///
/// # Shapes
/// - images: those of [`directional_gradient`]
///
/// # Cost
/// Two forward passes, and two backward ones without gradients of weights.
///
/// # Panics
/// If an entry of the direction has not the shape of its weights.
pub fn gradient_difference(
    network: &Network,
    images: Tensor<4>,
    labels: &[Label],
    direction: &BTreeMap<String, Parameter>,
    distance: f64,
) -> Tensor<4> {
    let squares = direction.values().flat_map(|entry| &entry.values).map(|&value| f64::from(value).powi(2));
    let step = distance / squares.sum::<f64>().sqrt();
    let side = |step: f64| {
        let moved = Network { module: parameters::shift(network.module.valid(), direction, step), ..network.clone() };
        input_gradient_of(&moved, images.clone(), |taps| cross_entropies(taps.logits, labels).mean()).1
    };
    (side(step) - side(-step)) / (2.0 * step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Normalisation, device, parameter_gradients};
    use theriac_core::{Facts, Seeds, Shape, Values};

    const SHAPE: [usize; 4] = [3, 2, 9, 8];
    const LABELS: [Label; 3] = [0, 2, 1];

    fn network(name: &str, given: &[(&str, u64)], seeds: &Seeds) -> Network {
        let shape = Shape { channels: SHAPE[1], height: SHAPE[2], width: SHAPE[3] };
        let facts = Facts { shape, classes: 3, train: 1, test: 1, sources: 1 };
        let values: Values = given.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
        let (normalisation, device) = (Normalisation(vec![(0.5, 0.3), (0.4, 0.2)]), device::open("cpu").unwrap());
        Network::named(name, &values, &facts, normalisation, &device, seeds).unwrap()
    }

    fn networks(seeds: &Seeds) -> [Network; 4] {
        [
            ("mlp", &[("hidden", 9), ("layers", 2)][..]),
            ("cnn", &[("width", 3), ("hidden", 9)]),
            ("resnet", &[("width", 3), ("blocks", 1), ("stages", 2)]),
            ("resnet", &[("width", 2), ("blocks", 2), ("stages", 3)]),
        ]
        .map(|(name, given)| network(name, given, seeds))
    }

    fn images(stream: &mut theriac_core::seed::Stream, network: &Network) -> Tensor<4> {
        let pixels: Vec<f32> = (0..SHAPE.iter().product()).map(|_| stream.uniform() as f32).collect();
        Tensor::from_data(TensorData::new(pixels, SHAPE), &network.device)
    }

    /// The derivative along `direction` from the gradient of all weights: `<v, grad_w L>`.
    fn along(network: &Network, images: Tensor<4>, direction: &BTreeMap<String, Parameter>) -> f64 {
        let (_, gradients) = parameter_gradients(network, images, |taps| cross_entropies(taps.logits, &LABELS).mean());
        let product = |(name, gradient): (&String, &Parameter)| {
            let pairs = gradient.values.iter().zip(&direction[name].values);
            pairs.map(|(&one, &other)| f64::from(one) * f64::from(other)).sum::<f64>()
        };
        gradients.iter().map(product).sum()
    }

    #[test]
    fn the_slope_is_the_gradients_part_along_the_direction_and_so_is_its_change_with_the_pixels() {
        let directions = networks(&Seeds::new(2));
        for (network, other) in networks(&Seeds::new(1)).iter().zip(&directions) {
            let mut stream = Seeds::new(3).stream("images");
            let images = images(&mut stream, network);
            let mut direction = parameters::read(&other.module);
            for parameter in direction.values_mut() {
                parameter.values.iter_mut().for_each(|value| *value += 0.1 * stream.normal() as f32);
            }
            let before = network.encode();
            let (slope, gradient) = directional_gradient(network, images.clone(), &LABELS, &direction);
            let expected = along(network, images.clone(), &direction);
            assert!((slope - expected).abs() < 1e-4 * expected.abs().max(1.0), "{slope} {expected}");
            // Between two points that are near, no ReLU switches.
            let towards = (images.clone().powi_scalar(3) - 0.2) * 2e-4;
            let sides = [1.0, -1.0].map(|sign| along(network, images.clone() + towards.clone() * sign, &direction));
            let found = f64::from((gradient * towards).sum().into_scalar::<f32>());
            let expected = (sides[0] - sides[1]) / 2.0;
            assert_eq!(network.encode(), before, "the network stays as it was");
            assert!((found - expected).abs() < 0.01 * expected.abs(), "{found} {expected}");
        }
    }

    #[test]
    fn where_values_are_equal_the_first_is_pooled() {
        let device = device::open("cpu").unwrap();
        let layout = |values: [f32; 6]| Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 2, 3, 1]), &device);
        let x =
            Dual { value: layout([1.0, 3.0, 9.0, 3.0, 2.0, 9.0]), slope: Some(layout([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) };
        let pooled = pool(x);
        let values = |tensor: Tensor<4>| tensor.into_data_as::<f32>().try_to_vec::<f32>().unwrap();
        assert_eq!((values(pooled.value), values(pooled.slope.unwrap())), (vec![3.0], vec![2.0]));
    }
}
