//! IDX, the format of MNIST and its kin: a magic number, the sizes as big-endian 32-bit numbers, then bytes.
//!
//! # References
//! The format is described on MNIST's page, <http://yann.lecun.com/exdb/mnist/>.

use std::path::Path;

use theriac_core::{Label, Shape};

use super::Labelled;
use crate::error::DataError;

// Two zero bytes, type 8 (unsigned byte), and the number of dimensions.
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// Reads an uncompressed file of images and its file of labels. Each comes with the path that messages name.
///
/// # Errors
/// When a file is not what it should be (wrong magic number, too short, too long), a label names none of the `classes`,
/// or the two differ in their number of samples.
pub fn read(images: (&[u8], &Path), labels: (&[u8], &Path), classes: usize) -> Result<Labelled, DataError> {
    let (images_path, labels_path) = (images.1.to_path_buf(), labels.1.to_path_buf());
    let (shape, pixels) = read_images(images.0, images.1)?;
    let labels = read_labels(labels.0, labels.1, classes)?;
    let count = pixels.len() / shape.len();
    if count != labels.len() {
        return Err(DataError::CountMismatch { images_path, images: count, labels_path, labels: labels.len() });
    }
    Ok(Labelled { shape, pixels: pixels.to_vec(), labels })
}

/// Reads an uncompressed file of gray images: their size, and their pixels `[sample, row, column]`.
///
/// # Errors
/// When the file is not what it should be.
pub fn read_images<'a>(bytes: &'a [u8], path: &Path) -> Result<(Shape, &'a [u8]), DataError> {
    let sizes: [u32; 3] = header(bytes, path, IMAGES, "IDX images of unsigned bytes")?;
    let [count, height, width] = sizes.map(|size| size as usize);
    let found = || format!("{count} images of {height}x{width}");
    let length = height.checked_mul(width).filter(|size| *size > 0).and_then(|size| size.checked_mul(count));
    let Some(length) = length else {
        return Err(DataError::Header { path: path.to_path_buf(), offset: 4, found: found() });
    };
    Ok((Shape { channels: 1, height, width }, payload(bytes, path, 16, length, found)?))
}

/// Reads an uncompressed file of labels, each below `classes`.
///
/// # Errors
/// When the file is not what it should be, or a label names no class.
pub fn read_labels(bytes: &[u8], path: &Path, classes: usize) -> Result<Vec<Label>, DataError> {
    let [count]: [u32; 1] = header(bytes, path, LABELS, "IDX labels of unsigned bytes")?;
    let labels = payload(bytes, path, 8, count as usize, || format!("{count} labels"))?;
    check_labels(labels, path, |index| 8 + index, classes)?;
    Ok(labels.iter().map(|&label| Label::from(label)).collect())
}

/// Refuses a label that names no class; `offset` tells where in the file a label stands.
pub(super) fn check_labels(
    labels: &[u8],
    path: &Path,
    offset: impl Fn(usize) -> usize,
    classes: usize,
) -> Result<(), DataError> {
    match labels.iter().position(|&label| usize::from(label) >= classes) {
        None => Ok(()),
        Some(index) => {
            let (path, offset) = (path.to_path_buf(), offset(index) as u64);
            Err(DataError::LabelRange { path, offset, found: labels[index], classes })
        }
    }
}

fn header<const N: usize>(
    bytes: &[u8],
    path: &Path,
    expected: u32,
    content: &'static str,
) -> Result<[u32; N], DataError> {
    let number =
        |at: usize| bytes.get(at..at + 4).map(|four| four.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)));
    if let Some(found) = number(0).filter(|&found| found != expected) {
        return Err(DataError::Magic { path: path.to_path_buf(), content, expected, found });
    }
    let mut sizes = [0; N];
    for (index, size) in sizes.iter_mut().enumerate() {
        *size = number(4 + 4 * index).ok_or_else(|| DataError::Truncated {
            path: path.to_path_buf(),
            expected: 4 + 4 * N as u64,
            found: bytes.len() as u64,
            reason: "the header alone".to_owned(),
        })?;
    }
    Ok(sizes)
}

