//! Parts of one plan, run by themselves, put together to what one process gives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use theriac_core::record::{
    CellRecord, GalleryRecord, Manifest, Outcome as CellOutcome, SCHEMA, ShardRecord, StepRecord,
};
use theriac_core::{Digest, record::MethodRecord};

use super::{CELLS, GALLERY, JOURNAL, MANIFEST, Outcome, RESOLVED, Report, RunError};
use super::{is_complete, lock, lock_file, pretty, replace};
use crate::files::{FileError, PartFile, create_folder, write_atomically};
use crate::journal::{Entry, Journal, JournalError};

/// Results that cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The disk refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A folder without a part.
    #[error("failed to merge: `{}` holds no shard; run it with `--shard i/n`", .0.display())]
    NoShard(PathBuf),
    /// A file is not what it should be.
    #[error("failed to merge: `{}` cannot be understood: {why}; run that shard again", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Parts of different plans.
    #[error("failed to merge: `{}` and `{}` are parts of different plans; merge shards of the same config, version and number", .0.display(), .1.display())]
    Different(PathBuf, PathBuf),
    /// The same part twice.
    #[error("failed to merge: shard {index}/{of} is there twice")]
    Twice {
        /// Which.
        index: usize,
        /// Of how many.
        of: usize,
    },
    /// Parts that are not there.
    #[error("failed to merge: of {of} shards these are missing: {missing}")]
    Missing {
        /// Their numbers.
        missing: String,
        /// How many there should be.
        of: usize,
    },
    /// Somebody is writing there.
    #[error("failed to merge: another run is writing to `{}`; wait for it", .0.display())]
    Locked(PathBuf),
}

/// What was put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Cells, those without numbers included.
    pub cells: usize,
    /// Cells that failed.
    pub failed: usize,
    /// Cells that diverged.
    pub diverged: usize,
}

/// The folder of a part, below that of the whole.
pub fn shard_folder(whole: &Path, index: usize, of: usize) -> PathBuf {
    whole.join(format!("shard-{index}-of-{of}"))
}

/// Ends the run of one part: the last one to end writes the results of the whole plan, which is called `plan`.
pub(super) fn conclude(outcome: Outcome, whole: &Path, of: usize, plan: &Digest) -> Result<Outcome, RunError> {
    // Parts that end at the same time conclude one after the other, so that the last one sees what all have left.
    create_folder(whole)?;
    let guard = lock_file(whole)?;
    // Where there are no locks, nobody waits.
    drop(guard.lock());
    let folders: Vec<PathBuf> = (1..=of).map(|index| shard_folder(whole, index, of)).collect();
    // A part that another config has left here is as good as none.
    let is_there = |folder: &PathBuf| read(folder).is_ok_and(|part| part.shard.plan == plan.to_string());
    let missing_shards: Vec<usize> = (1..=of).filter(|index| !is_there(&folders[index - 1])).collect();
    if !missing_shards.is_empty() {
        return Ok(match outcome {
            Outcome::Finished(report) => Outcome::Finished(Report { missing_shards, ..report }),
            other => other,
        });
    }
    if matches!(outcome, Outcome::NothingToDo { .. }) && has_results(whole, plan)? {
        let cells =
            folders.iter().map(|folder| Ok(read(folder)?.shard.cells.len())).sum::<Result<usize, MergeError>>()?;
        return Ok(Outcome::NothingToDo { folder: whole.to_owned(), cells });
    }
    let merged = put_together(&folders, whole)?;
    let (folder, Merged { cells, failed, diverged }) = (whole.to_owned(), merged);
    Ok(match outcome {
        Outcome::Finished(report) => {
            Outcome::Finished(Report { folder, cells, failed_cells: failed, diverged_cells: diverged, ..report })
        }
        _ => Outcome::NothingToDo { folder, cells },
    })
}

/// Whether the results of the whole plan are there, complete and as they were written.
fn has_results(whole: &Path, plan: &Digest) -> Result<bool, RunError> {
    if !whole.join(JOURNAL).is_file() {
        return Ok(false);
    }
    let (_, past) = Journal::open(&whole.join(JOURNAL))?;
    Ok(is_complete(&past, plan, whole))
}

/// The folders of parts below `whole`.
///
/// # Errors
/// It cannot be read.
pub fn shards_in(whole: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = std::fs::read_dir(whole).map_err(FileError::at("read the folder", whole))?;
    let is_shard = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("shard-"));
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_shard).collect();
    folders.sort();
    Ok(folders)
}

/// One part, read.
struct Part {
    folder: PathBuf,
    manifest: Manifest,
    shard: ShardRecord,
}

/// Puts the parts in `folders` together and writes the results of the whole plan into `folder`.
///
/// # Errors
/// A part is missing, broken or of another plan; the disk refuses; a run is writing to `folder`.
pub fn merge(folders: &[PathBuf], folder: &Path) -> Result<Merged, MergeError> {
    // What is missing is told before a folder is made.
    check(folders.iter().map(|folder| read(folder)).collect::<Result<_, _>>()?)?;
    create_folder(folder)?;
    let _lock = lock(folder).map_err(|error| match error {
        RunError::File(error) => MergeError::File(error),
        _ => MergeError::Locked(folder.to_owned()),
    })?;
    put_together(folders, folder)
}

