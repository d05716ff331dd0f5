//! Convolution without Winograd and without im2col: the window of a pixel is a few long runs of a framed copy of the image.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::pack::{Frame, Packed, Source};
use super::shape::Conv;
use crate::cpu::{Ahead, Cpu, load_part, store_part};
use crate::memory::{Out, scratch};
use crate::tile::{Steps, Tile, accumulate, with_tile};

/// Pixels that a task should at least have, so that packed weights are read seldom and the last tile is seldom half empty.
const TASK_PIXELS: usize = 96;

/// What is added to the output of a convolution.
#[derive(Clone, Copy, Default)]
pub struct Added<'a> {
    /// Added to each channel.
    pub bias: Option<&'a [f32]>,
    /// Added to each value: an activation of the output's shape.
    pub add: Option<&'a [f32]>,
}

/// The same window and weights for a set of pixels.
struct Part {
    packed: Packed,
    /// Rows of the kernel.
    rows: usize,
    /// Floats of a row of the window.
    run: usize,
    /// Where the window of each pixel begins in the framed images of a task.
    origins: Vec<usize>,
    /// Where each pixel's channels go in the output images of a task.
    targets: Vec<usize>,
}

/// Sums of products of each pixel's window with weights.
pub(crate) struct Correlation {
    cpu: Cpu,
    frame: Frame,
    parts: Vec<Part>,
    /// Images of a task.
    images: usize,
    /// Floats of an output image.
    image_out: usize,
    channels: usize,
}

/// Output channels that are packed together.
fn packed_channels(cpu: Cpu, outputs: usize) -> usize {
    let lanes = cpu.lanes();
    if outputs > lanes { 2 * lanes } else { lanes }
}

impl Correlation {
    /// The forward pass.
    pub fn forward(cpu: Cpu, conv: &Conv, weights: &[f32]) -> Self {
        let [rows, columns] = conv.kernel;
        let size = [conv.height, conv.width];
        let before = conv.padding;
        let frame = [conv.height + 2 * before[0], conv.width + 2 * before[1]];
        let frame = Frame { size, channels: conv.inputs, channels_out: conv.inputs, before, frame };
        let taps: Vec<usize> = (0..rows * columns).collect();
        let area = rows * columns;
        let source = Source { weights, output_step: conv.inputs * area, input_step: area, taps: &taps };
        let packed = Packed::new(&source, [conv.outputs, conv.inputs], columns, packed_channels(cpu, conv.outputs));
        let images = TASK_PIXELS.div_ceil(conv.pixels()).min(conv.batch);
        let image_out = conv.pixels() * conv.outputs;
        let (mut origins, mut targets) = (Vec::new(), Vec::new());
        for image in 0..images {
            for pixel in 0..conv.pixels() {
                let [row, column] = [pixel / conv.columns(), pixel % conv.columns()];
                let window = row * conv.stride[0] * frame.pitch() + column * conv.stride[1] * conv.inputs;
                origins.push(image * frame.len() + window);
                targets.push(image * image_out + pixel * conv.outputs);
            }
        }
        let part = Part { packed, rows, run: columns * conv.inputs, origins, targets };
        Self { cpu, frame, parts: vec![part], images, image_out, channels: conv.outputs }
    }

