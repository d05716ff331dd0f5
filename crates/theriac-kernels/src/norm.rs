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
//! Variance", Chan, Golub and LeVeque, 1983, section 3).

use std::cmp::min;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::cpu::{Cpu, load_part, prefetch, store_part};
const AHEAD: usize = 0;
const NARROW: usize = 128;
use crate::memory::{Out, scratch};

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
    layout.sweep(cpu, Forward { x, mean: &mean, scale: &scale, beta: &beta, relu, out: &out });
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
    let given = Given { x, dy, residual, mean: &mean, scale: &scale, beta: &beta, relu, dx: &dx };
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

/// Rows that are looked at for a value near the mean.
const SAMPLE: usize = 16;
/// Floats of a chunk, about: small enough for the second cache, and long enough to be worth a task.
const CHUNK: usize = 1 << 15;
/// Floats of the widest vector.
const LANES: usize = 16;
/// Rows that a kernel takes at once, so that the constants and sums of a channel are loaded once for all of them.
const ROWS: usize = 4;

/// How an activation is walked: as lines, each of one row or, where rows are narrow, of several that lie one after the other. Then
/// vectors are full for any number of channels, because lines are multiples of the widest one, and sums have room to overlap.
#[derive(Clone, Copy)]
struct Layout {
    length: usize,
    channels: usize,
    line: usize,
    chunk: usize,
}

impl Layout {
    fn new(length: usize, channels: usize) -> Self {
        assert!(length > 0 && length.is_multiple_of(channels), "whole rows of {channels} channels, at least one");
        let shared = 1 << min(channels.trailing_zeros(), LANES.trailing_zeros());
        let multiple = channels / shared * LANES;
        // A line's constants and sums have to stay in the first cache; wider rows end in a vector that is not full.
        let line = if multiple <= 1024 { multiple * NARROW.div_ceil(multiple) } else { channels };
        Self { length, channels, line, chunk: line * (CHUNK / line).max(64) }
    }

    /// The values of the channels along a line.
    fn tile(&self, values: &[f32]) -> Vec<f32> {
        values.repeat(self.line / self.channels)
    }

    /// Runs a kernel over the whole activation, and returns its sums: those of all channels, then the next kind.
    fn sweep<K: Kernel>(&self, cpu: Cpu, kernel: K) -> Vec<f64> {
        let count = K::SUMS * self.channels;
        let work = |(chunk, totals): (usize, &mut [f64])| {
            let start = chunk * self.chunk;
            let end = min(start + self.chunk, self.length);
            scratch(K::SUMS * self.line, |sums| cpu.run(Chunk { kernel, layout: *self, start, end, sums, totals }));
        };
        // Chunks of no sums still need one place each.
        let mut totals = vec![0.0; self.length.div_ceil(self.chunk) * count.max(1)];
        if totals.len() <= count.max(1) || rayon::current_num_threads() == 1 {
            totals.chunks_mut(count.max(1)).enumerate().for_each(work);
        } else {
            totals.par_chunks_mut(count.max(1)).enumerate().for_each(work);
        }
        let (first, others) = totals.split_at_mut(count);
        if count > 0 {
            for sums in others.chunks(count) {
                first.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
        }
        totals.truncate(count);
        totals
    }
}

/// What is done to each vector.
trait Kernel: Copy + Send + Sync {
    /// Kinds of sums that are taken of each channel.
    const SUMS: usize;

    /// Works on `ROWS` vectors of `place.count` floats, which belong to the same channels.
    ///
    /// # Safety
    /// The last of them has to lie within the tensors, `place.position + place.count` within a line, and `sums` has to be `SUMS`
    /// lines of floats.
    unsafe fn step<S: Simd, const ROWS: usize>(self, simd: S, place: Place, sums: *mut f32);
}

/// Vectors one below the other.
#[derive(Clone, Copy)]
struct Place {
    /// First float of the first vector, in the tensors.
    start: usize,
    /// Floats from one to the next.
    line: usize,
    /// First float in the line.
    position: usize,
    /// Floats of each, at most a whole vector.
    count: usize,
}

struct Chunk<'a, K> {
    kernel: K,
    layout: Layout,
    start: usize,
    end: usize,
    sums: *mut f32,
    totals: &'a mut [f64],
}

