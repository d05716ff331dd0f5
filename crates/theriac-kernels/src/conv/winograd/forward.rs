//! The forward pass, and the gradient with respect to the input: the same with flipped weights.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{GAP, LARGE, ROWS, Size, TASK_FLOATS, TASK_TILES, TASK_TILES_LARGE, Tiles, read, sized, transform_tiles};
use crate::conv::direct::Added;
use crate::conv::lines::{Four, Input, Line, Output, Two, Weight, both};
use crate::conv::pack::{Packed, Source};
use crate::conv::shape::Conv;
use crate::cpu::{Cpu, load, store};
use crate::memory::{Block, Out, scratch};
use crate::tile::{Steps, Tile, accumulate, with_tile};

/// Sums of products of 3 x 3 windows with weights.
pub(crate) struct Winograd {
    size: Size,
    input: Tiles,
    output: [usize; 2],
    outputs: usize,
    batch: usize,
    weights: Planes,
}

/// Transformed weights: for every plane `[block, input, channel]`.
struct Planes {
    values: Block,
    channels: usize,
    plane: usize,
}

impl Winograd {
    /// The forward pass.
    pub fn forward(cpu: Cpu, size: Size, conv: &Conv, weights: &[f32]) -> Self {
        let taps: Vec<usize> = (0..9).collect();
        let source = Source { weights, output_step: conv.inputs * 9, input_step: 9, taps: &taps };
        let output = [conv.rows(), conv.columns()];
        let input = Tiles::new([conv.height, conv.width], conv.inputs, output, size.outputs(), conv.padding);
        let weights = Planes::new(cpu, size, &source, [conv.outputs, conv.inputs]);
        Self { size, input, output, outputs: conv.outputs, batch: conv.batch, weights }
    }

    /// The gradient with respect to the input: the same with flipped weights.
    pub fn input_gradient(cpu: Cpu, size: Size, conv: &Conv, weights: &[f32]) -> Self {
        let taps: Vec<usize> = (0..9).rev().collect();
        let source = Source { weights, output_step: 9, input_step: conv.inputs * 9, taps: &taps };
        let output = [conv.height, conv.width];
        let before = conv.padding.map(|padding| 2 - padding);
        let input = Tiles::new([conv.rows(), conv.columns()], conv.outputs, output, size.outputs(), before);
        let weights = Planes::new(cpu, size, &source, [conv.inputs, conv.outputs]);
        Self { size, input, output, outputs: conv.inputs, batch: conv.batch, weights }
    }

    /// Computes all images of a batch.
    pub fn run(&self, cpu: Cpu, input: &[f32], added: Added, out: Out) {
        let [height, width] = self.input.size;
        assert!(input.len() == self.batch * height * width * self.input.channels, "sizes of a convolution");
        assert!(out.len() == self.batch * self.output[0] * self.output[1] * self.outputs, "sizes of a convolution");
        let tiles = self.batch * self.input.count[0] * self.input.count[1];
        let planes = self.size.inputs() * self.size.inputs();
        let floats = planes * (self.input.channels + self.outputs);
        let fewest = if planes * self.weights.plane > LARGE { TASK_TILES_LARGE } else { TASK_TILES };
        let at_once = (TASK_FLOATS / floats).max(fewest).next_multiple_of(ROWS).min(tiles);
        (0..tiles.div_ceil(at_once)).into_par_iter().for_each(|task| {
            let tiles = task * at_once..tiles.min((task + 1) * at_once);
            let planes_in = planes * (at_once * self.input.channels + GAP);
            let planes_out = planes * (at_once * self.outputs + GAP);
            let zeros = self.input.channels;
            scratch(zeros + planes_in + planes_out, |room| {
                cpu.run(Forward { plan: self, input: input.as_ptr(), tiles, at_once, added, out: &out, room });
            });
        });
    }
}

