//! The store: the files of every finished step, in a folder named by the step's content address.
//!
//! ```text
//! ab/abcdef.../         weights.safetensors ...   what the step left
//!                       step.json                 what it was, and what it cost
//!                       checksums.json            the BLAKE3 hash of each of these files
//! damaged/abcdef...-7-0/                          why.txt, and entry/: an entry that did not match its checksums
//! part/                                           entries that are being written
//! claims/abc                                       locked by the process that runs a step of such an address
//! checkpoints/abcdef...                           where a training goes on after a stop or a crash
//! throughput.json                                 how long steps take on this machine
//! ```
//!
//! Several processes may share a store: entries appear by renaming a whole folder, and locks say who is there. The system takes a lock
//! back when its process ends, however that happens. After a power cut an entry may be there with lost content; checksums find that, and
//! the step is run again, which is cheaper than waiting for the disk after every step.

mod checkpoints;
mod claims;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use theriac_core::Digest;

use crate::bench::{Files, Step};
use crate::files::{FileError, create_folder, reserve};

pub use claims::Claim;
pub use sweep::{Entry, Swept};

const NOTE: &str = "step.json";
const CHECKSUMS: &str = "checksums.json";
/// The version of the layout.
const FORMAT: u32 = 1;

/// A folder of finished steps.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// Held while the store is in use, so that nobody cleans it up.
    _lock: Option<Arc<File>>,
}

/// What an entry tells about its step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The version of the layout.
    pub format: u32,
    /// The step.
    pub step: Step,
    /// Seconds that it took.
    pub seconds: f64,
    /// Highest resident memory of the process when it ended, in MiB.
    pub peak_memory_mib: f64,
    /// The name of the main file.
    pub main: String,
    /// How the training diverged, if it did. Such an entry has no other file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<String>,
}

/// What the end of a step has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Seconds that it took.
    pub seconds: f64,
    /// Highest resident memory of the process when it ended, in MiB.
    pub peak_memory_mib: f64,
}

/// A finished step.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where its files are.
    pub folder: PathBuf,
    /// What it was.
    pub note: Note,
    /// The hash of each file, by name.
    pub checksums: BTreeMap<String, Digest>,
}

impl Stored {
    /// The hash of the main file.
    pub fn output(&self) -> Option<Digest> {
        self.checksums.get(&self.note.main).copied()
    }
}

/// What looking for an entry found.
#[derive(Debug)]
pub enum Found {
    /// The entry, verified.
    Good(Box<Stored>),
    /// There is none.
    Nothing,
    /// There was one whose content was wrong; it has been set aside.
    Damaged(String),
}

impl Store {
    /// Opens the store at `root`, which is made if it is not there. While it is open, nobody cleans it up.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, FileError> {
        let store = Self::at(root);
        create_folder(&store.parts())?;
        let lock = store.lock_file()?;
        match lock.try_lock() {
            // Nobody else is here: what lies half written was left by processes that were killed.
            Ok(()) => {
                store.clear_litter();
                lock.unlock().map_err(FileError::at("unlock", &store.lock_path()))?;
            }
            Err(TryLockError::WouldBlock) => {}
            // Some network file systems know no locks; on them, cleaning up is for quiet hours.
            Err(TryLockError::Error(_)) => return Ok(store),
        }
        lock.lock_shared().map_err(FileError::at("lock", &store.lock_path()))?;
        Ok(Self { _lock: Some(Arc::new(lock)), ..store })
    }

    /// The store at `root` to look into; nothing is made there.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), _lock: None }
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join(".lock")
    }

    fn lock_file(&self) -> Result<File, FileError> {
        let path = self.lock_path();
        // Readable, for some network file systems share a lock only of such a file.
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        file.map_err(FileError::at("write", &path))
    }

    /// Removes what only a killed process leaves. Litter is not worth an error.
    fn clear_litter(&self) {
        let in_folder =
            |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let half = in_folder(self.checkpoints()).filter(|path| path.extension().is_some_and(|end| end == "part"));
        for path in in_folder(self.parts()).chain(in_folder(self.claims())).chain(half) {
            drop(if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) });
        }
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of an entry, whether it is there or not.
    pub fn folder(&self, address: &Digest) -> PathBuf {
        self.root.join(address.short(2)).join(address.to_string())
    }

    /// Whether there is an entry, without reading its files.
    pub fn contains(&self, address: &Digest) -> bool {
        self.folder(address).join(CHECKSUMS).is_file()
    }

    /// Looks for an entry and verifies it. A damaged one is moved out of the way.
    ///
    /// # Errors
    /// The disk refuses to read or to move it. What cannot be read now may be good, so it stays where it is.
    pub fn find(&self, address: &Digest) -> Result<Found, FileError> {
        let folder = self.folder(address);
        match fs::metadata(&folder) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Found::Nothing);
            }
            Err(error) => return Err(FileError::at("read", &folder)(error)),
        }
        match verify(&folder) {
            Ok(entry) => Ok(Found::Good(Box::new(entry))),
            Err(Trouble::Refused(error)) => Err(error),
            Err(Trouble::Damage(why)) => self.set_aside(address, &why).map(|()| Found::Damaged(why)),
        }
    }

    /// What an entry tells about its step, without reading the files that the step left. `None` if there is none or its note is damaged.
    ///
    /// # Errors
    /// The disk refuses to read it.
    pub fn look_up(&self, address: &Digest) -> Result<Option<Stored>, FileError> {
        match described(&self.folder(address)) {
            Ok(entry) => Ok(Some(entry)),
            Err(Trouble::Refused(error)) => Err(error),
            Err(Trouble::Damage(_)) => Ok(None),
        }
    }

    /// Stores what a step left.
    ///
    /// # Errors
    /// The disk refuses; nothing is left behind then.
    pub fn insert(&self, step: &Step, files: &Files, spent: Spent) -> Result<Stored, FileError> {
        let main = files.first().map(|(name, _)| name.clone()).unwrap_or_default();
        self.put(step, files, spent, main, None)
    }

    /// Stores that a training diverged.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn insert_diverged(&self, step: &Step, how: &str, spent: Spent) -> Result<Stored, FileError> {
        self.put(step, &Vec::new(), spent, String::new(), Some(how.to_owned()))
    }

    fn put(
        &self,
        step: &Step,
        files: &Files,
        spent: Spent,
        main: String,
        diverged: Option<String>,
    ) -> Result<Stored, FileError> {
        let address = step.address();
        let folder = self.folder(&address);
        let Spent { seconds, peak_memory_mib } = spent;
        let note = Note { format: FORMAT, step: step.clone(), seconds, peak_memory_mib, main, diverged };
        let text = serde_json::to_vec_pretty(&note).expect("plain data serialises to JSON");
        let all = || files.iter().map(|(name, content)| (name.as_str(), content)).chain([(NOTE, &text)]);
        let checksums: BTreeMap<String, Digest> =
            all().map(|(name, content)| (name.to_owned(), Digest::of(content))).collect();
        let sums = serde_json::to_vec_pretty(&checksums).expect("plain data serialises to JSON");

        let part = reserve_folder(&self.parts(), &address.short(16))?;
        let write = || {
            for (name, content) in all().chain([(CHECKSUMS, &sums)]) {
                let path = part.join(name);
                fs::write(&path, content).map_err(FileError::at("write", &path))?;
            }
            create_folder(folder.parent().unwrap_or(&self.root))
        };
        let moved = write().and_then(|()| fs::rename(&part, &folder).map_err(FileError::at("write", &folder)));
        if let Err(error) = moved {
            // A full disk needs the space.
            drop(fs::remove_dir_all(&part));
            // Maybe another process was faster; equal steps leave equal results, so its entry is as good.
            return verify(&folder).map_err(|_| error);
        }
        Ok(Stored { folder, note, checksums })
    }

    fn parts(&self) -> PathBuf {
        self.root.join("part")
    }

    fn set_aside(&self, address: &Digest, why: &str) -> Result<(), FileError> {
        let (folder, shelf) = (self.folder(address), self.root.join("damaged"));
        let aside = reserve_folder(&shelf, &address.to_string())?;
        if let Err(error) = fs::rename(&folder, aside.join("entry")) {
            drop(fs::remove_dir(&aside));
            // Another process has set it aside.
            let gone = error.kind() == ErrorKind::NotFound;
            return if gone { Ok(()) } else { Err(FileError::at("set aside", &folder)(error)) };
        }
        let note = aside.join("why.txt");
        fs::write(&note, format!("{why}\n")).map_err(FileError::at("write", &note))
    }
}

