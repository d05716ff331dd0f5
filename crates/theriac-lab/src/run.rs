//! Runs a plan: what the store has is reused, what is missing is computed, and the results are written when all is there.

mod assemble;
mod manifest;
mod observe;
mod schedule;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Serialize;
use theriac_core::{Digest, record::SCHEMA};

use crate::bench::{Bench, StepKind};
use crate::config::Config;
use crate::files::{FileError, create_folder, write_atomically};
use crate::journal::{self, Journal, JournalError};
use crate::plan::Plan;
use crate::store::{Found, Store};
pub use observe::{Event, Observer, Totals};

/// The name of the file with one [`CellRecord`](theriac_core::record::CellRecord) a line.
pub const CELLS: &str = "cells.jsonl";
/// The name of the file with one [`GalleryRecord`](theriac_core::record::GalleryRecord) a line.
pub const GALLERY: &str = "gallery.jsonl";
/// The name of the file with the [`Manifest`](theriac_core::record::Manifest).
pub const MANIFEST: &str = "manifest.json";
/// The name of the file with the config, all defaults written out.
pub const RESOLVED: &str = "config.resolved.toml";
/// The name of the journal.
pub const JOURNAL: &str = "journal.jsonl";
const LOCK: &str = ".lock";

/// Where and how to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The results go into a folder in here that has the study's name.
    pub out: PathBuf,
    /// The store, which studies share.
    pub store: PathBuf,
    /// The config as given, for the manifest.
    pub config_path: String,
    /// Steps at a time; chosen by the plan if absent.
    pub jobs: Option<usize>,
    /// Threads a step; chosen by the plan if absent.
    pub threads: Option<usize>,
}

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
            Self::Interrupted { done, steps } => {
                write!(f, "interrupted: {done} of {steps} steps done; run again to continue")
            }
            Self::Finished(report) => {
                let Report { folder, cells, failed_cells, totals, .. } = report;
                let run = totals.done - totals.reused - totals.failed;
                write!(
                    f,
                    "finished: {cells} cells in `{}`; {run} steps run, {} reused",
                    folder.display(),
                    totals.reused
                )?;
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
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
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

/// Runs `plan`, which was made from `config` for `bench`. Once `cancel` is set, running steps are finished and no other is begun.
///
/// # Errors
/// The disk refuses, or another run writes to the same folder. Failing steps are no errors; see [`Report::failed_steps`].
pub fn run(
    config: &Config,
    plan: &Plan,
    bench: &dyn Bench,
    options: &Options,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<Outcome, RunError> {
    let begin = Instant::now();
    let folder = options.out.join(&config.name);
    create_folder(&folder)?;
    let _lock = lock(&folder)?;
    let (mut journal, past) = Journal::open(&folder.join(JOURNAL))?;
    let identity = identity(config, plan);
    if is_complete(&past, &identity, &folder) {
        return Ok(Outcome::NothingToDo { folder, cells: plan.cells.len() });
    }

    let store = Store::open(&options.store)?;
    let (stored, due) = search(plan, &store, &mut journal, observer)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (jobs, threads) = share_out(plan, &due, cores, options);
    let steps = plan.steps.len();
    journal.write(journal::Entry::Started { plan: identity, steps, due: due.iter().filter(|due| **due).count() })?;
    let spare = options.threads.is_none().then_some(cores);
    let schedule = schedule::Schedule { plan, bench, store: &store, observer, cancel, jobs, threads, cores: spare };
    let mut ran = schedule.run(stored, &due, &mut journal)?;
    if ran.interrupted {
        let done = ran.totals.done - ran.totals.failed;
        journal.write(journal::Entry::Interrupted { done, steps })?;
        return Ok(Outcome::Interrupted { done, steps });
    }

    let results = assemble::assemble(config, plan, &ran)?;
    // Steps that no cell reads and that nothing due needed have not been looked at, but they are a part of how the results came about.
    for (index, planned) in plan.steps.iter().enumerate() {
        if !ran.stored.contains_key(&index) && !ran.failed.contains_key(&index) {
            ran.stored.extend(store.look_up(&planned.address)?.map(|entry| (index, entry)));
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let manifest = manifest::manifest(config, plan, &ran, options, bench.device(), (jobs, threads), seconds);
    let mut manifest = serde_json::to_vec_pretty(&manifest).expect("plain data serialises to JSON");
    manifest.push(b'\n');
    let files = [
        (CELLS, lines(&results.cells)),
        (GALLERY, lines(&results.gallery)),
        (RESOLVED, config.to_toml().into_bytes()),
        (MANIFEST, manifest),
    ];
    // The files belong together: whoever finds a manifest finds the others as it knows them. It is the first to go and the last to come.
    remove_if_there(&folder.join(MANIFEST))?;
    let mut digests = BTreeMap::new();
    for (name, content) in &files {
        write_atomically(&folder.join(name), content)?;
        digests.insert((*name).to_owned(), Digest::of(content));
    }
    let failed_cells = results.failed;
    journal.write(journal::Entry::Completed { plan: identity, files: digests, failed: failed_cells })?;
    let cause = |(index, reason): (&usize, &String)| (plan.steps[*index].label.clone(), reason.clone());
    let failed_steps = ran.causes.iter().map(cause).collect();
    let cells = plan.cells.len();
    Ok(Outcome::Finished(Report { folder, cells, failed_steps, failed_cells, totals: ran.totals, seconds }))
}

fn remove_if_there(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(FileError::at("replace", path)),
    }
}

/// Held as long as the file is open; it goes with the process, however that ends.
fn lock(folder: &Path) -> Result<File, RunError> {
    let path = folder.join(LOCK);
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(FileError::at("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunError::Locked(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(FileError { action: "lock", path, source }.into()),
    }
}

/// What must be equal for results to be the same: how they are written, the config with its names and questions, and the cells' last
/// steps.
fn identity(config: &Config, plan: &Plan) -> Digest {
    let cells: Vec<Digest> = plan.cells.iter().map(|cell| plan.steps[cell.evaluate].address).collect();
    Digest::of_json(&(SCHEMA, env!("CARGO_PKG_VERSION"), config.to_toml(), cells))
}

/// Whether the folder has the results of this plan, all cells good and every file as it was written.
fn is_complete(past: &[journal::Entry], identity: &Digest, folder: &Path) -> bool {
    let last = past.iter().rev().find(|entry| matches!(entry, journal::Entry::Completed { .. }));
    let Some(journal::Entry::Completed { plan, files, failed: 0 }) = last else { return false };
    let same = |(name, digest): (&String, &Digest)| {
        std::fs::read(folder.join(name)).is_ok_and(|content| Digest::of(&content) == *digest)
    };
    plan == identity && files.iter().all(same)
}

/// Looks for every step that is wanted; beside what is there, which ones are due.
fn search(
    plan: &Plan,
    store: &Store,
    journal: &mut Journal,
    observer: &dyn Observer,
) -> Result<(schedule::Finished, Vec<bool>), RunError> {
    let (mut stored, mut failure) = (BTreeMap::new(), None);
    let mut look = |index: usize| -> Result<bool, RunError> {
        let step = &plan.steps[index];
        match store.find(&step.address)? {
            Found::Nothing => return Ok(false),
            Found::Good(entry) => drop(stored.insert(index, *entry)),
            Found::Damaged(why) => {
                observer.observe(&Event::Damaged { step, why: &why });
                journal.write(journal::Entry::Damaged { address: step.address, why })?;
                return Ok(false);
            }
        }
        Ok(true)
    };
    let due = plan.due(|index| look(index).unwrap_or_else(|error| failure.replace(error).is_some()));
    match failure {
        Some(error) => Err(error),
        None => Ok((stored, due)),
    }
}

/// Steps at a time and threads a step. Steps scale better side by side than inside, so threads are for plans that are narrower than the
/// machine.
fn share_out(plan: &Plan, due: &[bool], cores: usize, options: &Options) -> (usize, usize) {
    let mut level = vec![0_usize; plan.steps.len()];
    let mut width: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, planned) in plan.steps.iter().enumerate().filter(|(index, _)| due[*index]) {
        level[index] = planned.inputs.iter().map(|&input| level[input]).max().unwrap_or(0);
        if planned.step.kind == StepKind::Train {
            level[index] += 1;
            *width.entry(level[index]).or_default() += 1;
        }
    }
    let steps = due.iter().filter(|due| **due).count();
    let widest = width.values().copied().max().unwrap_or(steps).clamp(1, cores);
    let share = |given: Option<usize>| given.map(|given| (cores / given.max(1)).max(1));
    let jobs = options.jobs.or(share(options.threads)).unwrap_or(widest).max(1);
    (jobs, options.threads.or(share(Some(jobs))).unwrap_or(1).max(1))
}

fn lines<T: Serialize>(records: &[T]) -> Vec<u8> {
    let line = |record| serde_json::to_string(record).expect("plain data serialises to JSON") + "\n";
    records.iter().map(line).collect::<String>().into_bytes()
}
