//! Exact nearest neighbours, block by block.

use rayon::prelude::*;
use theriac_core::Matrix;
use theriac_kernels::Cpu;
use theriac_kernels::conv::products::Rows;

/// Points that are compared with all others at a time.
const BLOCK: usize = 1024;
/// Rows that a task compares with them: what it writes should stay in the second-level cache.
const TASK: usize = 96;
/// So many more candidates than neighbours are kept, because single precision may confuse those that are about equally near.
const SPARE: usize = 16;
/// Similarities that are looked at together: mostly none of them is large enough.
const GLANCE: usize = 32;

/// Another row, and how far away it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neighbour {
    pub index: usize,
    pub distance: f64,
}

/// Calls `answer(row, neighbours)` for each row of `points`, with the `k` other rows that are nearest to it by
/// Euclidean distance, or all others if there are fewer. The nearest comes first; of rows that are equally near, the
/// earlier one. All values must be finite.
///
/// Candidates are found by products in single precision, and ranked by distances in double precision. Memory: a few
/// copies of a block of points, and `2 k + 96` candidates a row. The number of threads does not change any bit.
pub(crate) fn map_neighbours<T: Send>(
    points: &Matrix,
    k: usize,
    answer: impl Fn(usize, &[Neighbour]) -> T + Sync,
) -> Vec<T> {
    let (rows, columns) = (points.rows(), points.columns());
    if rows == 0 {
        return Vec::new();
    }
    // Distances are the same around any point and in any unit; products of small numbers lose the least.
    let middle = means(points);
    let deviations = |row: &[f32]| row.iter().zip(&middle).map(|(value, mean)| value - mean).collect::<Vec<f32>>();
    let largest = points.iter().flat_map(deviations).fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let centred = |values: &[f32]| -> Vec<f32> {
        let rows = values.chunks_exact(columns).flat_map(deviations);
        rows.map(|deviation| deviation / largest).collect()
    };
    let mut found = vec![Nearest::new(k.min(rows) + SPARE); rows];
    for (number, block) in points.values().chunks(BLOCK * columns).enumerate() {
        let block = centred(block);
        // |a - b|^2 = |a|^2 - 2 (a.b - |b|^2 / 2): the largest of these similarities is the smallest distance.
        let half_squares: Vec<f32> = block.chunks_exact(columns).map(|row| -squared(row) / 2.0).collect();
        let packed = Rows::new(Cpu::best(), &block, columns);
        let tasks = found.par_chunks_mut(TASK).zip(points.values().par_chunks(TASK * columns)).enumerate();
        tasks.for_each_init(Vec::new, |similarities, (task, (found, values))| {
            similarities.resize(found.len() * packed.len(), 0.0);
            packed.products(&centred(values), Some(&half_squares), similarities);
            let rows = similarities.chunks_exact(packed.len()).enumerate();
            rows.zip(found).for_each(|((at, row), found)| found.see(row, number * BLOCK, task * TASK + at));
        });
    }
    let ranked = |(row, mut found): (usize, Nearest)| {
        found.select();
        let own = points.row(row);
        let mut ranked: Vec<Neighbour> = found
            .kept
            .iter()
            .map(|&(_, index)| Neighbour { index, distance: distance(own, points.row(index)) })
            .collect();
        ranked.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.index.cmp(&b.index)));
        ranked.truncate(k);
        answer(row, &ranked)
    };
    found.into_par_iter().enumerate().map(ranked).collect()
}

/// Each row scaled to length 1; rows of zeros stay zero.
pub(crate) fn unit_rows(points: &Matrix) -> Matrix {
    if points.rows() == 0 {
        return points.clone();
    }
    let values = points.iter().flat_map(|row| {
        let length = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        row.iter().map(move |&value| (f64::from(value) * scale) as f32)
    });
    Matrix::new(points.columns(), values.collect())
}

/// The mean of each column.
fn means(points: &Matrix) -> Vec<f32> {
    let mut sums = vec![0.0; points.columns()];
    points.iter().for_each(|row| sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value)));
    sums.iter().map(|sum| (sum / points.rows() as f64) as f32).collect()
}

fn squared(row: &[f32]) -> f32 {
    row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() as f32
}

/// The Euclidean distance of two rows.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    // Eight sums side by side, which fit into vectors.
    let mut sums = [0.0; 8];
    let mut add = |a: &[f32], b: &[f32]| {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            let difference = f64::from(a) - f64::from(b);
            *sum += difference * difference;
        }
    };
    let (eights, others) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = (eights.remainder(), others.remainder());
    eights.zip(others).for_each(|(a, b)| add(a, b));
    add(rest.0, rest.1);
    sums.iter().sum::<f64>().sqrt()
}

