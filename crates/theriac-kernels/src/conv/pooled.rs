//! Convolution, ReLU and 2 x 2 max-pooling in one: the activation between them, four times as large as the result, never reaches
//! memory. Each thread convolves a few images into working memory and pools them from there; back, it spreads the gradient of a few
//! images there and takes all gradients of the convolution from it.

use rayon::prelude::*;

use super::direct::Added;
use super::plan::{Plan, WeightPlan};
use super::{Algorithm, Conv};
use crate::cpu::Cpu;
use crate::memory::{Block, Floats, Out, scratch};
use crate::pool::Pool;

/// Floats of working memory, about: they should stay in the second-level cache.
const FLOATS: usize = 40 << 10;
/// Parts of the batch that the backward pass shares out, at most; a power of two.
const MOST_CHUNKS: usize = 16;

/// A convolution with a bias whose output goes through ReLU and 2 x 2 max-pooling.
///
/// # Shapes
/// - input and weights: those of the convolution
/// - output: `[batch, rows / 2, columns / 2, outputs]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooled(pub Conv);

/// What the forward pass leaves for the backward pass.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The input.
    pub input: &'a [f32],
    /// The output.
    pub output: &'a [f32],
    /// Which of four pixels each output came from.
    pub chosen: &'a [u8],
}

/// Gradients that are asked for, and where they go.
#[derive(Default)]
pub struct Wanted<'a> {
    /// Of the input.
    pub input: Option<Out<'a>>,
    /// Of the weights.
    pub weights: Option<Out<'a>>,
}

impl Pooled {
    /// The pooling of some images.
    fn pool(&self, images: usize) -> Pool {
        let conv = &self.0;
        Pool { batch: images, height: conv.rows(), width: conv.columns(), channels: conv.outputs }
    }

    /// Images that are worked on at a time.
    fn at_once(&self) -> usize {
        (FLOATS / (self.0.pixels() * self.0.outputs).max(1)).clamp(1, self.0.batch.max(1))
    }

    /// Writes the output, and returns which of the four pixels each value came from.
    pub fn forward(
        &self,
        cpu: Cpu,
        algorithm: Algorithm,
        input: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        out: Out,
    ) -> Vec<u8> {
        let conv = &self.0;
        let (image_in, image_out) = (conv.input_len() / conv.batch, self.pool(1).output_len());
        assert!(input.len() == conv.input_len() && out.len() == conv.batch * image_out, "sizes of a convolution");
        let mut chosen = vec![0; out.len()];
        if chosen.is_empty() {
            return chosen;
        }
        let plan = Plan::forward(cpu, algorithm, conv, weights);
        let added = Added { bias, add: None };
        let images = self.at_once();
        chosen.par_chunks_mut(images * image_out).enumerate().for_each(|(task, chosen)| {
            let (first, count) = (task * images, chosen.len() / image_out);
            let len = count * conv.pixels() * conv.outputs;
            scratch(len, |room| {
                // SAFETY: the working memory has room, and the plan fills it.
                let full = unsafe {
                    plan.some(count, &input[first * image_in..], added, &Out::uninitialised(room, len));
                    std::slice::from_raw_parts(room, len)
                };
                // SAFETY: each thread writes images of its own.
                let out = unsafe { std::slice::from_raw_parts_mut(out.at(first * image_out).cast(), chosen.len()) };
                self.pool(count).forward(cpu, full, chosen, out);
            });
        });
        chosen
    }

