//! Exact nearest neighbours by angle, block by block.

use nalgebra::DMatrix;
use rayon::prelude::*;
use theriac_core::Matrix;

/// Similarities that a block holds at a time: 16 MiB.
const BLOCK_VALUES: usize = 1 << 22;

/// Calls `answer(row, neighbours)` for each row of `features`, with the `k` other rows that are nearest to it, in
/// ascending order, or all others if there are fewer. Near means a small Euclidean distance after each row is scaled
/// to length 1; of rows that are equally near, the earlier one is taken. Rows of zeros stay zero. All features must
/// be finite.
///
/// Memory: two copies of the features and one block of similarities a thread. The blocks depend on the size of the
/// data alone, so the number of threads does not change any bit.
pub(crate) fn map_neighbours<T: Send>(
    features: &Matrix,
    k: usize,
    answer: impl Fn(usize, &[usize]) -> T + Sync,
) -> Vec<T> {
    let rows = features.rows();
    let units = DMatrix::from_iterator(features.columns(), rows, features.iter().flat_map(unit)); // [columns, rows]
    let transposed = units.transpose(); // [rows, columns]
    let zeros: Vec<usize> = (0..rows).filter(|&row| units.column(row).iter().all(|&value| value == 0.0)).collect();
    let block = (BLOCK_VALUES / rows.max(1)).clamp(8, 256);
    let starts: Vec<usize> = (0..rows).step_by(block).collect();
    let answers = starts.into_par_iter().flat_map_iter(|start| {
        // |a - b|^2 = 2 - 2 a.b for rows of length 1: the largest product is the smallest distance. A row of zeros is 1
        // from each of those, and its product of 0 would stand for 2; one half more is its due. What it is compared
        // with, be it zeros too, needs no more: a constant for the whole column changes no order.
        let mut similarities = &transposed * units.columns(start, block.min(rows - start)); // [rows, block]
        similarities.column_iter_mut().for_each(|mut column| zeros.iter().for_each(|&row| column[row] += 0.5));
        let answer_one = |(at, column): (usize, &[f32])| answer(start + at, &largest(column, start + at, k));
        similarities.as_slice().chunks_exact(rows).enumerate().map(answer_one).collect::<Vec<T>>()
    });
    answers.collect()
}

/// The row scaled to length 1.
fn unit(row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    row.iter().map(|&value| (f64::from(value) * scale) as f32).collect()
}

/// The indices of the `k` largest values, ascending, without `own`; the earlier one on ties.
fn largest(values: &[f32], own: usize, k: usize) -> Vec<usize> {
    let mut kept: Vec<(f32, usize)> = Vec::new();
    let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let capacity = 2 * k + 64;
    let mut bar = f32::NEG_INFINITY;
    for (index, &value) in values.iter().enumerate() {
        // Once the bar is set, k earlier rows reach it: a later one that only equals it loses the tie.
        if value > bar && index != own {
            kept.push((value + 0.0, index)); // + 0.0: -0.0 must tie with 0.0
            if kept.len() == capacity && k > 0 {
                kept.select_nth_unstable_by(k - 1, order);
                kept.truncate(k);
                bar = kept[k - 1].0;
            }
        }
    }
    if k < kept.len() {
        kept.select_nth_unstable_by(k, order);
        kept.truncate(k);
    }
    let mut indices: Vec<usize> = kept.into_iter().map(|(_, index)| index).collect();
    indices.sort_unstable();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::Seeds;

    fn random(rows: usize, columns: usize) -> Matrix {
        let mut stream = Seeds::new(5).stream("rows");
        Matrix::new(columns, (0..rows * columns).map(|_| stream.normal() as f32).collect())
    }

    #[test]
    fn the_nearest_are_those_of_a_plain_search() {
        let features = random(300, 7);
        let units: Vec<Vec<f32>> = features.iter().map(unit).collect();
        let found = map_neighbours(&features, 20, |_, neighbours| neighbours.to_vec());
        for (row, found) in found.iter().enumerate() {
            let distance = |other: &usize| -> f64 {
                units[row].iter().zip(&units[*other]).map(|(a, b)| f64::from(a - b).powi(2)).sum()
            };
            let mut others: Vec<usize> = (0..300).filter(|&other| other != row).collect();
            others.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
            others.truncate(20);
            others.sort_unstable();
            assert_eq!(found, &others, "row {row}");
        }
    }

    #[test]
    fn a_row_of_zeros_is_nearer_than_one_at_a_wide_angle() {
        // Angles to the first row: 30, none (zeros), 90, 180 and none (zeros).
        let features = Matrix::new(2, vec![5.0, 0.0, 0.9, 0.5, 0.0, 0.0, 0.0, 2.0, -3.0, 0.0, 0.0, -0.0]);
        let found = map_neighbours(&features, 3, |_, neighbours| neighbours.to_vec());
        assert_eq!(found[0], [1, 2, 5]);
        // Zeros are nearest to zeros, and equally far from all others.
        assert_eq!((&found[2], &found[5]), (&vec![0, 1, 5], &vec![0, 1, 2]));
        assert_eq!(found[4], [2, 3, 5]);
    }

    #[test]
    fn ties_go_to_the_earlier_row_however_many_there_are() {
        let same = Matrix::new(1, vec![1.0; 400]);
        let found = map_neighbours(&same, 3, |_, neighbours| neighbours.to_vec());
        assert_eq!((&found[0][..], &found[399][..]), (&[1, 2, 3][..], &[0, 1, 2][..]));
        let zeros = Matrix::new(2, vec![0.0; 6]);
        assert_eq!(map_neighbours(&zeros, 9, |_, neighbours| neighbours.len()), [2, 2, 2]);
        assert_eq!(map_neighbours(&zeros, 0, |_, neighbours| neighbours.len()), [0, 0, 0]);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let features = random(700, 5);
        let run = || map_neighbours(&features, 9, |_, neighbours| neighbours.to_vec());
        let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let several = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(single.install(run), several.install(run));
    }

    /// `cargo test --release -p theriac-defenses -- --ignored speed --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn speed_of_8000_rows_of_128() {
        let features = random(8000, 128);
        let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let begin = std::time::Instant::now();
        single.install(|| map_neighbours(&features, 50, |_, neighbours| neighbours.len()));
        println!("{:?}", begin.elapsed());
    }
}
