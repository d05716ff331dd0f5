//! The forward pass, and the gradient with respect to the input: the same with flipped weights.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{GAP, LARGE, ROWS, Size, TASK_FLOATS, TASK_TILES, TASK_TILES_LARGE, Tiles, sized, transform_tiles};
use crate::conv::direct::Added;
use crate::conv::lines::{Four, Input, Line, Output, Two, Weight, both};
use crate::conv::pack::Source;
use crate::conv::shape::Conv;
use crate::cpu::{Cpu, load, store};
use crate::memory::{Block, Out, scratch};
use crate::tile::{Steps, Tile, accumulate, with_tile};

/// Sums of products of 3 x 3 windows with weights.
pub(crate) struct Winograd {
    cpu: Cpu,
    size: Size,
    input: Tiles,
    output: [usize; 2],
    outputs: usize,
    weights: Planes,
}

/// Transformed weights: for every block of output channels its planes of `[input, channel]`.
struct Planes {
    values: Block,
    /// Output channels in a block; the last block may be narrower, but takes as much room.
    channels: usize,
    /// Floats from one plane to the next.
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
        Self { cpu, size, input, output, outputs: conv.outputs, weights }
    }

    /// The gradient with respect to the input: the same with flipped weights.
    pub fn input_gradient(cpu: Cpu, size: Size, conv: &Conv, weights: &[f32]) -> Self {
        let taps: Vec<usize> = (0..9).rev().collect();
        let source = Source { weights, output_step: 9, input_step: conv.inputs * 9, taps: &taps };
        let output = [conv.height, conv.width];
        let before = conv.padding.map(|padding| 2 - padding);
        let input = Tiles::new([conv.rows(), conv.columns()], conv.outputs, output, size.outputs(), before);
        let weights = Planes::new(cpu, size, &source, [conv.inputs, conv.outputs]);
        Self { cpu, size, input, output, outputs: conv.inputs, weights }
    }

    /// Computes all images of a batch, the threads sharing out their tiles. Whether all results are finite: what is not would have
    /// spread to other pixels of its tile.
    pub fn run(&self, batch: usize, input: &[f32], added: Added, out: &Out) -> bool {
        let tasks = self.tasks(batch, input, out);
        tasks.into_par_iter().map(|tiles| self.task(tiles, input, added, out)).reduce(|| true, |a, b| a & b)
    }

    /// The same for the first `images` of `input`, on this thread.
    pub fn some(&self, images: usize, input: &[f32], added: Added, out: &Out) -> bool {
        let tasks = self.tasks(images, input, out);
        tasks.into_iter().fold(true, |finite, tiles| self.task(tiles, input, added, out) & finite)
    }

    /// The tiles of each task.
    fn tasks(&self, images: usize, input: &[f32], out: &Out) -> Vec<Range<usize>> {
        let [height, width] = self.input.size;
        let [image_in, image_out] =
            [height * width * self.input.channels, self.output[0] * self.output[1] * self.outputs];
        assert!(input.len() >= images * image_in && out.len() == images * image_out, "sizes of a convolution");
        let (tiles, at_once) = (images * self.input.count[0] * self.input.count[1], self.at_once());
        (0..tiles).step_by(at_once).map(|first| first..tiles.min(first + at_once)).collect()
    }

    /// Tiles of a task.
    fn at_once(&self) -> usize {
        let planes = self.size.inputs() * self.size.inputs();
        let floats = planes * (self.input.channels + self.weights.channels);
        let fewest = if planes * self.input.channels * self.outputs > LARGE { TASK_TILES_LARGE } else { TASK_TILES };
        (TASK_FLOATS / floats).max(fewest).next_multiple_of(ROWS)
    }

    fn task(&self, tiles: Range<usize>, input: &[f32], added: Added, out: &Out) -> bool {
        let planes = self.size.inputs() * self.size.inputs();
        let at_once = self.at_once();
        let planes_in = planes * (at_once * self.input.channels + GAP);
        let planes_out = planes * (at_once * self.weights.channels + GAP);
        scratch(self.input.channels + planes_in + planes_out, |room| {
            self.cpu.run(Forward { plan: self, input: input.as_ptr(), tiles, at_once, added, out, room })
        })
    }
}

