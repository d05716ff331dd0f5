//! CIFAR-10's binary form: records of one label byte and 3,072 bytes of pixels (the red, green and blue planes of
//! 32x32).
//!
//! # References
//! The format is described on CIFAR-10's page, <https://www.cs.toronto.edu/~kriz/cifar.html>.

use std::path::Path;

use theriac_core::{Label, Shape};

use super::Labelled;
use super::idx::check_labels;
use crate::error::DataError;

/// Size of an image.
pub const SHAPE: Shape = Shape { channels: 3, height: 32, width: 32 };
/// Bytes of a record: a label and an image.
pub const RECORD: usize = 1 + SHAPE.len();

/// Reads one or more files of records and joins them in their order. Each comes with the path that messages name.
///
/// # Errors
/// When a file is empty or ends within a record, or a label names none of the `classes`.
pub fn read<'a>(files: impl IntoIterator<Item = (&'a [u8], &'a Path)>, classes: usize) -> Result<Labelled, DataError> {
    let mut joined = Labelled { shape: SHAPE, pixels: Vec::new(), labels: Vec::new() };
    for (bytes, path) in files {
        let rest = bytes.len() % RECORD;
        if bytes.is_empty() || rest != 0 {
            let expected = (bytes.len() - rest + RECORD) as u64;
            let reason = format!("whole records of {RECORD}");
            return Err(DataError::Truncated { path: path.to_path_buf(), expected, found: bytes.len() as u64, reason });
        }
        let labels: Vec<u8> = bytes.iter().step_by(RECORD).copied().collect();
        check_labels(&labels, path, |index| index * RECORD, classes)?;
        joined.labels.extend(labels.into_iter().map(Label::from));
        bytes.chunks(RECORD).for_each(|record| joined.pixels.extend_from_slice(&record[1..]));
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(label: u8, pixel: u8) -> Vec<u8> {
        let mut record = vec![pixel; RECORD];
        record[0] = label;
        record
    }

    #[test]
    fn files_are_joined_in_order() {
        let (one, two) = ([record(3, 10), record(9, 20)].concat(), record(0, 30));
        let read = read([(&one[..], Path::new("1")), (&two[..], Path::new("2"))], 10).unwrap();
        assert_eq!(read.labels, [3, 9, 0]);
        assert_eq!((read.pixels.len(), read.pixels[SHAPE.len()], read.pixels[2 * SHAPE.len()]), (3 * 3072, 20, 30));
    }

    #[test]
    fn a_cut_record_and_an_empty_file_are_refused() {
        let cut = &[record(3, 10), record(9, 20)].concat()[..4000];
        let error = read([(cut, Path::new("data_batch_1.bin"))], 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read `data_batch_1.bin`: the data end at byte 4000, expected 6146 bytes (whole records of 3073); \
             the file is incomplete, fetch or copy it again"
        );
        assert!(matches!(read([(&[][..], Path::new("x"))], 10), Err(DataError::Truncated { found: 0, .. })));
    }

    #[test]
    fn a_label_out_of_range_is_named_with_its_byte() {
        let bytes = [record(3, 10), record(10, 20)].concat();
        let error = read([(&bytes[..], Path::new("x"))], 10).unwrap_err();
        assert!(matches!(error, DataError::LabelRange { offset: 3073, found: 10, classes: 10, .. }), "{error}");
    }
}
