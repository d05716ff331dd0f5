//! `summary.csv`: one row for each group of equal cells and each metric.

use std::collections::BTreeSet;

use serde::Serialize;
use theriac_core::record::{CellRecord, MethodRecord};

use crate::ReportError;
use crate::group::groups;
use crate::rows::{self, PART_COLUMNS, number, part_values};
use crate::spread::Spread;

/// One metric of one group of cells that differ by seed only.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The experiment's name.
    pub experiment: String,
    /// The data set.
    pub dataset: MethodRecord,
    /// The network.
    pub model: MethodRecord,
    /// The training recipe.
    pub train: MethodRecord,
    /// The attack.
    pub attack: MethodRecord,
    /// The defense.
    pub defense: MethodRecord,
    /// The metric's standard name.
    pub metric: String,
    /// Its value over seeds.
    pub spread: Spread,
}

/// Summarises `cells` over seeds, in their order. Cells that failed or diverged have no part in it.
pub fn summarise(cells: &[CellRecord]) -> Vec<Summary> {
    let mut rows = Vec::new();
    for group in groups(cells) {
        let names: BTreeSet<&String> = group.ok().flat_map(|cell| cell.metrics.keys()).collect();
        for metric in names {
            let Some(spread) = group.spread(metric) else { continue };
            let first = group.first();
            rows.push(Summary {
                experiment: first.experiment.clone(),
                dataset: first.dataset.clone(),
                model: first.model.clone(),
                train: first.train.clone(),
                attack: first.attack.clone(),
                defense: first.defense.clone(),
                metric: metric.clone(),
                spread,
            });
        }
    }
    rows
}

const NUMBERS: [&str; 8] = ["metric", "mean", "ci_low", "ci_high", "n", "sd", "min", "max"];

/// The rows as CSV. Intervals are not clipped to what the metric can reach; absent numbers are empty.
///
/// # Errors
/// When the CSV writer fails.
pub fn csv(rows: &[Summary]) -> Result<Vec<u8>, ReportError> {
    let header = ["experiment"].into_iter().chain(PART_COLUMNS).chain(NUMBERS);
    let row = |row: &Summary| {
        let spread = &row.spread;
        let (low, high) = spread.interval.unzip();
        let mut values = vec![row.experiment.clone()];
        values.extend(part_values(|part| match part {
            "dataset" => Some(&row.dataset),
            "model" => Some(&row.model),
            "train" => Some(&row.train),
            "attack" => Some(&row.attack),
            _ => Some(&row.defense),
        }));
        values.extend([
            row.metric.clone(),
            number(Some(spread.mean)),
            number(low),
            number(high),
            spread.n.to_string(),
            number(spread.deviation),
            number(Some(spread.min)),
            number(Some(spread.max)),
        ]);
        values
    };
    rows::csv(header, rows.iter().map(row))
}
