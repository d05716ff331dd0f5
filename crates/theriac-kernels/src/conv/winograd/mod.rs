//! Winograd's convolution with kernels of 3 x 3 and stride 1: fewer multiplications for more additions.
//!
//! Tiles of `M` x `M` outputs are computed from tiles of `N = M + 2` inputs a side. Both are transformed, so that each of the `N * N`
//! planes of transformed numbers is a matrix product of its own; see `lines` for the maps. F(4, 3) needs a quarter of the
//! multiplications, at a larger error: the tests keep it below 1e-4 of the largest value, and that of F(2, 3) below 1e-5.

mod forward;
mod gradient;

use std::ops::Range;

use pulp::Simd;

use super::lines::{Line, both};
use crate::cpu::{load, prefetch, store};
use crate::memory::LINE;

pub(crate) use forward::Winograd;
pub(crate) use gradient::WeightGradient;

/// Floats of transformed inputs and outputs that a task works on: they should stay in the second-level cache.
const TASK_FLOATS: usize = 24 << 10;
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

    /// Asks for what the tile below adds to the `N` x `N` pixels of a tile, or at the end of an image about that.
    #[inline(always)]
    fn prefetch<const N: usize>(&self, images: *const f32, tile: usize) {
        let (image, [top, left]) = self.place(tile);
        let [height, width] = self.size.map(|size| size as isize);
        let first = (image as isize * height + top + N as isize) * width + left;
        for row in 0..self.step as isize {
            let line = images.wrapping_offset((first + row * width) * self.channels as isize);
            for at in (0..self.step * self.channels).step_by(LINE / size_of::<f32>()) {
                prefetch(line.wrapping_add(at));
            }
        }
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
use sized;

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
        tiles.prefetch::<A>(images, tile);
        for channel in (0..tiles.channels).step_by(S::F32_LANES) {
            let to = to.wrapping_add(index * tiles.channels + channel);
            both::<S, L, A, B>(
                simd,
                // SAFETY: a pixel of the image or the zeros, with whole vectors of channels.
                |row, column| unsafe { load::<S>(pixels[row][column].add(channel)) },
                // SAFETY: the callers' planes have room for every tile of the range.
                |row, column, value| unsafe { store::<S>(to.add((row * B + column) * plane), value) },
            );
        }
    }
}
