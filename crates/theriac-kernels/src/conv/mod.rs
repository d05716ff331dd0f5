//! Convolution in two dimensions, and its gradients.

mod direct;
mod lines;
mod pack;
mod shape;
#[cfg(test)]
mod tests;
mod weights;
mod winograd;

pub use shape::Conv;

use crate::cpu::Cpu;
use crate::memory::Out;
use direct::{Correlation, Finish};
use weights::WeightGradient;
use winograd::{Size, Winograd};

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// As the definition says.
    Direct,
    /// Winograd's F(2 x 2, 3 x 3).
    Two,
    /// Winograd's F(4 x 4, 3 x 3).
    Four,
}

impl Conv {
    /// The algorithms that can compute it.
    pub fn algorithms(&self, cpu: Cpu) -> &'static [Algorithm] {
        let fits = self.kernel == [3, 3]
            && self.stride == [1, 1]
            && self.padding.iter().all(|&padding| padding <= 2)
            && cpu.lanes() > 1
            && (self.inputs % cpu.lanes(), self.outputs % cpu.lanes()) == (0, 0);
        if fits { &[Algorithm::Direct, Algorithm::Two, Algorithm::Four] } else { &[Algorithm::Direct] }
    }

    /// The output, with an optional bias and an activation of the output's shape added.
    pub fn forward(
        &self,
        cpu: Cpu,
        algorithm: Algorithm,
        input: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        add: Option<&[f32]>,
        out: Out,
    ) {
        let finish = Finish { bias, add, relu: false };
        match algorithm {
            Algorithm::Direct => {
                let cpu = cpu.fitting(self.outputs);
                Correlation::forward(cpu, self, weights).run(cpu, self.batch, input, finish, out);
            }
            Algorithm::Two => Winograd::forward(cpu, Size::Two, self, weights).run(cpu, input, finish, out),
            Algorithm::Four => Winograd::forward(cpu, Size::Four, self, weights).run(cpu, input, finish, out),
        }
    }

    /// The gradient with respect to the input.
    pub fn input_gradient(&self, cpu: Cpu, algorithm: Algorithm, gradient: &[f32], weights: &[f32], out: Out) {
        let finish = Finish::default();
        match algorithm {
            Algorithm::Direct => {
                let cpu = cpu.fitting(self.inputs);
                Correlation::input_gradient(cpu, self, weights).run(cpu, self.batch, gradient, finish, out);
            }
            Algorithm::Two => Winograd::input_gradient(cpu, Size::Two, self, weights).run(cpu, gradient, finish, out),
            Algorithm::Four => Winograd::input_gradient(cpu, Size::Four, self, weights).run(cpu, gradient, finish, out),
        }
    }

    /// The gradient with respect to the weights.
    pub fn weight_gradient(&self, cpu: Cpu, algorithm: Algorithm, input: &[f32], gradient: &[f32], out: Out) {
        match algorithm {
            Algorithm::Direct => {
                let cpu = cpu.fitting(self.outputs);
                WeightGradient::new(cpu, self).run(cpu, input, gradient, out);
            }
            Algorithm::Two => winograd::WeightGradient::new(Size::Two, self).run(cpu, input, gradient, out),
            Algorithm::Four => winograd::WeightGradient::new(Size::Four, self).run(cpu, input, gradient, out),
        }
    }
}

/// The gradient with respect to the bias: the sum over pixels of `[pixels, outputs]`.
pub use weights::channel_sums as bias_gradient;
