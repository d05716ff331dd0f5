//! Means, covariances and principal directions of features, in double precision.

use nalgebra::{DMatrix, DVector, DVectorView, SymmetricEigen};
use theriac_core::seed::Stream;
use theriac_core::{Matrix, Seeds};

use crate::DefenseError;

/// Variance below this share of the squared length of the features is rounding, not signal: features come in single
/// precision, where real differences have a share of 1e-14 or more.
const ROUNDING: f64 = 1e-20;

/// More sweeps than any symmetric matrix needs (about two per column); it keeps a damaged one from turning forever.
const SWEEPS_PER_COLUMN: usize = 100;

/// Up to so many columns, all eigenvectors are computed at once.
const FEW: usize = 64;

/// Columns that are multiplied at a time, where only half of the products are needed.
const STRIP: usize = 128;

/// An eigenvector is found when applying the matrix leaves it but for this share of the largest eigenvalue.
const RESIDUAL: f64 = 1e-14;

/// The rows of `points` less their mean.
///
/// # Shapes
/// `[columns of points, rows of points]`, stored row by row of `points`.
pub(crate) fn deviations(points: &Matrix) -> DMatrix<f64> {
    let values = points.values().iter().map(|&value| f64::from(value));
    let mut deviations = DMatrix::from_iterator(points.columns(), points.rows(), values);
    let mean = deviations.column_sum() / points.rows().max(1) as f64;
    deviations.column_iter_mut().for_each(|mut column| column -= &mean);
    deviations
}

/// The products of all pairs of rows: `[rows, rows]`.
fn scatter(deviations: &DMatrix<f64>) -> DMatrix<f64> {
    let size = deviations.nrows();
    let transposed = deviations.transpose();
    let mut scatter = DMatrix::zeros(size, size);
    for left in (0..size).step_by(STRIP) {
        let width = STRIP.min(size - left);
        let below = deviations.rows(left, size - left);
        let products = below * transposed.columns(left, width); // [size - left, width]
        scatter.view_mut((left, left), products.shape()).copy_from(&products);
    }
    scatter.fill_upper_triangle_with_lower_triangle();
    scatter
}

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
    let count = count.min(features.columns());
    let points = features.select(members);
    let length: f64 = points.values().iter().map(|&value| f64::from(value).powi(2)).sum();
    let centred = deviations(&points); // [columns, members]
    if centred.norm_squared() <= ROUNDING * length {
        return Ok(DMatrix::zeros(count, members.len()));
    }
    let directions = leading_eigenvectors(&scatter(&centred), count)
        .ok_or_else(|| DefenseError::Infeasible("the principal directions of a class did not converge".to_owned()))?;
    Ok(directions.tr_mul(&centred))
}

/// The eigenvectors of the `count` largest eigenvalues of a symmetric matrix without negative ones: `[size, count]`.
fn leading_eigenvectors(matrix: &DMatrix<f64>, count: usize) -> Option<DMatrix<f64>> {
    if matrix.nrows() <= FEW { Some(eigen(matrix.clone(), count)?.1) } else { lanczos(matrix, count) }
}

/// The `count` largest eigenvalues of a symmetric matrix in descending order, and their eigenvectors.
fn eigen(matrix: DMatrix<f64>, count: usize) -> Option<(Vec<f64>, DMatrix<f64>)> {
    let size = matrix.nrows();
    let eigen = SymmetricEigen::try_new(matrix, f64::EPSILON, SWEEPS_PER_COLUMN * size)?;
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]).then(a.cmp(&b)));
    order.truncate(count);
    Some((order.iter().map(|&at| eigen.eigenvalues[at]).collect(), eigen.eigenvectors.select_columns(&order)))
}

/// Lanczos's iteration (1950): in the space that the matrix spans from a random vector, it is tridiagonal, and the
/// largest eigenvalues of that small matrix soon are its own. Each vector is made orthogonal to all before it, twice, so
/// that rounding does not bring found ones back.
fn lanczos(matrix: &DMatrix<f64>, count: usize) -> Option<DMatrix<f64>> {
    let size = matrix.nrows();
    let mut stream = Seeds::new(0).stream("linear-algebra/lanczos");
    let mut basis: Vec<f64> = Vec::new(); // [vectors so far, size]
    let (mut diagonal, mut beside): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next = orthogonal(&basis, random(size, &mut stream));
    let mut check = (2 * count + 20).min(size);
    loop {
        let length = next.norm();
        basis.extend((next / length).iter());
        let last = DVectorView::from_slice(&basis[basis.len() - size..], size);
        let image = matrix * last;
        diagonal.push(last.dot(&image));
        next = orthogonal(&basis, image);
        let mut coupling = next.norm();
        let largest = diagonal.iter().copied().fold(0.0, f64::max);
        let is_whole = diagonal.len() == size;
        if coupling <= f64::EPSILON * largest {
            // This space is the matrix's own; what lies beyond it starts from another vector.
            coupling = 0.0;
            next = orthogonal(&basis, random(size, &mut stream));
        }
        if diagonal.len() >= check || is_whole {
            let (values, vectors) = eigen(tridiagonal(&diagonal, &beside), count)?;
            let end = vectors.row(diagonal.len() - 1);
            if is_whole || end.iter().all(|end| coupling * end.abs() <= RESIDUAL * values[0]) {
                return Some(DMatrix::from_column_slice(size, diagonal.len(), &basis) * vectors);
            }
            check = (check * 3 / 2).min(size);
        }
        beside.push(coupling);
    }
}

