//! The transforms of Winograd's convolution in one dimension, on vectors of channels.
//!
//! Lavin, Gray: "Fast Algorithms for Convolutional Neural Networks", 2015, <https://arxiv.org/abs/1509.09308>. With the paper's matrices
//! `A`, `B`, `G` for `m` outputs of a kernel of three: output `y = A^T ((G g) * (B^T d))`. The gradient of the weights follows by
//! transposition: `dg = G^T ((A dy) * (B^T d))`.

use pulp::Simd;

/// A linear map of `A` numbers to `B`.
pub(super) trait Line<const A: usize, const B: usize> {
    fn apply<S: Simd>(simd: S, x: [S::f32s; A]) -> [S::f32s; B];
}

/// Applies a map along both axes of a tile: values come from `load(row, column)` and go to `store(row, column, value)`, each once. A
/// tile is more than there are registers, so that nothing is held that need not be.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "a column of a matrix of rows")]
pub(super) fn both<S: Simd, L: Line<A, B>, const A: usize, const B: usize>(
    simd: S,
    load: impl Fn(usize, usize) -> S::f32s,
    mut store: impl FnMut(usize, usize, S::f32s),
) {
    let mut half = [[simd.splat_f32s(0.0); A]; B];
    for column in 0..A {
        let line = L::apply(simd, std::array::from_fn(|row| load(row, column)));
        for row in 0..B {
            half[row][column] = line[row];
        }
    }
    for (row, line) in half.into_iter().enumerate() {
        let line = L::apply(simd, line);
        for (column, value) in line.into_iter().enumerate() {
            store(row, column, value);
        }
    }
}

/// The maps of F(2, 3): two outputs from four inputs.
pub(super) struct Two;
/// The maps of F(4, 3): four outputs from six inputs.
pub(super) struct Four;

/// `B^T`
pub(super) struct Input<T>(T);
/// `A^T`
pub(super) struct Output<T>(T);
/// `A`
pub(super) struct Gradient<T>(T);
/// `G`
pub(super) struct Weight<T>(T);
/// `G^T`
pub(super) struct WeightBack<T>(T);

impl Line<4, 4> for Input<Two> {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
        [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
    }
}

impl Line<4, 2> for Output<Two> {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
        [simd.add_f32s(a, simd.add_f32s(b, c)), simd.sub_f32s(simd.sub_f32s(b, c), d)]
    }
}

impl Line<2, 4> for Gradient<Two> {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b]: [S::f32s; 2]) -> [S::f32s; 4] {
        [a, simd.add_f32s(a, b), simd.sub_f32s(a, b), simd.neg_f32s(b)]
    }
}

impl Line<3, 4> for Weight<Two> {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 4] {
        let half = simd.splat_f32s(0.5);
        let (ends, middle) = (simd.mul_f32s(half, simd.add_f32s(a, c)), simd.mul_f32s(half, b));
        [a, simd.add_f32s(ends, middle), simd.sub_f32s(ends, middle), c]
    }
}

impl Line<4, 3> for WeightBack<Two> {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 3] {
        let half = simd.splat_f32s(0.5);
        let (sum, difference) = (simd.mul_f32s(half, simd.add_f32s(b, c)), simd.mul_f32s(half, simd.sub_f32s(b, c)));
        [simd.add_f32s(a, sum), difference, simd.add_f32s(sum, d)]
    }
}

impl Line<6, 6> for Input<Four> {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; 6]) -> [S::f32s; 6] {
        let [two, four, minus_four, minus_five] = [2.0, 4.0, -4.0, -5.0].map(|value| simd.splat_f32s(value));
        // 4a - 5c + e, 4b - 5d + f
        let first = simd.mul_add_f32s(four, a, simd.mul_add_f32s(minus_five, c, e));
        let last = simd.mul_add_f32s(four, b, simd.mul_add_f32s(minus_five, d, f));
        // (e - 4c) -+ (4b - d), (e - c) -+ 2 (b - d)
        let (even, odd) = (simd.mul_add_f32s(minus_four, c, e), simd.mul_add_f32s(minus_four, b, d));
        let (rest, twice) = (simd.sub_f32s(e, c), simd.mul_f32s(two, simd.sub_f32s(d, b)));
        [
            first,
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            simd.add_f32s(rest, twice),
            simd.sub_f32s(rest, twice),
            last,
        ]
    }
}

impl Line<6, 4> for Output<Four> {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; 6]) -> [S::f32s; 4] {
        let [two, four, eight] = [2.0, 4.0, 8.0].map(|value| simd.splat_f32s(value));
        let (sum, difference) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
        let (sums, differences) = (simd.add_f32s(d, e), simd.sub_f32s(d, e));
        [
            simd.add_f32s(a, simd.add_f32s(sum, sums)),
            simd.mul_add_f32s(two, differences, difference),
            simd.mul_add_f32s(four, sums, sum),
            simd.mul_add_f32s(eight, differences, simd.add_f32s(difference, f)),
        ]
    }
}

impl Line<4, 6> for Gradient<Four> {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 6] {
        let [two, four, eight] = [2.0, 4.0, 8.0].map(|value| simd.splat_f32s(value));
        let (even, odd) = (simd.add_f32s(a, c), simd.add_f32s(b, d));
        let (evens, odds) = (simd.mul_add_f32s(four, c, a), simd.mul_add_f32s(eight, d, simd.mul_f32s(two, b)));
        [
            a,
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            simd.add_f32s(evens, odds),
            simd.sub_f32s(evens, odds),
            d,
        ]
    }
}

impl Line<3, 6> for Weight<Four> {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 6] {
        let [quarter, sixth, small, twelfth] =
            [0.25, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 12.0].map(|value| simd.splat_f32s(value));
        let (ends, middle) = (simd.mul_f32s(sixth, simd.add_f32s(a, c)), simd.mul_f32s(sixth, b));
        let (outer, inner) = (simd.mul_add_f32s(small, a, simd.mul_f32s(sixth, c)), simd.mul_f32s(twelfth, b));
        [
            simd.mul_f32s(quarter, a),
            simd.neg_f32s(simd.add_f32s(ends, middle)),
            simd.sub_f32s(middle, ends),
            simd.add_f32s(outer, inner),
            simd.sub_f32s(outer, inner),
            c,
        ]
    }
}

impl Line<6, 3> for WeightBack<Four> {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; 6]) -> [S::f32s; 3] {
        let [quarter, sixth, small, twelfth] =
            [0.25, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 12.0].map(|value| simd.splat_f32s(value));
        let (sum, difference) = (simd.add_f32s(b, c), simd.sub_f32s(c, b));
        let (sums, differences) = (simd.add_f32s(d, e), simd.sub_f32s(d, e));
        let sixths = simd.mul_f32s(sixth, sum);
        [
            simd.mul_add_f32s(small, sums, simd.sub_f32s(simd.mul_f32s(quarter, a), sixths)),
            simd.mul_add_f32s(twelfth, differences, simd.mul_f32s(sixth, difference)),
            simd.mul_add_f32s(sixth, sums, simd.sub_f32s(f, sixths)),
        ]
    }
}
