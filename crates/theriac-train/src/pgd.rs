//! Projected gradient descent on inputs: adversarial examples under an L-infinity or an L2 bound.
//!
//! Madry, Makelov, Schmidt, Tsipras, Vladu: "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018,
//! <https://arxiv.org/abs/1706.06083>.
//!
//! ```text
//! L-infinity:  x_0     = x + uniform(-epsilon, epsilon)                                   (with a random start)
//!              x_{t+1} = clip_[0,1]( clip_[x - epsilon, x + epsilon]( x_t + a sign(grad_x L(x_t, y)) ) )
//! L2:          x_0     = x + uniform in the ball of radius epsilon                        (with a random start)
//!              x_{t+1} = clip_[0,1]( x + shorten_epsilon( x_t + a g / |g|_2 - x ) ),      g = grad_x L(x_t, y)
//!              where shorten_epsilon(d) = d min(1, epsilon / |d|_2)
//! ```
//! Towards a target class the step is reversed.

use theriac_core::Label;
use theriac_core::seed::Stream;
use theriac_nn::Network;
use theriac_nn::burn::tensor::{Tensor, TensorData};

use crate::recipe::{BatchHook, Minibatch};

/// Which way to walk on the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Away from the given labels: an untargeted example.
    Away,
    /// Towards the given labels: a targeted example.
    Towards,
}

/// How a change is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// The largest change of one pixel value.
    LInf,
    /// The Euclidean length of the change of the whole image.
    L2,
}

/// The attack's settings, in units of pixel values in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pgd {
    /// How a change is measured.
    pub norm: Norm,
    /// Largest change.
    pub epsilon: f64,
    /// Length of one step.
    pub step_size: f64,
    /// Number of steps.
    pub steps: usize,
    /// Whether to start at a random point of the ball.
    pub random_start: bool,
}

impl Pgd {
    /// The usual setting for a bound on each pixel: see [`Pgd::within`].
    pub fn of(epsilon: u8, steps: usize) -> Self {
        Self::within(Norm::LInf, f64::from(epsilon), steps)
    }

    /// The usual setting: a random start, and steps of `2.5 epsilon / steps`, which together could cross the ball 1.25 times. `epsilon` is
    /// in units of pixel values from 0 to 255.
    pub fn within(norm: Norm, epsilon: f64, steps: usize) -> Self {
        let epsilon = epsilon / 255.0;
        Self { norm, epsilon, step_size: 2.5 * epsilon / steps as f64, steps, random_start: true }
    }

    /// Perturbs `images`, `[batch, channels, height, width]` in `[0, 1]`, on the network's own device.
    pub fn perturb(
        &self,
        network: &Network,
        images: Tensor<4>,
        labels: &[Label],
        direction: Direction,
        stream: &mut Stream,
    ) -> Tensor<4> {
        let mut start = images.clone();
        if self.random_start {
            let shape = start.dims();
            let noise = Tensor::from_data(TensorData::new(self.start(shape, stream), shape), &network.device);
            start = (start + noise).clamp(0.0, 1.0);
        }
        self.walk(network, images, start, labels, direction)
    }

    /// Goes on from `start`, a point of the ball around the `clean` images, both `[batch, channels, height, width]` in `[0, 1]`.
    pub fn walk(
        &self,
        network: &Network,
        clean: Tensor<4>,
        start: Tensor<4>,
        labels: &[Label],
        direction: Direction,
    ) -> Tensor<4> {
        let mut adversarial = start;
        let step = match direction {
            Direction::Away => self.step_size,
            Direction::Towards => -self.step_size,
        };
        for _ in 0..self.steps {
            let gradient = theriac_nn::input_gradient(network, adversarial.clone(), labels);
            let change = self.project(adversarial + self.steepest(gradient) * step - clean.clone());
            adversarial = (clean.clone() + change).clamp(0.0, 1.0);
        }
        adversarial
    }

    /// A random point of the ball for each image, all equally likely.
    fn start(&self, shape: [usize; 4], stream: &mut Stream) -> Vec<f32> {
        let size = shape[1..].iter().product::<usize>();
        match self.norm {
            Norm::LInf => {
                (0..shape[0] * size).map(|_| ((2.0 * stream.uniform() - 1.0) * self.epsilon) as f32).collect()
            }
            Norm::L2 => (0..shape[0])
                .flat_map(|_| {
                    let direction: Vec<f64> = (0..size).map(|_| stream.normal()).collect();
                    let length = direction.iter().map(|value| value * value).sum::<f64>().sqrt();
                    let radius = self.epsilon * stream.uniform().powf(1.0 / size as f64);
                    direction.into_iter().map(move |value| (value / length * radius) as f32)
                })
                .collect(),
        }
    }

    /// The direction of length 1 in which the loss rises fastest.
    fn steepest(&self, gradient: Tensor<4>) -> Tensor<4> {
        match self.norm {
            Norm::LInf => gradient.sign(),
            Norm::L2 => {
                // The gradient of a confident network is so small that its squares would vanish.
                let largest = gradient.clone().abs().max_dim(3).max_dim(2).max_dim(1).clamp_min(f32::MIN_POSITIVE);
                let gradient = gradient / largest;
                gradient.clone() / lengths(gradient)
            }
        }
    }

    /// The nearest change within the bound.
    fn project(&self, change: Tensor<4>) -> Tensor<4> {
        match self.norm {
            Norm::LInf => change.clamp(-self.epsilon, self.epsilon),
            Norm::L2 => change.clone() * (lengths(change).recip() * self.epsilon).clamp_max(1.0),
        }
    }
}

/// Adversarial training: every batch consists of adversarial examples against the network as it stands.
impl BatchHook for Pgd {
    fn apply(&self, network: &Network, batch: Minibatch, stream: &mut Stream) -> Minibatch {
        let images = self.perturb(network, batch.images, &batch.labels, Direction::Away, stream);
        Minibatch { images, ..batch }
    }
}

/// The Euclidean length of each image, never 0: `[batch, 1, 1, 1]`.
fn lengths(images: Tensor<4>) -> Tensor<4> {
    images.powi_scalar(2).sum_dim(3).sum_dim(2).sum_dim(1).sqrt().clamp_min(1e-12)
}