impl Planes {
    fn new(cpu: Cpu, size: Size, source: &Source, [outputs, inputs]: [usize; 2]) -> Self {
        let channels = if outputs > cpu.lanes() { 2 * cpu.lanes() } else { cpu.lanes() };
        let packed = Packed::new(source, [outputs, inputs], 1, channels);
        let blocks = outputs.div_ceil(channels);
        let plane = blocks * inputs * channels + GAP;
        let planes = size.inputs() * size.inputs();
        let values = Block::new(planes * plane);
        // SAFETY: the block has this size, and nobody else knows it yet.
        let out = unsafe { Out::uninitialised(values.as_ptr(), planes * plane) };
        let task = |block: usize| cpu.run(Weights { size, packed: &packed, block, inputs, plane, out: &out });
        match outputs * inputs > 1 << 12 {
            true => (0..blocks).into_par_iter().for_each(task),
            false => (0..blocks).for_each(task),
        }
        Self { values, channels, plane }
    }
}

/// Transforms one block of packed weights.
struct Weights<'a> {
    size: Size,
    packed: &'a Packed,
    block: usize,
    inputs: usize,
    plane: usize,
    out: &'a Out<'a>,
}

impl WithSimd for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        sized!(self.size, transform_weights::<S>(simd, &self))
    }
}

#[inline(always)]
fn transform_weights<S: Simd, T, const M: usize, const N: usize>(simd: S, task: &Weights)
where
    Weight<T>: Line<3, N>,
{
    let taps = task.packed.block(task.block);
    let block = task.inputs * task.packed.channels;
    for at in (0..block).step_by(S::F32_LANES) {
        let mut kernel = [[simd.splat_f32s(0.0); 3]; 3];
        for (row, line) in kernel.iter_mut().enumerate() {
            for (column, tap) in line.iter_mut().enumerate() {
                // SAFETY: the packed block holds nine taps of this size, in whole vectors.
                *tap = unsafe { load::<S>(taps.add((row * 3 + column) * block + at)) };
            }
        }
        let kernel: [[S::f32s; N]; N] = both::<S, Weight<T>, 3, N>(simd, kernel);
        for (plane, &value) in kernel.iter().flatten().enumerate() {
            // SAFETY: each block has a part of its own in every plane.
            unsafe { store::<S>(task.out.at(plane * task.plane + task.block * block + at), value) };
        }
    }
}

/// Some tiles of a batch, from input to output.
struct Forward<'a> {
    plan: &'a Winograd,
    input: *const f32,
    tiles: Range<usize>,
    at_once: usize,
    added: Added<'a>,
    out: &'a Out<'a>,
    /// Working memory: zeros for the pixels outside, then the planes of the input and of the products.
    room: *mut f32,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        sized!(self.plan.size, forward::<S>(simd, &self))
    }
}

