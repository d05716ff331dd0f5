//! A plain matrix of single-precision numbers, for features, logits and probabilities that leave a network.

/// Row-major, `[rows, columns]`; one row a sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// Takes `values`, row by row.
    ///
    /// # Panics
    /// When `values` is not a whole number of rows.
    pub fn new(columns: usize, values: Vec<f32>) -> Self {
        assert!(
            columns > 0 && values.len().is_multiple_of(columns),
            "{} values are no whole rows of {columns}",
            values.len()
        );
        Self { columns, values }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..][..self.columns]
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns.max(1))
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The rows at `indices`, in that order.
    pub fn select(&self, indices: &[usize]) -> Self {
        let values = indices.iter().flat_map(|&index| self.row(index)).copied().collect();
        Self { columns: self.columns, values }
    }

    /// The column of the largest value of each row; the first one on ties. Nothing is larger than a NaN and a NaN is larger than nothing:
    /// one in the first column wins, one in any other column loses.
    pub fn argmax(&self) -> Vec<u16> {
        let largest = |row: &[f32]| (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best });
        self.iter().map(|row| largest(row) as u16).collect()
    }

    /// The softmax of each row.
    pub fn softmax(&self) -> Self {
        let mut values = self.values.clone();
        for row in values.chunks_exact_mut(self.columns.max(1)) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|value| *value = (*value - largest).exp());
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|value| *value /= sum);
        }
        Self { columns: self.columns, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_argmax_and_softmax() {
        let matrix = Matrix::new(2, vec![0.0, 3.0f32.ln(), 5.0, 5.0]);
        assert_eq!((matrix.rows(), matrix.row(1)), (2, &[5.0, 5.0][..]));
        assert_eq!(matrix.argmax(), [1, 0]);
        let soft = matrix.softmax();
        assert!((soft.row(0)[1] - 0.75).abs() < 1e-6);
        assert_eq!(matrix.select(&[1]).values(), [5.0, 5.0]);
        assert_eq!(Matrix::new(3, vec![f32::NAN, 1.0, 2.0, 1.0, f32::NAN, 2.0]).argmax(), [0, 2]);
    }
}
