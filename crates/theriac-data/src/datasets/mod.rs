//! The entries of the registry.

pub mod cifar10;
pub mod embedded;
pub mod folder;
pub mod mnist;

use theriac_core::{Dataset, Facts, Paper, Values};

use crate::error::DataError;
use crate::readers::Labelled;
use crate::registry::Loaded;
use crate::subset::Subset;

/// The paper of MNIST.
const LECUN: Paper = Paper {
    cite: "LeCun et al. 1998",
    title: "Gradient-based learning applied to document recognition",
    link: "https://doi.org/10.1109/5.726791",
};

/// The paper of Fashion-MNIST.
const XIAO: Paper = Paper {
    cite: "Xiao et al. 2017",
    title: "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
    link: "https://arxiv.org/abs/1708.07747",
};

const DIGITS: &[&str] = &["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

const CLOTHES: &[&str] =
    &["T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

/// The facts of a subset of a data set whose size is known.
fn facts_of(name: &str, full: &Facts, values: &Values) -> Result<Facts, DataError> {
    Subset::from_values(values)?.facts(name, full)
}

/// Builds both parts and draws the subsets. The parameters are checked before `read` is called.
fn load(
    name: &'static str,
    classes: &[&str],
    full: &Facts,
    values: &Values,
    read: impl FnOnce() -> Result<[Labelled; 2], DataError>,
) -> Result<Loaded, DataError> {
    let subset = Subset::from_values(values)?;
    subset.facts(name, full)?;
    let classes: Vec<String> = classes.iter().map(|&class| class.to_owned()).collect();
    let [train, test] = read()?.map(|part| Dataset::new(name, part.shape, &classes[..], part.pixels, &part.labels));
    subset.draw(Loaded { train: train?, test: test? })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::places::Places;
    use crate::registry::DatasetEntry;

    /// Loads a data set that is not part of the program, or says that its test is skipped.
    pub(crate) fn real(entry: &DatasetEntry) -> Option<Loaded> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
        let places = Places::new(Some(beside));
        if !entry.is_available(&places) {
            eprintln!("skipped: `{}` is not on this machine; THERIAC_DATA may name its folder", entry.name());
            return None;
        }
        Some((entry.load)(&Values::new(), &places).unwrap())
    }
}
