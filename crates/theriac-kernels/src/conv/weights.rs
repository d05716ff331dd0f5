//! The gradient with respect to the weights, and with respect to the bias.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::pack::Frame;
use super::shape::Conv;
use crate::cpu::{Ahead, Cpu, load, store};
use crate::memory::{Block, Out, scratch};
use crate::tile::{Steps, Tile, accumulate, with_tile};

/// Pixels that are walked through again for every tile of weights: of each, one cache line of input and of gradient should stay in the
/// first-level cache.
const BLOCK_PIXELS: usize = 160;
/// Where channels are a multiple of this, pixels are put a cache line further apart: they would share few places of the cache.
const CROWDED: usize = 128;
/// Floats of that cache line.
const GAP: usize = 16;
/// Partial sums are kept for so many parts of the batch, if they are small.
const MOST_CHUNKS: usize = 16;
/// Partial sums of all chunks together.
const PARTIAL_FLOATS: usize = 1 << 20;

/// How the weight gradient of a convolution is computed.
///
/// Each weight is a sum over all pixels of the batch. The batch is cut into chunks, each with sums of its own, which are added in order:
/// so the result does not depend on which thread took which chunk. Where the weights are many, there is one chunk, and the threads
/// share out the weights instead.
pub(crate) struct WeightGradient {
    cpu: Cpu,
    conv: Conv,
    input: Frame,
    gradient: Frame,
    /// Where the input of each weight begins in a framed image: rows of the kernel, columns, input channels.
    origins: Vec<usize>,
    chunks: usize,
}

impl WeightGradient {
    pub fn new(cpu: Cpu, conv: &Conv) -> Self {
        let size = [conv.height, conv.width];
        let before = conv.padding;
        let frame = [conv.height + 2 * before[0], conv.width + 2 * before[1]];
        let apart = |channels: usize| if channels.is_multiple_of(CROWDED) { channels + GAP } else { channels };
        let input = Frame { size, channels: conv.inputs, channels_out: apart(conv.inputs), before, frame };
        let size = [conv.rows(), conv.columns()];
        let channels_out = apart(conv.outputs.next_multiple_of(cpu.lanes()));
        let gradient = Frame { size, channels: conv.outputs, channels_out, before: [0, 0], frame: size };
        let mut origins = Vec::new();
        for [row, column] in (0..conv.kernel[0]).flat_map(|row| (0..conv.kernel[1]).map(move |column| [row, column])) {
            let pixel = row * input.pitch() + column * input.channels_out;
            origins.extend((0..conv.inputs).map(|channel| pixel + channel));
        }
        let partial = origins.len() * channels_out;
        // A power of two, which most numbers of threads divide.
        let chunks = 1 << (PARTIAL_FLOATS / partial).clamp(1, MOST_CHUNKS).min(conv.batch).ilog2();
        Self { cpu, conv: *conv, input, gradient, origins, chunks }
    }

    /// Into how many parts the batch is cut; none where the threads share out weights instead.
    pub fn chunks(&self) -> Option<usize> {
        (self.chunks > 1 || self.conv.batch == 1).then_some(self.chunks)
    }

    /// Floats of the sums of a part.
    pub fn partial_len(&self) -> usize {
        self.origins.len() * self.gradient.channels_out
    }

    /// Writes the gradient: `[outputs, inputs, kernel rows, kernel columns]`.
    pub fn run(&self, input: &[f32], gradient: &[f32], out: &Out) {
        let conv = &self.conv;
        assert!(
            input.len() == conv.input_len() && gradient.len() == conv.output_len() && out.len() == conv.weight_len(),
            "sizes of a convolution"
        );
        let partial_len = self.partial_len();
        let partial = Block::new(self.chunks * partial_len);
        // SAFETY: the block has this size, and nobody else knows it yet.
        let sums = unsafe { Out::uninitialised(partial.as_ptr(), self.chunks * partial_len) };
        if self.chunks == 1 {
            self.by_weights(input, gradient, &sums);
        } else {
            let image = |chunk: usize| chunk * conv.batch / self.chunks;
            let [image_in, image_out] = [conv.input_len(), conv.output_len()].map(|len| len / conv.batch);
            (0..self.chunks).into_par_iter().for_each(|chunk| {
                let (first, count) = (image(chunk), image(chunk + 1) - image(chunk));
                let [input, gradient] = [&input[first * image_in..], &gradient[first * image_out..]];
                self.some(count, input, gradient, sums.at(chunk * partial_len), true);
            });
        }
        self.gather(&sums, out);
    }

