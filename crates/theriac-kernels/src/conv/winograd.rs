//! Winograd's convolution with kernels of 3 x 3 and stride 1: fewer multiplications for more additions.
//!
//! Tiles of `M` x `M` outputs are computed from tiles of `N = M + 2` inputs a side. Both are transformed, so that each of the `N * N`
//! planes of transformed numbers is a matrix product of its own; see `lines` for the maps. F(4, 3) needs a quarter of the
//! multiplications, at an error of about 1e-5 of the largest value.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::direct::Added;
use super::lines::{Four, Gradient, Input, Line, Output, Two, Weight, WeightBack, both};
use super::pack::{Packed, Source};
use super::shape::Conv;
use crate::cpu::{Cpu, load, store};
use crate::memory::{Block, Out, scratch};
use crate::tile::{Steps, Tile, accumulate, with_tile};

/// Floats of transformed inputs and outputs that a task works on: they should stay in the second-level cache.
const TASK_FLOATS: usize = 48 << 10;
/// Fewest tiles of a task, so that transformed weights are not read for little.
const TASK_TILES: usize = 24;
/// The same, where the transformed weights are larger than any cache.
const TASK_TILES_LARGE: usize = 64;
/// Floats of weights that count as large.
const LARGE: usize = 1 << 20;
/// Tiles that fill the inner loop: see `tile`.
const ROWS: usize = 12;
/// Planes are this much longer than they need to be: at powers of two they would share the same few cache lines.
const GAP: usize = 16;

/// How tiles lie on an image.
#[derive(Clone, Copy)]
struct Tiles {
    /// Rows and columns of the image.
    size: [usize; 2],
    channels: usize,
    /// Tiles down and across.
    count: [usize; 2],
    /// Pixels from one tile to the next.
    step: usize,
    /// Rows above and columns left of the image that the first tile covers.
    before: [usize; 2],
}

impl Tiles {
    fn new(size: [usize; 2], channels: usize, output: [usize; 2], step: usize, before: [usize; 2]) -> Self {
        Self { size, channels, count: output.map(|size| size.div_ceil(step)), step, before }
    }

    /// Image and first pixel (which may lie outside) of a tile.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, [isize; 2]) {
        let [down, across] = self.count;
        let (image, rest) = (tile / (down * across), tile % (down * across));
        let at = |index: usize, axis: usize| (index * self.step) as isize - self.before[axis] as isize;
        (image, [at(rest / across, 0), at(rest % across, 1)])
    }

    /// Pointers to the `N` x `N` pixels of a tile; `outside` for those that are not in the image.
    #[inline(always)]
    fn pixels<const N: usize>(&self, images: *const f32, tile: usize, outside: *const f32) -> [[*const f32; N]; N] {
        let (image, [top, left]) = self.place(tile);
        let [height, width] = self.size.map(|size| size as isize);
        let size = N as isize;
        let first = (image as isize * height + top) * width + left;
        let at = |row: usize, column: usize| {
            images.wrapping_offset((first + row as isize * width + column as isize) * self.channels as isize)
        };
        let mut pixels = [[outside; N]; N];
        // Most tiles lie inside, where nothing needs to be asked.
        let inside = top >= 0 && left >= 0 && top + size <= height && left + size <= width;
        for (row, line) in pixels.iter_mut().enumerate() {
            for (column, pixel) in line.iter_mut().enumerate() {
                let (y, x) = (top + row as isize, left + column as isize);
                if inside || ((0..height).contains(&y) && (0..width).contains(&x)) {
                    *pixel = at(row, column);
                }
            }
        }
        pixels
    }
}

/// Which tile size a convolution takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Two,
    Four,
}

impl Size {
    fn inputs(self) -> usize {
        match self {
            Self::Two => 4,
            Self::Four => 6,
        }
    }

    fn outputs(self) -> usize {
        self.inputs() - 2
    }
}

/// Calls a generic function for a tile size.
macro_rules! sized {
    ($size:expr, $call:ident :: <S> ($($argument:expr),*)) => {
        match $size {
            Size::Two => $call::<S, Two, 2, 4>($($argument),*),
            Size::Four => $call::<S, Four, 4, 6>($($argument),*),
        }
    };
}

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
                cpu.run(Forward { plan: self, input: input.as_ptr(), tiles, at_once, added, out, room });
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
        let task = |block: usize| cpu.run(Weights { size, packed: &packed, block, inputs, plane, out });
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
    out: Out<'a>,
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
    out: Out<'a>,
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

