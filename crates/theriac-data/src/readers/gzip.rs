//! Gzip, with the byte where a damaged stream breaks.

use std::io::Read;
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::error::DataError;

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Whether `bytes` start as a gzip stream does.
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Decompresses a gzip file of one or more members.
///
/// # Errors
/// When the stream is cut or damaged, or something else follows it.
pub fn gunzip(bytes: &[u8], path: &Path) -> Result<Vec<u8>, DataError> {
    let mut decoded = Vec::new();
    let mut rest = bytes;
    loop {
        let mut decoder = GzDecoder::new(rest);
        let outcome = decoder.read_to_end(&mut decoded);
        rest = decoder.into_inner();
        let (path, offset) = (path.to_path_buf(), (bytes.len() - rest.len()) as u64);
        if let Err(source) = outcome {
            return Err(DataError::Gzip {
                path,
                offset,
                length: bytes.len() as u64,
                decoded: decoded.len() as u64,
                source,
            });
        }
        if rest.is_empty() {
            return Ok(decoded);
        }
        if !is_gzip(rest) {
            return Err(DataError::Trailing { path, offset, extra: rest.len() as u64 });
        }
    }
}

/// `bytes` as they are, or decompressed if they are gzip.
///
/// # Errors
/// When a gzip stream is damaged.
pub fn plain(bytes: Vec<u8>, path: &Path) -> Result<Vec<u8>, DataError> {
    if is_gzip(&bytes) { gunzip(&bytes, path) } else { Ok(bytes) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn one_and_two_members_are_read() {
        let path = Path::new("x.gz");
        assert_eq!(gunzip(&gzip(b"theriac"), path).unwrap(), b"theriac");
        assert_eq!(gunzip(&[gzip(b"ther"), gzip(b"iac")].concat(), path).unwrap(), b"theriac");
        assert_eq!(plain(b"theriac".to_vec(), path).unwrap(), b"theriac");
    }

    #[test]
    fn a_cut_stream_says_where_it_breaks() {
        let noise: Vec<u8> = (0..5000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole = gzip(&noise);
        for cut in [5, whole.len() / 2, whole.len() - 4] {
            let error = gunzip(&whole[..cut], Path::new("cut.gz")).unwrap_err();
            let DataError::Gzip { offset, length, .. } = &error else { panic!("{error}") };
            assert!(*offset <= *length && *length == cut as u64, "{error}");
            assert!(error.to_string().contains("cut.gz"), "{error}");
        }
    }

    #[test]
    fn a_damaged_stream_and_trailing_bytes_are_refused() {
        let mut damaged = gzip(&[7; 100]);
        let last = damaged.len() - 8;
        damaged[last] ^= 1;
        assert!(matches!(gunzip(&damaged, Path::new("x")), Err(DataError::Gzip { .. })));
        let whole = gzip(b"theriac");
        let error = gunzip(&[whole.clone(), b"junk".to_vec()].concat(), Path::new("x")).unwrap_err();
        assert!(matches!(error, DataError::Trailing { offset, extra: 4, .. } if offset == whole.len() as u64));
    }
}