impl<K: Kernel> Chunk<'_, K> {
    /// # Safety
    /// `ROWS` lines from `start` on have to lie within the tensors, or one if it is only `length` floats long.
    #[inline(always)]
    unsafe fn lines<S: Simd, const ROWS: usize>(&self, simd: S, start: usize, length: usize) {
        let full = length / S::F32_LANES * S::F32_LANES;
        let line = self.layout.line;
        for position in (0..full).step_by(S::F32_LANES) {
            let place = Place { start: start + position, line, position, count: S::F32_LANES };
            // SAFETY: the caller promises the lines; the vector ends within them.
            unsafe { self.kernel.step::<S, ROWS>(simd, place, self.sums) };
        }
        if full < length {
            let place = Place { start: start + full, line, position: full, count: length - full };
            // SAFETY: as above.
            unsafe { self.kernel.step::<S, ROWS>(simd, place, self.sums) };
        }
    }
}

impl<K: Kernel> WithSimd for Chunk<'_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Layout { line, channels, .. } = self.layout;
        // SAFETY: working memory of this size was lent for the chunk.
        unsafe { self.sums.write_bytes(0, K::SUMS * line) };
        let mut at = self.start;
        while self.end - at >= ROWS * line {
            // SAFETY: all these lines lie before the chunk's end.
            unsafe { self.lines::<S, ROWS>(simd, at, line) };
            at += ROWS * line;
        }
        while at < self.end {
            let length = min(line, self.end - at);
            // SAFETY: the line ends at the chunk's end at the latest.
            unsafe { self.lines::<S, 1>(simd, at, length) };
            at += length;
        }
        // SAFETY: set to zero above, at least.
        let sums = unsafe { std::slice::from_raw_parts(self.sums, K::SUMS * line) };
        for (totals, sums) in self.totals.chunks_exact_mut(channels).zip(sums.chunks_exact(line)) {
            for row in sums.chunks_exact(channels) {
                totals.iter_mut().zip(row).for_each(|(total, &sum)| *total += f64::from(sum));
            }
        }
    }
}

/// Sums of distances from a value near the mean, and of their squares.
#[derive(Clone, Copy)]
struct Moments<'a> {
    x: &'a [f32],
    near: &'a [f32],
}

impl Kernel for Moments<'_> {
    const SUMS: usize = 2;

    #[inline(always)]
    unsafe fn step<S: Simd, const ROWS: usize>(self, simd: S, place: Place, sums: *mut f32) {
        let Place { start, line, position, count } = place;
        // SAFETY: the caller promises the memory.
        unsafe {
            let near = load_part(simd, self.near.as_ptr().add(position), count);
            let (at_sum, at_square) = (sums.add(position), sums.add(line + position));
            let mut sum = load_part(simd, at_sum, count);
            let mut square = load_part(simd, at_square, count);
            for row in 0..ROWS {
                prefetch(self.x.as_ptr().wrapping_add(start + row * line + AHEAD));
                let x = load_part(simd, self.x.as_ptr().add(start + row * line), count);
                let distance = simd.sub_f32s(x, near);
                sum = simd.add_f32s(sum, distance);
                square = simd.add_f32s(square, simd.mul_f32s(distance, distance));
            }
            store_part::<S>(at_sum, sum, count);
            store_part::<S>(at_square, square, count);
        }
    }
}

/// `value` where `y` is above zero or NaN, otherwise zero.
#[inline(always)]
fn rectify<S: Simd>(simd: S, y: S::f32s, value: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_or_equal_f32s(y, zero), zero, value)
}

#[derive(Clone, Copy)]
struct Forward<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    scale: &'a [f32],
    beta: &'a [f32],
    relu: bool,
    out: &'a Out<'a>,
}

