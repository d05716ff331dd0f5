//! Projected gradient descent on inputs: adversarial examples under an L-infinity bound.
//!
//! Madry, Makelov, Schmidt, Tsipras, Vladu: "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018,
//! <https://arxiv.org/abs/1706.06083>.
//!
//! ```text
//! x_0     = x + uniform(-epsilon, epsilon)                                   (with a random start)
//! x_{t+1} = clip_[0,1]( clip_[x - epsilon, x + epsilon]( x_t + a sign(grad_x L(x_t, y)) ) )
//! ```
//! Towards a target class the sign is reversed.

use theriac_core::Label;
use theriac_core::seed::Stream;
use theriac_nn::Network;
use theriac_nn::burn::tensor::{Tensor, TensorData};

/// Which way to walk on the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Away from the given labels: an untargeted example.
    Away,
    /// Towards the given labels: a targeted example.
    Towards,
}

/// The attack's settings, in units of pixel values in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pgd {
    /// Largest change of one pixel.
    pub epsilon: f64,
    /// Length of one step.
    pub step_size: f64,
    /// Number of steps.
    pub steps: usize,
    /// Whether to start at a random point of the ball.
    pub random_start: bool,
}

impl Pgd {
    /// The usual setting: a random start, and steps of `2.5 epsilon / steps`, which together could cross the ball 1.25 times. `epsilon` is
    /// of 255.
    pub fn of(epsilon: u8, steps: usize) -> Self {
        let epsilon = f64::from(epsilon) / 255.0;
        Self { epsilon, step_size: 2.5 * epsilon / steps as f64, steps, random_start: true }
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
            let draw = |_| ((2.0 * stream.uniform() - 1.0) * self.epsilon) as f32;
            let noise: Vec<f32> = (0..shape.iter().product()).map(draw).collect();
            let noise = Tensor::from_data(TensorData::new(noise, shape), &network.device);
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
            let change = (adversarial + gradient.sign() * step - clean.clone()).clamp(-self.epsilon, self.epsilon);
            adversarial = (clean.clone() + change).clamp(0.0, 1.0);
        }
        adversarial
    }
}
