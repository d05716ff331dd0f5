//! The journal: what happened in a results folder, one JSON object a line, only ever appended to.
//!
//! A kill may cut the last line; it is then trimmed. A line that is broken anywhere else was not written by this program and is an error.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use theriac_core::Digest;

use crate::files::FileError;

/// The version of the format.
const VERSION: u32 = 1;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Entry {
    /// A run began.
    Started {
        /// The identity of the plan.
        plan: Digest,
        /// Distinct steps.
        steps: usize,
        /// Those that were not in the store.
        due: usize,
    },
    /// A step is in the store.
    Finished {
        /// Its address.
        address: Digest,
        /// For people.
        label: String,
        /// Seconds that it took.
        seconds: f64,
    },
    /// A step failed.
    Failed {
        /// Its address.
        address: Digest,
        /// For people.
        label: String,
        /// Why.
        reason: String,
    },
    /// A training diverged, which is a result.
    Diverged {
        /// Its address.
        address: Digest,
        /// For people.
        label: String,
        /// How.
        reason: String,
    },
    /// An entry of the store was damaged and set aside.
    Damaged {
        /// Its address.
        address: Digest,
        /// What was wrong.
        why: String,
    },
    /// A person stopped the run.
    Interrupted {
        /// Steps that need not be run again.
        done: usize,
        /// Distinct steps.
        steps: usize,
    },
    /// The results are written.
    Completed {
        /// The identity of the plan.
        plan: Digest,
        /// The hashes of the files, by name.
        files: BTreeMap<String, Digest>,
        /// Cells that failed.
        failed: usize,
    },
}

#[derive(Serialize, Deserialize)]
struct Line {
    version: u32,
    #[serde(flatten)]
    entry: Entry,
}

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line in the middle is broken.
    #[error("failed to read line {line} of the journal `{}`: {reason}; move it away to start anew", path.display())]
    Line {
        /// The journal.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
    /// Whether half a line is left behind them, after which nothing may follow.
    cut: bool,
}

impl Journal {
    /// Opens the journal at `path` for appending and reads what is in it.
    ///
    /// # Errors
    /// The disk refuses, or a line other than a cut last one is broken.
    pub fn open(path: &Path) -> Result<(Self, Vec<Entry>), JournalError> {
        let failed = |action| FileError::at(action, path);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed("open"))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed("read"))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(failed("trim"))?;
        }
        file.seek(SeekFrom::Start(whole as u64)).map_err(failed("read"))?;
        let mut entries = Vec::new();
        for (index, line) in text[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty())
        {
            let broken = |reason| JournalError::Line { path: path.to_owned(), line: index + 1, reason };
            let line: Line = serde_json::from_slice(line).map_err(|error| broken(error.to_string()))?;
            if line.version != VERSION {
                return Err(broken(format!("it has version {}, expected {VERSION}", line.version)));
            }
            entries.push(line.entry);
        }
        Ok((Self { path: path.to_owned(), file, length: whole as u64, cut: false }, entries))
    }

    /// Appends one line. A line that could not be written is taken back, so that no later one follows half of it. What a kill leaves is
    /// whole lines; a power cut may take the last ones, of which the store has the substance.
    ///
    /// # Errors
    /// The disk refuses, or could not take back an earlier line.
    pub fn write(&mut self, entry: Entry) -> Result<(), FileError> {
        let line = Line { version: VERSION, entry };
        let mut text = serde_json::to_vec(&line).expect("plain data serialises to JSON");
        text.push(b'\n');
        let mut write = || {
            if self.cut {
                return Err(std::io::Error::other("it ends within a line that could not be written"));
            }
            self.file.write_all(&text)
        };
        if let Err(source) = write() {
            let taken_back = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            self.cut = taken_back.is_err();
            return Err(FileError { action: "write", path: self.path.clone(), source });
        }
        self.length += text.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(done: usize) -> Entry {
        Entry::Interrupted { done, steps: 9 }
    }

    #[test]
    fn a_cut_last_line_is_trimmed_wherever_it_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (mut journal, entries) = Journal::open(&path).unwrap();
        assert!(entries.is_empty());
        journal.write(entry(1)).unwrap();
        let first = std::fs::read(&path).unwrap();
        journal.write(entry(2)).unwrap();
        let both = std::fs::read(&path).unwrap();
        for end in first.len()..both.len() {
            std::fs::write(&path, &both[..end]).unwrap();
            let (mut journal, entries) = Journal::open(&path).unwrap();
            assert_eq!(entries, [entry(1)]);
            journal.write(entry(3)).unwrap();
            assert_eq!(Journal::open(&path).unwrap().1, [entry(1), entry(3)]);
        }
    }

    #[test]
    fn nothing_follows_a_line_that_could_not_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.write(entry(1)).unwrap();
        let good = std::mem::replace(&mut journal.file, File::open(&path).unwrap());
        // Neither written nor taken back: the file is open for reading only.
        assert!(journal.write(entry(2)).is_err() && journal.cut);
        journal.file = good;
        let message = journal.write(entry(3)).unwrap_err().to_string();
        assert!(message.ends_with("it ends within a line that could not be written"), "{message}");
        // By now it could be taken back.
        journal.write(entry(4)).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, [entry(1), entry(4)]);
    }

    #[test]
    fn a_broken_line_in_the_middle_and_another_version_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let good = r#"{"version":1,"event":"interrupted","done":1,"steps":9}"#;
        for (bad, expected) in [("{\"ver", "EOF"), (&good.replace(":1,\"e", ":7,\"e"), "it has version 7, expected 1")]
        {
            std::fs::write(&path, format!("{good}\n{bad}\n{good}\n")).unwrap();
            let message = Journal::open(&path).unwrap_err().to_string();
            assert!(message.starts_with("failed to read line 2 of the journal"), "{message}");
            assert!(message.contains(expected), "{message}");
        }
    }
}
