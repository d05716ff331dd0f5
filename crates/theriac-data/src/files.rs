//! The published files of a data set: finding them, reading them, and comparing them with their checksums.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::places::Places;
use crate::readers::gzip;
use crate::registry::find;

/// A published checksum, in lowercase hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// MD5, where nothing better is published.
    Md5(&'static str),
    /// SHA-256.
    Sha256(&'static str),
}

/// What a published file holds once it is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The name of the unpacked file.
    pub name: &'static str,
    /// Its SHA-256. The same images may come in another wrapping (Debian compresses anew), so this and not the
    /// checksum of the published file decides what is loaded.
    pub sha256: &'static str,
}

/// A file as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its canonical name: `.tar.gz` for an archive, `.gz` for a single file.
    pub name: &'static str,
    /// Where it is published, in the order in which to try.
    pub urls: &'static [&'static str],
    /// Bytes.
    pub size: u64,
    /// The published checksum.
    pub checksum: Checksum,
    /// The folder that an archive unpacks into, empty for a single file.
    pub folder: &'static str,
    /// What is in it.
    pub parts: &'static [Part],
}

/// How a file on this machine compares with the published one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It is not there.
    Missing,
    /// It is the published file.
    Published,
    /// It is unpacked or wrapped otherwise, and holds what the published file holds.
    SameContent,
    /// It holds something else, or is damaged.
    Different(String),
    /// The system refuses to read it; what it holds is unknown.
    Unreadable(String),
}

/// One published file and what is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// The canonical name.
    pub name: &'static str,
    /// Where it was found: the file, or the first of its unpacked parts.
    pub path: Option<PathBuf>,
    /// Bytes found, of all parts if it is unpacked.
    pub size: u64,
    /// How it compares.
    pub state: FileState,
}

impl FileStatus {
    /// Whether the file can be loaded.
    pub fn is_ok(&self) -> bool {
        matches!(self.state, FileState::Published | FileState::SameContent)
    }
}

/// A part of a file as it was read, with the path that messages name.
pub(crate) type Unpacked = (PathBuf, Vec<u8>);

/// Compares the files of a data set with the published ones. Empty for data sets that need none.
///
/// # Errors
/// When no data set has this name.
pub fn verify(name: &str, places: &Places) -> Result<Vec<FileStatus>, DataError> {
    Ok(find(name)?.files.iter().map(|file| status(name, file, places)).collect())
}

/// The unpacked parts of `file`, in order, each with its path.
///
/// # Errors
/// When the file is nowhere, damaged, or holds something else.
pub(crate) fn read(dataset: &str, file: &RemoteFile, places: &Places) -> Result<Vec<Unpacked>, DataError> {
    let mut damaged = None;
    for copy in copies(dataset, file, places) {
        match copy.read_as(dataset, file) {
            Ok(Some(parts)) => return Ok(parts),
            Ok(None) => {}
            Err(error) if copy.named => return Err(error),
            // A damaged file of unclear ownership is no reason to stop looking, but it is told if nothing better turns up.
            Err(error) => damaged = damaged.or(Some(error)),
        }
    }
    let missing = || DataError::Missing {
        dataset: dataset.to_owned(),
        file: file.name.to_owned(),
        folder: places.target(dataset),
        url: file.urls.first().copied().unwrap_or("its publisher").to_owned(),
    };
    Err(damaged.unwrap_or_else(missing))
}

/// Whether [`read`] would find the file, without checking its content where its place says what it is.
pub(crate) fn is_present(dataset: &str, file: &RemoteFile, places: &Places) -> bool {
    let copies = copies(dataset, file, places);
    copies.iter().any(|copy| copy.named || matches!(copy.read_as(dataset, file), Ok(Some(_))))
}

/// Whether the bytes of the file at `path` are the published ones.
pub(crate) fn is_published(path: &Path, file: &RemoteFile) -> io::Result<bool> {
    if std::fs::metadata(path)?.len() != file.size {
        return Ok(false);
    }
    Ok(match file.checksum {
        Checksum::Md5(expected) => hash_file::<Md5>(path)? == expected,
        Checksum::Sha256(expected) => hash_file::<Sha256>(path)? == expected,
    })
}

