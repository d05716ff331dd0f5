//! A ledger in its folder: reading, appending, healing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use theriac_core::files::{FileError, create_folder};
use theriac_core::{Role, Stage};

use crate::actors::Actor;
use crate::anchor::Anchor;
use crate::chain::Chain;
use crate::entry::{Action, Change, Entry, Header, digest_of, read_line};
use crate::error::{LONGEST, LedgerError};
use crate::finding::{Finding, What};
use crate::key::SecretKey;

/// The file of the entries.
pub const FILE: &str = "ledger.jsonl";
/// A sound ledger in a folder, ready to be continued.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    chain: Chain,
    /// Bytes of the file; none after a failure, when the file may hold something else than the chain.
    length: Option<u64>,
}

/// What is to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// At which stage of the pipeline.
    pub stage: Stage,
    /// What happened.
    pub action: Action,
    /// Why.
    pub note: String,
    /// What changed.
    pub changes: Vec<Change>,
}

/// What healing a ledger whose last line is cut has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healed {
    /// Nothing was to be done.
    Whole,
    /// The line was whole but for its end, and has it again.
    Ended,
    /// The line was moved to this file.
    SetAside(PathBuf),
}

impl Ledger {
    /// Begins a ledger. `draft` is an [`Action::Init`] with the samples that are there.
    ///
    /// # Errors
    /// When there is one already, or the folder cannot be written.
    pub fn init(folder: &Path, secret: &SecretKey, role: Role, time: u64, draft: Draft) -> Result<Self, LedgerError> {
        let (chain, line) = Chain::begin(secret, role, time, draft)?;
        create_folder(folder)?;
        let path = folder.join(FILE);
        // An empty file is what healing leaves of a ledger whose first line was cut.
        let opened = OpenOptions::new().append(true).create(true).open(&path);
        let mut file = opened.map_err(FileError::at("write", &path))?;
        let length = file.lock().and_then(|()| file.metadata()).map_err(FileError::at("lock", &path))?.len();
        if length > 0 {
            return Err(LedgerError::There(folder.to_owned()));
        }
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Half a first line is of no use to anybody.
            drop(fs::remove_file(&path));
            return Err(FileError::at("write", &path)(error).into());
        }
        Ok(Self { folder: folder.to_owned(), chain, length: Some(line.len() as u64) })
    }

    /// Opens a ledger to continue it.
    ///
    /// # Errors
    /// When there is none, or it is not sound: an author vouches for everything before.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let (chain, length) = read(folder)?;
        let folder = folder.to_owned();
        match chain.findings() {
            [] => Ok(Self { folder, chain, length: Some(length) }),
            [Finding { what: What::Cut { bytes }, .. }] => Err(LedgerError::Cut { folder, bytes: *bytes }),
            [first, ..] => {
                let (count, first) = (chain.findings().len(), Box::new(first.clone()));
                Err(LedgerError::Damaged { folder, count, first })
            }
        }
    }

    /// Reads a ledger as it is, sound or not.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn read(folder: &Path) -> Result<Chain, LedgerError> {
        read(folder).map(|(chain, _)| chain)
    }

    /// What it holds.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Appends an entry. Readers see all of it or nothing, and of two writers at once one is told to read again.
    ///
    /// # Errors
    /// When the key may not sign this, the changes do not start from what the samples are, the clock is behind, or somebody else appended.
    pub fn append(&mut self, secret: &SecretKey, time: u64, draft: Draft) -> Result<&Entry, LedgerError> {
        let path = self.folder.join(FILE);
        let failed = |action| FileError::at(action, &path);
        let mut file = OpenOptions::new().read(true).append(true).open(&path).map_err(failed("write"))?;
        file.lock().map_err(failed("lock"))?;
        let last = self.chain.entries().last().map(Entry::line).unwrap_or_default();
        match self.length {
            Some(length) if ends_with(&mut file, length, last.as_bytes()).map_err(failed("read"))? => {}
            _ => return Err(LedgerError::Moved(self.folder.clone())),
        }
        let line = self.chain.extend(secret, time, draft)?;
        let length = self.length.take().unwrap_or_default();
        if let Err(error) = file.write_all(line.as_bytes()).and_then(|()| file.sync_all()) {
            // A disk that is full leaves half a line: better none.
            drop(file.set_len(length));
            return Err(failed("write")(error).into());
        }
        self.length = Some(length + line.len() as u64);
        Ok(self.chain.entries().last().expect("one was just appended"))
    }

    /// Heals a ledger whose last line is cut; nothing is thrown away.
    ///
    /// # Errors
    /// When there is no ledger, or it cannot be written.
    pub fn heal(folder: &Path) -> Result<Healed, LedgerError> {
        let path = folder.join(FILE);
        let failed = |action| FileError::at(action, &path);
        let mut file =
            OpenOptions::new().read(true).append(true).open(&path).map_err(|error| missing(folder, error))?;
        file.lock().map_err(failed("lock"))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed("read"))?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let tail = &text[whole..];
        if tail.is_empty() {
            return Ok(Healed::Whole);
        }
        if read_line(tail).is_ok_and(|line| line.faults.is_empty()) {
            file.write_all(b"\n").and_then(|()| file.sync_all()).map_err(failed("write"))?;
            return Ok(Healed::Ended);
        }
        let mut names = (1..).map(|count| folder.join(format!("{FILE}.cut-{count}")));
        let aside = names.find(|name| !name.exists()).expect("there is always another number");
        let mut kept = File::create_new(&aside).map_err(FileError::at("write", &aside))?;
        kept.write_all(tail).and_then(|()| kept.sync_all()).map_err(FileError::at("write", &aside))?;
        file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(failed("write"))?;
        Ok(Healed::SetAside(aside))
    }
}

