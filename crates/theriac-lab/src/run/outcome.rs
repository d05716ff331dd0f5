//! How runs end, well or badly.

use std::fmt;
use std::path::PathBuf;

use super::merge::MergeError;
use super::observe::Totals;
use crate::files::FileError;
use crate::journal::JournalError;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The results of this very plan were there already; no file was touched.
    NothingToDo {
        /// The results folder.
        folder: PathBuf,
        /// Cells.
        cells: usize,
    },
    /// The results are written.
    Finished(Report),
    /// A person stopped it; what is done is in the store.
    Interrupted {
        /// Steps that need not be run again.
        done: usize,
        /// Distinct steps.
        steps: usize,
        /// Trainings that go on from a checkpoint.
        saved: usize,
    },
}

/// A finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The results folder.
    pub folder: PathBuf,
    /// Cells, failed ones included.
    pub cells: usize,
    /// What failed: steps with their reasons, in plan order. Steps that only lacked an input are not among them.
    pub failed_steps: Vec<(String, String)>,
    /// Cells that have no numbers for that.
    pub failed_cells: usize,
    /// Cells that have no numbers because a training diverged.
    pub diverged_cells: usize,
    /// Parts of the plan that are not there yet; the results of all of it are written with the last one.
    pub missing_shards: Vec<usize>,
    /// Where the run stands at its end.
    pub totals: Totals,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingToDo { folder, cells } => {
                write!(f, "nothing to do: all {cells} cells are in `{}`", folder.display())
            }
            Self::Interrupted { done, steps, saved } => {
                write!(f, "interrupted: {done} of {steps} steps done")?;
                if *saved > 0 {
                    write!(f, ", {saved} more saved on their way")?;
                }
                write!(f, "; run again to continue")
            }
            Self::Finished(report) => {
                let Report { folder, cells, failed_cells, diverged_cells, totals, missing_shards, .. } = report;
                let run = totals.done - totals.reused - totals.failed;
                write!(
                    f,
                    "finished: {cells} cells in `{}`; {run} steps run, {} reused",
                    folder.display(),
                    totals.reused
                )?;
                if !missing_shards.is_empty() {
                    let missing: Vec<String> = missing_shards.iter().map(usize::to_string).collect();
                    write!(f, "; shards still missing: {}", missing.join(", "))?;
                }
                if *diverged_cells > 0 {
                    write!(f, "; {diverged_cells} cells diverged")?;
                }
                if *failed_cells > 0 {
                    write!(f, "; {failed_cells} cells failed, run again to retry them")?;
                }
                Ok(())
            }
        }
    }
}

/// A run that could not go on. What was finished before is in the store.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The disk refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk refuses when something has been finished.
    #[error("{0}; what was finished is kept: make room or mend it, and run again to continue")]
    Midway(FileError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The parts of a plan could not be put together.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// Two processes on one results folder.
    #[error("failed to begin: another run is writing to `{}`; wait for it, or choose another name or folder", .0.display())]
    Locked(PathBuf),
    /// The system gives no threads.
    #[error("failed to start {threads} threads: {source}")]
    Threads {
        /// How many.
        threads: usize,
        /// Why not.
        source: rayon::ThreadPoolBuildError,
    },
    /// The system gives no thread for another step beside those that run.
    #[error("failed to run {jobs} steps at a time: {source}")]
    Workers {
        /// How many.
        jobs: usize,
        /// Why not.
        source: std::io::Error,
    },
}
