//! Products of the rows of one matrix with the rows of others: a convolution whose kernel is one pixel.

use super::direct::{Added, Correlation};
use super::shape::Conv;
use crate::cpu::Cpu;
use crate::memory::Out;

/// Rows that are packed once, to be multiplied with many others.
pub struct Rows {
    plan: Correlation,
    count: usize,
    columns: usize,
}

impl Rows {
    /// Packs `values`, `[rows, columns]`.
    ///
    /// # Panics
    /// When `values` is not a whole number of rows, or none.
    pub fn new(cpu: Cpu, values: &[f32], columns: usize) -> Self {
        assert!(columns > 0 && !values.is_empty() && values.len().is_multiple_of(columns), "whole rows");
        let count = values.len() / columns;
        // As many pixels of one image each as there may be.
        let sizes = Conv {
            batch: usize::MAX,
            height: 1,
            width: 1,
            inputs: columns,
            outputs: count,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
        };
        Self { plan: Correlation::forward(cpu.fitting(count), &sizes, values), count, columns }
    }

    /// Number of rows.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Writes the product of each of `others`, `[others, columns]`, with each row, plus what `added` has for that row: `[others, rows]`. Works
    /// on this thread alone. Each product is added up in the order of the columns, so equal rows give equal bits.
    ///
    /// # Panics
    /// When the sizes do not fit.
    pub fn products(&self, others: &[f32], added: Option<&[f32]>, out: &mut [f32]) {
        assert!(others.len().is_multiple_of(self.columns), "whole rows");
        assert!(added.is_none_or(|added| added.len() == self.count), "one number a row");
        let added = Added { bias: added, add: None };
        self.plan.some(others.len() / self.columns, others, added, &Out::new(out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition_on_every_instruction_set() {
        for (count, others, columns) in [(1, 1, 1), (5, 3, 7), (33, 98, 20), (70, 200, 130)] {
            let number = |at: usize| ((at * 7919 + 13) % 101) as f32 / 50.0 - 1.0;
            let rows: Vec<f32> = (0..count * columns).map(number).collect();
            let left: Vec<f32> = (0..others * columns).map(|at| number(at + 5)).collect();
            let added: Vec<f32> = (0..count).map(|at| at as f32).collect();
            for cpu in Cpu::all() {
                let packed = Rows::new(cpu, &rows, columns);
                let mut found = vec![f32::NAN; others * count];
                packed.products(&left, Some(&added), &mut found);
                for (at, &found) in found.iter().enumerate() {
                    let (a, b) = (&left[at / count * columns..][..columns], &rows[at % count * columns..][..columns]);
                    let product: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    let expected = product + f64::from(added[at % count]);
                    assert!((f64::from(found) - expected).abs() < 1e-4, "{cpu:?} {count} {others} {columns} {at}");
                }
                packed.products(&[], None, &mut []);
            }
        }
    }
}
