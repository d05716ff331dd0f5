//! Tables, figures and the HTML report, made from the results of a run and from nothing else.
//!
//! The results are data first: this crate reads a folder with `cells.jsonl`, `gallery.jsonl` and `manifest.json` (see
//! [`theriac_core::record`]) and writes `summary.csv`, `comparisons.csv`, `cells.csv`, `cells.parquet`, `figures/*.svg` and a
//! self-contained `report.html` beside them. Equal results give equal bytes. [`diff()`] tells what differs between two folders.

mod compare;
mod control;
mod diff;
mod export;
mod figures;
mod findings;
mod gallery;
mod group;
mod html;
mod input;
mod leaderboard;
mod names;
mod pictures;
mod plot;
mod roles;
mod rows;
mod setting;
mod show;
mod spread;
mod summary;
mod table;
#[cfg(test)]
mod toy;
mod words;

use std::path::{Path, PathBuf};

use theriac_core::MethodInfo;
use theriac_core::files::{FileError, create_folder, write_atomically};

use figures::{Figures, Methods};
use setting::settings;

pub use compare::{Comparison, comparisons, comparisons_csv};
pub use diff::{Cell, Change, Diff, MetricChange, OutcomeChange, Place, SeedsChange, diff};
pub use export::{cells_csv, cells_parquet};
pub use input::Results;
pub use leaderboard::leaderboard;
pub use pictures::method_pictures;
pub use plot::PlotError;
pub use roles::{Reach, Roles, Withdrawal, roles};
pub use show::show;
pub use spread::Spread;
pub use summary::{Summary, csv, summarise};
pub use table::table;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The table for other tools.
    pub summary: PathBuf,
    /// The comparisons that the config asks for; absent if it asks for none.
    pub comparisons: Option<PathBuf>,
    /// All cells, for spreadsheets.
    pub cells_csv: PathBuf,
    /// All cells, for data frames and databases.
    pub cells_parquet: PathBuf,
    /// The figures.
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
    /// There are no results yet, or not all of them.
    #[error(
        "failed to read the results in `{folder}`: there is no manifest.json, so the run is still going on or was interrupted; \
         `theriac run` with its config finishes it"
    )]
    Unfinished {
        /// The folder.
        folder: PathBuf,
    },
    /// The rows of a table could not be written.
    #[error("failed to write a table: {0}")]
    Csv(#[from] csv::Error),
    /// The cells could not be written.
    #[error("failed to write cells.parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// A figure could not be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A file could not be written or removed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Reads the results in `folder` and writes `summary.csv`, `comparisons.csv` (if the config compares anything), `cells.csv`,
/// `cells.parquet`, `figures/*.svg` and `report.html` beside them. `methods` are the registries' entries, by which the report
/// tells threat models in words. What an earlier report left and this one lacks is removed. The report itself is written last, so
/// its age tells whether the others are new.
///
/// # Errors
/// When the results cannot be read, or a file cannot be written. Each file is complete or absent.
pub fn write(folder: &Path, methods: &[&MethodInfo]) -> Result<Written, ReportError> {
    let results = Results::read(folder)?;
    let methods = Methods(methods);
    let summaries = summarise(&results.cells);
    let settings = settings(&results.cells);
    let figures = Figures::draw(&settings, methods)?;
    let compared = comparisons(&results.cells, &results.manifest.compares);
    let page = html::page(&results, &settings, &compared, &figures, methods);

    let summary = folder.join("summary.csv");
    write_atomically(&summary, &csv(&summaries)?)?;
    let comparisons = folder.join("comparisons.csv");
    let comparisons = if compared.is_empty() {
        remove_if_there(&comparisons)?;
        None
    } else {
        write_atomically(&comparisons, &comparisons_csv(&compared)?)?;
        Some(comparisons)
    };
    let (cells_csv, cells_parquet) = (folder.join("cells.csv"), folder.join("cells.parquet"));
    write_atomically(&cells_csv, &export::cells_csv(&results.cells)?)?;
    write_atomically(&cells_parquet, &export::cells_parquet(&results.cells)?)?;
    let drawings = folder.join("figures");
    create_folder(&drawings)?;
    let mut files = Vec::new();
    for figure in figures.all() {
        let path = drawings.join(format!("{}.svg", figure.name));
        write_atomically(&path, figure.file().as_bytes())?;
        files.push(path);
    }
    remove_others(&drawings, &files)?;
    let report = folder.join("report.html");
    write_atomically(&report, page.as_bytes())?;
    Ok(Written { summary, comparisons, cells_csv, cells_parquet, figures: files, report })
}

/// Removes what an earlier report left and this one lacks.
fn remove_if_there(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(FileError::at("remove", path)),
    }
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