/// Makes a folder in `parent` whose name begins with `stem` and that nobody else has.
fn reserve_folder(parent: &Path, stem: &str) -> Result<PathBuf, FileError> {
    create_folder(parent)?;
    let make = |name: &str| {
        let folder = parent.join(format!("{stem}-{name}"));
        fs::create_dir(&folder).map(|()| folder)
    };
    reserve(make).map_err(FileError::at("create a folder in", parent))
}

/// Why an entry cannot be used.
enum Trouble {
    /// It is not what it was.
    Damage(String),
    /// The disk did not answer; the entry may be good.
    Refused(FileError),
}

/// A file of an entry. One that is not there is damage.
fn read(folder: &Path, name: &str) -> Result<Vec<u8>, Trouble> {
    let path = folder.join(name);
    fs::read(&path).map_err(|error: io::Error| match error.kind() {
        ErrorKind::NotFound => Trouble::Damage(format!("`{name}` cannot be read: {error}")),
        _ => Trouble::Refused(FileError::at("read", &path)(error)),
    })
}

/// A file of an entry that has the hash `expected`.
fn checked(folder: &Path, name: &str, expected: &Digest) -> Result<Vec<u8>, Trouble> {
    let content = read(folder, name)?;
    let found = Digest::of(&content);
    let differs = || Trouble::Damage(format!("`{name}` has the hash {found}, expected {expected}"));
    if found == *expected { Ok(content) } else { Err(differs()) }
}

/// The note and the checksums of an entry.
fn described(folder: &Path) -> Result<Stored, Trouble> {
    let unclear = |name: &'static str| {
        move |error: serde_json::Error| Trouble::Damage(format!("`{name}` is not what it was: {error}"))
    };
    let checksums: BTreeMap<String, Digest> =
        serde_json::from_slice(&read(folder, CHECKSUMS)?).map_err(unclear(CHECKSUMS))?;
    let unlisted = || Trouble::Damage(format!("`{CHECKSUMS}` does not list `{NOTE}`"));
    let expected = checksums.get(NOTE).ok_or_else(unlisted)?;
    let note: Note = serde_json::from_slice(&checked(folder, NOTE, expected)?).map_err(unclear(NOTE))?;
    if note.format != FORMAT {
        return Err(Trouble::Damage(format!("`{NOTE}` has format {}, expected {FORMAT}", note.format)));
    }
    Ok(Stored { folder: folder.to_owned(), note, checksums })
}

/// Reads an entry and compares all its files with their checksums.
fn verify(folder: &Path) -> Result<Stored, Trouble> {
    let entry = described(folder)?;
    for (name, expected) in entry.checksums.iter().filter(|(name, _)| *name != NOTE) {
        checked(folder, name, expected)?;
    }
    Ok(entry)
}
