//! Files that are either there as a whole or not at all, and errors that name the path.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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
    let named = |word: &str| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{word}.part"));
        path.with_file_name(name)
    };
    let begun = reserve(|word| Ok((File::create_new(named(word))?, named(word))));
    let (mut file, part) = begun.map_err(FileError::at("write", path))?;
    let write = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&part, path));
    write.map_err(|source| {
        // Nothing more can be done about a part that cannot be removed.
        drop(fs::remove_file(&part));
        FileError { action: "write", path: path.to_owned(), source }
    })
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
