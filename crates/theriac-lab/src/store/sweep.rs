//! Looking over a store as a whole: what is in it, whether it is sound, and making room.

use std::fs::{self, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use theriac_core::Digest;

use super::{CHECKSUMS, Found, Note, Store, described};
use crate::files::FileError;

/// One finished step, as a whole.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its address.
    pub address: Digest,
    /// Bytes of all its files.
    pub bytes: u64,
    /// When it was made or used last.
    pub used: SystemTime,
    /// What it was; none if its note is damaged.
    pub note: Option<Note>,
}

/// What making room did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Entries and checkpoints that are still there.
    pub kept: usize,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Entries, damaged ones included, and checkpoints that were removed.
    pub removed: usize,
    /// Their bytes.
    pub removed_bytes: u64,
}

impl Store {
    /// Everything that is stored, what was used last first.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn entries(&self) -> Result<Vec<Entry>, FileError> {
        let mut entries = Vec::new();
        for shelf in list(&self.root)? {
            if shelf.file_name().len() != 2 {
                continue;
            }
            for entry in list(&shelf.path())? {
                let Ok(address) = entry.file_name().to_string_lossy().parse::<Digest>() else { continue };
                let folder = entry.path();
                let used = fs::metadata(folder.join(CHECKSUMS)).and_then(|data| data.modified());
                let note = described(&folder).ok().map(|entry| entry.note);
                let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
                entries.push(Entry { address, bytes: size(&folder), used, note });
            }
        }
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.used), entry.address));
        Ok(entries)
    }

    /// Remembers that an entry was of use just now, for [`sweep`](Self::sweep).
    #[expect(clippy::disallowed_methods, reason = "which entries go first depends on the clock, and no result does")]
    pub fn touch(&self, address: &Digest) {
        let file = fs::File::options().append(true).open(self.folder(address).join(CHECKSUMS));
        // The worst that can happen is that it is removed earlier and computed again.
        drop(file.and_then(|file| file.set_modified(SystemTime::now())));
    }

    /// Reads every entry and compares it with its checksums. Damaged ones are set aside; beside each address, what was wrong.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn check(&self) -> Result<(usize, Vec<(Digest, String)>), FileError> {
        let (mut good, mut damaged) = (0, Vec::new());
        for entry in self.entries()? {
            match self.find(&entry.address)? {
                Found::Good(_) => good += 1,
                Found::Damaged(why) => damaged.push((entry.address, why)),
                Found::Nothing => {}
            }
        }
        Ok((good, damaged))
    }

    /// Makes room: removes damaged entries, checkpoints of finished steps, and then what was not used for the longest time, other checkpoints
    /// included, until what is left takes at most `limit` bytes. With `dry`, nothing is removed. Whatever is removed can be computed again.
    ///
    /// # Errors
    /// The store is in use, or the disk refuses.
    pub fn sweep(&self, limit: u64, dry: bool) -> Result<Swept, FileError> {
        let lock = self.lock_file()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let source = io::Error::other("a run is using it; wait until that is over");
                return Err(FileError { action: "clean up", path: self.root.clone(), source });
            }
            Err(TryLockError::Error(source)) => return Err(FileError::at("lock", &self.root)(source)),
        }
        let mut swept = Swept::default();
        let mut remove = |path: &Path, bytes: u64| {
            let gone = match (dry, path.is_dir()) {
                (true, _) => Ok(()),
                (false, true) => fs::remove_dir_all(path),
                (false, false) => fs::remove_file(path),
            };
            swept.removed += 1;
            swept.removed_bytes += bytes;
            gone.map_err(FileError::at("remove", path))
        };
        if !dry {
            self.clear_litter();
        }
        for entry in list(&self.root.join("damaged"))? {
            remove(&entry.path(), size(&entry.path()))?;
        }
        let mut items: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for checkpoint in list(&self.checkpoints())? {
            let (path, address) = (checkpoint.path(), checkpoint.file_name().to_string_lossy().parse::<Digest>());
            let bytes = size(&path);
            match address.is_ok_and(|address| !self.contains(&address)) {
                true => items.push((
                    checkpoint.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH),
                    path,
                    bytes,
                )),
                false => remove(&path, bytes)?,
            }
        }
        for entry in self.entries()? {
            let folder = self.folder(&entry.address);
            match entry.note {
                Some(_) => items.push((entry.used, folder, entry.bytes)),
                None => remove(&folder, entry.bytes)?,
            }
        }
        items.sort_by(|one, other| other.cmp(one));
        let (mut kept, mut kept_bytes) = (0, 0);
        for (_, path, bytes) in items {
            if kept_bytes + bytes <= limit {
                kept += 1;
                kept_bytes += bytes;
            } else {
                remove(&path, bytes)?;
            }
        }
        Ok(Swept { kept, kept_bytes, ..swept })
    }
}

/// What is in a folder; nothing if there is no such folder.
fn list(folder: &Path) -> Result<Vec<fs::DirEntry>, FileError> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found.and_then(Iterator::collect).map_err(FileError::at("read the folder", folder)),
    }
}

/// Bytes of a file or of all files below a folder.
fn size(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size(&entry.path())).sum(),
        Err(_) => fs::metadata(path).map_or(0, |data| data.len()),
    }
}