/// Reads one tile of vectors from its planes.
#[inline(always)]
fn read<S: Simd, const N: usize>(simd: S, from: *const f32, plane: usize) -> [[S::f32s; N]; N] {
    let mut tile = [[simd.splat_f32s(0.0); N]; N];
    for (row, line) in tile.iter_mut().enumerate() {
        for (column, value) in line.iter_mut().enumerate() {
            // SAFETY: the callers' planes hold a vector for each tile and channel.
            *value = unsafe { load::<S>(from.add((row * N + column) * plane)) };
        }
    }
    tile
}

/// Transforms tiles of images into planes of `[tile, channel]`.
#[inline(always)]
fn transform_tiles<S: Simd, L: Line<A, B>, const A: usize, const B: usize>(
    simd: S,
    tiles: &Tiles,
    images: *const f32,
    range: Range<usize>,
    zeros: *const f32,
    to: *mut f32,
    plane: usize,
) {
    for (index, tile) in range.enumerate() {
        let pixels: [[*const f32; A]; A] = tiles.pixels(images, tile, zeros);
        for channel in (0..tiles.channels).step_by(S::F32_LANES) {
            let mut values = [[simd.splat_f32s(0.0); A]; A];
            for row in 0..A {
                for column in 0..A {
                    // SAFETY: a pixel of the image or the zeros, with whole vectors of channels.
                    values[row][column] = unsafe { load::<S>(pixels[row][column].add(channel)) };
                }
            }
            let values: [[S::f32s; B]; B] = both::<S, L, A, B>(simd, values);
            for (number, &value) in values.iter().flatten().enumerate() {
                // SAFETY: the callers' planes have room for every tile of the range.
                unsafe { store::<S>(to.add(number * plane + index * tiles.channels + channel), value) };
            }
        }
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

/// The gradient with respect to the weights.
///
/// As in the direct algorithm, the batch is cut into chunks with sums of their own, which are added in order. Where the weights are
/// many and the tiles few, there is one chunk and the threads share out the planes.
pub(crate) struct WeightGradient {
    size: Size,
    conv: Conv,
    input: Tiles,
    gradient: Tiles,
    chunks: usize,
    by_planes: bool,
}

impl WeightGradient {
    pub fn new(size: Size, conv: &Conv) -> Self {
        let output = [conv.rows(), conv.columns()];
        let input = Tiles::new([conv.height, conv.width], conv.inputs, output, size.outputs(), conv.padding);
        let gradient = Tiles::new(output, conv.outputs, output, size.outputs(), [0, 0]);
        let planes = size.inputs() * size.inputs();
        let sums = planes * conv.inputs * conv.outputs;
        let most = (4 * LARGE / sums).clamp(2, 16).min(conv.batch);
        let chunks = 1 << most.ilog2();
        let tiles = conv.batch * input.count[0] * input.count[1];
        let by_planes = tiles * planes * (conv.inputs + conv.outputs) < chunks * sums;
        Self { size, conv: *conv, input, gradient, chunks: if by_planes { 1 } else { chunks }, by_planes }
    }

    /// Writes the gradient: `[outputs, inputs, 3, 3]`.
    pub fn run(&self, cpu: Cpu, input: &[f32], gradient: &[f32], out: Out) {
        let conv = &self.conv;
        assert!(
            input.len() == conv.input_len() && gradient.len() == conv.output_len() && out.len() == conv.weight_len(),
            "sizes of a convolution"
        );
        let planes = self.size.inputs() * self.size.inputs();
        let plane = conv.inputs * conv.outputs + GAP;
        let partial = Block::new(self.chunks * planes * plane);
        // SAFETY: the block has this size, and nobody else knows it yet.
        let sums = unsafe { Out::uninitialised(partial.as_ptr(), self.chunks * planes * plane) };
        let tiles = conv.batch * self.input.count[0] * self.input.count[1];
        if self.by_planes {
            self.by_planes(cpu, tiles, [input.as_ptr(), gradient.as_ptr()], sums, plane);
        } else {
            let begin = |chunk: usize| chunk * tiles / self.chunks;
            let sources = Sources([input.as_ptr(), gradient.as_ptr()]);
            (0..self.chunks).into_par_iter().for_each(|chunk| {
                let sums = sums.at(chunk * planes * plane);
                let tiles = begin(chunk)..begin(chunk + 1);
                let lengths = self.lengths();
                scratch(self.widest() + planes * (lengths[0] + lengths[1]), |room| {
                    cpu.run(Chunk { plan: self, sources, tiles, sums, plane, room });
                });
            });
        }
        let task = |input: usize| cpu.run(Gather { plan: self, input, sums: partial.as_ptr(), plane, out });
        match conv.weight_len() > 1 << 14 {
            true => (0..conv.inputs).into_par_iter().for_each(task),
            false => (0..conv.inputs).for_each(task),
        }
    }

    /// Tiles that a chunk transforms at a time.
    fn at_once(&self) -> usize {
        let planes = self.size.inputs() * self.size.inputs();
        (TASK_FLOATS / (planes * (self.conv.inputs + self.conv.outputs))).max(TASK_TILES_LARGE)
    }

    /// Floats of a plane of so many tiles: of the input, and of the gradient.
    fn lengths(&self) -> [usize; 2] {
        [self.conv.inputs, self.conv.outputs].map(|channels| self.at_once() * channels + GAP)
    }

    /// Channels of the input or of the gradient, whichever are more.
    fn widest(&self) -> usize {
        self.conv.inputs.max(self.conv.outputs)
    }

    fn by_planes(&self, cpu: Cpu, tiles: usize, sources: [*const f32; 2], sums: Out, plane: usize) {
        let planes = self.size.inputs() * self.size.inputs();
        let sources = Sources(sources);
        let lengths = [self.conv.inputs, self.conv.outputs].map(|channels| tiles * channels + GAP);
        let rooms = lengths.map(|length| Block::new(planes * length));
        // SAFETY: the blocks have this size, and nobody else knows them yet.
        let outs = [0, 1].map(|side| unsafe { Out::uninitialised(rooms[side].as_ptr(), planes * lengths[side]) });
        let at_once = TASK_TILES.min(tiles);
        (0..tiles.div_ceil(at_once)).into_par_iter().for_each(|task| {
            let first = task * at_once;
            let range = first..tiles.min(first + at_once);
            let to = [outs[0].at(first * self.conv.inputs), outs[1].at(first * self.conv.outputs)];
            scratch(self.widest(), |zeros| cpu.run(Both { plan: self, sources, tiles: range, to, lengths, zeros }));
        });
        (0..planes).into_par_iter().for_each(|number| {
            let factors = [outs[0].at(number * lengths[0]), outs[1].at(number * lengths[1])];
            cpu.run(Plane { plan: self, factors, tiles, sums: sums.at(number * plane), first: true });
        });
    }
}

/// Input and gradient of a convolution.
#[derive(Clone, Copy)]
struct Sources([*const f32; 2]);
// SAFETY: the kernels only read through them, while the slices behind them are borrowed.
unsafe impl Send for Sources {}
// SAFETY: as above.
unsafe impl Sync for Sources {}

/// Transforms tiles of the input and of the gradient.
struct Both<'a> {
    plan: &'a WeightGradient,
    sources: Sources,
    tiles: Range<usize>,
    to: [*mut f32; 2],
    lengths: [usize; 2],
    /// Working memory for the pixels outside the images.
    zeros: *mut f32,
}

impl WithSimd for Both<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        sized!(self.plan.size, transform_both::<S>(simd, &self))
    }
}