#[inline(always)]
fn forward<S: Simd, T, const M: usize, const N: usize>(simd: S, task: &Forward)
where
    Input<T>: Line<N, N>,
    Output<T>: Line<N, M>,
{
    let plan = task.plan;
    let [inputs, outputs] = [plan.input.channels, plan.outputs];
    let [plane_in, plane_out] = [inputs, outputs].map(|channels| task.at_once * channels + GAP);
    let room = task.room;
    let transformed = room.wrapping_add(inputs);
    let products = transformed.wrapping_add(N * N * plane_in);
    // SAFETY: the working memory begins with room for these.
    unsafe { std::ptr::write_bytes(room, 0, inputs) };
    let tiles = task.tiles.clone();
    transform_tiles::<S, Input<T>, N, N>(simd, &plan.input, task.input, tiles.clone(), room, transformed, plane_in);
    for plane in 0..N * N {
        let a = transformed.wrapping_add(plane * plane_in);
        let to = products.wrapping_add(plane * plane_out);
        let weights = plan.weights.values.as_ptr().wrapping_add(plane * plan.weights.plane);
        for channel in (0..outputs).step_by(plan.weights.channels) {
            let b = weights.wrapping_add(channel * inputs);
            let vectors = (outputs - channel) / S::F32_LANES;
            let product = Product { rows: tiles.len(), depth: inputs, columns: outputs, width: plan.weights.channels };
            with_tile!(simd, vectors, multiply, &product, [a, b], to.wrapping_add(channel));
        }
    }
    for (index, tile) in tiles.enumerate() {
        let (image, [top, left]) = plan.place_output(tile);
        for channel in (0..outputs).step_by(S::F32_LANES) {
            let from = products.wrapping_add(index * outputs + channel);
            let sums: [[S::f32s; N]; N] = read::<S, N>(simd, from, plane_out);
            let sums: [[S::f32s; M]; M] = both::<S, Output<T>, N, M>(simd, sums);
            let pixel = (image * plan.output[0] + top) * plan.output[1] + left;
            let put = Put { task, pixel, channel };
            // Most tiles lie inside; with known bounds the sums stay in registers.
            match top + M <= plan.output[0] && left + M <= plan.output[1] {
                true => put.tile::<S, M>(simd, sums, [M, M]),
                false => put.tile::<S, M>(simd, sums, [plan.output[0] - top, plan.output[1] - left]),
            }
        }
    }
}

/// Where a tile of sums goes.
struct Put<'a> {
    task: &'a Forward<'a>,
    /// The first pixel, counted over the batch.
    pixel: usize,
    channel: usize,
}

impl Put<'_> {
    /// Stores the part of a tile that lies inside: so many rows and columns.
    #[inline(always)]
    fn tile<S: Simd, const M: usize>(&self, simd: S, sums: [[S::f32s; M]; M], inside: [usize; 2]) {
        let plan = self.task.plan;
        for (row, line) in sums.into_iter().enumerate() {
            for (column, sum) in line.into_iter().enumerate() {
                if row < inside[0] && column < inside[1] {
                    let at = (self.pixel + row * plan.output[1] + column) * plan.outputs + self.channel;
                    let value = self.task.added.apply(simd, sum, at, self.channel, S::F32_LANES);
                    // SAFETY: inside the output; tiles do not overlap.
                    unsafe { store::<S>(self.task.out.at(at), value) };
                }
            }
        }
    }
}

impl Winograd {
    /// Image and first pixel of a tile of outputs.
    #[inline(always)]
    fn place_output(&self, tile: usize) -> (usize, [usize; 2]) {
        let (image, [top, left]) = self.input.place(tile);
        let from = |at: isize, axis: usize| (at + self.input.before[axis] as isize) as usize;
        (image, [from(top, 0), from(left, 1)])
    }
}

/// A matrix product `[rows, depth] x [depth, width]`, written into rows of `columns`.
struct Product {
    rows: usize,
    depth: usize,
    columns: usize,
    /// Floats of a row of the second factor.
    width: usize,
}

#[inline(always)]
fn multiply<S: Simd, const P: usize, const V: usize>(
    simd: S,
    product: &Product,
    [a, b]: [*const f32; 2],
    to: *mut f32,
) {
    let steps = [Steps { count: 1, a: 0, b: 0 }, Steps { count: product.depth, a: 1, b: product.width }];
    for start in (0..product.rows).step_by(P) {
        let row = |p: usize| (start + p).min(product.rows - 1);
        let offsets: [usize; P] = std::array::from_fn(|p| row(p) * product.depth);
        let zero: Tile<S, P, V> = [[simd.splat_f32s(0.0); V]; P];
        // SAFETY: both factors have this depth, in whole vectors.
        let sums = unsafe { accumulate(simd, zero, a, &offsets, b, steps) };
        for (p, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                // SAFETY: the product has this many rows.
                unsafe { store::<S>(to.add(row(p) * product.columns + v * S::F32_LANES), sum) };
            }
        }
    }
}