    /// The gradient with respect to the input.
    ///
    /// Input row `i` meets output row `o` at the kernel's row `i + padding - stride * o`. So the rows of the input fall into `stride`
    /// classes, and within one class the gradient is a plain correlation with every `stride`-th row of the flipped kernel.
    pub fn input_gradient(cpu: Cpu, conv: &Conv, weights: &[f32]) -> Self {
        let classes = [0, 1].map(|axis| {
            let (stride, padding, kernel) = (conv.stride[axis], conv.padding[axis], conv.kernel[axis]);
            (0..stride).map(|class| Class::new(class, stride, padding, kernel)).collect::<Vec<_>>()
        });
        let image = [conv.height, conv.width];
        let outputs = [conv.rows(), conv.columns()];
        let before =
            [0, 1].map(|axis| classes[axis].iter().map(|class| (-class.first).max(0) as usize).max().unwrap_or(0));
        let frame = [0, 1].map(|axis| {
            let end = |class: &Class| {
                class.members(image[axis], conv.stride[axis]) as isize + class.first + class.taps.len() as isize - 1
            };
            let furthest = classes[axis].iter().map(end).max().unwrap_or(0);
            before[axis] + furthest.max(outputs[axis] as isize) as usize
        });
        let frame = Frame { size: outputs, channels: conv.outputs, channels_out: conv.outputs, before, frame };
        let area = conv.kernel[0] * conv.kernel[1];
        let images = TASK_PIXELS.div_ceil(conv.height * conv.width).min(conv.batch);
        let image_out = conv.height * conv.width * conv.inputs;
        let mut parts = Vec::new();
        for rows in &classes[0] {
            for columns in &classes[1] {
                let taps: Vec<usize> = rows
                    .taps
                    .iter()
                    .flat_map(|row| columns.taps.iter().map(move |column| row * conv.kernel[1] + column))
                    .collect();
                let source = Source { weights, output_step: area, input_step: conv.inputs * area, taps: &taps };
                let packed = Packed::new(
                    &source,
                    [conv.inputs, conv.outputs],
                    columns.taps.len(),
                    packed_channels(cpu, conv.inputs),
                );
                let (mut origins, mut targets) = (Vec::new(), Vec::new());
                for image in 0..images {
                    for row in 0..rows.members(conv.height, conv.stride[0]) {
                        for column in 0..columns.members(conv.width, conv.stride[1]) {
                            let at = |axis: usize, index: usize, class: &Class| {
                                (index as isize + class.first + before[axis] as isize).max(0) as usize
                            };
                            let window = at(0, row, rows) * frame.pitch() + at(1, column, columns) * conv.outputs;
                            origins.push(image * frame.len() + window);
                            let pixel = (row * conv.stride[0] + rows.remainder) * conv.width
                                + column * conv.stride[1]
                                + columns.remainder;
                            targets.push(image * image_out + pixel * conv.inputs);
                        }
                    }
                }
                let run = columns.taps.len() * conv.outputs;
                parts.push(Part { packed, rows: rows.taps.len(), run, origins, targets });
            }
        }
        Self { cpu, frame, parts, images, image_out, channels: conv.inputs }
    }

    /// Computes all images of a batch, the threads sharing them out.
    pub fn run(&self, batch: usize, input: &[f32], added: Added, out: &Out) {
        self.check(batch, input, out);
        (0..batch.div_ceil(self.images)).into_par_iter().for_each(|task| self.task(task, batch, input, added, out));
    }

    /// Computes the first `images` of `input`, on this thread.
    pub fn some(&self, images: usize, input: &[f32], added: Added, out: &Out) {
        self.check(images, input, out);
        (0..images.div_ceil(self.images)).for_each(|task| self.task(task, images, input, added, out));
    }

    fn check(&self, images: usize, input: &[f32], out: &Out) {
        assert!(
            input.len() >= images * self.image_in() && out.len() == images * self.image_out,
            "sizes of a convolution"
        );
    }

    /// Floats of an input image.
    fn image_in(&self) -> usize {
        self.frame.size[0] * self.frame.size[1] * self.frame.channels
    }

    /// Computes the images of one task.
    fn task(&self, task: usize, batch: usize, input: &[f32], added: Added, out: &Out) {
        let image_in = self.image_in();
        let first = task * self.images;
        let count = self.images.min(batch - first);
        let source = input[first * image_in..].as_ptr();
        let ahead = Ahead::new(&input[(first + count) * image_in..], self.images * image_in);
        let work = |framed: *const f32| {
            for (index, part) in self.parts.iter().enumerate() {
                let pixels = part.origins.len() / self.images * count;
                let (pitch, channels, first) = (self.frame.pitch(), self.channels, first * self.image_out);
                let ahead = (index == 0).then_some(ahead);
                self.cpu.run(Sweep { part, framed, pitch, pixels, channels, added, out, first, ahead });
            }
        };
        if self.frame.is_trivial() {
            return work(source);
        }
        scratch(self.images * self.frame.len(), |framed| {
            for image in 0..count {
                // SAFETY: the input has `batch` images, the working memory room for `images` framed ones.
                unsafe { self.frame.copy(source.add(image * image_in), framed.add(image * self.frame.len())) };
            }
            work(framed);
        });
    }
}

