//! Two-means clustering (Lloyd's iterations, k-means++ starts) and its silhouette.

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use theriac_core::seed::Stream;

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
    let mut best = lloyd(points, start(points, stream));
    for _ in 1..restarts {
        let run = lloyd(points, start(points, stream));
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
    let distances: Vec<f64> = points.column_iter().map(|point| (point - &first).norm_squared()).collect();
    let mut left = stream.uniform() * distances.iter().sum::<f64>();
    let mut second = 0;
    for (index, &distance) in distances.iter().enumerate().filter(|(_, distance)| **distance > 0.0) {
        second = index;
        left -= distance;
        if left < 0.0 {
            break;
        }
    }
    [first, points.column(second).into_owned()]
}

fn lloyd(points: &DMatrix<f64>, mut centres: [DVector<f64>; 2]) -> Clusters {
    let mut assignment = Vec::new();
    for _ in 0..ITERATIONS {
        let nearest = |distances: [f64; 2]| usize::from(distances[1] < distances[0]);
        let moved: Vec<usize> = distances(points, &centres).map(nearest).collect();
        if moved == assignment {
            break;
        }
        assignment = moved;
        for (cluster, centre) in centres.iter_mut().enumerate() {
            let members: Vec<usize> = (0..assignment.len()).filter(|&index| assignment[index] == cluster).collect();
            // An emptied cluster keeps its centre and may win points back.
            if !members.is_empty() {
                *centre = points.select_columns(&members).column_mean();
            }
        }
    }
    let own = distances(points, &centres).zip(&assignment).map(|(distances, &cluster)| distances[cluster]);
    Clusters { inertia: own.sum(), assignment, centres }
}

/// The squared distances of each point to both centres.
pub(crate) fn distances<'a>(
    points: &'a DMatrix<f64>,
    centres: &'a [DVector<f64>; 2],
) -> impl Iterator<Item = [f64; 2]> + 'a {
    let squared = |a: &[f64], b: &DVector<f64>| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let columns = points.as_slice().chunks_exact(points.nrows().max(1));
    columns.map(move |point| [squared(point, &centres[0]), squared(point, &centres[1])])
}

/// The mean silhouette (Rousseeuw 1987): (b - a) / max(a, b), with a the mean distance of a point to the others of
/// its cluster and b that to the points of the other cluster; 0 for a point alone in its cluster. 0 if there is only
/// one cluster.
pub(crate) fn silhouette(points: &DMatrix<f64>, clusters: &Clusters) -> f64 {
    let sizes = clusters.sizes();
    let samples = clusters.assignment.len();
    if sizes.contains(&0) {
        return 0.0;
    }
    let rows: Vec<&[f64]> = points.as_slice().chunks_exact(points.nrows()).collect();
    let one = |index: usize| {
        let own = clusters.assignment[index];
        if sizes[own] == 1 {
            return 0.0;
        }
        let mut sums = [0.0; 2];
        for (row, &cluster) in rows.iter().zip(&clusters.assignment) {
            let squared: f64 = row.iter().zip(rows[index]).map(|(a, b)| (a - b) * (a - b)).sum();
            sums[cluster] += squared.sqrt();
        }
        let (a, b) = (sums[own] / (sizes[own] - 1) as f64, sums[1 - own] / sizes[1 - own] as f64);
        let largest = a.max(b);
        if largest > 0.0 { (b - a) / largest } else { 0.0 }
    };
    // Collected before it is summed: the order of the sum must not depend on threads.
    let values: Vec<f64> = (0..samples).into_par_iter().map(one).collect();
    values.iter().sum::<f64>() / samples as f64
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
