//! `cells.csv` and `cells.parquet`: one row a cell, for tables, data frames and databases.
//!
//! Both hold the same columns: the experiment, the parts of the cell with their parameters as JSON, `seed`, `outcome`, `reason`,
//! `address`, and one column for each metric that occurs, in the order of the alphabet, empty (null) where it was not measured.
//! Read by hand with pyarrow 26.0.1, polars 2.1.0 and DuckDB 2.0.1.

use std::collections::BTreeSet;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use theriac_core::record::CellRecord;

use crate::ReportError;
use crate::rows::{self, PART_COLUMNS, number, part_values, parts};
use crate::words::status;

/// The most rows that a reader must hold at once.
const ROWS_IN_A_GROUP: usize = 10_000;
/// Names the format, not the version of the program or of a library, so that equal cells give equal bytes.
const CREATED_BY: &str = "theriac version 1.0.0 (build cells)";

/// The rows of `cells.csv`, in the order of `cells`.
///
/// # Errors
/// When the CSV writer fails.
pub fn cells_csv(cells: &[CellRecord]) -> Result<Vec<u8>, ReportError> {
    let metrics = metrics(cells);
    let ending = ["seed", "outcome", "reason", "address"];
    let header = ["experiment"].into_iter().chain(PART_COLUMNS).chain(ending).chain(metrics.iter().copied());
    let row = |cell: &CellRecord| {
        let mut values = place(cell);
        let reason = cell.outcome.reason().unwrap_or_default().to_owned();
        values.extend([cell.seed.to_string(), status(&cell.outcome).to_owned(), reason, cell.address.clone()]);
        values.extend(metrics.iter().map(|metric| number(cell.metrics.get(*metric).copied())));
        values
    };
    rows::csv(header, cells.iter().map(row))
}

/// The bytes of `cells.parquet`, in the order of `cells`: text as UTF-8, the seed as an unsigned integer, metrics as doubles.
///
/// # Errors
/// When the Parquet writer fails.
pub fn cells_parquet(cells: &[CellRecord]) -> Result<Vec<u8>, ReportError> {
    let metrics = metrics(cells);
    let properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::UNCOMPRESSED)
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema(&metrics)?), Arc::new(properties))?;
    for rows in cells.chunks(ROWS_IN_A_GROUP) {
        let mut group = writer.next_row_group()?;
        let places: Vec<Vec<String>> = rows.iter().map(place).collect();
        for index in 0..=PART_COLUMNS.len() {
            texts(&mut group, places.iter().map(|place| place[index].as_str()))?;
        }
        column::<Int64Type>(&mut group, false, rows.iter().map(|cell| Some(cell.seed.cast_signed())))?;
        texts(&mut group, rows.iter().map(|cell| status(&cell.outcome)))?;
        column::<ByteArrayType>(&mut group, true, rows.iter().map(|cell| cell.outcome.reason().map(ByteArray::from)))?;
        texts(&mut group, rows.iter().map(|cell| cell.address.as_str()))?;
        for metric in &metrics {
            column::<DoubleType>(&mut group, true, rows.iter().map(|cell| cell.metrics.get(*metric).copied()))?;
        }
        group.close()?;
    }
    Ok(writer.into_inner()?)
}

/// The names of all metrics, in order.
fn metrics(cells: &[CellRecord]) -> BTreeSet<&str> {
    cells.iter().flat_map(|cell| cell.metrics.keys()).map(String::as_str).collect()
}

/// The experiment and the parts.
fn place(cell: &CellRecord) -> Vec<String> {
    let part = |name: &str| parts(cell).into_iter().find(|(part, _)| *part == name).map(|(_, method)| method);
    std::iter::once(cell.experiment.clone()).chain(part_values(part)).collect()
}

fn schema(metrics: &BTreeSet<&str>) -> Result<Type, ParquetError> {
    let field = |name: &str, physical: Physical, logical: Option<LogicalType>, repetition: Repetition| {
        let field = Type::primitive_type_builder(name, physical).with_logical_type(logical).with_repetition(repetition);
        field.build().map(Arc::new)
    };
    let text = |name, repetition| field(name, Physical::BYTE_ARRAY, Some(LogicalType::String), repetition);
    let mut fields = Vec::new();
    for name in ["experiment"].into_iter().chain(PART_COLUMNS) {
        fields.push(text(name, Repetition::REQUIRED)?);
    }
    fields.push(field("seed", Physical::INT64, Some(LogicalType::integer(64, false)), Repetition::REQUIRED)?);
    fields.push(text("outcome", Repetition::REQUIRED)?);
    fields.push(text("reason", Repetition::OPTIONAL)?);
    fields.push(text("address", Repetition::REQUIRED)?);
    for metric in metrics {
        fields.push(field(metric, Physical::DOUBLE, None, Repetition::OPTIONAL)?);
    }
    Type::group_type_builder("cells").with_fields(fields).build()
}

