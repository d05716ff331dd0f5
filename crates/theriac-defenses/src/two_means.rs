//! Two-means clustering (Lloyd's iterations, k-means++ starts) and its silhouette.

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use theriac_core::seed::Stream;
use theriac_kernels::Cpu;

/// Lloyd's iterations end by themselves, nearly always within a few dozen; this bounds the rest.
const ITERATIONS: usize = 300;

/// Points in two clusters.
pub(crate) struct Clusters {
    /// Which cluster each point is in: 0 or 1. All are in 0 if the points cannot be told apart.
    pub assignment: Vec<usize>,
    /// The means of the clusters.
    pub centres: [DVector<f64>; 2],
    /// The sum of squared distances to the centres.
    pub inertia: f64,
}

impl Clusters {
    /// Number of points in each cluster.
    pub fn sizes(&self) -> [usize; 2] {
        let second: usize = self.assignment.iter().sum();
        [self.assignment.len() - second, second]
    }
}

/// The best of `restarts` runs: the first with the smallest inertia. `points` are `[dimensions, samples]`.
pub(crate) fn two_means(points: &DMatrix<f64>, restarts: usize, stream: &mut Stream) -> Clusters {
    let columns = points.transpose(); // [samples, dimensions]: long runs, which fit into vectors
    let mut best = lloyd(points, &columns, start(points, stream));
    for _ in 1..restarts {
        let run = lloyd(points, &columns, start(points, stream));
        if run.inertia < best.inertia {
            best = run;
        }
    }
    best
}

/// k-means++ (Arthur and Vassilvitskii 2007): the first centre is any point, the second one is drawn with a probability
/// proportional to its squared distance from the first.
fn start(points: &DMatrix<f64>, stream: &mut Stream) -> [DVector<f64>; 2] {
    let first = points.column(stream.below(points.ncols())).into_owned();
    let squares: Vec<f64> = rows(points).map(|point| squared(point, first.as_slice())).collect();
    let mut left = stream.uniform() * squares.iter().sum::<f64>();
    let mut second = 0;
    for (index, &square) in squares.iter().enumerate().filter(|(_, square)| **square > 0.0) {
        second = index;
        left -= square;
        if left < 0.0 {
            break;
        }
    }
    [first, points.column(second).into_owned()]
}

fn lloyd(points: &DMatrix<f64>, columns: &DMatrix<f64>, mut centres: [DVector<f64>; 2]) -> Clusters {
    let samples = points.ncols();
    let everyone = columns.row_sum_tr();
    let mut second = DVector::from_element(samples, f64::NAN); // 1 in the second cluster, 0 in the first
    for _ in 0..ITERATIONS {
        // Nearer to the second centre is whoever lies beyond the plane half way between the two.
        let direction = &centres[1] - &centres[0];
        let half_way = (&centres[0] + &centres[1]).dot(&direction) / 2.0;
        let moved = (columns * direction).map(|along| f64::from(u8::from(along > half_way)));
        if moved == second {
            break;
        }
        second = moved;
        let sum = columns.tr_mul(&second);
        let count = second.sum();
        // An emptied cluster keeps its centre and may win points back.
        if count > 0.0 {
            centres[1] = &sum / count;
        }
        if count < samples as f64 {
            centres[0] = (&everyone - sum) / (samples as f64 - count);
        }
    }
    let assignment: Vec<usize> = second.iter().map(|&second| usize::from(second == 1.0)).collect();
    let own = distances(points, &centres).zip(&assignment).map(|(distances, &cluster)| distances[cluster]);
    Clusters { inertia: own.sum(), assignment, centres }
}

/// The points, one after the other.
fn rows(points: &DMatrix<f64>) -> impl Iterator<Item = &[f64]> {
    points.as_slice().chunks_exact(points.nrows().max(1))
}

fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The squared distances of each point to both centres.
pub(crate) fn distances<'a>(
    points: &'a DMatrix<f64>,
    centres: &'a [DVector<f64>; 2],
) -> impl Iterator<Item = [f64; 2]> + 'a {
    rows(points).map(move |point| [0, 1].map(|centre| squared(point, centres[centre].as_slice())))
}