#[inline(always)]
fn transform_both<S: Simd, T, const M: usize, const N: usize>(simd: S, task: &Both)
where
    Input<T>: Line<N, N>,
    Gradient<T>: Line<M, N>,
{
    let plan = task.plan;
    let [input, gradient] = task.sources.0;
    // SAFETY: the working memory has room for the wider of both.
    unsafe { std::ptr::write_bytes(task.zeros, 0, plan.widest()) };
    let (tiles, [to_input, to_gradient], [plane_in, plane_out]) = (&task.tiles, task.to, task.lengths);
    transform_tiles::<S, Input<T>, N, N>(simd, &plan.input, input, tiles.clone(), task.zeros, to_input, plane_in);
    transform_tiles::<S, Gradient<T>, M, N>(
        simd,
        &plan.gradient,
        gradient,
        tiles.clone(),
        task.zeros,
        to_gradient,
        plane_out,
    );
}

/// Sums over the tiles of a chunk, some at a time.
struct Chunk<'a> {
    plan: &'a WeightGradient,
    sources: Sources,
    tiles: Range<usize>,
    sums: *mut f32,
    plane: usize,
    room: *mut f32,
}

impl WithSimd for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let plan = self.plan;
        let planes = plan.size.inputs() * plan.size.inputs();
        let (at_once, lengths) = (plan.at_once(), plan.lengths());
        let zeros = self.room;
        let planes_in = zeros.wrapping_add(plan.widest());
        let to = [planes_in, planes_in.wrapping_add(planes * lengths[0])];
        for first in self.tiles.clone().step_by(at_once) {
            let tiles = first..self.tiles.end.min(first + at_once);
            let count = tiles.len();
            Both { plan, sources: self.sources, tiles, to, lengths, zeros }.with_simd(simd);
            for number in 0..planes {
                let factors = [to[0].wrapping_add(number * lengths[0]), to[1].wrapping_add(number * lengths[1])];
                let sums = self.sums.wrapping_add(number * self.plane);
                Plane { plan, factors, tiles: count, sums, first: first == self.tiles.start }.with_simd(simd);
            }
        }
    }
}

