//! Convolution in two dimensions, and its gradients.

mod direct;
mod lines;
mod pack;
mod plan;
pub mod pooled;
pub mod products;
mod shape;
#[cfg(test)]
mod tests;
mod weights;
mod winograd;

pub use direct::Added;
pub use shape::Conv;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::cpu::Cpu;
use crate::memory::Out;
use plan::{Plan, WeightPlan};

/// Cost of transforming a value, in multiply-adds of a tile: measured, see `benches/conv.rs`.
const TRANSFORM_TWO: f64 = 9.0;
const TRANSFORM_FOUR: f64 = 13.0;

static WINOGRAD: AtomicBool = AtomicBool::new(true);

/// Leaves Winograd's algorithm out of [`Conv::fastest`] from now on, or takes it back in: for measurements.
pub fn set_winograd(on: bool) {
    WINOGRAD.store(on, Ordering::Relaxed);
}

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

    /// The algorithm that should be fastest, by the number of multiply-adds and of transformed values.
    pub fn fastest(&self, cpu: Cpu) -> Algorithm {
        let tiles = |size: usize| (self.rows().div_ceil(size) * self.columns().div_ceil(size)) as f64;
        let (products, values) = ((self.inputs * self.outputs) as f64, (self.inputs + self.outputs) as f64);
        let cost = |algorithm: &Algorithm| match algorithm {
            Algorithm::Direct => self.pixels() as f64 * (self.kernel[0] * self.kernel[1]) as f64 * products,
            Algorithm::Two => tiles(2) * 16.0 * (products + TRANSFORM_TWO * values),
            Algorithm::Four => tiles(4) * 36.0 * (products + TRANSFORM_FOUR * values),
        };
        let all = if WINOGRAD.load(Ordering::Relaxed) { self.algorithms(cpu) } else { &[Algorithm::Direct] };
        *all.iter().min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("the direct algorithm computes every convolution")
    }

    /// The output.
    pub fn forward(&self, cpu: Cpu, algorithm: Algorithm, input: &[f32], weights: &[f32], added: Added, out: Out) {
        Plan::forward(cpu, algorithm, self, weights).run(self.batch, input, added, &out);
    }

    /// The gradient with respect to the input, with an optional activation of the input's shape added.
    pub fn input_gradient(
        &self,
        cpu: Cpu,
        algorithm: Algorithm,
        gradient: &[f32],
        weights: &[f32],
        add: Option<&[f32]>,
        out: Out,
    ) {
        let added = Added { bias: None, add };
        Plan::input_gradient(cpu, algorithm, self, weights).run(self.batch, gradient, added, &out);
    }

    /// The gradient with respect to the weights.
    pub fn weight_gradient(&self, cpu: Cpu, algorithm: Algorithm, input: &[f32], gradient: &[f32], out: Out) {
        if !WeightPlan::new(cpu, algorithm, self).run(input, gradient, &out) {
            WeightPlan::new(cpu, Algorithm::Direct, self).run(input, gradient, &out);
        }
    }
}

/// The gradient with respect to the bias: the sum over pixels of `[pixels, outputs]`.
pub use weights::channel_sums as bias_gradient;