    /// Writes the gradients of the input and of the weights that are wanted, and returns that of the bias; from the gradient of the
    /// output.
    pub fn backward(
        &self,
        cpu: Cpu,
        algorithm: Algorithm,
        kept: Kept,
        weights: &[f32],
        gradient: &[f32],
        wanted: Wanted,
    ) -> Vec<f32> {
        let conv = &self.0;
        let (image_in, image_out) = (conv.input_len() / conv.batch, self.pool(1).output_len());
        let len = conv.batch * image_out;
        assert!([kept.output.len(), kept.chosen.len(), gradient.len()] == [len; 3], "sizes of a pooling");
        assert!(kept.input.len() == conv.input_len(), "sizes of a convolution");
        let plan = wanted.input.is_some().then(|| Plan::input_gradient(cpu, algorithm, conv, weights));
        let weight_plan = wanted.weights.is_some().then(|| WeightPlan::new(cpu, algorithm, conv));
        // Many weights and few pixels: threads share out the weights, for which the whole gradient must be there.
        if let (Some(_), None) = (&weight_plan, weight_plan.as_ref().and_then(WeightPlan::chunks)) {
            if let Some(out) = wanted.weights {
                conv.weight_gradient(cpu, algorithm, kept.input, &self.spread(cpu, &kept, gradient), out);
            }
            let wanted = Wanted { input: wanted.input, weights: None };
            return self.backward(cpu, algorithm, kept, weights, gradient, wanted);
        }
        let chunks = weight_plan.as_ref().and_then(WeightPlan::chunks);
        let chunks = chunks.unwrap_or(1 << MOST_CHUNKS.min(conv.batch).ilog2());
        let partial_len = weight_plan.as_ref().map_or(0, WeightPlan::partial_len);
        let partial = Block::new(chunks * partial_len);
        // SAFETY: the block has this size, and nobody else knows it yet.
        let sums = unsafe { Out::uninitialised(partial.as_ptr(), chunks * partial_len) };
        let begin = |chunk: usize| chunk * conv.batch / chunks;
        let chunk = |chunk: usize| {
            let mut bias = vec![0.0; conv.outputs];
            for first in (begin(chunk)..begin(chunk + 1)).step_by(self.at_once()) {
                let count = self.at_once().min(begin(chunk + 1) - first);
                let pooled = first * image_out..(first + count) * image_out;
                let [output, gradient] = [kept.output, gradient].map(|values| &values[pooled.clone()]);
                let len = count * conv.pixels() * conv.outputs;
                scratch(len, |room| {
                    // SAFETY: the working memory has room, which the pooling fills.
                    let full = unsafe {
                        let full = std::slice::from_raw_parts_mut(room.cast(), len);
                        self.pool(count).backward(cpu, output, &kept.chosen[pooled], gradient, full, &mut bias);
                        std::slice::from_raw_parts(room, len)
                    };
                    if let (Some(plan), Some(out)) = (&plan, &wanted.input) {
                        // SAFETY: each thread writes images of its own.
                        let out = unsafe { Out::uninitialised(out.at(first * image_in), count * image_in) };
                        plan.some(count, full, Added::default(), &out);
                    }
                    if let Some(plan) = &weight_plan {
                        let input = &kept.input[first * image_in..];
                        plan.some(count, input, full, sums.at(chunk * partial_len), first == begin(chunk));
                    }
                });
            }
            bias
        };
        let biases: Vec<Vec<f32>> = (0..chunks).into_par_iter().map(chunk).collect();
        if let (Some(plan), Some(out)) = (weight_plan, wanted.weights)
            && !plan.gather(&sums, &out)
        {
            conv.weight_gradient(cpu, Algorithm::Direct, kept.input, &self.spread(cpu, &kept, gradient), out);
        }
        let mut bias = vec![0.0; conv.outputs];
        for part in biases {
            bias.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        bias
    }

    /// The gradient of the convolution's output, in memory.
    fn spread(&self, cpu: Cpu, kept: &Kept, gradient: &[f32]) -> Floats {
        let conv = &self.0;
        let (image, image_out) = (conv.pixels() * conv.outputs, self.pool(1).output_len());
        // SAFETY: every image is written, by one thread.
        unsafe {
            Floats::written(conv.output_len(), |out| {
                (0..conv.batch).into_par_iter().for_each(|index| {
                    let pooled = index * image_out..(index + 1) * image_out;
                    let [output, gradient] = [kept.output, gradient].map(|values| &values[pooled.clone()]);
                    let full = std::slice::from_raw_parts_mut(out.at(index * image).cast(), image);
                    let mut bias = vec![0.0; conv.outputs];
                    self.pool(1).backward(cpu, output, &kept.chosen[pooled], gradient, full, &mut bias);
                });
            })
        }
    }
}
