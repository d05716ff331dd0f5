//! ReLU and max-pooling by 2 x 2, which commute: `max(0, .)` of the largest of four.

use std::mem::MaybeUninit;

use pulp::{Simd, WithSimd};

use crate::cpu::{Cpu, load_part, store_part};

/// A batch of activations that is pooled: `[batch, height, width, channels]`. A last odd row or column is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    /// Images.
    pub batch: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Pool {
    /// Floats of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    /// Floats of the output.
    pub fn output_len(&self) -> usize {
        self.batch * (self.height / 2) * (self.width / 2) * self.channels
    }

    /// Where the pixel at the left of `row` begins in the input; rows are counted over the whole batch.
    fn line(&self, row: usize) -> usize {
        let rows = self.height / 2;
        ((row / rows) * self.height + row % rows * 2) * self.width * self.channels
    }

    /// Writes the pooled activation to `out`, and to `chosen` which of the four pixels each value came from (rows first; the first of
    /// equal ones, and NaN before all numbers).
    pub fn forward(&self, cpu: Cpu, input: &[f32], chosen: &mut [u8], out: &mut [MaybeUninit<f32>]) {
        let len = self.output_len();
        assert!(input.len() == self.input_len() && [chosen.len(), out.len()] == [len; 2], "sizes of a pooling");
        let line = self.width / 2 * self.channels;
        if line > 0 {
            for (row, (chosen, out)) in chosen.chunks_exact_mut(line).zip(out.chunks_exact_mut(line)).enumerate() {
                cpu.run(Forward { pool: self, input: &input[self.line(row)..], out, chosen });
            }
        }
    }

    /// Writes the gradient of the input to `out`, from the pooled activation, its origins and its gradient. What passes ReLU is added to
    /// `sums`, channel by channel.
    pub fn backward(
        &self,
        cpu: Cpu,
        output: &[f32],
        chosen: &[u8],
        gradient: &[f32],
        out: &mut [MaybeUninit<f32>],
        sums: &mut [f32],
    ) {
        let len = self.output_len();
        assert!(
            [output.len(), chosen.len(), gradient.len()] == [len; 3] && out.len() == self.input_len(),
            "sizes of a pooling"
        );
        let (image, pixels) = (out.len() / self.batch.max(1), len / self.batch.max(1));
        for index in 0..self.batch {
            let range = index * pixels..(index + 1) * pixels;
            let [output, gradient] = [output, gradient].map(|values| &values[range.clone()]);
            let (chosen, out) = (&chosen[range], &mut out[index * image..][..image]);
            cpu.run(Backward { pool: self, output, chosen, gradient, out, sums });
        }
    }
}

/// One row of the output.
struct Forward<'a> {
    pool: &'a Pool,
    input: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
    chosen: &'a mut [u8],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.pool.channels;
        let below = self.pool.width * channels;
        let pixels = self.out.chunks_exact_mut(channels).zip(self.chosen.chunks_exact_mut(channels));
        let zero = simd.splat_f32s(0.0);
        for (column, (out, chosen)) in pixels.enumerate() {
            let at = 2 * column * channels;
            let [a, b, c, d] =
                [at, at + channels, at + below, at + below + channels].map(|at| &self.input[at..][..channels]);
            for channel in (0..channels).step_by(S::F32_LANES) {
                let count = S::F32_LANES.min(channels - channel);
                // SAFETY: each pixel has so many channels from this one on.
                let [mut best, b, c, d] =
                    [a, b, c, d].map(|pixel| unsafe { load_part(simd, pixel.as_ptr().add(channel), count) });
                let mut index = simd.splat_u32s(0);
                for (number, value) in [(1, b), (2, c), (3, d)] {
                    let not_a_number = simd.not_m32s(simd.equal_f32s(value, value));
                    let better = simd.or_m32s(simd.less_than_f32s(best, value), not_a_number);
                    best = simd.select_f32s(better, value, best);
                    index = simd.select_u32s(better, simd.splat_u32s(number), index);
                }
                let rectified = simd.select_f32s(simd.less_than_or_equal_f32s(best, zero), zero, best);
                // SAFETY: as above, and a vector is an array of numbers.
                unsafe { store_part::<S>(out.as_mut_ptr().add(channel).cast(), rectified, count) };
                let index = unsafe { std::slice::from_raw_parts((&raw const index).cast::<u32>(), count) };
                chosen[channel..].iter_mut().zip(index).for_each(|(chosen, &index)| *chosen = index as u8);
            }
        }
    }
}

