//! `summary.csv`: one row for each group of equal cells and each metric.

use std::collections::BTreeSet;

use theriac_core::Values;
use theriac_core::record::{CellRecord, MethodRecord};

use crate::ReportError;
use crate::group::groups;
use crate::spread::Spread;

/// One metric of one group of cells that differ by seed only.
#[derive(Clone, Debug, PartialEq)]
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

/// Summarises `cells` over seeds, in their order. Failed cells have no metrics and hence no part in it.
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

const HEADER: [&str; 18] = [
    "experiment",
    "dataset",
    "dataset_params",
    "model",
    "model_params",
    "train_params",
    "attack",
    "attack_params",
    "defense",
    "defense_params",
    "metric",
    "mean",
    "ci_low",
    "ci_high",
    "n",
    "sd",
    "min",
    "max",
];

/// The rows as CSV. Intervals are not clipped to what the metric can reach; absent numbers are empty.
///
/// # Errors
/// When the CSV writer fails.
pub fn csv(rows: &[Summary]) -> Result<Vec<u8>, ReportError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER)?;
    for row in rows {
        let spread = &row.spread;
        let (low, high) = spread.interval.unzip();
        writer.write_record([
            row.experiment.clone(),
            row.dataset.name.clone(),
            json(&row.dataset.params),
            row.model.name.clone(),
            json(&row.model.params),
            json(&row.train.params),
            row.attack.name.clone(),
            json(&row.attack.params),
            row.defense.name.clone(),
            json(&row.defense.params),
            row.metric.clone(),
            number(Some(spread.mean)),
            number(low),
            number(high),
            spread.n.to_string(),
            number(spread.deviation),
            number(Some(spread.min)),
            number(Some(spread.max)),
        ])?;
    }
    writer.into_inner().map_err(|error| ReportError::Csv(csv::Error::from(error.into_error())))
}

fn json(values: &Values) -> String {
    serde_json::to_string(values).expect("plain data serialises to JSON")
}

fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
