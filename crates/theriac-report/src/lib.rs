//! Tables, figures and the HTML report, made from the results of a run and from nothing else.
//!
//! The results are data first: this crate reads a folder with `cells.jsonl`, `gallery.jsonl` and `manifest.json` (see
//! [`theriac_core::record`]) and writes `summary.csv`, `figures/*.svg` and a self-contained `report.html` beside
//! them. Equal results give equal bytes.

mod compare;
mod figures;
mod findings;
mod gallery;
mod group;
mod html;
mod input;
mod plot;
mod setting;
mod spread;
mod summary;
mod table;
mod words;

use std::path::{Path, PathBuf};

use theriac_core::MethodInfo;
use theriac_core::files::{FileError, create_folder, write_atomically};

use figures::{Figure, Methods, figures};
use setting::settings;

pub use input::Results;
pub use plot::PlotError;
pub use spread::Spread;
pub use summary::{Summary, csv, summarise};
pub use table::table;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The table for other tools.
    pub summary: PathBuf,
    /// The figures, in the order of the report.
    pub figures: Vec<PathBuf>,
    /// The report.
    pub report: PathBuf,
}

/// Why no report was written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file of results could not be read.
    #[error("failed to read `{path}`: {source}; name a results folder such as `results/quickstart`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of results is not what it should be.
    #[error("failed to parse line {line} of `{path}`: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// The results were written by another version.
    #[error(
        "failed to read {path}: its format is version {found}, this is version {expected}; run the experiment again"
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The version that this crate reads.
        expected: u32,
    },
    /// The rows of the summary could not be written.
    #[error("failed to write the summary: {0}")]
    Csv(#[from] csv::Error),
    /// A figure could not be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A file could not be written or removed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads the results in `folder` and writes `summary.csv`, `figures/*.svg` and `report.html` beside them. `methods`
/// are the registries' entries, by which the report tells threat models in words. Figures of an earlier report that are no
/// part of this one are removed. The report itself is written last, so its age tells whether the others are new.
///
/// # Errors
/// When the results cannot be read, or a file cannot be written. Each file is complete or absent.
pub fn write(folder: &Path, methods: &[&MethodInfo]) -> Result<Written, ReportError> {
    let results = Results::read(folder)?;
    let methods = Methods(methods);
    let summaries = summarise(&results.cells);
    let settings = settings(&results.cells);
    let figures: Vec<Vec<Figure>> =
        settings.iter().map(|setting| figures(setting, methods)).collect::<Result<_, _>>()?;
    let page = html::page(&results, &settings, &figures, methods);

    let summary = folder.join("summary.csv");
    write_atomically(&summary, &csv(&summaries)?)?;
    let drawings = folder.join("figures");
    create_folder(&drawings)?;
    let mut files = Vec::new();
    for figure in figures.iter().flatten() {
        let path = drawings.join(format!("{}.svg", figure.name));
        write_atomically(&path, figure.file().as_bytes())?;
        files.push(path);
    }
    remove_others(&drawings, &files)?;
    let report = folder.join("report.html");
    write_atomically(&report, page.as_bytes())?;
    Ok(Written { summary, figures: files, report })
}

/// Removes the SVG files in `folder` that are not among `files`.
fn remove_others(folder: &Path, files: &[PathBuf]) -> Result<(), FileError> {
    for entry in std::fs::read_dir(folder).map_err(FileError::at("read the folder", folder))? {
        let path = entry.map_err(FileError::at("read the folder", folder))?.path();
        if path.extension().is_some_and(|ending| ending == "svg") && !files.contains(&path) {
            std::fs::remove_file(&path).map_err(FileError::at("remove", &path))?;
        }
    }
    Ok(())
}
