//! Runs a plan: what the store has is reused, what is missing is computed, and the results are written when all is there.

mod assemble;
mod errand;
mod manifest;
mod memory;
pub mod merge;
mod observe;
mod outcome;
mod prepare;
mod queue;
mod schedule;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use theriac_core::Digest;
use theriac_core::record::{Manifest, Outcome as CellOutcome, SCHEMA, ShardRecord};

use crate::bench::Bench;
use crate::config::Config;
use crate::files::{FileError, PartFile, create_folder, write_atomically};
use crate::journal::{self, Journal};
use crate::plan::Plan;
use crate::store::Store;
use crate::throughput::Throughput;
use merge::shard_folder;
pub use observe::{Event, Observer, Totals};
pub use outcome::{Outcome, Report, RunError};
use prepare::{search, share_out};

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
    let whole = options.out.join(&config.name);
    let identity = identity(config, plan);
    let run = Run { config, bench, options, observer, cancel };
    let Some((index, of)) = options.shard else {
        return run.part(plan, &Place { folder: whole, identity, shard: None });
    };
    let (part, shard) = plan.shard(index, of, identity.to_string());
    let folder = shard_folder(&whole, index, of);
    let own = Place { folder, identity: Digest::of_json(&(identity, index, of)), shard: Some(shard) };
    match run.part(&part, &own)? {
        interrupted @ Outcome::Interrupted { .. } => Ok(interrupted),
        outcome => merge::conclude(outcome, &whole, of, &identity),
    }
}

/// What all parts of a run have in common.
struct Run<'a> {
    config: &'a Config,
    bench: &'a dyn Bench,
    options: &'a Options,
    observer: &'a dyn Observer,
    cancel: &'a AtomicBool,
}

/// Where the results of a plan, or of a part of one, go.
struct Place {
    folder: PathBuf,
    identity: Digest,
    shard: Option<ShardRecord>,
}

impl Run<'_> {
    fn part(&self, plan: &Plan, place: &Place) -> Result<Outcome, RunError> {
        let Self { config, bench, options, observer, cancel } = *self;
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
            files: assembled.files.iter().map(|(name, digest)| (name.clone(), digest.to_string())).collect(),
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
}

/// Puts finished files in the place of those of an earlier run. The files belong together: whoever finds a manifest finds the others as it
/// knows them. So it is the first to go, when nothing but the disk can fail any more, and the last to come.
fn replace<const N: usize>(folder: &Path, files: [(&str, PartFile); N]) -> Result<BTreeMap<String, Digest>, FileError> {
    let manifest = folder.join(MANIFEST);
    match std::fs::remove_file(&manifest) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        removed => removed.map_err(FileError::at("replace", &manifest))?,
    }
    files.into_iter().map(|(name, file)| Ok((name.to_owned(), file.finish()?))).collect()
}

fn by(positions: &[usize], at: &[usize]) -> Vec<usize> {
    at.iter().map(|&at| positions[at]).collect()
}

fn pretty<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("plain data serialises to JSON");
    text.push(b'\n');
    text
}

/// Held as long as the file is open; it goes with the process, however that ends.
fn lock(folder: &Path) -> Result<File, RunError> {
    let file = lock_file(folder)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(RunError::Locked(folder.to_owned())),
        // Some network file systems know no locks; there, two runs at once are for the user to avoid.
        Ok(()) | Err(TryLockError::Error(_)) => {
            clear_parts(folder);
            Ok(file)
        }
    }
}

fn lock_file(folder: &Path) -> Result<File, FileError> {
    let path = folder.join(LOCK);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    file.map_err(FileError::at("write", &path))
}

/// Removes half-written files, which only a killed process leaves. They are not worth an error.
fn clear_parts(folder: &Path) {
    let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "part"))
        .for_each(|path| drop(std::fs::remove_file(path)));
}

/// What must be equal for results to be the same: how they are written, the config with its names and questions, and the steps that the
/// cells are made from.
fn identity(config: &Config, plan: &Plan) -> Digest {
    let sources = plan.cells.iter().map(|cell| cell.sources().map(|source| plan.steps[source].address).collect());
    let cells: Vec<Vec<Digest>> = sources.collect();
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
