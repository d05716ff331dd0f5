//! Claims: which process runs which step, so that two processes on one store share the work.

use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::path::PathBuf;

use theriac_core::Digest;

use super::Store;
use crate::files::{FileError, create_folder};

/// Addresses that begin with the same digits share a lock. A step that meets another one there waits for its turn; nothing else happens.
const DIGITS: usize = 3;

/// The right to run a step. It ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct Claim {
    /// Locked, except where the file system knows no locks.
    file: File,
}

impl Store {
    pub(super) fn claims(&self) -> PathBuf {
        self.root.join("claims")
    }

    /// Claims a step; `None` while another process has it. The file of the lock stays, for making and removing one for every step would
    /// cost more than the smallest steps; while it is locked, it says for which step.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn claim(&self, address: &Digest) -> Result<Option<Claim>, FileError> {
        let path = self.claims().join(address.short(DIGITS));
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = match open() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                create_folder(&self.claims())?;
                open()
            }
            file => file,
        };
        let mut file = file.map_err(FileError::at("write", &path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            Ok(()) | Err(TryLockError::Error(_)) => {
                write!(file, "{address}").map_err(FileError::at("write", &path))?;
                Ok(Some(Claim { file }))
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Only people read it.
        drop(self.file.rewind().and_then(|()| self.file.set_len(0)));
    }
}
