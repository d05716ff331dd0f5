//! Where data sets are looked for on this machine.

use std::path::{Path, PathBuf};

/// The environment variable that names a folder with data sets.
const VARIABLE: &str = "THERIAC_DATA";

/// The folders in which data sets are looked for, in order.
///
/// A file of data set NAME is looked for in `ROOT/NAME/` and then in `ROOT/` of each root. In `ROOT/` itself several
/// data sets may use the same file names, so there a file is taken only if its content is that of the data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    roots: Vec<PathBuf>,
}

impl Places {
    /// `data_dir` (the `--data-dir` of the command line) first, then the folder that the environment variable
    /// `THERIAC_DATA` names, then `data` from the current directory, and last the folder into which Debian's packages of
    /// data sets install.
    pub fn new(data_dir: Option<PathBuf>) -> Self {
        let variable = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let fixed = ["data", "/usr/share/datasets"].map(PathBuf::from);
        Self { roots: [data_dir, variable].into_iter().flatten().chain(fixed).collect() }
    }

    /// This folder and no other.
    pub fn only(folder: impl Into<PathBuf>) -> Self {
        Self { roots: vec![folder.into()] }
    }

    /// All roots, in order.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Where the files of a data set are fetched to: its folder in the first root.
    pub fn target(&self, dataset: &str) -> PathBuf {
        self.roots.first().map_or_else(|| PathBuf::from(dataset), |root| root.join(dataset))
    }

    /// The folder that a person means by `path`: as it stands, or below the first root that has it.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        let below = || self.roots.iter().map(|root| root.join(path)).find(|folder| folder.is_dir());
        if path.is_dir() { path.to_path_buf() } else { below().unwrap_or_else(|| path.to_path_buf()) }
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::new(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_folder_comes_first() {
        let places = Places::new(Some("mine".into()));
        assert_eq!(places.roots()[0], Path::new("mine"));
        assert_eq!(places.target("mnist"), Path::new("mine").join("mnist"));
        assert!(places.roots().iter().any(|root| root == Path::new("data")));
    }

    #[test]
    fn a_relative_folder_is_found_below_a_root() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("cats-and-dogs")).unwrap();
        let places = Places::only(root.path());
        assert_eq!(places.resolve(Path::new("cats-and-dogs")), root.path().join("cats-and-dogs"));
        assert_eq!(places.resolve(Path::new("nowhere")), Path::new("nowhere"));
    }
}
