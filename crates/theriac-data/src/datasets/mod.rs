//! The entries of the registry.

pub mod cifar10;
pub mod embedded;
pub mod folder;
pub mod mnist;

use theriac_core::{Dataset, Paper, Values};

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

/// Builds both parts and draws the subsets. The parameters are checked against the `counts` of training and test samples before
/// `read` is called.
fn load(
    name: &'static str,
    classes: &[&str],
    counts: [usize; 2],
    values: &Values,
    read: impl FnOnce() -> Result<[Labelled; 2], DataError>,
) -> Result<Loaded, DataError> {
    let subset = Subset::from_values(values)?;
    subset.check(name, counts[0], counts[1])?;
    let classes: Vec<String> = classes.iter().map(|&class| class.to_owned()).collect();
    let [train, test] = read()?.map(|part| Dataset::new(name, part.shape, &classes[..], part.pixels, &part.labels));
    subset.draw(Loaded { train: train?, test: test? })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::places::Places;
    use crate::registry::DatasetEntry;

    /// Loads a data set that is not part of the program, or says that its test is skipped.
    pub(crate) fn real(entry: &DatasetEntry) -> Option<Loaded> {
        let places = Places::default();
        if !entry.is_available(&places) {
            eprintln!("skipped: `{}` was not found; THERIAC_DATA may name the folder that has it", entry.name());
            return None;
        }
        Some((entry.load)(&Values::new(), &places).unwrap())
    }
}
