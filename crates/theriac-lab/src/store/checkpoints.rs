//! Checkpoints: what a step saved on its way, to go on from there.

use std::fs;
use std::path::PathBuf;

use theriac_core::Digest;

use super::Store;
use crate::files::{FileError, PartFile, create_folder};

const HASH: usize = 32;

impl Store {
    pub(super) fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    fn checkpoint_path(&self, address: &Digest) -> PathBuf {
        self.checkpoints().join(address.to_string())
    }

    /// What a step saved last. A damaged checkpoint is none: the step begins anew then.
    pub fn checkpoint(&self, address: &Digest) -> Option<Vec<u8>> {
        let content = fs::read(self.checkpoint_path(address)).ok()?;
        let (hash, state) = content.split_at_checked(HASH)?;
        (Digest::of(state).as_bytes() == hash).then(|| state.to_vec())
    }

    /// Keeps `state` in the place of an earlier one.
    ///
    /// # Errors
    /// The disk refuses; the earlier one is still there then.
    pub fn save_checkpoint(&self, address: &Digest, state: &[u8]) -> Result<(), FileError> {
        create_folder(&self.checkpoints())?;
        let mut file = PartFile::begin(&self.checkpoint_path(address))?;
        file.write(Digest::of(state).as_bytes())?;
        file.write(state)?;
        file.finish().map(drop)
    }

    /// Forgets what a step saved, for it is finished.
    pub fn drop_checkpoint(&self, address: &Digest) {
        // There is none in most cases, and one that stays harms nobody.
        drop(fs::remove_file(self.checkpoint_path(address)));
    }
}
