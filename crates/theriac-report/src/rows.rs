//! What all tables for other programs have in common.

use theriac_core::Values;
use theriac_core::record::{CellRecord, MethodRecord};

use crate::ReportError;

/// What a cell is made of, by name and in order, beside its experiment and its seed.
pub fn parts(cell: &CellRecord) -> [(&'static str, &MethodRecord); 5] {
    [
        ("dataset", &cell.dataset),
        ("model", &cell.model),
        ("train", &cell.train),
        ("attack", &cell.attack),
        ("defense", &cell.defense),
    ]
}

/// The names of the columns that hold [`parts`]: a name and its parameters, but for the recipe, of which there is only one.
pub const PART_COLUMNS: [&str; 9] = [
    "dataset",
    "dataset_params",
    "model",
    "model_params",
    "train_params",
    "attack",
    "attack_params",
    "defense",
    "defense_params",
];

/// The values of [`PART_COLUMNS`], empty for a part that is not there.
pub fn part_values<'a>(part: impl Fn(&str) -> Option<&'a MethodRecord>) -> Vec<String> {
    let value = |column: &&str| {
        let (name, params) = column.strip_suffix("_params").map_or((*column, false), |name| (name, true));
        let method = part(name)?;
        Some(if params { json(&method.params) } else { method.name.clone() })
    };
    PART_COLUMNS.iter().map(|column| value(column).unwrap_or_default()).collect()
}

/// The rows below their header as CSV.
///
/// # Errors
/// When the CSV writer fails.
pub fn csv<'a>(
    header: impl IntoIterator<Item = &'a str>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Result<Vec<u8>, ReportError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header)?;
    for row in rows {
        writer.write_record(row)?;
    }
    writer.into_inner().map_err(|error| ReportError::Csv(csv::Error::from(error.into_error())))
}

/// Parameters as JSON.
pub fn json(values: &Values) -> String {
    serde_json::to_string(values).expect("plain data serialises to JSON")
}

/// A number such that reading it gives the same one; empty if there is none.
pub fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