fn texts<'a>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: impl Iterator<Item = &'a str>,
) -> Result<(), ParquetError> {
    column::<ByteArrayType>(group, false, values.map(|value| Some(ByteArray::from(value))))
}

/// Writes the next column.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    optional: bool,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let values: Vec<Option<T::T>> = values.collect();
    // A level of 1 is a value, of 0 a null.
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let present: Vec<T::T> = values.into_iter().flatten().collect();
    let mut column = group.next_column()?.expect("the schema has a column for each call");
    column.typed::<T>().write_batch(&present, optional.then_some(levels.as_slice()), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    use serde_json::json;
    use theriac_core::record::Outcome;

    use super::*;
    use crate::toy;

    fn cell(seed: u64, outcome: Outcome, metrics: &[(&str, f64)]) -> CellRecord {
        let attack = toy::method("badnets", json!({"rate": 0.1, "target": null}));
        let cell = toy::cell(&attack, &toy::method("none", json!({})), seed, metrics);
        CellRecord { experiment: "a, \"quoted\" name".to_owned(), outcome, ..cell }
    }

    fn open(bytes: &[u8]) -> SerializedFileReader<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        SerializedFileReader::new(file).unwrap()
    }

    fn cells() -> Vec<CellRecord> {
        vec![
            cell(1, Outcome::Ok, &[("test_loss", 1e-300), ("asr", 0.1 + 0.2)]),
            cell(u64::MAX, Outcome::Diverged("the loss is\nnot a number".to_owned()), &[]),
            cell(3, Outcome::Failed("no memory".to_owned()), &[]),
            cell(4, Outcome::Ok, &[("asr", 1.0)]),
        ]
    }

    #[test]
    fn both_have_a_row_a_cell_and_the_same_values() {
        let (cells, metrics) = (cells(), ["asr", "test_loss"]);
        let bytes = cells_csv(&cells).unwrap();
        let mut table = csv::Reader::from_reader(bytes.as_slice());
        let header: Vec<String> = table.headers().unwrap().iter().map(str::to_owned).collect();
        let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
        let file = open(&cells_parquet(&cells).unwrap());
        let fields = file.metadata().file_metadata().schema().get_fields().to_owned();
        assert_eq!(header, fields.iter().map(|field| field.name().to_owned()).collect::<Vec<_>>());
        assert_eq!(header[10..], ["seed", "outcome", "reason", "address", "asr", "test_loss"]);
        assert_eq!((rows.len(), file.get_row_iter(None).unwrap().count()), (4, 4));
        for ((cell, row), stored) in cells.iter().zip(&rows).zip(file.get_row_iter(None).unwrap()) {
            let stored = stored.unwrap();
            for index in (0..10).chain([11, 13]) {
                assert_eq!(&row[index], stored.get_string(index).unwrap(), "{}", header[index]);
            }
            assert_eq!((row[0].to_owned(), row[13].to_owned()), (cell.experiment.clone(), cell.address.clone()));
            assert_eq!(&row[7], r#"{"rate":0.1,"target":null}"#);
            assert_eq!((row[10].parse().unwrap(), stored.get_ulong(10).unwrap()), (cell.seed, cell.seed));
            assert_eq!(&row[12], cell.outcome.reason().unwrap_or_default());
            assert_eq!(stored.get_string(12).ok().map(String::as_str), cell.outcome.reason());
            for (index, metric) in (14..).zip(metrics) {
                let expected = cell.metrics.get(metric).copied();
                assert_eq!((row[index].parse().ok(), stored.get_double(index).ok()), (expected, expected), "{metric}");
            }
        }
    }

    #[test]
    fn many_cells_come_in_groups_and_none_give_a_table_without_rows() {
        let many: Vec<CellRecord> = (0..25_000).map(|seed| cell(seed, Outcome::Ok, &[("asr", seed as f64)])).collect();
        let bytes = cells_parquet(&many).unwrap();
        assert!(bytes == cells_parquet(&many).unwrap());
        let file = open(&bytes);
        let sizes: Vec<i64> = file.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(sizes, [10_000, 10_000, 5_000]);
        assert_eq!(file.metadata().file_metadata().created_by(), Some(CREATED_BY));
        let seeds = file.get_row_iter(None).unwrap().map(|row| row.unwrap().get_ulong(10).unwrap());
        assert!(seeds.eq(0..25_000));
        let empty = open(&cells_parquet(&[]).unwrap());
        assert_eq!(empty.metadata().file_metadata().num_rows(), 0);
        assert_eq!(cells_csv(&[]).unwrap().iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
