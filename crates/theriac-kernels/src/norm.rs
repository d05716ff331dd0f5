//! Batch normalisation, with the ReLU behind it.
//!
//! "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", Ioffe and Szegedy, 2015,
//! <https://arxiv.org/abs/1502.03167>. For an activation seen as rows of channels, `n` rows of them:
//!
//! ```text
//! y  = (x - mean) * scale + beta       scale = gamma / sqrt(variance + epsilon)       out = max(0, y)
//! g  = dy where y > 0, otherwise 0     (dy itself without ReLU)
//! dbeta = sum g                        dgamma = sum g * (x - mean) / sqrt(variance + epsilon)
//! dx = scale * (g - dbeta / n - (x - mean) * dgamma / (n * sqrt(variance + epsilon)))
//! ```
//!
//! With constant (running) statistics only `dx = scale * g` is left of the last line. The mean is subtracted first, so that a mean
//! that is large against the deviation costs no digits.
//!
//! Sums are taken in an order that only the shape determines: over the rows of a chunk with vectors, then over the chunks in double
//! precision. Mean and variance come from one pass, by sums about a value near the mean ("Algorithms for Computing the Sample
//! Variance: Analysis and Recommendations", Chan, Golub and LeVeque, 1983).

use std::cmp::min;

use self::passes::{Backward, Forward, Given, Lines, Moments};
use self::rows::Layout;
use crate::cpu::Cpu;
use crate::memory::Out;

mod passes;
mod rows;
#[cfg(test)]
mod tests;

/// Rows that are looked at for a value near the mean.
const SAMPLE: usize = 16;

/// Mean and biased variance of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Sum over the rows, divided by their number.
    pub mean: Vec<f32>,
    /// Sum of the squared distances from the mean, divided by the number of rows.
    pub variance: Vec<f32>,
}

/// What normalisation does to each channel.
#[derive(Clone, Debug)]
pub struct Affine {
    mean: Vec<f32>,
    inverse: Vec<f64>,
    scale: Vec<f32>,
    beta: Vec<f32>,
}

impl Affine {
    /// From statistics, of the batch or running ones, and the layer's parameters; each has one value a channel.
    ///
    /// # Panics
    /// If they are not equally many.
    pub fn new(mean: &[f32], variance: &[f32], gamma: &[f32], beta: &[f32], epsilon: f64) -> Self {
        assert!([variance.len(), gamma.len(), beta.len()] == [mean.len(); 3], "one value a channel");
        let inverse: Vec<f64> =
            variance.iter().map(|&variance| (f64::from(variance) + epsilon).sqrt().recip()).collect();
        let scale = gamma.iter().zip(&inverse).map(|(&gamma, inverse)| (f64::from(gamma) * inverse) as f32).collect();
        Self { mean: mean.to_vec(), inverse, scale, beta: beta.to_vec() }
    }
}

/// The gradient of the output, and where the gradient of the input goes.
pub enum Gradients<'a> {
    /// To other memory.
    Apart {
        /// The gradient of the output.
        dy: &'a [f32],
        /// The gradient of the input.
        dx: Out<'a>,
    },
    /// To the same memory: the gradient of the output is overwritten.
    InPlace(&'a mut [f32]),
}

/// Mean and biased variance of each channel of `x`, which is `[rows, channels]`.
///
/// # Panics
/// If `x` is empty or not whole rows.
pub fn statistics(cpu: Cpu, x: &[f32], channels: usize) -> Statistics {
    let layout = Layout::new(x.len(), channels);
    let rows = x.len() / channels;
    let sample = min(rows, SAMPLE);
    // Any value near the mean will do. One that is not finite would turn the mean into NaN where it is infinite.
    let near = |channel: usize| {
        let sum: f64 = (0..sample).map(|row| f64::from(x[row * rows / sample * channels + channel])).sum();
        Some((sum / sample as f64) as f32).filter(|near| near.is_finite()).unwrap_or(0.0)
    };
    let near: Vec<f32> = (0..channels).map(near).collect();
    let sums = layout.sweep(cpu, Moments { x, near: &layout.tile(&near) });
    let moments = near.iter().zip(sums.iter().zip(&sums[channels..])).map(|(&near, (sum, squares))| {
        let distance = sum / rows as f64;
        // Rounding may leave a little less than nothing; NaN has to stay.
        let variance = squares / rows as f64 - distance * distance;
        ((f64::from(near) + distance) as f32, if variance < 0.0 { 0.0 } else { variance as f32 })
    });
    let (mean, variance) = moments.unzip();
    Statistics { mean, variance }
}

/// Writes the normalised `x` to `out`; both are `[rows, channels]`. With `relu`, what is negative becomes zero (and NaN stays NaN).
///
/// # Panics
/// If `x` is empty or not whole rows, or if `out` has another size.
pub fn forward(cpu: Cpu, x: &[f32], affine: &Affine, relu: bool, out: Out) {
    assert_eq!(out.len(), x.len(), "the result is as large as the input");
    let layout = Layout::new(x.len(), affine.mean.len());
    let [mean, scale, beta] = [&affine.mean, &affine.scale, &affine.beta].map(|values| layout.tile(values));
    let affine = Lines { mean: &mean, scale: &scale, beta: &beta };
    layout.sweep(cpu, Forward { x, affine, relu, out: &out });
}

/// The gradients of gamma and beta, in this order, and through `gradients` that of the input `x`; tensors are `[rows, channels]`.
///
/// `trained` says that the statistics in `affine` are those of `x`, so that they have a gradient too. `residual` is added to the
/// gradient of the input: what arrives there by another path.
///
/// # Panics
/// If `x` is empty or not whole rows, or if another tensor has another size.
pub fn backward(
    cpu: Cpu,
    x: &[f32],
    gradients: Gradients,
    residual: Option<&[f32]>,
    affine: &Affine,
    relu: bool,
    trained: bool,
) -> (Vec<f32>, Vec<f32>) {
    let (dy, dx) = match gradients {
        Gradients::Apart { dy, dx } => (Some(dy), dx),
        Gradients::InPlace(values) => (None, Out::new(values)),
    };
    assert_eq!(dx.len(), x.len(), "the gradient is as large as the input");
    assert!(dy.into_iter().chain(residual).all(|values| values.len() == x.len()), "tensors of one size");
    let channels = affine.mean.len();
    let layout = Layout::new(x.len(), channels);
    let [mean, scale, beta] = [&affine.mean, &affine.scale, &affine.beta].map(|values| layout.tile(values));
    let lines = Lines { mean: &mean, scale: &scale, beta: &beta };
    let given = Given { x, dy, residual, affine: lines, relu, dx: &dx };
    let sums = match trained {
        true => layout.sweep(cpu, Backward::<true, false> { given, average: &[], slope: &[] }),
        false => layout.sweep(cpu, Backward::<true, true> { given, average: &[], slope: &[] }),
    };
    let (sums, products) = sums.split_at(channels);
    let dgamma = products.iter().zip(&affine.inverse).map(|(product, inverse)| product * inverse);
    if trained {
        let rows = (x.len() / channels) as f64;
        let average: Vec<f32> = sums.iter().map(|sum| (sum / rows) as f32).collect();
        let slope: Vec<f32> =
            dgamma.clone().zip(&affine.inverse).map(|(dgamma, inverse)| (dgamma * inverse / rows) as f32).collect();
        let [average, slope] = [&average, &slope].map(|values| layout.tile(values));
        layout.sweep(cpu, Backward::<false, true> { given, average: &average, slope: &slope });
    }
    (dgamma.map(|value| value as f32).collect(), sums.iter().map(|&sum| sum as f32).collect())
}
