//! Reading a folder of results.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use theriac_core::record::{CellRecord, GalleryRecord, Manifest, SCHEMA};

use crate::ReportError;

/// Everything that a run left behind.
#[derive(Clone, Debug)]
pub struct Results {
    /// One record a cell.
    pub cells: Vec<CellRecord>,
    /// One record an attack; empty where no gallery was made.
    pub gallery: Vec<GalleryRecord>,
    /// What is needed to repeat it.
    pub manifest: Manifest,
}

impl Results {
    /// Reads `cells.jsonl`, `gallery.jsonl` (which may be absent) and `manifest.json`.
    ///
    /// # Errors
    /// When a file is missing, broken, or of another version.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join("manifest.json");
        let text = read(&path)?;
        let parsed = serde_json::from_str(&text);
        let manifest: Manifest =
            parsed.map_err(|source| ReportError::Parse { path: path.clone(), line: source.line(), source })?;
        check(&path, manifest.schema)?;

        let path = folder.join("cells.jsonl");
        let cells: Vec<CellRecord> = lines(&path, &read(&path)?)?;
        for cell in &cells {
            check(&path, cell.schema)?;
        }

        let path = folder.join("gallery.jsonl");
        let text = match read(&path) {
            Err(ReportError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => String::new(),
            other => other?,
        };
        Ok(Self { cells, gallery: lines(&path, &text)?, manifest })
    }
}

fn read(path: &Path) -> Result<String, ReportError> {
    fs::read_to_string(path).map_err(|source| ReportError::Read { path: path.to_owned(), source })
}

fn check(path: &Path, found: u32) -> Result<(), ReportError> {
    if found == SCHEMA { Ok(()) } else { Err(ReportError::Schema { path: path.to_owned(), found, expected: SCHEMA }) }
}

fn lines<T: for<'de> serde::Deserialize<'de>>(path: &Path, text: &str) -> Result<Vec<T>, ReportError> {
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(index, line): (usize, &str)| {
        let fault = |source| ReportError::Parse { path: path.to_owned(), line: index + 1, source };
        serde_json::from_str(line).map_err(fault)
    };
    numbered.map(parse).collect()
}