impl Chain {
    /// Begins a ledger that is kept elsewhere than in a folder: with its first line.
    ///
    /// # Errors
    /// When the draft is none to begin with.
    pub fn begin(secret: &SecretKey, role: Role, time: u64, draft: Draft) -> Result<(Self, String), LedgerError> {
        let mut chain = Self::new();
        let line = chain.make((secret.name(), role), secret, time, draft)?;
        Ok((chain, line))
    }

    /// Makes the next entry: its line, which is to be appended.
    ///
    /// # Errors
    /// When the key may not sign this, the changes do not start from what the samples are, or the clock is behind.
    pub fn extend(&mut self, secret: &SecretKey, time: u64, draft: Draft) -> Result<String, LedgerError> {
        let Some(actor) = self.actors().find(&secret.public()) else {
            let named = |a: &Actor| format!("{} of {} ({})", a.public.fingerprint(), a.name, a.role);
            let admitted: Vec<String> = self.actors().active().map(named).collect();
            let (name, key, admitted) = (secret.name().to_owned(), secret.public(), admitted.join(", "));
            return Err(LedgerError::NotAdmitted { name, key, admitted });
        };
        let (name, role) = (actor.name.clone(), actor.role);
        self.make((&name, role), secret, time, draft)
    }

    fn make(
        &mut self,
        (name, role): (&str, Role),
        secret: &SecretKey,
        time: u64,
        draft: Draft,
    ) -> Result<String, LedgerError> {
        let Draft { stage, action, note, changes } = draft;
        if note.len() > LONGEST {
            return Err(LedgerError::Note(note.len()));
        }
        let (number, before) = self.head().map_or((0, None), |(last, digest)| (last.number + 1, Some(digest)));
        let (actor, public) = (name.to_owned(), secret.public());
        let (changed, digest) = (changes.len() as u64, digest_of(&changes));
        // What the changes lead to is known once it is known that they can be made.
        let (root, keys, count) = (self.state().root(), 0, 0);
        let mut header = Header {
            number,
            time,
            actor,
            role,
            public,
            stage,
            action,
            note,
            changed,
            changes: digest,
            before,
            root,
            keys,
            count,
        };
        match self.objections(&header, &changes).into_iter().next() {
            Some(What::Backwards { before, found }) => return Err(LedgerError::Clock { now: found, last: before }),
            Some(what) => return Err(LedgerError::Refused(what)),
            None => {}
        }
        self.apply(&header, &changes);
        let state = self.state();
        (header.root, header.keys, header.count) = (state.root(), state.keys(), state.count());
        let entry = Entry::sign(header, changes, secret);
        let (line, digest) = (entry.line(), entry.header.digest());
        self.push(entry, digest);
        Ok(line)
    }

    /// The anchor of the last entry; none for a ledger that has none, or whose first line cannot be read.
    pub fn anchor(&self) -> Option<Anchor> {
        let (header, head) = self.head()?;
        let Header { number: entry, time, root, count, .. } = *header;
        Some(Anchor { ledger: self.identity()?, entry, time, head, root, count })
    }
}

fn missing(folder: &Path, error: io::Error) -> LedgerError {
    match error.kind() {
        io::ErrorKind::NotFound => LedgerError::NotThere(folder.to_owned()),
        _ => FileError::at("read", &folder.join(FILE))(error).into(),
    }
}

fn read(folder: &Path) -> Result<(Chain, u64), LedgerError> {
    let path = folder.join(FILE);
    let mut file = File::open(&path).map_err(|error| missing(folder, error))?;
    // While nobody writes: a long line is written in several pieces. Where there are no locks (read-only media), nobody writes either.
    drop(file.lock_shared());
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(FileError::at("read", &path))?;
    drop(file);
    Ok((Chain::read(&text), text.len() as u64))
}

/// Whether a file has this length and this end.
fn ends_with(file: &mut File, length: u64, end: &[u8]) -> io::Result<bool> {
    if file.metadata()?.len() != length || length < end.len() as u64 {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(length - end.len() as u64))?;
    let mut found = Vec::new();
    file.read_to_end(&mut found)?;
    Ok(found == end)
}

#[cfg(test)]
mod tests;