/// One plane of the sums: inputs x outputs, over some tiles.
struct Plane<'a> {
    plan: &'a WeightGradient,
    factors: [*mut f32; 2],
    tiles: usize,
    sums: *mut f32,
    /// Whether the sums begin here, instead of being added to.
    first: bool,
}

impl WithSimd for Plane<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let outputs = self.plan.conv.outputs;
        for channel in (0..outputs).step_by(2 * S::F32_LANES) {
            with_tile!(simd, (outputs - channel) / S::F32_LANES, outer, &self, channel);
        }
    }
}

#[inline(always)]
fn outer<S: Simd, const P: usize, const V: usize>(simd: S, task: &Plane, channel: usize) {
    let [inputs, outputs] = [task.plan.conv.inputs, task.plan.conv.outputs];
    let steps = [Steps { count: 1, a: 0, b: 0 }, Steps { count: task.tiles, a: inputs, b: outputs }];
    let b = task.factors[1].wrapping_add(channel);
    for start in (0..inputs).step_by(P) {
        let offsets: [usize; P] = std::array::from_fn(|p| (start + p).min(inputs - 1));
        let zero: Tile<S, P, V> = [[simd.splat_f32s(0.0); V]; P];
        // SAFETY: both factors hold this many tiles, in whole vectors of channels.
        let sums = unsafe { accumulate(simd, zero, task.factors[0], &offsets, b, steps) };
        for (p, sums) in sums.iter().enumerate().take(inputs - start) {
            for (v, &sum) in sums.iter().enumerate() {
                let to = task.sums.wrapping_add((start + p) * outputs + channel + v * S::F32_LANES);
                // SAFETY: within this plane, which this task alone writes; read only after it was written.
                unsafe { store::<S>(to, if task.first { sum } else { simd.add_f32s(sum, load::<S>(to)) }) };
            }
        }
    }
}

/// Adds the chunks in order, transforms back, and writes the weights of one input channel.
struct Gather<'a> {
    plan: &'a WeightGradient,
    input: usize,
    sums: *const f32,
    plane: usize,
    out: Out<'a>,
}
// SAFETY: the sums are only read, and each input channel's weights are written by one thread.
unsafe impl Send for Gather<'_> {}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        sized!(self.plan.size, gather::<S>(simd, &self))
    }
}

#[inline(always)]
fn gather<S: Simd, T, const M: usize, const N: usize>(simd: S, task: &Gather)
where
    WeightBack<T>: Line<N, 3>,
{
    let plan = task.plan;
    let [inputs, outputs] = [plan.conv.inputs, plan.conv.outputs];
    for channel in (0..outputs).step_by(S::F32_LANES) {
        let from = task.sums.wrapping_add(task.input * outputs + channel);
        let mut sums: [[S::f32s; N]; N] = read::<S, N>(simd, from, task.plane);
        for chunk in 1..plan.chunks {
            let more = read::<S, N>(simd, from.wrapping_add(chunk * N * N * task.plane), task.plane);
            for (line, more) in sums.iter_mut().zip(more) {
                for (sum, more) in line.iter_mut().zip(more) {
                    *sum = simd.add_f32s(*sum, more);
                }
            }
        }
        let kernel: [[S::f32s; 3]; 3] = both::<S, WeightBack<T>, N, 3>(simd, sums);
        for (tap, value) in kernel.iter().flatten().enumerate() {
            for lane in 0..S::F32_LANES {
                // SAFETY: a vector is an array of floats; the weight belongs to this input channel.
                unsafe {
                    let value = *(value as *const S::f32s).cast::<f32>().add(lane);
                    *task.out.at(((channel + lane) * inputs + task.input) * 9 + tap) = value;
                }
            }
        }
    }
}