fn payload<'a>(
    bytes: &'a [u8],
    path: &Path,
    start: usize,
    length: usize,
    declared: impl Fn() -> String,
) -> Result<&'a [u8], DataError> {
    let path = || path.to_path_buf();
    let expected = start as u64 + length as u64;
    let found = bytes.len() as u64;
    if found < expected {
        let reason = format!("the header declares {}", declared());
        return Err(DataError::Truncated { path: path(), expected, found, reason });
    }
    if found > expected {
        return Err(DataError::Trailing { path: path(), offset: expected, extra: found - expected });
    }
    Ok(&bytes[start..])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn images(count: u32, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
        let header: Vec<u8> = [IMAGES, count, height, width].iter().flat_map(|size| size.to_be_bytes()).collect();
        [&header, pixels].concat()
    }

    pub(crate) fn labels(count: u32, labels: &[u8]) -> Vec<u8> {
        let header: Vec<u8> = [LABELS, count].iter().flat_map(|size| size.to_be_bytes()).collect();
        [&header, labels].concat()
    }

    fn path() -> &'static Path {
        Path::new("train-x")
    }

    #[test]
    fn images_and_labels_are_read() {
        let (pixels, names) = (images(2, 1, 3, &[1, 2, 3, 4, 5, 6]), labels(2, &[9, 0]));
        let read = read((&pixels, path()), (&names, path()), 10).unwrap();
        assert_eq!(read.shape, Shape { channels: 1, height: 1, width: 3 });
        assert_eq!((read.pixels, read.labels), (vec![1, 2, 3, 4, 5, 6], vec![9, 0]));
    }

    #[test]
    fn a_wrong_magic_number_is_refused() {
        let error = read_images(&labels(2, &[0, 1]), path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read `train-x`: byte 0 starts with 0x00000801, expected 0x00000803 (IDX images of unsigned bytes); \
             check that the file is what its name says"
        );
        assert!(matches!(read_labels(b"PK\x03\x04", path(), 10), Err(DataError::Magic { .. })));
    }

    #[test]
    fn a_truncated_payload_or_header_is_refused() {
        let error = read_images(&images(2, 1, 3, &[1, 2, 3, 4]), path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read `train-x`: the data end at byte 20, expected 22 bytes (the header declares 2 images of 1x3); \
             the file is incomplete, fetch or copy it again"
        );
        for cut in 0..16 {
            let bytes = images(2, 1, 3, &[]);
            assert!(matches!(read_images(&bytes[..cut], path()), Err(DataError::Truncated { expected: 16, .. })));
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let error = read_labels(&labels(2, &[1, 2, 3]), path(), 10).unwrap_err();
        assert!(matches!(error, DataError::Trailing { offset: 10, extra: 1, .. }), "{error}");
    }

    #[test]
    fn a_label_out_of_range_is_named_with_its_byte() {
        let error = read_labels(&labels(3, &[1, 255, 3]), path(), 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read `train-x`: byte 9 holds label 255, expected a number below 10; the file is damaged or belongs to \
             another data set"
        );
    }

    #[test]
    fn images_and_labels_must_be_as_many() {
        let (pixels, names) = (images(2, 1, 1, &[1, 2]), labels(3, &[0, 1, 2]));
        let error = read((&pixels, path()), (&names, Path::new("labels")), 10).unwrap_err();
        assert!(matches!(error, DataError::CountMismatch { images: 2, labels: 3, .. }), "{error}");
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let error = read_images(&images(2, 0, 3, &[]), path()).unwrap_err();
        assert!(matches!(error, DataError::Header { offset: 4, .. }), "{error}");
        let huge = images(u32::MAX, u32::MAX, u32::MAX, &[]);
        assert!(matches!(read_images(&huge, path()), Err(DataError::Header { .. })));
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes: Vec<u8>, count in 0u32..4) {
            drop(read_images(&bytes, path()));
            drop(read_labels(&bytes, path(), 10));
            drop(read_images(&images(count, 2, 2, &bytes), path()));
            drop(read_labels(&labels(count, &bytes), path(), 10));
        }
    }
}
