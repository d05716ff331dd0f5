//! Walking an activation seen as rows of channels: one pass over memory, with sums of each channel.
//!
//! An activation is cut into chunks, which threads share, and a chunk into lines. A line is one row or, where rows are narrow, several
//! that lie one after the other: vectors are then full for any number of channels, and sums have room to overlap. The cut, and with
//! it the order of every sum, depends on the shape only.

use std::cmp::min;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::cpu::{Cpu, load_part, prefetch, store_part};
use crate::memory::scratch;

/// Floats of a chunk, about: small enough for the second cache, and long enough to be worth a task.
const CHUNK: usize = 1 << 15;
/// Floats of the widest vector.
const LANES: usize = 16;
/// Floats of a line, at least, unless a row is longer.
const NARROW: usize = 128;
/// Floats of a line of several rows, at most: constants and sums of a line have to stay in the first cache.
const WIDE: usize = 1024;
/// Lines that are taken at once, so that the constants and sums of a channel are loaded once for all of them.
const LINES: usize = 4;

/// What is done to each vector.
pub(crate) trait Kernel: Copy + Send + Sync {
    /// Kinds of sums that are taken of each channel.
    const SUMS: usize;

    /// Works on one vector of each of `LINES` lines. All of them belong to the same channels.
    ///
    /// # Safety
    /// The place has to lie within the tensors and constants of the kernel, and `sums` has to be `SUMS` lines of floats.
    unsafe fn step<S: Simd, const LINES: usize>(self, simd: S, place: Place, sums: *mut f32);
}

/// Where a vector lies.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Its first float in a tensor, in the first of the lines.
    start: usize,
    /// Its first float in the line.
    position: usize,
    /// Its floats: a whole vector, or less at the end of a line.
    count: usize,
    /// Floats of a line.
    line: usize,
    /// Floats from these lines to the next ones.
    ahead: usize,
}

impl Place {
    /// The channels' values out of `values`, which is a line of them, or number `kind` of several lines.
    ///
    /// # Safety
    /// The lines have to be readable.
    #[inline(always)]
    pub unsafe fn constant<S: Simd>(self, simd: S, values: *const f32, kind: usize) -> S::f32s {
        // SAFETY: the place lies within a line.
        unsafe { load_part(simd, values.add(kind * self.line + self.position), self.count) }
    }

    /// Keeps the channels' sums.
    ///
    /// # Safety
    /// The lines have to be writable.
    #[inline(always)]
    pub unsafe fn keep<S: Simd>(self, sums: *mut f32, kind: usize, value: S::f32s) {
        // SAFETY: the place lies within a line.
        unsafe { store_part::<S>(sums.add(kind * self.line + self.position), value, self.count) }
    }

    /// Asks for what the next lines have where these have `here`; without this several streams come at half the speed.
    #[inline(always)]
    fn announce<S: Simd>(self, here: *const f32) {
        // Not once a float.
        if S::F32_LANES > 1 {
            prefetch(here.wrapping_add(self.ahead));
        }
    }

    /// The vector in line number `line` of a tensor.
    ///
    /// # Safety
    /// The tensor has to be readable there.
    #[inline(always)]
    pub unsafe fn load<S: Simd>(self, simd: S, tensor: *const f32, line: usize) -> S::f32s {
        let from = tensor.wrapping_add(self.start + line * self.line);
        self.announce::<S>(from);
        // SAFETY: the caller promises the memory.
        unsafe { load_part(simd, from, self.count) }
    }

    /// Writes the vector in line number `line` of a tensor.
    ///
    /// # Safety
    /// The tensor has to be writable there.
    #[inline(always)]
    pub unsafe fn store<S: Simd>(self, tensor: *mut f32, line: usize, value: S::f32s) {
        let to = tensor.wrapping_add(self.start + line * self.line);
        self.announce::<S>(to);
        // SAFETY: the caller promises the memory.
        unsafe { store_part::<S>(to, value, self.count) }
    }
}

/// How an activation is cut.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    length: usize,
    channels: usize,
    line: usize,
    chunk: usize,
}

impl Layout {
    /// For `length` floats.
    ///
    /// # Panics
    /// If they are not whole rows of channels, at least one.
    pub fn new(length: usize, channels: usize) -> Self {
        assert!(length > 0 && length.is_multiple_of(channels), "whole rows of {channels} channels, at least one");
        let shared = 1 << min(channels.trailing_zeros(), LANES.trailing_zeros());
        let multiple = channels / shared * LANES;
        let line = if multiple <= WIDE { multiple * NARROW.div_ceil(multiple) } else { channels };
        Self { length, channels, line, chunk: line * (CHUNK / line).max(64) }
    }

