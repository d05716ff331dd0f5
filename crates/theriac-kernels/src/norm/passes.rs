//! What batch normalisation does to each vector.
//!
//! Multiplications and additions are not contracted: memory is the limit, so that nothing is lost by it, the value that the ReLU sees
//! is the same forward and backward, and code without vectors need not call a function for each of them.

use pulp::Simd;

use super::rows::{Kernel, Place};
use crate::memory::Out;

/// Sums of distances from a value near the mean, and of their squares.
#[derive(Clone, Copy)]
pub(super) struct Moments<'a> {
    pub x: &'a [f32],
    pub near: &'a [f32],
}

impl Kernel for Moments<'_> {
    const SUMS: usize = 2;

    #[inline(always)]
    unsafe fn step<S: Simd, const LINES: usize>(self, simd: S, place: Place, sums: *mut f32) {
        // SAFETY: the caller promises the memory.
        unsafe {
            let near = place.constant(simd, self.near.as_ptr(), 0);
            let (mut sum, mut square) = (place.constant(simd, sums, 0), place.constant(simd, sums, 1));
            for line in 0..LINES {
                let distance = simd.sub_f32s(place.load(simd, self.x.as_ptr(), line), near);
                sum = simd.add_f32s(sum, distance);
                square = simd.add_f32s(square, simd.mul_f32s(distance, distance));
            }
            place.keep::<S>(sums, 0, sum);
            place.keep::<S>(sums, 1, square);
        }
    }
}

/// `value` where `y` is above zero or not a number, otherwise zero.
#[inline(always)]
fn rectify<S: Simd>(simd: S, y: S::f32s, value: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_or_equal_f32s(y, zero), zero, value)
}

/// What [`super::Affine`] says, along a line.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub mean: &'a [f32],
    pub scale: &'a [f32],
    pub beta: &'a [f32],
}

/// Normalises.
#[derive(Clone, Copy)]
pub(super) struct Forward<'a> {
    pub x: &'a [f32],
    pub affine: Lines<'a>,
    pub relu: bool,
    pub out: &'a Out<'a>,
}

impl Kernel for Forward<'_> {
    const SUMS: usize = 0;

    #[inline(always)]
    unsafe fn step<S: Simd, const LINES: usize>(self, simd: S, place: Place, _sums: *mut f32) {
        let Lines { mean, scale, beta } = self.affine;
        // SAFETY: the caller promises the memory.
        unsafe {
            let [mean, scale, beta] = [mean, scale, beta].map(|values| place.constant(simd, values.as_ptr(), 0));
            for line in 0..LINES {
                let distance = simd.sub_f32s(place.load(simd, self.x.as_ptr(), line), mean);
                let y = simd.add_f32s(simd.mul_f32s(distance, scale), beta);
                place.store::<S>(self.out.at(0), line, if self.relu { rectify(simd, y, y) } else { y });
            }
        }
    }
}

/// What the passes of the gradient have in common.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub x: &'a [f32],
    /// `None` if it lies where the gradient of the input goes.
    pub dy: Option<&'a [f32]>,
    pub residual: Option<&'a [f32]>,
    pub affine: Lines<'a>,
    pub relu: bool,
    pub dx: &'a Out<'a>,
}

/// With `SUM`, sums of `g` and of `g * (x - mean)`; with `WRITE`, the gradient of the input. What takes both in one pass cannot have
/// the sums flow into the gradient: the statistics are constants then.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a, const SUM: bool, const WRITE: bool> {
    pub given: Given<'a>,
    pub average: &'a [f32],
    pub slope: &'a [f32],
}

impl<const SUM: bool, const WRITE: bool> Kernel for Backward<'_, SUM, WRITE> {
    const SUMS: usize = if SUM { 2 } else { 0 };

    #[inline(always)]
    unsafe fn step<S: Simd, const LINES: usize>(self, simd: S, place: Place, sums: *mut f32) {
        let Given { x, dy, residual, affine: Lines { mean, scale, beta }, relu, dx } = self.given;
        let dy = dy.map_or(dx.at(0).cast_const(), <[f32]>::as_ptr);
        let zero = simd.splat_f32s(0.0);
        // SAFETY: the caller promises the memory; that of `dx` is only read where it came with values.
        unsafe {
            let [mean, scale, beta] = [mean, scale, beta].map(|values| place.constant(simd, values.as_ptr(), 0));
            let [mut sum, mut product, average, slope] = match SUM {
                true => [place.constant(simd, sums, 0), place.constant(simd, sums, 1), zero, zero],
                false => {
                    let [average, slope] = [self.average, self.slope].map(<[f32]>::as_ptr);
                    [zero, zero, place.constant(simd, average, 0), place.constant(simd, slope, 0)]
                }
            };
            for line in 0..LINES {
                let mut g = place.load(simd, dy, line);
                let distance = simd.sub_f32s(place.load(simd, x.as_ptr(), line), mean);
                if relu {
                    g = rectify(simd, simd.add_f32s(simd.mul_f32s(distance, scale), beta), g);
                }
                if SUM {
                    sum = simd.add_f32s(sum, g);
                    product = simd.add_f32s(product, simd.mul_f32s(g, distance));
                }
                if WRITE {
                    if !SUM {
                        g = simd.sub_f32s(simd.sub_f32s(g, average), simd.mul_f32s(distance, slope));
                    }
                    let mut result = simd.mul_f32s(g, scale);
                    if let Some(residual) = residual {
                        result = simd.add_f32s(result, place.load(simd, residual.as_ptr(), line));
                    }
                    place.store::<S>(dx.at(0), line, result);
                }
            }
            if SUM {
                place.keep::<S>(sums, 0, sum);
                place.keep::<S>(sums, 1, product);
            }
        }
    }
}
