//! The data sets, in the order in which people meet them.

use theriac_core::param::nearest;
use theriac_core::{Dataset, MethodInfo, Values};

use crate::datasets::{cifar10, embedded, folder, mnist};
use crate::error::DataError;
use crate::files::{self, RemoteFile};
use crate::places::Places;

/// A data set's two parts.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What models are trained on. Ids are `0..n`.
    pub train: Dataset,
    /// What they are tested on. Ids are `0..n`.
    pub test: Dataset,
}

/// One data set of the registry.
#[derive(Clone, Debug)]
pub struct DatasetEntry {
    /// Name, summary, papers and parameters.
    pub info: MethodInfo,
    /// The licence of the images.
    pub licence: &'static str,
    /// The page that describes the data set.
    pub page: &'static str,
    /// The published files that have to be on this machine; empty where none is needed.
    pub files: &'static [RemoteFile],
    /// Checks the parameters and loads the images.
    pub load: fn(&Values, &Places) -> Result<Loaded, DataError>,
}

impl DatasetEntry {
    /// The name in configs.
    pub const fn name(&self) -> &'static str {
        self.info.name
    }

    /// Whether all files are on this machine. Their content is checked on loading.
    pub fn is_available(&self, places: &Places) -> bool {
        self.files.iter().all(|file| files::is_present(self.name(), file, places))
    }
}

/// All data sets.
pub static DATASETS: &[&DatasetEntry] = &[
    &embedded::MNIST_10K,
    &embedded::FASHION_12K,
    &mnist::MNIST,
    &mnist::FASHION_MNIST,
    &cifar10::CIFAR10,
    &folder::FOLDER,
];

/// The data set called `name`.
///
/// # Errors
/// When there is none; the message names the nearest.
pub fn find(name: &str) -> Result<&'static DatasetEntry, DataError> {
    let names = || DATASETS.iter().map(|entry| entry.name());
    DATASETS.iter().copied().find(|entry| entry.name() == name).ok_or_else(|| {
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", names().collect::<Vec<_>>().join(", ")),
        };
        DataError::UnknownDataset { name: name.to_owned(), hint }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::Kind;

    #[test]
    fn entries_are_complete_and_distinct() {
        for (index, entry) in DATASETS.iter().enumerate() {
            let name = entry.name();
            assert_eq!(entry.info.kind, Kind::Dataset, "{name}");
            assert!(DATASETS[..index].iter().all(|other| other.name() != name), "{name}");
            assert!(entry.info.summary.ends_with('.') && !entry.licence.is_empty(), "{name}");
            for key in ["train", "test"] {
                assert!(entry.info.params.iter().any(|param| param.name == key), "{name} {key}");
            }
            for file in entry.files {
                assert!(!file.urls.is_empty() && file.urls.iter().all(|url| url.ends_with(file.name)), "{}", file.name);
                assert!(file.parts.iter().all(|part| part.sha256.len() == 64), "{}", file.name);
            }
        }
    }

    #[test]
    fn unknown_names_get_a_hint() {
        assert_eq!(
            find("cifar-10").unwrap_err().to_string(),
            "failed to find data set `cifar-10`: did you mean `cifar10`?"
        );
        assert!(find("imagenet").unwrap_err().to_string().contains("known are mnist-10k, fashion-12k, mnist"));
    }

    #[test]
    fn embedded_sets_are_always_available_and_others_only_with_their_files() {
        let empty = tempfile::tempdir().unwrap();
        let places = Places::only(empty.path());
        let answers: Vec<bool> = DATASETS.iter().map(|entry| entry.is_available(&places)).collect();
        assert_eq!(answers, [true, true, false, false, false, true]);
    }
}
