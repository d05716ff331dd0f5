//! Principal directions of the features of a class.

use nalgebra::{DMatrix, SymmetricEigen};
use theriac_core::Matrix;

use crate::DefenseError;

/// Variance below this share of the squared length of the features is rounding, not signal: features come in single
/// precision, where real differences have a share of 1e-14 or more.
const ROUNDING: f64 = 1e-20;

/// More sweeps than any covariance needs (about two per column); it keeps a damaged one from turning forever.
const SWEEPS_PER_COLUMN: usize = 100;

/// Where the samples at `members` lie along their first `count` principal directions, after subtracting their mean.
/// Directions without variance have coordinates of 0. The sign of a direction is arbitrary.
///
/// # Shapes
/// `[min(count, columns of features), members]`, stored sample by sample.
///
/// # Errors
/// When the eigenvalues do not converge.
pub(crate) fn principal_coordinates(
    features: &Matrix,
    members: &[usize],
    count: usize,
) -> Result<DMatrix<f64>, DefenseError> {
    let (columns, samples) = (features.columns(), members.len());
    let count = count.min(columns);
    let values = members.iter().flat_map(|&index| features.row(index)).map(|&value| f64::from(value));
    let mut centred = DMatrix::from_iterator(columns, samples, values); // [columns, members]
    let length = centred.norm_squared();
    let mean = centred.column_sum() / samples.max(1) as f64;
    centred.column_iter_mut().for_each(|mut column| column -= &mean);
    if centred.norm_squared() <= ROUNDING * length {
        return Ok(DMatrix::zeros(count, samples));
    }
    let scatter = &centred * centred.transpose(); // [columns, columns]
    let eigen = SymmetricEigen::try_new(scatter, f64::EPSILON, SWEEPS_PER_COLUMN * columns)
        .ok_or_else(|| DefenseError::Infeasible("the principal directions of a class did not converge".to_owned()))?;
    let mut order: Vec<usize> = (0..columns).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]).then(a.cmp(&b)));
    let directions = eigen.eigenvectors.select_columns(&order[..count]);
    Ok(directions.transpose() * centred)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_direction_carries_the_largest_variance() {
        // Points on the line (1, 2), two of them off by a little; a constant third column.
        let features = Matrix::new(3, vec![0.0, 0.0, 7.0, 1.0, 2.1, 7.0, 2.0, 3.9, 7.0, 3.0, 6.0, 7.0]);
        let coordinates = principal_coordinates(&features, &[0, 1, 2, 3], 5).unwrap();
        assert_eq!(coordinates.shape(), (3, 4));
        let variance = |row: usize| coordinates.row(row).norm_squared();
        assert!(variance(0) > 24.0 && variance(1) < 0.1 && variance(2) < 1e-20, "{coordinates}");
        let total: f64 = (0..3).map(variance).sum();
        assert!((total - (5.0 + 2.0 * 9.0 + 2.0 * 0.81)).abs() < 1e-5, "{total}");
    }

    #[test]
    fn identical_rows_have_no_direction() {
        let features = Matrix::new(2, [0.1, 0.7].repeat(33));
        let members: Vec<usize> = (0..33).collect();
        assert!(principal_coordinates(&features, &members, 1).unwrap().iter().all(|&value| value == 0.0));
        assert_eq!(principal_coordinates(&features, &[], 1).unwrap().shape(), (1, 0));
    }
}