    /// The values of the channels along a line.
    pub fn tile(&self, values: &[f32]) -> Vec<f32> {
        values.repeat(self.line / self.channels)
    }

    /// Runs a kernel over the whole activation, and returns its sums: those of all channels, then the next kind.
    pub fn sweep<K: Kernel>(&self, cpu: Cpu, kernel: K) -> Vec<f64> {
        let count = K::SUMS * self.channels;
        let work = |(chunk, totals): (usize, &mut [f64])| {
            let start = chunk * self.chunk;
            let end = min(start + self.chunk, self.length);
            scratch(K::SUMS * self.line, |sums| cpu.run(Chunk { kernel, layout: *self, start, end, sums, totals }));
        };
        // A chunk without sums has a place too, so that there is one kind of loop.
        let room = count.max(1);
        let mut totals = vec![0.0; self.length.div_ceil(self.chunk) * room];
        if totals.len() == room || rayon::current_num_threads() == 1 {
            totals.chunks_mut(room).enumerate().for_each(work);
        } else {
            totals.par_chunks_mut(room).enumerate().for_each(work);
        }
        let (first, others) = totals.split_at_mut(room);
        for chunk in others.chunks(room) {
            first.iter_mut().zip(chunk).for_each(|(total, sum)| *total += sum);
        }
        totals.truncate(count);
        totals
    }
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
    /// `LINES` lines from `start` on have to lie within the tensors, or a single one up to `length`.
    #[inline(always)]
    unsafe fn lines<S: Simd, const LINES: usize>(&self, simd: S, start: usize, length: usize) {
        let line = self.layout.line;
        let place = |position, count| Place { start: start + position, position, count, line, ahead: LINES * line };
        let full = length / S::F32_LANES * S::F32_LANES;
        for position in (0..full).step_by(S::F32_LANES) {
            // SAFETY: the caller promises the lines; the vector ends within them.
            unsafe { self.kernel.step::<S, LINES>(simd, place(position, S::F32_LANES), self.sums) };
        }
        if full < length {
            // SAFETY: as above.
            unsafe { self.kernel.step::<S, LINES>(simd, place(full, length - full), self.sums) };
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
        let mut start = self.start;
        while self.end - start >= LINES * line {
            // SAFETY: all these lines lie before the chunk's end.
            unsafe { self.lines::<S, LINES>(simd, start, line) };
            start += LINES * line;
        }
        while start < self.end {
            let length = min(line, self.end - start);
            // SAFETY: the line ends at the chunk's end at the latest.
            unsafe { self.lines::<S, 1>(simd, start, length) };
            start += length;
        }
        // SAFETY: the same memory, which holds zeros at least.
        let sums = unsafe { std::slice::from_raw_parts(self.sums, K::SUMS * line) };
        for (totals, sums) in self.totals.chunks_exact_mut(channels).zip(sums.chunks_exact(line)) {
            for row in sums.chunks_exact(channels) {
                totals.iter_mut().zip(row).for_each(|(total, &sum)| *total += f64::from(sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Out;

    /// Adds one to each float, and counts them.
    #[derive(Clone, Copy)]
    struct Visit<'a>(&'a Out<'a>);

    impl Kernel for Visit<'_> {
        const SUMS: usize = 1;

        #[inline(always)]
        unsafe fn step<S: Simd, const LINES: usize>(self, simd: S, place: Place, sums: *mut f32) {
            let one = simd.splat_f32s(1.0);
            // SAFETY: the caller promises the memory.
            unsafe {
                let mut sum = place.constant(simd, sums, 0);
                for line in 0..LINES {
                    let value = place.load(simd, self.0.at(0), line);
                    place.store::<S>(self.0.at(0), line, simd.add_f32s(value, one));
                    sum = simd.add_f32s(sum, one);
                }
                place.keep::<S>(sums, 0, sum);
            }
        }
    }

    #[test]
    fn every_float_is_visited_once() {
        for cpu in Cpu::all() {
            for (rows, channels) in
                [(1, 1), (1, 17), (5, 3), (4100, 16), (513, 65), (70, 1040), (9, 5000), (100_000, 1)]
            {
                let mut values = vec![0.0; rows * channels];
                let sums = Layout::new(values.len(), channels).sweep(cpu, Visit(&Out::new(&mut values)));
                assert!(values.iter().all(|&value| value == 1.0), "{rows} x {channels}, {cpu:?}");
                assert_eq!(sums, vec![rows as f64; channels], "{rows} x {channels}, {cpu:?}");
            }
        }
    }
}