    /// Adds the first `images` of `input` and `gradient` to the sums of a part, which may `begin` with them; on this thread.
    pub fn some(&self, images: usize, input: &[f32], gradient: &[f32], sums: *mut f32, begin: bool) {
        let image_in = self.conv.height * self.conv.width * self.conv.inputs;
        let image_out = self.conv.pixels() * self.conv.outputs;
        let at_once = self.images_at_once();
        scratch(at_once * (self.input.len() + self.gradient.len()), |room| {
            let framed = [room, room.wrapping_add(at_once * self.input.len())];
            for first in (0..images).step_by(at_once) {
                let count = at_once.min(images - first);
                let sources = [&input[first * image_in..], &gradient[first * image_out..]];
                // SAFETY: the slices hold whole images, the working memory so many framed ones of each.
                let [input, gradient] = unsafe {
                    [
                        self.input.copies(sources[0], count, framed[0]),
                        self.gradient.copies(sources[1], count, framed[1]),
                    ]
                };
                let ahead = [
                    Ahead::new(&sources[0][count * image_in..], at_once * image_in),
                    Ahead::new(&sources[1][count * image_out..], at_once * image_out),
                ];
                let (blocks, ahead) = (0..usize::MAX, Some(ahead));
                let begin = begin && first == 0;
                self.cpu.run(Sweep { plan: self, input, gradient, images: count, blocks, sums, first: begin, ahead });
            }
        });
    }

    /// Images that are walked through at once.
    fn images_at_once(&self) -> usize {
        (BLOCK_PIXELS / self.conv.pixels()).clamp(1, self.conv.batch)
    }

    /// Sums over the whole batch, a thread taking some output channels.
    fn by_weights(&self, input: &[f32], gradient: &[f32], sums: &Out) {
        let batch = self.conv.batch;
        let frames = |frame: &Frame, values: &[f32]| {
            let image = values.len() / batch;
            let room = Block::new(batch * frame.len());
            // SAFETY: the block has this size, and nobody else knows it yet.
            let framed = unsafe { Out::uninitialised(room.as_ptr(), batch * frame.len()) };
            // SAFETY: whole images, each written by one thread.
            let copy =
                |index: usize| unsafe { frame.copy(values[index * image..].as_ptr(), framed.at(index * frame.len())) };
            (0..batch).into_par_iter().for_each(copy);
            room
        };
        let (input, gradient) = (frames(&self.input, input), frames(&self.gradient, gradient));
        let channels = 2 * self.cpu.lanes();
        (0..self.conv.outputs.div_ceil(channels)).into_par_iter().for_each(|block| {
            self.cpu.run(Sweep {
                plan: self,
                input: input.as_ptr(),
                gradient: gradient.as_ptr(),
                images: batch,
                blocks: block..block + 1,
                sums: sums.at(0),
                first: true,
                ahead: None,
            });
        });
    }

    /// Adds the chunks in order and puts the weights into the checkpoint's order. Between the sums of two weights there may be a gap,
    /// which nobody wrote.
    pub fn gather(&self, sums: &Out, out: &Out) {
        assert!(
            sums.len() == self.chunks * self.partial_len() && out.len() == self.conv.weight_len(),
            "sums of all chunks"
        );
        let conv = &self.conv;
        let area = conv.kernel[0] * conv.kernel[1];
        let channels = self.gradient.channels_out;
        let partial_len = self.origins.len() * channels;
        let gather = |output: usize| {
            for input in 0..conv.inputs {
                for tap in 0..area {
                    let at = (tap * conv.inputs + input) * channels + output;
                    // SAFETY: every chunk has written a sum for each weight, and each thread writes the weights of its own channels.
                    unsafe {
                        let sum: f32 = (0..self.chunks).map(|chunk| *sums.at(chunk * partial_len + at)).sum();
                        *out.at((output * conv.inputs + input) * area + tap) = sum;
                    }
                }
            }
        };
        match conv.weight_len() > 1 << 14 {
            true => (0..conv.outputs).into_par_iter().for_each(gather),
            false => (0..conv.outputs).for_each(gather),
        }
    }
}