/// One image.
struct Backward<'a> {
    pool: &'a Pool,
    output: &'a [f32],
    chosen: &'a [u8],
    gradient: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
    sums: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (channels, columns) = (self.pool.channels, self.pool.width / 2);
        let below = self.pool.width * channels;
        let zero = simd.splat_f32s(0.0);
        let mut lines = self.out.chunks_exact_mut(2 * below);
        for (row, lines) in lines.by_ref().enumerate() {
            for column in 0..columns {
                let at = (row * columns + column) * channels;
                let [output, gradient] = [self.output, self.gradient].map(|values| &values[at..][..channels]);
                let (chosen, sums) = (&self.chosen[at..][..channels], &mut self.sums[..channels]);
                let at = 2 * column * channels;
                let four = [at, at + channels, at + below, at + below + channels];
                for channel in (0..channels).step_by(S::F32_LANES) {
                    let count = S::F32_LANES.min(channels - channel);
                    let mut index = simd.splat_u32s(0);
                    // SAFETY: a vector is an array of numbers.
                    let numbers = unsafe { std::slice::from_raw_parts_mut((&raw mut index).cast::<u32>(), count) };
                    numbers.iter_mut().zip(&chosen[channel..]).for_each(|(number, &chosen)| *number = chosen.into());
                    // SAFETY: each pixel has so many channels from this one on.
                    unsafe {
                        let load = |values: &[f32]| load_part(simd, values.as_ptr().add(channel), count);
                        // A unit that was cut off by ReLU passes nothing on.
                        let value = simd.select_f32s(simd.equal_f32s(load(output), zero), zero, load(gradient));
                        let sum = simd.add_f32s(load(sums), value);
                        store_part::<S>(sums.as_mut_ptr().add(channel), sum, count);
                        for (number, at) in four.into_iter().enumerate() {
                            let here = simd.equal_u32s(index, simd.splat_u32s(number as u32));
                            let to = lines[at..][..channels].as_mut_ptr().add(channel).cast();
                            store_part::<S>(to, simd.select_f32s(here, value, zero), count);
                        }
                    }
                }
            }
            // An odd last column, and below an odd last row, are in no pool.
            for line in lines.chunks_exact_mut(below) {
                line[2 * columns * channels..].fill(MaybeUninit::new(0.0));
            }
        }
        lines.into_remainder().fill(MaybeUninit::new(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
        // SAFETY: only numbers are written.
        unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
    }

    #[test]
    fn the_largest_positive_value_and_its_gradient() {
        // Two channels, 3 x 5: the last row and column are left out.
        let pool = Pool { batch: 2, height: 3, width: 5, channels: 2 };
        let mut input: Vec<f32> = (0..60).map(|value| ((value * 37) % 61) as f32 - 30.0).collect();
        input[2] = f32::NAN;
        for cpu in Cpu::all() {
            let mut output = vec![-1.0; pool.output_len()];
            let mut chosen = vec![9; pool.output_len()];
            pool.forward(cpu, &input, &mut chosen, room(&mut output));
            let (mut gradient, mut sums) = (vec![f32::NAN; pool.input_len()], vec![0.0; 2]);
            let ones: Vec<f32> = (1..=pool.output_len()).map(|value| value as f32).collect();
            pool.backward(cpu, &output, &chosen, &ones, room(&mut gradient), &mut sums);
            let (mut expected, mut expected_sums) = (vec![0.0; pool.input_len()], vec![0.0; 2]);
            for at in 0..pool.output_len() {
                let (channel, pixel) = (at % 2, at / 2);
                let (image, row, column) = (pixel / 2, 0, pixel % 2);
                let four: Vec<usize> = [(0, 0), (0, 1), (1, 0), (1, 1)]
                    .map(|(down, right)| ((image * 3 + 2 * row + down) * 5 + 2 * column + right) * 2 + channel)
                    .into();
                let first_nan = four.iter().copied().find(|&at| input[at].is_nan());
                let largest = four.iter().copied().max_by(|&a, &b| input[a].total_cmp(&input[b])).unwrap();
                let from = first_nan.unwrap_or(largest);
                assert!(input[from].is_nan() == output[at].is_nan());
                if !output[at].is_nan() {
                    assert_eq!(output[at], input[from].max(0.0));
                }
                if output[at] != 0.0 {
                    expected[from] = ones[at];
                    expected_sums[channel] += ones[at];
                }
            }
            assert_eq!((gradient, sums), (expected, expected_sums));
        }
    }
}
