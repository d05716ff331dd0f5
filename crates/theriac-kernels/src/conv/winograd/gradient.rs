//! The gradient with respect to the weights.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{GAP, LARGE, Size, TASK_FLOATS, TASK_TILES, TASK_TILES_LARGE, Tiles, sized, transform_tiles};
use crate::conv::lines::{Four, Gradient, Input, Line, Two, WeightBack, both};
use crate::conv::shape::Conv;
use crate::cpu::{Cpu, load, store};
use crate::memory::{Block, Out, scratch};
use crate::tile::{Steps, Tile, accumulate, with_tile};

/// The gradient with respect to the weights.
///
/// As in the direct algorithm, the batch is cut into chunks with sums of their own, which are added in order. Where the weights are
/// many and the tiles few, there is one chunk and the threads share out the planes.
pub(crate) struct WeightGradient {
    cpu: Cpu,
    size: Size,
    conv: Conv,
    input: Tiles,
    gradient: Tiles,
    chunks: usize,
    by_planes: bool,
}

impl WeightGradient {
    pub fn new(cpu: Cpu, size: Size, conv: &Conv) -> Self {
        let output = [conv.rows(), conv.columns()];
        let input = Tiles::new([conv.height, conv.width], conv.inputs, output, size.outputs(), conv.padding);
        let gradient = Tiles::new(output, conv.outputs, output, size.outputs(), [0, 0]);
        let planes = size.inputs() * size.inputs();
        let sums = planes * conv.inputs * conv.outputs;
        let most = (4 * LARGE / sums).clamp(2, 16).min(conv.batch);
        let chunks = 1 << most.ilog2();
        let tiles = conv.batch * input.count[0] * input.count[1];
        let by_planes = tiles * planes * (conv.inputs + conv.outputs) < chunks * sums;
        Self { cpu, size, conv: *conv, input, gradient, chunks: if by_planes { 1 } else { chunks }, by_planes }
    }

    /// Into how many parts the batch is cut; none where the threads share out planes instead.
    pub fn chunks(&self) -> Option<usize> {
        (!self.by_planes).then_some(self.chunks)
    }

    /// Floats of a plane of sums.
    fn plane(&self) -> usize {
        self.conv.inputs * self.conv.outputs + GAP
    }

    /// Floats of the sums of a part.
    pub fn partial_len(&self) -> usize {
        self.size.inputs() * self.size.inputs() * self.plane()
    }

    /// Writes the gradient: `[outputs, inputs, 3, 3]`. Whether all of it is finite: what is not would have spread to other weights.
    pub fn run(&self, input: &[f32], gradient: &[f32], out: &Out) -> bool {
        let conv = &self.conv;
        assert!(
            input.len() == conv.input_len() && gradient.len() == conv.output_len() && out.len() == conv.weight_len(),
            "sizes of a convolution"
        );
        let partial_len = self.partial_len();
        let partial = Block::new(self.chunks * partial_len);
        // SAFETY: the block has this size, and nobody else knows it yet.
        let sums = unsafe { Out::uninitialised(partial.as_ptr(), self.chunks * partial_len) };
        if self.by_planes {
            let tiles = conv.batch * self.input.count[0] * self.input.count[1];
            self.by_planes(tiles, [input.as_ptr(), gradient.as_ptr()], &sums);
        } else {
            let image = |chunk: usize| chunk * conv.batch / self.chunks;
            let [image_in, image_out] = [conv.input_len(), conv.output_len()].map(|len| len / conv.batch);
            (0..self.chunks).into_par_iter().for_each(|chunk| {
                let (first, count) = (image(chunk), image(chunk + 1) - image(chunk));
                let [input, gradient] = [&input[first * image_in..], &gradient[first * image_out..]];
                self.some(count, input, gradient, sums.at(chunk * partial_len), true);
            });
        }
        self.gather(&sums, out)
    }

