//! Files that are complete or absent.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::ReportError;

/// Writes `bytes` beside `path` and then takes the name over, so that nobody ever reads half a file.
///
/// # Errors
/// When a folder or the file cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let fault = |source| ReportError::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fault)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let mut file = File::create(&partial).map_err(fault)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)?;
    fs::rename(&partial, path).map_err(fault)
}