impl Planes {
    fn new(cpu: Cpu, size: Size, source: &Source, [outputs, inputs]: [usize; 2]) -> Self {
        let channels = if outputs > cpu.lanes() { 2 * cpu.lanes() } else { cpu.lanes() };
        let blocks = outputs.div_ceil(channels);
        let plane = inputs * channels + GAP;
        let floats = blocks * size.inputs() * size.inputs() * plane;
        let values = Block::new(floats);
        // SAFETY: the block has this size, and nobody else knows it yet.
        let out = unsafe { Out::uninitialised(values.as_ptr(), floats) };
        let parts = inputs.div_ceil(PACKED_INPUTS);
        let task = |task: usize| {
            let (block, first) = (task / parts, task % parts * PACKED_INPUTS);
            let inputs = first..inputs.min(first + PACKED_INPUTS);
            cpu.run(Weights { size, source, outputs, block, inputs, channels, plane, out: &out });
        };
        match outputs * inputs > 1 << 12 {
            true => (0..blocks * parts).into_par_iter().for_each(task),
            false => (0..blocks * parts).for_each(task),
        }
        Self { values, channels, plane }
    }
}

/// Input channels of a task that transforms weights.
const PACKED_INPUTS: usize = 64;
/// Output channels of a block, at most: two of the widest vectors.
const MOST_CHANNELS: usize = 32;

/// Transforms the weights of one block of output channels and some input channels.
struct Weights<'a> {
    size: Size,
    source: &'a Source<'a>,
    outputs: usize,
    block: usize,
    inputs: Range<usize>,
    channels: usize,
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
    let Weights { source, block, channels, plane, .. } = *task;
    let some = channels.min(task.outputs - block * channels);
    // Channels that do not exist stay zero.
    let mut taps = [[0.0; MOST_CHANNELS]; 9];
    for input in task.inputs.clone() {
        for lane in 0..some {
            let from = (block * channels + lane) * source.output_step + input * source.input_step;
            for (taps, offset) in taps.iter_mut().zip(source.taps) {
                taps[lane] = source.weights[from + offset];
            }
        }
        for channel in (0..channels).step_by(S::F32_LANES) {
            let to = task.out.at(block * N * N * plane + input * channels + channel);
            both::<S, Weight<T>, 3, N>(
                simd,
                // SAFETY: a block has whole vectors of channels, for which there is room.
                |row, column| unsafe { load::<S>(taps[row * 3 + column].as_ptr().add(channel)) },
                // SAFETY: each task has a part of its own in every plane.
                |row, column, value| unsafe { store::<S>(to.add((row * N + column) * plane), value) },
            );
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
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        sized!(self.plan.size, forward::<S>(simd, &self))
    }
}

#[inline(always)]
fn forward<S: Simd, T, const M: usize, const N: usize>(simd: S, task: &Forward) -> bool
where
    Input<T>: Line<N, N>,
    Output<T>: Line<N, M>,
{
    let plan = task.plan;
    let (inputs, channels) = (plan.input.channels, plan.weights.channels);
    let [plane_in, plane_out] = [inputs, channels].map(|channels| task.at_once * channels + GAP);
    let room = task.room;
    let transformed = room.wrapping_add(inputs);
    let products = transformed.wrapping_add(N * N * plane_in);
    // SAFETY: the working memory begins with room for these.
    unsafe { std::ptr::write_bytes(room, 0, inputs) };
    let tiles = task.tiles.clone();
    transform_tiles::<S, Input<T>, N, N>(simd, &plan.input, task.input, tiles.clone(), room, transformed, plane_in);
    let product = Product { rows: tiles.len(), depth: inputs, columns: channels };
    // Zero times what is stored: it stays zero as long as that is finite.
    let mut nothing = simd.splat_f32s(0.0);
    for (block, channel) in (0..plan.outputs).step_by(channels).enumerate() {
        let vectors = (plan.outputs - channel) / S::F32_LANES;
        for plane in 0..N * N {
            let a = transformed.wrapping_add(plane * plane_in);
            let b = plan.weights.values.as_ptr().wrapping_add((block * N * N + plane) * plan.weights.plane);
            with_tile!(simd, vectors, multiply, &product, [a, b], products.wrapping_add(plane * plane_out));
        }
        let channels = channel..plan.outputs.min(channel + channels);
        finish::<S, T, M, N>(simd, task, products, plane_out, channels, &mut nothing);
    }
    simd.reduce_sum_f32s(nothing) == 0.0
}