/// Points that are compared with one other at a time: their distances should stay in the first-level cache.
const RUN: usize = 256;
/// Sums side by side, which fit into vectors.
const LANES: usize = 8;

/// The mean silhouette (Rousseeuw 1987): (b - a) / max(a, b), with a the mean distance of a point to the others of
/// its cluster and b that to the points of the other cluster; 0 for a point alone in its cluster. 0 if there is only
/// one cluster.
pub(crate) fn silhouette(points: &DMatrix<f64>, clusters: &Clusters) -> f64 {
    let sizes = clusters.sizes();
    let samples = clusters.assignment.len();
    if sizes.contains(&0) {
        return 0.0;
    }
    let columns = points.transpose(); // [samples, dimensions]
    let second: Vec<f64> = clusters.assignment.iter().map(|&cluster| cluster as f64).collect();
    let one = |index: usize| {
        let own = clusters.assignment[index];
        if sizes[own] == 1 {
            return 0.0;
        }
        let [all, second] = Cpu::best().vectorised(|| distance_sums(&columns, index, &second));
        let sums = [all - second, second];
        let (a, b) = (sums[own] / (sizes[own] - 1) as f64, sums[1 - own] / sizes[1 - own] as f64);
        let largest = a.max(b);
        if largest > 0.0 { (b - a) / largest } else { 0.0 }
    };
    // Collected before it is summed: the order of the sum must not depend on threads.
    let values: Vec<f64> = (0..samples).into_par_iter().map(one).collect();
    values.iter().sum::<f64>() / samples as f64
}

/// The summed distances of the point at `index` to all points, and to those that `marked` has a 1 for.
#[inline(always)]
fn distance_sums(columns: &DMatrix<f64>, index: usize, marked: &[f64]) -> [f64; 2] {
    let mut sums = [[0.0; LANES]; 2];
    let mut squares = [0.0; RUN];
    for (run, marked) in marked.chunks(RUN).enumerate() {
        let squares = &mut squares[..marked.len()];
        squares.fill(0.0);
        for column in columns.as_slice().chunks_exact(columns.nrows()) {
            let own = column[index];
            for (square, value) in squares.iter_mut().zip(&column[run * RUN..]) {
                *square += (value - own) * (value - own);
            }
        }
        for (squares, marked) in squares.chunks(LANES).zip(marked.chunks(LANES)) {
            for (lane, (square, marked)) in squares.iter().zip(marked).enumerate() {
                let distance = square.sqrt();
                sums[0][lane] += distance;
                sums[1][lane] += distance * marked;
            }
        }
    }
    sums.map(|sums| sums.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::Seeds;

    #[test]
    fn two_groups_on_a_line_are_told_apart() {
        let points = DMatrix::from_row_slice(1, 5, &[0.0, 10.0, 1.0, 11.0, 0.5]);
        let clusters = two_means(&points, 3, &mut Seeds::new(1).stream("test"));
        let first = clusters.assignment[0];
        assert_eq!(clusters.assignment, [first, 1 - first, first, 1 - first, first]);
        assert!((clusters.inertia - 1.0).abs() < 1e-12);
        assert_eq!(clusters.centres[1 - first][0], 10.5);
        // By hand: (10.5 - 0.75) / 10.5, (9.5 - 0.75) / 9.5, (10 - 0.5) / 10; (9.5 - 1) / 9.5, (10.5 - 1) / 10.5.
        let mean = (9.75 / 10.5 + 8.75 / 9.5 + 0.95 + 8.5 / 9.5 + 9.5 / 10.5) / 5.0;
        assert!((silhouette(&points, &clusters) - mean).abs() < 1e-12);
    }

    #[test]
    fn identical_points_are_one_cluster() {
        let points = DMatrix::zeros(2, 4);
        let clusters = two_means(&points, 2, &mut Seeds::new(1).stream("test"));
        assert_eq!((clusters.sizes(), silhouette(&points, &clusters)), ([4, 0], 0.0));
    }
}