/// The same for who has the lock of `folder`.
fn put_together(folders: &[PathBuf], folder: &Path) -> Result<Merged, MergeError> {
    let parts = check(folders.iter().map(|folder| read(folder)).collect::<Result<_, _>>()?)?;
    let mut merged = Merged { cells: 0, failed: 0, diverged: 0 };
    let mut cells: BTreeMap<usize, String> = BTreeMap::new();
    let mut gallery: BTreeMap<(String, String), (usize, String)> = BTreeMap::new();
    for Part { folder, shard, .. } in &parts {
        for (position, line) in lines(folder, CELLS, shard, &shard.cells)? {
            let cell: CellRecord = parse(&folder.join(CELLS), &line)?;
            merged.cells += 1;
            merged.failed += usize::from(matches!(cell.outcome, CellOutcome::Failed(_)));
            merged.diverged += usize::from(matches!(cell.outcome, CellOutcome::Diverged(_)));
            cells.insert(position, line);
        }
        for (position, line) in lines(folder, GALLERY, shard, &shard.gallery)? {
            let GalleryRecord { experiment, dataset, attack, .. } = parse(&folder.join(GALLERY), &line)?;
            // The first seed that has pictures stands for all of them.
            let place = gallery.entry((experiment, key(&dataset, &attack))).or_insert((position, line.clone()));
            if position < place.0 {
                *place = (position, line);
            }
        }
    }
    let gallery: BTreeMap<usize, String> = gallery.into_values().collect();
    let first = &parts[0];
    let steps: BTreeMap<usize, &StepRecord> =
        parts.iter().flat_map(|part| part.shard.steps.iter().copied().zip(&part.manifest.steps)).collect();
    let manifest = Manifest {
        seconds: parts.iter().map(|part| part.manifest.seconds).fold(0.0, f64::max),
        steps: steps.into_values().cloned().collect(),
        shard: None,
        ..first.manifest.clone()
    };
    let written = |name: &str, lines: &BTreeMap<usize, String>| -> Result<PartFile, FileError> {
        let mut file = PartFile::begin(&folder.join(name))?;
        lines.values().try_for_each(|line| file.write(format!("{line}\n").as_bytes()))?;
        Ok(file)
    };
    let mut files = replace(folder, [(CELLS, written(CELLS, &cells)?), (GALLERY, written(GALLERY, &gallery)?)])?;
    for (name, content) in [(RESOLVED, manifest.config.clone().into_bytes()), (MANIFEST, pretty(&manifest))] {
        write_atomically(&folder.join(name), &content)?;
        files.insert(name.to_owned(), Digest::of(&content));
    }
    let (mut journal, _) = Journal::open(&folder.join(JOURNAL))?;
    let path = first.folder.join(MANIFEST);
    let plan = first.shard.plan.parse().map_err(|error| broken(&path, error))?;
    journal.write(Entry::Completed { plan, files, failed: merged.failed })?;
    Ok(merged)
}

fn key(dataset: &MethodRecord, attack: &MethodRecord) -> String {
    serde_json::to_string(&(dataset, attack)).expect("plain data serialises to JSON")
}

fn read(folder: &Path) -> Result<Part, MergeError> {
    let path = folder.join(MANIFEST);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(MergeError::NoShard(folder.to_owned()));
        }
        text => text.map_err(FileError::at("read", &path))?,
    };
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| broken(&path, error))?;
    if manifest.schema != SCHEMA {
        return Err(broken(&path, format!("it has schema {}, expected {SCHEMA}", manifest.schema)));
    }
    let shard = manifest.shard.clone().ok_or_else(|| MergeError::NoShard(folder.to_owned()))?;
    Ok(Part { folder: folder.to_owned(), manifest, shard })
}

/// The parts in order, if they are all there and belong together.
fn check(mut parts: Vec<Part>) -> Result<Vec<Part>, MergeError> {
    parts.sort_by_key(|part| part.shard.index);
    for pair in parts.windows(2) {
        let [one, two] = [&pair[0], &pair[1]];
        if (&one.shard.plan, one.shard.of) != (&two.shard.plan, two.shard.of) {
            return Err(MergeError::Different(one.folder.clone(), two.folder.clone()));
        }
        if one.shard.index == two.shard.index {
            return Err(MergeError::Twice { index: one.shard.index, of: one.shard.of });
        }
    }
    let of = parts.first().map_or(0, |part| part.shard.of);
    let there = |index: &usize| parts.iter().any(|part| part.shard.index == *index);
    let missing: Vec<String> = (1..=of).filter(|index| !there(index)).map(|index| index.to_string()).collect();
    if parts.is_empty() || !missing.is_empty() {
        return Err(MergeError::Missing { missing: missing.join(", "), of });
    }
    Ok(parts)
}

/// The lines of a file of a part beside their positions in the whole.
fn lines(
    folder: &Path,
    name: &str,
    shard: &ShardRecord,
    positions: &[usize],
) -> Result<Vec<(usize, String)>, MergeError> {
    let path = &folder.join(name);
    let text = std::fs::read_to_string(path).map_err(FileError::at("read", path))?;
    if shard.files.get(name) != Some(&Digest::of(text.as_bytes()).to_string()) {
        return Err(broken(path, "it is not what the run has written"));
    }
    let count = text.lines().count();
    if count != positions.len() {
        return Err(broken(path, format!("it has {count} lines, its manifest knows {}", positions.len())));
    }
    Ok(positions.iter().copied().zip(text.lines().map(str::to_owned)).collect())
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, line: &str) -> Result<T, MergeError> {
    serde_json::from_str(line).map_err(|error| broken(path, error))
}

fn broken(path: &Path, why: impl std::fmt::Display) -> MergeError {
    MergeError::Broken { path: path.to_owned(), why: why.to_string() }
}