    /// Adds the first `images` of `input` and `gradient` to the sums of a part, which may `begin` with them; on this thread.
    pub fn some(&self, images: usize, input: &[f32], gradient: &[f32], sums: *mut f32, begin: bool) {
        let [image_in, image_out] = [self.conv.input_len(), self.conv.output_len()].map(|len| len / self.conv.batch);
        assert!(input.len() >= images * image_in && gradient.len() >= images * image_out, "sizes of a convolution");
        let (planes, lengths) = (self.size.inputs() * self.size.inputs(), self.lengths());
        let sources = Sources([input.as_ptr(), gradient.as_ptr()]);
        let tiles = 0..images * self.input.count[0] * self.input.count[1];
        scratch(self.widest() + planes * (lengths[0] + lengths[1]), |room| {
            self.cpu.run(Chunk { plan: self, sources, tiles, sums, plane: self.plane(), room, begin });
        });
    }

    /// Adds the parts in order, transforms back, and puts the weights into the checkpoint's order. Whether all are finite.
    pub fn gather(&self, sums: &Out, out: &Out) -> bool {
        let sizes = [self.chunks * self.partial_len(), self.conv.weight_len()];
        assert_eq!([sums.len(), out.len()], sizes, "sums of all parts");
        let (sums, plane) = (sums.at(0).cast_const(), self.plane());
        let tasks = (0..self.conv.inputs).map(|input| Gather { plan: self, input, sums, plane, out });
        let tasks: Vec<Gather> = tasks.collect();
        match self.conv.weight_len() > 1 << 14 {
            true => tasks.into_par_iter().map(|task| self.cpu.run(task)).reduce(|| true, |a, b| a & b),
            false => tasks.into_iter().fold(true, |finite, task| self.cpu.run(task) & finite),
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

    fn by_planes(&self, tiles: usize, sources: [*const f32; 2], sums: &Out) {
        let (cpu, plane) = (self.cpu, self.plane());
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
    /// Whether the sums begin here, instead of being added to.
    begin: bool,
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
                let begin = self.begin && first == self.tiles.start;
                Plane { plan, factors, tiles: count, sums, first: begin }.with_simd(simd);
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
    let steps = [Steps::ONCE, Steps::ONCE, Steps { count: task.tiles, a: inputs, b: outputs }];
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
    out: &'a Out<'a>,
}
// SAFETY: the sums are only read, and each input channel's weights are written by one thread.
unsafe impl Send for Gather<'_> {}

impl WithSimd for Gather<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        sized!(self.plan.size, gather::<S>(simd, &self))
    }
}

#[inline(always)]
fn gather<S: Simd, T, const M: usize, const N: usize>(simd: S, task: &Gather) -> bool
where
    WeightBack<T>: Line<N, 3>,
{
    let plan = task.plan;
    let [inputs, outputs] = [plan.conv.inputs, plan.conv.outputs];
    let zero = simd.splat_f32s(0.0);
    let mut nothing = zero;
    for channel in (0..outputs).step_by(S::F32_LANES) {
        let from = task.sums.wrapping_add(task.input * outputs + channel);
        let sum = |row: usize, column: usize| {
            let from = from.wrapping_add((row * N + column) * task.plane);
            // SAFETY: every chunk has planes of this size.
            let part = |chunk: usize| unsafe { load::<S>(from.add(chunk * N * N * task.plane)) };
            (1..plan.chunks).fold(part(0), |sum, chunk| simd.add_f32s(sum, part(chunk)))
        };
        both::<S, WeightBack<T>, N, 3>(simd, sum, |row, column, value| {
            nothing = simd.mul_add_f32s(value, zero, nothing);
            for lane in 0..S::F32_LANES {
                // SAFETY: a vector is an array of floats; the weight belongs to this input channel.
                unsafe {
                    let value = *(&raw const value).cast::<f32>().add(lane);
                    *task.out.at(((channel + lane) * inputs + task.input) * 9 + row * 3 + column) = value;
                }
            }
        });
    }
    simd.reduce_sum_f32s(nothing) == 0.0
}
