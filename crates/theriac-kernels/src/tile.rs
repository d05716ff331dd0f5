//! The one inner loop: a tile of sums of products, held in registers.
//!
//! Convolutions (forward, and both gradients) and matrix products all are
//! `sums[p][channel] = sum over (outermost, outer, inner) of a[offset[p] + steps] * b[steps][channel]`:
//! a number of `a` is multiplied with a whole vector of `b`. What differs is what `p` counts (pixels, or weights) and how far `a` and
//! `b` move on. `benches/conv.rs` tells how near this comes to the processor's limit.

use pulp::Simd;

use crate::cpu::load;

/// How many times to go on, and by how many floats in `a` and in `b`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    pub count: usize,
    pub a: usize,
    pub b: usize,
}

impl Steps {
    /// No step at all: the sum has fewer levels.
    pub const ONCE: Self = Self { count: 1, a: 0, b: 0 };
}

/// `P` times `V` vectors of sums.
pub(crate) type Tile<S, const P: usize, const V: usize> = [[<S as Simd>::f32s; V]; P];

/// Adds the products of one tile to `sums`.
///
/// # Safety
/// Every float that the steps reach from `a + offsets[p]`, and every `V` vectors that they reach from `b`, must be readable.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, const P: usize, const V: usize>(
    simd: S,
    mut sums: Tile<S, P, V>,
    a: *const f32,
    offsets: &[usize; P],
    b: *const f32,
    [outermost, outer, inner]: [Steps; 3],
) -> Tile<S, P, V> {
    let both = (0..outermost.count).flat_map(|first| (0..outer.count).map(move |second| (first, second)));
    for (first, second) in both {
        // SAFETY: the caller promises what the steps reach.
        unsafe {
            let a = a.add(first * outermost.a + second * outer.a);
            let mut b = b.add(first * outermost.b + second * outer.b);
            let starts: [*const f32; P] = std::array::from_fn(|p| a.add(offsets[p]));
            let mut at = 0;
            for _ in 0..inner.count {
                let row: [S::f32s; V] = std::array::from_fn(|v| load::<S>(b.add(v * S::F32_LANES)));
                for p in 0..P {
                    let factor = simd.splat_f32s(*starts[p].add(at));
                    for v in 0..V {
                        sums[p][v] = simd.mul_add_f32s(factor, row[v], sums[p][v]);
                    }
                }
                at += inner.a;
                b = b.wrapping_add(inner.b);
            }
        }
    }
    sums
}

/// Calls a function with the tile that suits an instruction set: `$run::<S, P, V>($arguments)` for one or two vectors of channels.
///
/// As many sums as there are registers for: 32 of them on AVX-512 and NEON, 16 on AVX2. `P` divides by four, for pooling.
macro_rules! with_tile {
    ($simd:ident, $vectors:expr, $run:ident, $($argument:expr),*) => {
        match (S::F32_LANES, $vectors) {
            (16 | 4, 1) => $run::<S, 12, 1>($simd, $($argument),*),
            (16 | 4, _) => $run::<S, 12, 2>($simd, $($argument),*),
            (8, 1) => $run::<S, 12, 1>($simd, $($argument),*),
            (8, _) => $run::<S, 6, 2>($simd, $($argument),*),
            (_, 1) => $run::<S, 4, 1>($simd, $($argument),*),
            _ => $run::<S, 4, 2>($simd, $($argument),*),
        }
    };
}
pub(crate) use with_tile;
