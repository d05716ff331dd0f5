//! `mnist` and `fashion-mnist`: 60,000 training and 10,000 test images of 28x28 gray pixels, in four IDX files each.
//!
//! LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998,
//! <https://doi.org/10.1109/5.726791>.
//! Xiao, Rasul, Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms, 2017,
//! <https://arxiv.org/abs/1708.07747>.
//!
//! The files of the two have the same names; their content tells them apart. Each may be gzip-compressed or not.
//! Debian's package `dataset-fashion-mnist` compresses its files anew, so theirs are known by their content as well.

use theriac_core::{Kind, MethodInfo, Values};

use super::{CLOTHES, DIGITS, LECUN, XIAO};
use crate::error::DataError;
use crate::files::{self, Checksum, Part, RemoteFile};
use crate::places::Places;
use crate::readers::{Labelled, idx};
use crate::registry::{DatasetEntry, Loaded};
use crate::subset::Subset;

/// Training and test images of either.
const COUNTS: [usize; 2] = [60_000, 10_000];

macro_rules! file {
    ([$($base:literal),+], $name:literal, $size:literal, $checksum:expr, $content:literal) => {
        RemoteFile {
            name: concat!($name, ".gz"),
            urls: &[$(concat!($base, $name, ".gz")),+],
            size: $size,
            checksum: $checksum,
            folder: "",
            parts: &[Part { name: $name, sha256: $content }],
        }
    };
}

macro_rules! digits {
    ($name:literal, $size:literal, $sha256:literal, $content:literal) => {
        file!(
            ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"],
            $name,
            $size,
            Checksum::Sha256($sha256),
            $content
        )
    };
}

macro_rules! clothes {
    ($name:literal, $size:literal, $md5:literal, $content:literal) => {
        file!(
            ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"],
            $name,
            $size,
            Checksum::Md5($md5),
            $content
        )
    };
}

// In both: images and labels of the training part, images and labels of the test part.
const MNIST_FILES: &[RemoteFile] = &[
    digits!(
        "train-images-idx3-ubyte",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    digits!(
        "train-labels-idx1-ubyte",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    digits!(
        "t10k-images-idx3-ubyte",
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    digits!(
        "t10k-labels-idx1-ubyte",
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
];
const FASHION_FILES: &[RemoteFile] = &[
    clothes!(
        "train-images-idx3-ubyte",
        26_421_880,
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    clothes!(
        "train-labels-idx1-ubyte",
        29_515,
        "25c81989df183df01b3e8a0aad5dffbe",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    clothes!(
        "t10k-images-idx3-ubyte",
        4_422_102,
        "bef4ecab320f06d8554ea6380940ec79",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    clothes!(
        "t10k-labels-idx1-ubyte",
        5_148,
        "bb300cfdad3c16e7a12a480ee83cd310",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
];

fn read(dataset: &str, files: &[RemoteFile], places: &Places) -> Result<[Labelled; 2], DataError> {
    let file = |index: usize| {
        let mut parts = files::read(dataset, &files[index], places)?;
        Ok::<_, DataError>(parts.remove(0))
    };
    let part = |images: usize| {
        let ((images_path, images), (labels_path, labels)) = (file(images)?, file(images + 1)?);
        idx::read((&images, &images_path), (&labels, &labels_path), 10)
    };
    Ok([part(0)?, part(2)?])
}

fn load_mnist(values: &Values, places: &Places) -> Result<Loaded, DataError> {
    super::load(MNIST.name(), DIGITS, COUNTS, values, || read(MNIST.name(), MNIST_FILES, places))
}

fn load_fashion(values: &Values, places: &Places) -> Result<Loaded, DataError> {
    super::load(FASHION_MNIST.name(), CLOTHES, COUNTS, values, || read(FASHION_MNIST.name(), FASHION_FILES, places))
}

/// MNIST.
pub static MNIST: DatasetEntry = DatasetEntry {
    info: MethodInfo {
        papers: &[LECUN],
        ..MethodInfo::plain("mnist", Kind::Dataset, "60,000 + 10,000 handwritten digits, 28x28 gray.", Subset::PARAMS)
    },
    licence: "CC BY-SA 3.0",
    page: "http://yann.lecun.com/exdb/mnist/",
    files: MNIST_FILES,
    load: load_mnist,
};

/// Fashion-MNIST.
pub static FASHION_MNIST: DatasetEntry = DatasetEntry {
    info: MethodInfo {
        papers: &[XIAO],
        ..MethodInfo::plain(
            "fashion-mnist",
            Kind::Dataset,
            "60,000 + 10,000 images of clothes, 28x28 gray.",
            Subset::PARAMS,
        )
    },
    licence: "MIT",
    page: "https://github.com/zalandoresearch/fashion-mnist",
    files: FASHION_FILES,
    load: load_fashion,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::tests::real;

    #[test]
    fn real_mnist_has_its_published_counts() {
        let Some(Loaded { train, test }) = real(&MNIST) else { return };
        assert_eq!((train.len(), test.len()), (60_000, 10_000));
        assert_eq!(train.class_counts(), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
        assert_eq!(test.class_counts(), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
        let (mean, deviation) = crate::statistics(&train)[0];
        assert!((mean - 0.1307).abs() < 5e-5 && (deviation - 0.3081).abs() < 5e-5, "{mean} {deviation}");
    }

    #[test]
    fn real_fashion_mnist_has_its_published_counts() {
        let Some(Loaded { train, test }) = real(&FASHION_MNIST) else { return };
        assert_eq!((train.class_counts(), test.class_counts()), (vec![6_000; 10], vec![1_000; 10]));
    }

    #[test]
    fn a_missing_file_is_named_with_its_place_and_address() {
        let error = (MNIST.load)(&Values::new(), &Places::only("nowhere")).unwrap_err().to_string();
        for part in ["train-images-idx3-ubyte.gz", "ossci-datasets", "theriac data fetch mnist", "nowhere"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