/// Transforms products back and stores them: some channels of all tiles.
#[inline(always)]
fn finish<S: Simd, T, const M: usize, const N: usize>(
    simd: S,
    task: &Forward,
    products: *const f32,
    plane: usize,
    channels: Range<usize>,
    nothing: &mut S::f32s,
) where
    Output<T>: Line<N, M>,
{
    let plan = task.plan;
    for (index, tile) in task.tiles.clone().enumerate() {
        let (image, [top, left]) = plan.place_output(tile);
        let pixel = (image * plan.output[0] + top) * plan.output[1] + left;
        let inside = [plan.output[0] - top, plan.output[1] - left];
        let products = products.wrapping_add(index * plan.weights.channels);
        let put = Put { task, pixel, products, plane, channels: channels.clone() };
        // Most tiles lie inside; nothing is asked for each of their pixels then.
        match (inside[0] >= M && inside[1] >= M, task.added.add) {
            (true, None) => put.tile::<S, T, M, N>(simd, |_, _| true, |_| simd.splat_f32s(0.0), nothing),
            (true, Some(add)) => {
                // SAFETY: the addend has the output's shape.
                let add = |at| unsafe { load::<S>(add.as_ptr().add(at)) };
                put.tile::<S, T, M, N>(simd, |_, _| true, add, nothing);
            }
            (false, add) => {
                let inside = |row, column| row < inside[0] && column < inside[1];
                // SAFETY: as above.
                let add =
                    |at| add.map_or(simd.splat_f32s(0.0), |add: &[f32]| unsafe { load::<S>(add.as_ptr().add(at)) });
                put.tile::<S, T, M, N>(simd, inside, add, nothing);
            }
        }
    }
}

/// Where a tile of products is, and where its sums go.
struct Put<'a> {
    task: &'a Forward<'a>,
    /// The first pixel, counted over the batch.
    pixel: usize,
    products: *const f32,
    /// Floats from one plane of products to the next.
    plane: usize,
    channels: Range<usize>,
}

impl Put<'_> {
    /// Stores the part of a tile that lies inside the image, with what is to be added to it.
    #[inline(always)]
    fn tile<S: Simd, T, const M: usize, const N: usize>(
        &self,
        simd: S,
        inside: impl Fn(usize, usize) -> bool,
        add: impl Fn(usize) -> S::f32s,
        nothing: &mut S::f32s,
    ) where
        Output<T>: Line<N, M>,
    {
        let plan = self.task.plan;
        let zero = simd.splat_f32s(0.0);
        for channel in self.channels.clone().step_by(S::F32_LANES) {
            let products = self.products.wrapping_add(channel - self.channels.start);
            let bias = self.task.added.bias.map_or(simd.splat_f32s(0.0), |bias| {
                // SAFETY: there is a bias for every output channel.
                unsafe { load::<S>(bias.as_ptr().add(channel)) }
            });
            let first = self.pixel * plan.outputs + channel;
            let (to, plane) = (self.task.out.at(first), self.plane);
            let [down, right] = [plan.output[1] * plan.outputs, plan.outputs];
            both::<S, Output<T>, N, M>(
                simd,
                // SAFETY: the planes hold a vector for each tile and channel.
                |row, column| unsafe { load::<S>(products.add((row * N + column) * plane)) },
                |row, column, sum| {
                    if inside(row, column) {
                        let at = row * down + column * right;
                        let sum = simd.add_f32s(simd.add_f32s(sum, bias), add(first + at));
                        *nothing = simd.mul_add_f32s(sum, zero, *nothing);
                        // SAFETY: inside the output; tiles do not overlap.
                        unsafe { store::<S>(to.add(at), sum) };
                    }
                },
            );
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

/// A matrix product `[rows, depth] x [depth, columns]`.
struct Product {
    rows: usize,
    depth: usize,
    columns: usize,
}

#[inline(always)]
fn multiply<S: Simd, const P: usize, const V: usize>(
    simd: S,
    product: &Product,
    [a, b]: [*const f32; 2],
    to: *mut f32,
) {
    let steps = [Steps::ONCE, Steps::ONCE, Steps { count: product.depth, a: 1, b: product.columns }];
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
