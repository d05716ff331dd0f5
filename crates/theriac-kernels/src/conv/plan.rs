//! A convolution with its algorithm chosen and its weights prepared, for a whole batch or for a few images at a time.

use super::direct::{Added, Correlation};
use super::winograd::{self, Size, Winograd};
use super::{Algorithm, Conv, weights};
use crate::cpu::Cpu;
use crate::memory::Out;

/// The forward pass, or the gradient of the input.
pub(crate) struct Plan<'a> {
    means: Means,
    /// Where numbers are not finite, Winograd's algorithm would spread them: the definition says which results they reach.
    definition: Box<dyn Fn() -> Correlation + Sync + 'a>,
}

enum Means {
    Direct(Correlation),
    Winograd(Winograd),
}

impl Algorithm {
    /// The tile size, if it is Winograd's.
    fn size(self) -> Option<Size> {
        match self {
            Self::Direct => None,
            Self::Two => Some(Size::Two),
            Self::Four => Some(Size::Four),
        }
    }
}

impl<'a> Plan<'a> {
    pub fn forward(cpu: Cpu, algorithm: Algorithm, conv: &'a Conv, weights: &'a [f32]) -> Self {
        Self::new(
            algorithm,
            move || Correlation::forward(cpu.fitting(conv.outputs), conv, weights),
            |size| Winograd::forward(cpu, size, conv, weights),
        )
    }

    pub fn input_gradient(cpu: Cpu, algorithm: Algorithm, conv: &'a Conv, weights: &'a [f32]) -> Self {
        Self::new(
            algorithm,
            move || Correlation::input_gradient(cpu.fitting(conv.inputs), conv, weights),
            |size| Winograd::input_gradient(cpu, size, conv, weights),
        )
    }

    fn new(
        algorithm: Algorithm,
        definition: impl Fn() -> Correlation + Sync + 'a,
        winograd: impl FnOnce(Size) -> Winograd,
    ) -> Self {
        let means = match algorithm.size() {
            None => Means::Direct(definition()),
            Some(size) => Means::Winograd(winograd(size)),
        };
        Self { means, definition: Box::new(definition) }
    }

    /// Computes all images of a batch, the threads sharing them out.
    pub fn run(&self, batch: usize, input: &[f32], added: Added, out: &Out) {
        match &self.means {
            Means::Direct(plan) => plan.run(batch, input, added, out),
            Means::Winograd(plan) => {
                if !plan.run(batch, input, added, out) {
                    (self.definition)().run(batch, input, added, out);
                }
            }
        }
    }

    /// Computes the first `images` of `input`, on this thread.
    pub fn some(&self, images: usize, input: &[f32], added: Added, out: &Out) {
        match &self.means {
            Means::Direct(plan) => plan.some(images, input, added, out),
            Means::Winograd(plan) => {
                if !plan.some(images, input, added, out) {
                    (self.definition)().some(images, input, added, out);
                }
            }
        }
    }
}

/// The gradient of the weights.
pub(crate) enum WeightPlan {
    Direct(weights::WeightGradient),
    Winograd(winograd::WeightGradient),
}

impl WeightPlan {
    pub fn new(cpu: Cpu, algorithm: Algorithm, conv: &Conv) -> Self {
        match algorithm.size() {
            None => Self::Direct(weights::WeightGradient::new(cpu.fitting(conv.outputs), conv)),
            Some(size) => Self::Winograd(winograd::WeightGradient::new(cpu, size, conv)),
        }
    }

    /// Sums over the whole batch, the threads sharing out images or weights. Whether they can be trusted: by Winograd's algorithm,
    /// numbers that are not finite spread to weights that they do not reach by the definition.
    pub fn run(&self, input: &[f32], gradient: &[f32], out: &Out) -> bool {
        match self {
            Self::Direct(plan) => {
                plan.run(input, gradient, out);
                true
            }
            Self::Winograd(plan) => plan.run(input, gradient, out),
        }
    }

    /// Into how many parts the batch is cut; none where the threads share out weights instead.
    pub fn chunks(&self) -> Option<usize> {
        match self {
            Self::Direct(plan) => plan.chunks(),
            Self::Winograd(plan) => plan.chunks(),
        }
    }

    /// Floats of the sums of a part.
    pub fn partial_len(&self) -> usize {
        match self {
            Self::Direct(plan) => plan.partial_len(),
            Self::Winograd(plan) => plan.partial_len(),
        }
    }

    /// Adds the first `images` of `input` and `gradient` to the sums of a part, which may `begin` with them; on this thread.
    pub fn some(&self, images: usize, input: &[f32], gradient: &[f32], sums: *mut f32, begin: bool) {
        match self {
            Self::Direct(plan) => plan.some(images, input, gradient, sums, begin),
            Self::Winograd(plan) => plan.some(images, input, gradient, sums, begin),
        }
    }

    /// Adds up the sums of all parts and puts the weights into the checkpoint's order. Whether they can be trusted.
    pub fn gather(&self, sums: &Out, out: &Out) -> bool {
        match self {
            Self::Direct(plan) => {
                plan.gather(sums, out);
                true
            }
            Self::Winograd(plan) => plan.gather(sums, out),
        }
    }
}
