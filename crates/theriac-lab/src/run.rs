//! Runs a plan: what the store has is reused, what is missing is computed, and the results are written when all is there.

mod assemble;
mod errand;
mod manifest;
mod memory;
pub mod merge;
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
use std::time::{Duration, Instant};

use theriac_core::Digest;
use theriac_core::record::{Manifest, Outcome as CellOutcome, SCHEMA, ShardRecord};

use crate::bench::{Bench, StepKind};
use crate::config::Config;
use crate::files::{FileError, create_folder, write_atomically};
use crate::journal::{self, Journal, JournalError};
use crate::plan::Plan;
use crate::store::{Found, Store};
use crate::throughput::Throughput;
use merge::{MergeError, shard_folder};
pub use observe::{Event, Observer, Totals};

/// The name of the file with one [`CellRecord`](theriac_core::record::CellRecord) a line.
pub const CELLS: &str = "cells.jsonl";
/// The name of the file with one [`GalleryRecord`](theriac_core::record::GalleryRecord) a line.
pub const GALLERY: &str = "gallery.jsonl";
/// The name of the file with the [`Manifest`].
pub const MANIFEST: &str = "manifest.json";
/// The name of the file with the config, all defaults written out.
pub const RESOLVED: &str = "config.resolved.toml";
/// The name of the journal.
pub const JOURNAL: &str = "journal.jsonl";
const LOCK: &str = ".lock";
/// How often a long training saves a checkpoint, if nobody says otherwise.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

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
    /// What the running steps may take together, in MiB; most of what is free if absent.
    pub memory_mib: Option<f64>,
    /// How often a long training saves a checkpoint.
    pub checkpoint_every: Duration,
    /// Which part of the plan to run, counted from 1, and of how many; all of it if absent.
    pub shard: Option<(usize, usize)>,
}

impl Options {
    /// Results in `out`, steps in `store`, everything else as it is best on this machine.
    pub fn new(out: impl Into<PathBuf>, store: impl Into<PathBuf>) -> Self {
        Self {
            out: out.into(),
            store: store.into(),
            config_path: String::new(),
            jobs: None,
            threads: None,
            memory_mib: None,
            checkpoint_every: CHECKPOINT_EVERY,
            shard: None,
        }
    }
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

/// Runs `plan`, which was made from `config` for `bench`. Once `cancel` is set, no step is begun; trainings save where they are and stop,
/// and what is cheap is finished.
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
    let whole = options.out.join(&config.name);
    let Some((index, of)) = options.shard else {
        let place = Place { folder: whole, identity: identity(config, plan), shard: None };
        return run_in(&place, config, plan, bench, options, observer, cancel);
    };
    let identity = identity(config, plan);
    let (part, shard) = plan.shard(index, of, identity.to_string());
    let place = Place {
        folder: shard_folder(&whole, index, of),
        identity: Digest::of_json(&(identity, index, of)),
        shard: Some(shard),
    };
    let outcome = run_in(&place, config, &part, bench, options, observer, cancel)?;
    if matches!(outcome, Outcome::Interrupted { .. }) {
        return Ok(outcome);
    }
    let missing_shards = merge::missing(&whole, of);
    if missing_shards.is_empty() {
        let folders: Vec<PathBuf> = (1..=of).map(|index| shard_folder(&whole, index, of)).collect();
        let merged = merge::merge(&folders, &whole)?;
        let (folder, cells) = (whole, merged.cells);
        return Ok(match outcome {
            Outcome::Finished(report) => Outcome::Finished(Report {
                folder,
                cells,
                failed_cells: merged.failed,
                diverged_cells: merged.diverged,
                seconds: begin.elapsed().as_secs_f64(),
                ..report
            }),
            _ => Outcome::NothingToDo { folder, cells },
        });
    }
    Ok(match outcome {
        Outcome::Finished(report) => Outcome::Finished(Report { missing_shards, ..report }),
        other => other,
    })
}

/// Where the results of a plan, or of a part of one, go.
struct Place {
    folder: PathBuf,
    identity: Digest,
    shard: Option<ShardRecord>,
}

