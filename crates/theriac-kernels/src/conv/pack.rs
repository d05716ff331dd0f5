//! Copies that put weights and images into the order in which the inner loop walks through them.

use rayon::prelude::*;

use crate::memory::{Block, Out};

/// Weights as the inner loop reads them: for every block of `vectors * lanes` output channels, `[rows of the kernel, run, channels]`,
/// where the run goes through the columns of the kernel and, within each, the input channels. Channels that do not exist are zero.
pub(crate) struct Packed {
    values: Block,
    /// Output channels in a block; the last block may be narrower, but takes as much room.
    pub channels: usize,
    /// Rows of the kernel times the run.
    pub depth: usize,
}

/// One number of the packed weights: where in the packing's source an (output, input) pair keeps tap `[row, column]`.
pub(crate) struct Source<'a> {
    pub weights: &'a [f32],
    /// Floats from one packed output channel to the next.
    pub output_step: usize,
    /// Floats from one packed input channel to the next.
    pub input_step: usize,
    /// Offset of each tap, rows first.
    pub taps: &'a [usize],
}

impl Packed {
    /// Packs `outputs` x `inputs` channels of `rows * columns` taps each.
    pub fn new(source: &Source, [outputs, inputs]: [usize; 2], columns: usize, channels: usize) -> Self {
        let taps = source.taps.len();
        let depth = taps * inputs;
        let blocks = outputs.div_ceil(channels);
        let values = Block::new(blocks * depth * channels);
        let block_len = depth * channels;
        // SAFETY: the block has this size, and nobody else knows it yet.
        let out = unsafe { Out::uninitialised(values.as_ptr(), blocks * block_len) };
        let pack = |block: usize| {
            let start = out.at(block * block_len);
            for (tap, &offset) in source.taps.iter().enumerate() {
                let (row, column) = (tap / columns.max(1), tap % columns.max(1));
                for input in 0..inputs {
                    let to = ((row * columns + column) * inputs + input) * channels;
                    for lane in 0..channels {
                        let output = block * channels + lane;
                        let value = match output < outputs {
                            true => source.weights[offset + output * source.output_step + input * source.input_step],
                            false => 0.0,
                        };
                        // SAFETY: within this block of the packing, which no other thread writes.
                        unsafe { *start.add(to + lane) = value };
                    }
                }
            }
        };
        match blocks * block_len > 1 << 14 {
            true => (0..blocks).into_par_iter().for_each(pack),
            false => (0..blocks).for_each(pack),
        }
        Self { values, channels, depth }
    }

    /// The weights of block `index`.
    pub fn block(&self, index: usize) -> *const f32 {
        self.values.as_ptr().wrapping_add(index * self.depth * self.channels)
    }
}

/// Copies images into a frame of zeros, so that no tap of the kernel falls outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Rows and columns of a source image.
    pub size: [usize; 2],
    /// Channels of the source.
    pub channels: usize,
    /// Channels of the copy: at least as many; the rest is zero.
    pub channels_out: usize,
    /// Rows above and columns left of the image in the copy.
    pub before: [usize; 2],
    /// Rows and columns of the copy, which may cut the image off.
    pub frame: [usize; 2],
}

impl Frame {
    /// Floats from one row of the copy to the next.
    pub fn pitch(&self) -> usize {
        self.frame[1] * self.channels_out
    }

    /// Floats of one copied image.
    pub fn len(&self) -> usize {
        self.frame[0] * self.pitch()
    }

    /// Whether the copy would equal the source.
    pub fn is_trivial(&self) -> bool {
        self.before == [0, 0] && self.frame == self.size && self.channels == self.channels_out
    }

    /// So many images, copied to `room` unless that would change nothing.
    ///
    /// # Safety
    /// `images` must hold so many images, and `room` must have room for as many copies.
    pub unsafe fn copies(&self, images: &[f32], count: usize, room: *mut f32) -> *const f32 {
        if self.is_trivial() {
            return images.as_ptr();
        }
        let image = self.size[0] * self.size[1] * self.channels;
        for index in 0..count {
            // SAFETY: the caller promises the memory.
            unsafe { self.copy(images[index * image..].as_ptr(), room.add(index * self.len())) };
        }
        room
    }

    /// Copies one image.
    ///
    /// # Safety
    /// `from` must be readable for a source image and `to` writable for [`Frame::len`] floats.
    pub unsafe fn copy(&self, from: *const f32, to: *mut f32) {
        let [height, width] = self.size;
        let columns = width.min(self.frame[1].saturating_sub(self.before[1]));
        let lead = self.before[1] * self.channels_out;
        for row in 0..self.frame[0] {
            // SAFETY: rows and columns stay within the source and within the copy.
            unsafe {
                let line = to.add(row * self.pitch());
                if row < self.before[0] || row >= self.before[0] + height {
                    std::ptr::write_bytes(line, 0, self.pitch());
                    continue;
                }
                let source = from.add((row - self.before[0]) * width * self.channels);
                std::ptr::write_bytes(line, 0, lead.min(self.pitch()));
                let inside = line.add(lead.min(self.pitch()));
                if self.channels == self.channels_out {
                    std::ptr::copy_nonoverlapping(source, inside, columns * self.channels);
                } else {
                    for column in 0..columns {
                        let pixel = inside.add(column * self.channels_out);
                        std::ptr::copy_nonoverlapping(source.add(column * self.channels), pixel, self.channels);
                        let rest = self.channels_out - self.channels;
                        std::ptr::write_bytes(pixel.add(self.channels), 0, rest);
                    }
                }
                let end = lead + columns * self.channels_out;
                if end < self.pitch() {
                    std::ptr::write_bytes(line.add(end), 0, self.pitch() - end);
                }
            }
        }
    }
}
