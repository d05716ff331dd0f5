//! Files that are either there as a whole or not at all, and errors that name the path.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Digest;

/// A file or folder that could not be worked with.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} `{}`: {source}", path.display())]
pub struct FileError {
    /// What was tried, such as `write`.
    pub action: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

impl FileError {
    /// Turns an [`io::Error`] into one that says what was tried, and where.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

/// Creates a folder and all above it.
///
/// # Errors
/// Names the folder.
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(FileError::at("create the folder", path))
}

/// Writes a file under another name and renames it, so that no reader and no crash ever sees half of it.
///
/// # Errors
/// Names the file.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let mut file = PartFile::begin(path)?;
    file.write(content)?;
    file.finish().map(drop)
}

/// A file that is written in pieces under another name, and is there as a whole once it is finished.
#[derive(Debug)]
pub struct PartFile {
    path: PathBuf,
    part: PathBuf,
    /// Taken when the file is finished.
    file: Option<BufWriter<File>>,
    hasher: blake3::Hasher,
}

impl PartFile {
    /// Begins the file that will be at `path`.
    ///
    /// # Errors
    /// Names the file.
    pub fn begin(path: &Path) -> Result<Self, FileError> {
        let named = |word: &str| {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{word}.part"));
            path.with_file_name(name)
        };
        let begun = reserve(|word| Ok((File::create_new(named(word))?, named(word))));
        let (file, part) = begun.map_err(FileError::at("write", path))?;
        let file = Some(BufWriter::new(file));
        Ok(Self { path: path.to_owned(), part, file, hasher: blake3::Hasher::new() })
    }

    /// Appends `content`.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&mut self, content: &[u8]) -> Result<(), FileError> {
        self.hasher.update(content);
        let file = self.file.as_mut().expect("only a finished file has none");
        file.write_all(content).map_err(FileError::at("write", &self.path))
    }

    /// Puts the file in its place once it is on the disk. The hash of all of it.
    ///
    /// # Errors
    /// Names the file.
    pub fn finish(mut self) -> Result<Digest, FileError> {
        let file = self.file.take().expect("a file is finished once");
        let synced = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        match synced.and_then(|()| fs::rename(&self.part, &self.path)) {
            Ok(()) => Ok(Digest::from(self.hasher.finalize())),
            Err(source) => {
                self.discard();
                Err(FileError { action: "write", path: self.path.clone(), source })
            }
        }
    }

    fn discard(&self) {
        // Nothing more can be done about a part that cannot be removed.
        drop(fs::remove_file(&self.part));
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.discard();
        }
    }
}

/// Calls `make` with names that no other thread uses until it finds one that nobody uses: processes in two containers may share a folder
/// and have the same id.
///
/// # Errors
/// Those of `make`, but for "already exists".
pub fn reserve<T>(mut make: impl FnMut(&str) -> io::Result<T>) -> io::Result<T> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        match make(&format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_in_pieces_is_there_when_it_is_finished_and_leaves_nothing_if_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let begin = || {
            let mut file = PartFile::begin(&path).unwrap();
            file.write(b"one\n").unwrap();
            file.write(b"two\n").unwrap();
            file
        };
        drop(begin());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = begin();
        assert!(!path.exists());
        assert_eq!(file.finish().unwrap(), Digest::of(b"one\ntwo\n"));
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_somebody_else_has_is_passed_over() {
        let mut tried = Vec::new();
        let found = reserve(|name| {
            tried.push(name.to_owned());
            if tried.len() < 3 { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(name.to_owned()) }
        });
        assert_eq!(found.unwrap(), tried[2]);
        assert!(tried[0] != tried[1] && tried[1] != tried[2]);
        let failing = reserve(|_| Err::<(), _>(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(failing.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"").unwrap();
        let message = create_folder(&path.join("below")).unwrap_err().to_string();
        assert!(message.starts_with("failed to create the folder `") && message.contains("file/below`: "), "{message}");
    }
}
