//! Reading a folder of results.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use theriac_core::record::{CellRecord, GalleryRecord, Manifest, SCHEMA};

use crate::ReportError;

/// How often a folder that changes while it is read is read again.
const TRIES: usize = 3;

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
    /// Reads `cells.jsonl`, `gallery.jsonl` (which may be absent) and `manifest.json`. A run that works in the folder leaves the
    /// results of the one before in peace until it ends; if it replaces them meanwhile, they are read again.
    ///
    /// # Errors
    /// When a file is missing, broken, or of another version, and when a run has not finished or is replacing the files.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join("manifest.json");
        let mut text = manifest(folder)?;
        for _ in 0..TRIES {
            let read = Self::parse(folder, &path, &text);
            // The manifest is the first file to go and the last to come: while it stays, the others belong to it.
            let now = manifest(folder)?;
            if now == text {
                return read;
            }
            text = now;
        }
        Err(ReportError::Unfinished { folder: folder.to_owned() })
    }

    fn parse(folder: &Path, path: &Path, text: &str) -> Result<Self, ReportError> {
        let fault =
            |source: serde_json::Error| ReportError::Parse { path: path.to_owned(), line: source.line(), source };
        let manifest: Manifest = serde_json::from_str(text).map_err(fault)?;
        check(path, manifest.schema)?;

        let path = folder.join("cells.jsonl");
        let cells: Vec<CellRecord> = lines(&path, &read(&path)?)?;
        for cell in &cells {
            check(&path, cell.schema)?;
        }

        let path = folder.join("gallery.jsonl");
        Ok(Self { cells, gallery: lines(&path, &read_if_there(&path)?.unwrap_or_default())?, manifest })
    }

    /// Which part of its plan this is, if not all of it: `part 2 of 3 of the plan`.
    pub fn part_words(&self) -> Option<String> {
        self.manifest.shard.as_ref().map(|shard| format!("part {} of {} of the plan", shard.index, shard.of))
    }
}

/// The manifest's text. Without one, a journal or cells tell that a run has not come to its end.
fn manifest(folder: &Path) -> Result<String, ReportError> {
    let path = folder.join("manifest.json");
    match read_if_there(&path)? {
        None if ["journal.jsonl", "cells.jsonl"].iter().any(|name| folder.join(name).exists()) => {
            Err(ReportError::Unfinished { folder: folder.to_owned() })
        }
        None => read(&path),
        Some(text) => Ok(text),
    }
}

fn read(path: &Path) -> Result<String, ReportError> {
    fs::read_to_string(path).map_err(|source| ReportError::Read { path: path.to_owned(), source })
}

fn read_if_there(path: &Path) -> Result<Option<String>, ReportError> {
    match read(path) {
        Err(ReportError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
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