/// The rows (or columns) of the input that leave the same remainder by the stride.
struct Class {
    remainder: usize,
    /// The kernel's rows that they meet, in the order of the output's rows.
    taps: Vec<usize>,
    /// The first output row that the first of them meets. May lie before the image.
    first: isize,
}

impl Class {
    fn new(remainder: usize, stride: usize, padding: usize, kernel: usize) -> Self {
        let smallest = (remainder + padding) % stride;
        let taps: Vec<usize> = (smallest..kernel).step_by(stride).rev().collect();
        let first = ((remainder + padding - smallest) / stride) as isize + 1 - taps.len() as isize;
        Self { remainder, taps, first }
    }

    /// How many of `size` rows there are.
    fn members(&self, size: usize, stride: usize) -> usize {
        size.saturating_sub(self.remainder).div_ceil(stride)
    }
}

/// All tiles of a part, for the images of one task.
struct Sweep<'a> {
    part: &'a Part,
    framed: *const f32,
    /// Floats from one row of a framed image to the next.
    pitch: usize,
    /// Pixels of the task.
    pixels: usize,
    channels: usize,
    added: Added<'a>,
    out: &'a Out<'a>,
    /// Floats of the output before the first image of the task.
    first: usize,
    ahead: Option<Ahead>,
}

impl WithSimd for Sweep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let packed = &self.part.packed;
        for block in 0..self.channels.div_ceil(packed.channels) {
            let vectors = (self.channels - block * packed.channels).div_ceil(S::F32_LANES);
            with_tile!(simd, vectors, sweep, &self, block);
        }
    }
}

#[inline(always)]
fn sweep<S: Simd, const P: usize, const V: usize>(simd: S, task: &Sweep, block: usize) {
    let part = task.part;
    let channel = block * part.packed.channels;
    let weights = part.packed.block(block);
    let zero: Tile<S, P, V> = [[simd.splat_f32s(0.0); V]; P];
    let pitch = task.pitch;
    let ahead = task.ahead.filter(|_| block == 0);
    let steps = [
        Steps::ONCE,
        Steps { count: part.rows, a: pitch, b: part.run * part.packed.channels },
        Steps { count: part.run, a: 1, b: part.packed.channels },
    ];
    for start in (0..task.pixels).step_by(P) {
        if let Some(ahead) = ahead {
            ahead.ask(start / P, task.pixels.div_ceil(P));
        }
        // Beyond the last pixel the last one is computed again.
        let pixel = |p: usize| (start + p).min(task.pixels - 1);
        let offsets: [usize; P] = std::array::from_fn(|p| part.origins[pixel(p)]);
        // SAFETY: windows lie within the framed images, and the weights' blocks have this depth.
        let sums = unsafe { accumulate(simd, zero, task.framed, &offsets, weights, steps) };
        for (p, sums) in sums.iter().enumerate() {
            let target = task.first + part.targets[pixel(p)] + channel;
            for (v, &sum) in sums.iter().enumerate() {
                let at = target + v * S::F32_LANES;
                let channel = channel + v * S::F32_LANES;
                let count = task.channels - channel;
                // SAFETY: the pixel's channels lie within the output, which no other task writes.
                unsafe { store_part::<S>(task.out.at(at), task.added.apply(simd, sum, at, channel, count), count) };
            }
        }
    }
}

impl Added<'_> {
    /// The value to store at `index` of the output, from channel `channel` on, of which there are `count`.
    #[inline(always)]
    pub fn apply<S: Simd>(self, simd: S, sum: S::f32s, index: usize, channel: usize, count: usize) -> S::f32s {
        let sum = match self.bias {
            // SAFETY: there is a bias for every output channel.
            Some(bias) => simd.add_f32s(sum, unsafe { load_part(simd, bias.as_ptr().add(channel), count) }),
            None => sum,
        };
        match self.add {
            // SAFETY: the addend has the output's shape.
            Some(add) => simd.add_f32s(sum, unsafe { load_part(simd, add.as_ptr().add(index), count) }),
            None => sum,
        }
    }
}