pub(crate) fn status(dataset: &str, file: &RemoteFile, places: &Places) -> FileStatus {
    for copy in copies(dataset, file, places) {
        // A file that cannot be read here cannot be read below, where the reason is told.
        let published = copy.packed && is_published(&copy.paths[0], file).unwrap_or(false);
        let state = if published {
            FileState::Published
        } else {
            match copy.read_as(dataset, file) {
                Ok(Some(_)) => FileState::SameContent,
                Ok(None) => continue,
                Err(_) if !copy.named => continue,
                Err(error @ DataError::Read { .. }) => FileState::Unreadable(with_source(&error)),
                Err(error) => FileState::Different(with_source(&error)),
            }
        };
        let sizes = copy.paths.iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.len()));
        let size = sizes.sum();
        return FileStatus { name: file.name, path: copy.paths.into_iter().next(), size, state };
    }
    FileStatus { name: file.name, path: None, size: 0, state: FileState::Missing }
}

/// The message with what the system or the decoder says.
fn with_source(error: &DataError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// A published file as it was found: packed, or as all its unpacked parts.
struct Found {
    paths: Vec<PathBuf>,
    packed: bool,
    // Whether it lies in a folder of the data set's own name.
    named: bool,
}

impl Found {
    /// Unpacks the copy and compares its content. `None` is a file of another data set in a folder shared by several.
    fn read_as(&self, dataset: &str, file: &RemoteFile) -> Result<Option<Vec<Unpacked>>, DataError> {
        let parts = self.unpack(file)?;
        for ((path, bytes), part) in parts.iter().zip(file.parts) {
            let found = hex(&Sha256::digest(bytes));
            if found != part.sha256 && self.named {
                let (dataset, path, expected) = (dataset.to_owned(), path.clone(), part.sha256.to_owned());
                return Err(DataError::Content { dataset, path, expected, found });
            }
            if found != part.sha256 {
                return Ok(None);
            }
        }
        Ok(Some(parts))
    }

    fn unpack(&self, file: &RemoteFile) -> Result<Vec<Unpacked>, DataError> {
        if self.packed && file.name.ends_with(".tar.gz") {
            return untar(&self.paths[0], file);
        }
        let read = |path: &PathBuf| {
            let bytes = std::fs::read(path).map_err(|source| DataError::Read { path: path.clone(), source })?;
            Ok((path.clone(), gzip::plain(bytes, path)?))
        };
        self.paths.iter().map(read).collect()
    }
}

/// All copies of a file, in the order of the places.
fn copies(dataset: &str, file: &RemoteFile, places: &Places) -> Vec<Found> {
    let mut copies = Vec::new();
    for root in places.roots() {
        for (folder, named) in [(root.join(dataset), true), (root.clone(), false)] {
            let packed = folder.join(file.name);
            if packed.is_file() {
                copies.push(Found { paths: vec![packed], packed: true, named });
            }
            let inner = folder.join(file.folder);
            // Joining an empty name gives the folder itself.
            let folders = if file.folder.is_empty() { vec![folder] } else { vec![inner, folder] };
            for folder in folders {
                let paths: Vec<PathBuf> = file.parts.iter().map(|part| folder.join(part.name)).collect();
                if paths.iter().all(|path| path.is_file()) {
                    copies.push(Found { paths, packed: false, named });
                }
            }
        }
    }
    copies
}

fn untar(path: &Path, file: &RemoteFile) -> Result<Vec<Unpacked>, DataError> {
    let archive = File::open(path).map_err(|source| DataError::Read { path: path.to_path_buf(), source })?;
    let mut archive = tar::Archive::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(archive)));
    let mut unpacked: Vec<Option<Vec<u8>>> = vec![None; file.parts.len()];
    let broken = |unpacked: &[Option<Vec<u8>>], source| DataError::Archive {
        path: path.to_path_buf(),
        unpacked: unpacked.iter().flatten().count(),
        source,
    };
    for entry in archive.entries().map_err(|source| broken(&[], source))? {
        let mut entry = entry.map_err(|source| broken(&unpacked, source))?;
        let name = entry.path().map_err(|source| broken(&unpacked, source))?.file_name().map(|name| name.to_owned());
        let Some(which) = file.parts.iter().position(|part| name.as_deref() == Some(part.name.as_ref())) else {
            continue;
        };
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|source| broken(&unpacked, source))?;
        unpacked[which] = Some(bytes);
    }
    let parts = unpacked.into_iter().zip(file.parts).map(|(bytes, part)| match bytes {
        Some(bytes) => Ok((path.join(part.name), bytes)),
        None => Err(DataError::NotInArchive { path: path.to_path_buf(), member: part.name.to_owned() }),
    });
    parts.collect()
}

fn hash_file<D: Digest>(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = D::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests;
