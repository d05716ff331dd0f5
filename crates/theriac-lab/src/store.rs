//! The store: the files of every finished step, in a folder named by the step's content address.
//!
//! ```text
//! ab/abcdef.../weights.safetensors ...   what the step left
//!              step.json                 what it was, and what it cost
//!              checksums.json            the BLAKE3 hash of each of these files
//! damaged/abcdef...-7-0/                 why.txt, and entry/: an entry that did not match its checksums
//! part/                                  entries that are being written
//! ```
//!
//! Several processes may share a store: entries appear by renaming a whole folder. After a power cut an entry may be there with lost
//! content; checksums find that, and the step is run again, which is cheaper than waiting for the disk after every step.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use theriac_core::Digest;

use crate::bench::{Files, Step};
use crate::files::{FileError, create_folder, reserve};

const NOTE: &str = "step.json";
const CHECKSUMS: &str = "checksums.json";
/// The version of the layout.
const FORMAT: u32 = 1;
/// Parts older than this belong to a process that was killed.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder of finished steps.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
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
    /// Opens the store at `root`, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, FileError> {
        let store = Self::at(root);
        let parts = store.parts();
        create_folder(&parts)?;
        for part in fs::read_dir(&parts).map_err(FileError::at("read the folder", &parts))?.flatten() {
            let age = part.metadata().and_then(|data| data.modified()).ok().and_then(|then| then.elapsed().ok());
            if age.is_some_and(|age| age > STALE) {
                // Litter is not worth an error.
                drop(fs::remove_dir_all(part.path()));
            }
        }
        Ok(store)
    }

    /// The store at `root` to look into; nothing is made there.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
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
    /// The disk refuses.
    pub fn insert(&self, step: &Step, files: &Files, seconds: f64, peak_memory_mib: f64) -> Result<Stored, FileError> {
        let address = step.address();
        let folder = self.folder(&address);
        let main = files.first().map(|(name, _)| name.clone()).unwrap_or_default();
        let note = Note { format: FORMAT, step: step.clone(), seconds, peak_memory_mib, main };
        let text = serde_json::to_vec_pretty(&note).expect("plain data serialises to JSON");
        let all = || files.iter().map(|(name, content)| (name.as_str(), content)).chain([(NOTE, &text)]);
        let checksums: BTreeMap<String, Digest> =
            all().map(|(name, content)| (name.to_owned(), Digest::of(content))).collect();
        let sums = serde_json::to_vec_pretty(&checksums).expect("plain data serialises to JSON");

        let part = reserve_folder(&self.parts(), &address.short(16))?;
        for (name, content) in all().chain([(CHECKSUMS, &sums)]) {
            let path = part.join(name);
            fs::write(&path, content).map_err(FileError::at("write", &path))?;
        }
        let shelf = folder.parent().unwrap_or(&self.root);
        create_folder(shelf)?;
        if let Err(source) = fs::rename(&part, &folder) {
            drop(fs::remove_dir_all(&part));
            // Another process was faster; equal steps leave equal results, so its entry is as good.
            return verify(&folder).map_err(|_| FileError { action: "write", path: folder, source });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    fn store() -> (tempfile::TempDir, Store, Step) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let step = toy::plan(toy::SMALL).steps[0].step.clone();
        let files = vec![("poison.json".to_owned(), b"{}".to_vec()), ("changes.bin".to_owned(), vec![0, 255])];
        store.insert(&step, &files, 0.5, 2.0).unwrap();
        (folder, store, step)
    }

    #[test]
    fn an_entry_is_found_again_with_its_cost() {
        let (_folder, store, step) = store();
        let Found::Good(entry) = store.find(&step.address()).unwrap() else { panic!("the entry is there") };
        assert_eq!((entry.note.seconds, entry.note.peak_memory_mib), (0.5, 2.0));
        assert_eq!(entry.note.step, step);
        assert_eq!(entry.output(), Some(Digest::of(b"{}")));
        assert!(store.contains(&step.address()));
        assert!(matches!(store.find(&Digest::of(b"other")).unwrap(), Found::Nothing));
    }

    #[test]
    fn every_kind_of_damage_is_found_and_set_aside() {
        type Harm = fn(&Path);
        let harms: [(&str, Harm); 4] = [
            ("`changes.bin` has the hash", |folder| fs::write(folder.join("changes.bin"), [0, 254]).unwrap()),
            ("`changes.bin` cannot be read", |folder| fs::remove_file(folder.join("changes.bin")).unwrap()),
            ("`checksums.json` is not", |folder| fs::write(folder.join(CHECKSUMS), b"{").unwrap()),
            ("`step.json` has the hash", |folder| fs::write(folder.join(NOTE), b"{}").unwrap()),
        ];
        for (expected, harm) in harms {
            let (_folder, store, step) = store();
            harm(&store.folder(&step.address()));
            let Found::Damaged(why) = store.find(&step.address()).unwrap() else { panic!("{expected}") };
            assert!(why.starts_with(expected), "{why}");
            assert!(!store.contains(&step.address()));
            let aside = fs::read_dir(store.root().join("damaged")).unwrap().next().unwrap().unwrap();
            assert!(fs::read_to_string(aside.path().join("why.txt")).unwrap().starts_with(expected));
            assert!(aside.path().join("entry").is_dir());
        }
    }

    #[test]
    fn what_the_disk_refuses_to_read_is_no_damage() {
        let (_folder, store, step) = store();
        let path = store.folder(&step.address()).join("changes.bin");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let message = store.find(&step.address()).unwrap_err().to_string();
        assert!(message.starts_with("failed to read `") && message.contains("changes.bin`: "), "{message}");
        assert!(store.contains(&step.address()) && !store.root().join("damaged").exists());
    }

    #[test]
    fn a_look_at_the_note_reads_no_other_file() {
        let (_folder, store, step) = store();
        let folder = store.folder(&step.address());
        fs::write(folder.join("changes.bin"), "damage").unwrap();
        assert_eq!(store.look_up(&step.address()).unwrap().unwrap().note.seconds, 0.5);
        fs::write(folder.join(NOTE), "damage").unwrap();
        assert!(store.look_up(&step.address()).unwrap().is_none());
        assert!(store.look_up(&Digest::of(b"other")).unwrap().is_none());
    }

    #[test]
    fn storing_a_step_twice_keeps_the_first() {
        let (_folder, store, step) = store();
        let entry = store.insert(&step, &vec![("poison.json".to_owned(), b"{}".to_vec())], 9.0, 9.0).unwrap();
        assert_eq!(entry.note.seconds, 0.5);
        assert_eq!(fs::read_dir(store.root().join("part")).unwrap().count(), 0);
    }
}