impl Kernel for Forward<'_> {
    const SUMS: usize = 0;

    #[inline(always)]
    unsafe fn step<S: Simd, const ROWS: usize>(self, simd: S, place: Place, _sums: *mut f32) {
        let Place { start, line, position, count } = place;
        // SAFETY: the caller promises the memory.
        unsafe {
            let mean = load_part(simd, self.mean.as_ptr().add(position), count);
            let scale = load_part(simd, self.scale.as_ptr().add(position), count);
            let beta = load_part(simd, self.beta.as_ptr().add(position), count);
            for row in 0..ROWS {
                prefetch(self.x.as_ptr().wrapping_add(start + row * line + AHEAD));
                let x = load_part(simd, self.x.as_ptr().add(start + row * line), count);
                let y = simd.add_f32s(simd.mul_f32s(simd.sub_f32s(x, mean), scale), beta);
                let y = if self.relu { rectify(simd, y, y) } else { y };
                store_part::<S>(self.out.at(start + row * line), y, count);
            }
        }
    }
}

/// What the passes of the gradient have in common.
#[derive(Clone, Copy)]
struct Given<'a> {
    x: &'a [f32],
    /// `None` if it lies where the gradient of the input goes.
    dy: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
    mean: &'a [f32],
    scale: &'a [f32],
    beta: &'a [f32],
    relu: bool,
    dx: &'a Out<'a>,
}

/// With `SUMS`, sums of `g` and of `g * (x - mean)`; with `WRITE`, the gradient of the input. Whoever wants both in one pass cannot
/// have the sums flow into the gradient: then the statistics are constants.
#[derive(Clone, Copy)]
struct Backward<'a, const SUMS: bool, const WRITE: bool> {
    given: Given<'a>,
    average: &'a [f32],
    slope: &'a [f32],
}

impl<const SUMS: bool, const WRITE: bool> Kernel for Backward<'_, SUMS, WRITE> {
    const SUMS: usize = if SUMS { 2 } else { 0 };

    #[inline(always)]
    unsafe fn step<S: Simd, const ROWS: usize>(self, simd: S, place: Place, sums: *mut f32) {
        let Place { start, line, position, count } = place;
        let given = self.given;
        let zero = simd.splat_f32s(0.0);
        // SAFETY: the caller promises the memory; the gradient of the input is only read where it came with values.
        unsafe {
            let mean = load_part(simd, given.mean.as_ptr().add(position), count);
            let scale = load_part(simd, given.scale.as_ptr().add(position), count);
            let beta = load_part(simd, given.beta.as_ptr().add(position), count);
            let (mut sum, mut product, mut average, mut slope) = (zero, zero, zero, zero);
            if SUMS {
                sum = load_part(simd, sums.add(position), count);
                product = load_part(simd, sums.add(line + position), count);
            } else {
                average = load_part(simd, self.average.as_ptr().add(position), count);
                slope = load_part(simd, self.slope.as_ptr().add(position), count);
            }
            for at in (0..ROWS).map(|row| start + row * line) {
                let dy = given.dy.map_or(given.dx.at(at).cast_const(), |dy| dy.as_ptr().add(at));
                prefetch(given.x.as_ptr().wrapping_add(at + AHEAD));
                prefetch(dy.wrapping_add(AHEAD));
                let mut g = load_part(simd, dy, count);
                let distance = simd.sub_f32s(load_part(simd, given.x.as_ptr().add(at), count), mean);
                if given.relu {
                    g = rectify(simd, simd.add_f32s(simd.mul_f32s(distance, scale), beta), g);
                }
                if SUMS {
                    sum = simd.add_f32s(sum, g);
                    product = simd.add_f32s(product, simd.mul_f32s(g, distance));
                }
                if WRITE {
                    if !SUMS {
                        g = simd.sub_f32s(simd.sub_f32s(g, average), simd.mul_f32s(distance, slope));
                    }
                    let mut dx = simd.mul_f32s(g, scale);
                    if let Some(residual) = given.residual {
                        dx = simd.add_f32s(dx, load_part(simd, residual.as_ptr().add(at), count));
                    }
                    store_part::<S>(given.dx.at(at), dx, count);
                }
            }
            if SUMS {
                store_part::<S>(sums.add(position), sum, count);
                store_part::<S>(sums.add(line + position), product, count);
            }
        }
    }
}