fn tridiagonal(diagonal: &[f64], beside: &[f64]) -> DMatrix<f64> {
    DMatrix::from_fn(diagonal.len(), diagonal.len(), |row, column| match row.abs_diff(column) {
        0 => diagonal[row],
        1 => beside[row.min(column)],
        _ => 0.0,
    })
}

fn random(size: usize, stream: &mut Stream) -> DVector<f64> {
    DVector::from_fn(size, |_, _| stream.normal())
}

/// What is left of `vector` beside the directions of an orthonormal basis, `[vectors, size]`.
fn orthogonal(basis: &[f64], mut vector: DVector<f64>) -> DVector<f64> {
    let size = vector.len();
    let basis = nalgebra::DMatrixView::from_slice(basis, size, basis.len() / size);
    for _ in 0..2 {
        let along = basis.tr_mul(&vector);
        vector.gemv(-1.0, &basis, &along, 1.0);
    }
    vector
}

/// The inverse of the covariance of `deviations` (each `[columns, samples]`), which is shrunk towards a multiple of the
/// identity as far as the number of samples demands: Olivier Ledoit, Michael Wolf, "A Well-Conditioned Estimator for
/// Large-Dimensional Covariance Matrices", 2004. Zeros where nothing varies.
///
/// # Errors
/// When the covariance has no inverse all the same.
pub(crate) fn shrunk_precision(deviations: &[DMatrix<f64>]) -> Result<DMatrix<f64>, DefenseError> {
    let columns = deviations.first().map_or(0, DMatrix::nrows);
    let samples = deviations.iter().map(DMatrix::ncols).sum::<usize>().max(1) as f64;
    let mut covariance = DMatrix::zeros(columns, columns);
    deviations.iter().for_each(|part| covariance += scatter(part));
    covariance /= samples;
    let size = columns.max(1) as f64;
    let mean = covariance.trace() / size;
    if mean <= 0.0 {
        return Ok(covariance);
    }
    // How far the covariance is from the target, and how far from itself in another draw of the samples.
    let dispersion = covariance.norm_squared() / size - mean * mean;
    let lengths = deviations.iter().flat_map(|part| part.column_iter().map(|column| column.norm_squared().powi(2)));
    let error = (lengths.sum::<f64>() / samples - covariance.norm_squared()) / (size * samples);
    let shrinkage = if dispersion > 0.0 { (error / dispersion).clamp(0.0, 1.0) } else { 0.0 };
    let mut shrunk = covariance * (1.0 - shrinkage);
    (0..columns).for_each(|at| shrunk[(at, at)] += shrinkage * mean);
    let factors = shrunk.cholesky();
    let singular = || DefenseError::Infeasible("the covariance has no inverse".to_owned());
    Ok(factors.ok_or_else(singular)?.inverse())
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

    #[test]
    fn lanczos_finds_what_a_whole_decomposition_finds() {
        let mut stream = Seeds::new(3).stream("matrix");
        // Noise, whose eigenvalues lie close together; a few strong directions over dead columns; one direction only.
        let noise = DMatrix::from_fn(150, 400, |_, _| stream.normal());
        let strong =
            DMatrix::from_fn(150, 400, |row, _| if row < 90 { stream.normal() * 0.8f64.powi(row as i32) } else { 0.0 });
        let single = DMatrix::from_fn(150, 1, |row, _| row as f64);
        for (name, part) in [("noise", noise), ("strong", strong), ("single", single)] {
            let matrix = scatter(&part);
            assert!((&matrix - &part * part.transpose()).norm() <= 1e-12 * matrix.norm());
            for count in [1, 10] {
                let (values, expected) = eigen(matrix.clone(), count).unwrap();
                let found = lanczos(&matrix, count).unwrap();
                assert!((found.tr_mul(&found) - DMatrix::identity(count, count)).norm() < 1e-12, "{name}");
                for at in (0..count).filter(|&at| values[at] > 1e-9 * values[0]) {
                    let along = found.column(at).dot(&expected.column(at)).abs();
                    assert!((along - 1.0).abs() < 1e-10, "{name} {at} of {count}: {along}");
                }
            }
        }
    }
}