/// The most similar rows that one row has seen.
#[derive(Clone)]
struct Nearest {
    /// Similarity and index.
    kept: Vec<(f32, usize)>,
    /// So many are wanted.
    count: usize,
    /// What a row must exceed. So many earlier ones reach it that one which only equals it loses the tie.
    bar: f32,
}

impl Nearest {
    fn new(count: usize) -> Self {
        Self { kept: Vec::new(), count, bar: f32::NEG_INFINITY }
    }

    /// Sees the similarities to the rows from number `first` on. `own` is the row that sees them, and no neighbour of
    /// its own.
    fn see(&mut self, similarities: &[f32], first: usize, own: usize) {
        for (glance, values) in similarities.chunks(GLANCE).enumerate() {
            let most = values.iter().fold(f32::NEG_INFINITY, |most, &value| if value > most { value } else { most });
            if most <= self.bar {
                continue;
            }
            for (at, &value) in values.iter().enumerate() {
                let index = first + glance * GLANCE + at;
                if value > self.bar && index != own {
                    self.kept.push((value + 0.0, index)); // + 0.0: -0.0 must tie with 0.0
                    if self.kept.len() == 2 * self.count + 64 {
                        self.select();
                    }
                }
            }
        }
    }

    /// Keeps as many as are wanted.
    fn select(&mut self) {
        if self.kept.len() > self.count {
            let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            self.kept.select_nth_unstable_by(self.count - 1, order);
            self.kept.truncate(self.count);
            self.bar = self.kept[self.count - 1].0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::Seeds;

    fn random(rows: usize, columns: usize) -> Matrix {
        let mut stream = Seeds::new(5).stream("rows");
        Matrix::new(columns, (0..rows * columns).map(|_| stream.normal() as f32).collect())
    }

    fn indices(points: &Matrix, k: usize) -> Vec<Vec<usize>> {
        map_neighbours(points, k, |_, neighbours| neighbours.iter().map(|neighbour| neighbour.index).collect())
    }

    #[test]
    fn the_nearest_are_those_of_a_plain_search() {
        // Far from the origin, where squares of single precision are coarse.
        for (rows, shift) in [(300, 0.0), (1200, 100.0)] {
            let points = random(rows, 7);
            let points = Matrix::new(7, points.values().iter().map(|value| value + shift).collect());
            let found = map_neighbours(&points, 20, |_, neighbours| neighbours.to_vec());
            for (row, found) in found.iter().enumerate() {
                let away = |index: usize| -> f64 {
                    let pairs = points.row(row).iter().zip(points.row(index));
                    pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
                };
                let mut others: Vec<usize> = (0..rows).filter(|&other| other != row).collect();
                others.sort_by(|&a, &b| away(a).total_cmp(&away(b)));
                assert!(found.iter().map(|neighbour| neighbour.index).eq(others[..20].iter().copied()), "row {row}");
                assert!(found.iter().all(|near| (near.distance - away(near.index)).abs() < 1e-12));
            }
        }
    }

    #[test]
    fn a_row_of_zeros_is_nearer_than_one_at_a_wide_angle() {
        // Angles to the first row: 30, none (zeros), 90, 180 and none (zeros).
        let features = Matrix::new(2, vec![5.0, 0.0, 0.9, 0.5, 0.0, 0.0, 0.0, 2.0, -3.0, 0.0, 0.0, -0.0]);
        let found = indices(&unit_rows(&features), 3);
        assert_eq!(found[0], [1, 2, 5]);
        // Zeros are nearest to zeros.
        assert_eq!((found[2][0], found[5][0]), (5, 2));
        assert_eq!(found[4], [2, 5, 3]);
    }

    #[test]
    fn ties_go_to_the_earlier_row_however_many_there_are() {
        let same = Matrix::new(1, vec![1.0; 2500]);
        let found = indices(&same, 3);
        assert_eq!((&found[0][..], &found[2499][..]), (&[1, 2, 3][..], &[0, 1, 2][..]));
        let zeros = Matrix::new(2, vec![0.0; 6]);
        assert_eq!(map_neighbours(&zeros, 9, |_, neighbours| neighbours.len()), [2, 2, 2]);
        assert_eq!(map_neighbours(&zeros, 0, |_, neighbours| neighbours.len()), [0, 0, 0]);
        assert!(indices(&Matrix::default(), 3).is_empty());
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let points = random(2100, 5);
        let run = || map_neighbours(&points, 9, |_, neighbours| neighbours.to_vec());
        let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let several = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(single.install(run), several.install(run));
    }
}