fn run_in(
    place: &Place,
    config: &Config,
    plan: &Plan,
    bench: &dyn Bench,
    options: &Options,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<Outcome, RunError> {
    let begin = Instant::now();
    let Place { folder, identity, shard } = place;
    create_folder(folder)?;
    let _lock = lock(folder)?;
    let (mut journal, past) = Journal::open(&folder.join(JOURNAL))?;
    if is_complete(&past, identity, folder) {
        return Ok(Outcome::NothingToDo { folder: folder.clone(), cells: plan.cells.len() });
    }

    let store = Store::open(&options.store)?;
    let throughput = Throughput::read(store.root());
    let before = search(plan, &store, throughput, &mut journal, observer)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (jobs, threads) = share_out(plan, &before.due, cores, options);
    let steps = plan.steps.len();
    let due = before.due.iter().filter(|due| **due).count();
    journal.write(journal::Entry::Started { plan: *identity, steps, due })?;
    let schedule = schedule::Schedule {
        plan,
        bench,
        store: &store,
        observer,
        cancel,
        jobs,
        threads,
        cores: options.threads.is_none().then_some(cores),
        memory_mib: options.memory_mib.unwrap_or_else(memory::budget_mib),
        checkpoint_every: options.checkpoint_every,
    };
    let ran = schedule.run(before, &mut journal);
    let mut ran = ran.map_err(|error| match error {
        RunError::File(error) => RunError::Midway(error),
        other => other,
    })?;
    if ran.interrupted {
        let (done, saved) = (ran.totals.done - ran.totals.failed, ran.totals.saved);
        journal.write(journal::Entry::Interrupted { done, steps })?;
        return Ok(Outcome::Interrupted { done, steps, saved });
    }

    // The files belong together: whoever finds a manifest finds the others as it knows them. It is the first to go and the last to come.
    remove_if_there(&folder.join(MANIFEST))?;
    let assembled = assemble::assemble(config, plan, &ran, &store, folder)?;
    // Steps that no cell reads and that nothing due needed have not been looked at, but they are a part of how the results came about.
    for (index, planned) in plan.steps.iter().enumerate() {
        if !ran.stored.contains_key(&index) && !ran.failed.contains_key(&index) {
            ran.stored.extend(store.look_up(&planned.address)?.map(|entry| (index, (&entry).into())));
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let known: Vec<usize> = (0..plan.steps.len()).filter(|index| ran.stored.contains_key(index)).collect();
    let shard = shard.as_ref().map(|shard| ShardRecord {
        gallery: by(&shard.cells, &assembled.gallery),
        steps: by(&shard.steps, &known),
        ..shard.clone()
    });
    let whole = manifest::manifest(config, plan, &ran, options, bench.device(), (jobs, threads), seconds);
    let manifest = Manifest { shard, ..whole };
    let mut files = assembled.files;
    for (name, content) in [(RESOLVED, config.to_toml().into_bytes()), (MANIFEST, pretty(&manifest))] {
        write_atomically(&folder.join(name), &content)?;
        files.insert(name.to_owned(), Digest::of(&content));
    }
    let failed_cells = assembled.failed;
    journal.write(journal::Entry::Completed { plan: *identity, files, failed: failed_cells })?;
    let cause = |(index, cause): (&usize, &CellOutcome)| match cause {
        CellOutcome::Failed(reason) => Some((plan.steps[*index].label.clone(), reason.clone())),
        _ => None,
    };
    Ok(Outcome::Finished(Report {
        folder: folder.clone(),
        cells: plan.cells.len(),
        failed_steps: ran.causes.iter().filter_map(cause).collect(),
        failed_cells,
        diverged_cells: assembled.diverged,
        missing_shards: Vec::new(),
        totals: ran.totals,
        seconds,
    }))
}

fn by(positions: &[usize], at: &[usize]) -> Vec<usize> {
    at.iter().map(|&at| positions[at]).collect()
}

fn pretty<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("plain data serialises to JSON");
    text.push(b'\n');
    text
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

/// Looks for every step that is wanted.
fn search(
    plan: &Plan,
    store: &Store,
    throughput: Throughput,
    journal: &mut Journal,
    observer: &dyn Observer,
) -> Result<schedule::Before, RunError> {
    let (mut stored, mut causes, mut failure) = (BTreeMap::new(), BTreeMap::new(), None);
    let mut look = |index: usize| -> Result<bool, RunError> {
        let step = &plan.steps[index];
        match store.find(&step.address)? {
            Found::Nothing => return Ok(false),
            Found::Good(entry) => {
                store.touch(&step.address);
                stored.insert(index, schedule::Kept::from(&*entry));
                causes.extend(entry.note.diverged.map(|how| (index, CellOutcome::Diverged(how))));
            }
            Found::Damaged(why) => {
                observer.observe(&Event::Damaged { step, why: &why });
                journal.write(journal::Entry::Damaged { address: step.address, why })?;
                return Ok(false);
            }
        }
        Ok(true)
    };
    let mut due = plan.due(|index| look(index).unwrap_or_else(|error| failure.replace(error).is_some()));
    if let Some(error) = failure {
        return Err(error);
    }
    // What stands on a training that is known to diverge cannot be run, and what only that needs need not be.
    let mut lost = vec![false; plan.steps.len()];
    for (index, planned) in plan.steps.iter().enumerate() {
        lost[index] = due[index] && planned.inputs.iter().any(|input| lost[*input] || causes.contains_key(input));
    }
    let lost_count = lost.iter().filter(|lost| **lost).count();
    if lost_count > 0 {
        due = plan.due(|index| lost[index] || stored.contains_key(&index));
    }
    Ok(schedule::Before { stored, causes, due, lost: lost_count, throughput })
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