/// All tiles of weights, for some images.
struct Sweep<'a> {
    plan: &'a WeightGradient,
    input: *const f32,
    gradient: *const f32,
    images: usize,
    /// Blocks of output channels.
    blocks: std::ops::Range<usize>,
    sums: *mut f32,
    /// Whether the sums begin here, instead of being added to.
    first: bool,
    ahead: Option<[Ahead; 2]>,
}

impl WithSimd for Sweep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let plan = self.plan;
        let (rows, channels) = (plan.conv.rows(), plan.gradient.channels);
        let images_at_once = plan.images_at_once();
        let rows_at_once = (BLOCK_PIXELS / plan.conv.columns()).clamp(1, rows);
        for image in (0..self.images).step_by(images_at_once) {
            for row in (0..rows).step_by(rows_at_once) {
                for ahead in self.ahead.into_iter().flatten() {
                    ahead.ask(row / rows_at_once, rows.div_ceil(rows_at_once));
                }
                let count = [images_at_once.min(self.images - image), rows_at_once.min(rows - row)];
                let begin = self.first && image == 0 && row == 0;
                let down = row * plan.conv.stride[0] * plan.input.pitch();
                let a = self.input.wrapping_add(image * plan.input.len() + down);
                let b = self.gradient.wrapping_add(image * plan.gradient.len() + row * plan.gradient.pitch());
                for block in self.blocks.start..self.blocks.end.min(channels.div_ceil(2 * S::F32_LANES)) {
                    let channel = block * 2 * S::F32_LANES;
                    let vectors = (channels - channel).div_ceil(S::F32_LANES);
                    let b = b.wrapping_add(channel);
                    with_tile!(simd, vectors, sweep, &self, [a, b], count, channel, begin);
                }
            }
        }
    }
}

#[inline(always)]
fn sweep<S: Simd, const P: usize, const V: usize>(
    simd: S,
    task: &Sweep,
    [a, b]: [*const f32; 2],
    [images, rows]: [usize; 2],
    channel: usize,
    begin: bool,
) {
    let plan = task.plan;
    let channels = plan.gradient.channels_out;
    let steps = [
        Steps { count: images, a: plan.input.len(), b: plan.gradient.len() },
        Steps { count: rows, a: plan.conv.stride[0] * plan.input.pitch(), b: plan.gradient.pitch() },
        Steps { count: plan.conv.columns(), a: plan.conv.stride[1] * plan.input.channels_out, b: channels },
    ];
    let weights = plan.origins.len();
    for start in (0..weights).step_by(P) {
        // Beyond the last weight the last one is computed again, and not stored.
        let offsets: [usize; P] = std::array::from_fn(|p| plan.origins[(start + p).min(weights - 1)]);
        let zero: Tile<S, P, V> = [[simd.splat_f32s(0.0); V]; P];
        // SAFETY: the framed images reach as far as the kernel, the gradient's channels are padded to whole vectors.
        let sums = unsafe { accumulate(simd, zero, a, &offsets, b, steps) };
        for (p, sums) in sums.iter().enumerate().take(weights - start) {
            for (v, &sum) in sums.iter().enumerate() {
                let to = task.sums.wrapping_add((start + p) * channels + channel + v * S::F32_LANES);
                // SAFETY: within the partial sums, which this task alone writes; they are read only after they were written.
                unsafe {
                    store::<S>(to, if begin { sum } else { simd.add_f32s(sum, load::<S>(to)) });
                }
            }
        }
    }
}

/// Sums over pixels: the gradient of a bias. `values` is `[pixels, channels]`.
pub fn channel_sums(cpu: Cpu, values: &[f32], channels: usize) -> Vec<f32> {
    const FLOATS: usize = 1 << 15;
    let length = (FLOATS / channels).max(1) * channels;
    let parts: Vec<Vec<f32>> = values.par_chunks(length).map(|values| cpu.run(Sums { values, channels })).collect();
    let mut sums = vec![0.0; channels];
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    sums
}

/// The sums of some pixels.
struct Sums<'a> {
    values: &'a [f32],
    channels: usize,
}

impl WithSimd for Sums<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Vec<f32> {
        let mut sums = vec![0.0; self.channels];
        for pixel in self.values.chunks_exact(self.channels) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += value;
            }
        }
        sums
    }
}
