//! `mnist-10k` and `fashion-12k`: real images that are part of the program.
//!
//! LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998,
//! <https://doi.org/10.1109/5.726791>.
//! Xiao, Rasul, Vollgraf: Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms, 2017,
//! <https://arxiv.org/abs/1708.07747>.
//!
//! Both parts of `mnist-10k`, the test images too, belong to MNIST's *training* images. A model that was trained on
//! `mnist` has seen them: never score it on `mnist-10k`. `fashion-12k` is cut from the beginnings of Fashion-MNIST's
//! own two parts.

use std::path::Path;

use theriac_core::{Kind, MethodInfo, Values};

use super::{CLOTHES, DIGITS, LECUN, XIAO};
use crate::error::DataError;
use crate::places::Places;
use crate::readers::{Labelled, gzip, idx};
use crate::registry::{DatasetEntry, Loaded};
use crate::subset::Subset;

/// Training and test images.
const MNIST_COUNTS: [usize; 2] = [7_996, 2_004];
const FASHION_COUNTS: [usize; 2] = [10_000, 2_000];

/// A compressed file and the name that messages give it.
type Embedded = (&'static [u8], &'static str);

macro_rules! embedded {
    ($name:literal) => {
        (include_bytes!(concat!("../../embedded/", $name)), concat!("embedded/", $name))
    };
}

// Images and labels of the training part, images and labels of the test part.
const MNIST_FILES: [[Embedded; 2]; 2] = [
    [embedded!("mnist10k-train-images-idx3-ubyte.gz"), embedded!("mnist10k-train-labels-idx1-ubyte.gz")],
    [embedded!("mnist10k-test-images-idx3-ubyte.gz"), embedded!("mnist10k-test-labels-idx1-ubyte.gz")],
];
const FASHION_FILES: [[Embedded; 2]; 2] = [
    [embedded!("fashion12k-train-images-idx3-ubyte.gz"), embedded!("fashion12k-train-labels-idx1-ubyte.gz")],
    [embedded!("fashion12k-test-images-idx3-ubyte.gz"), embedded!("fashion12k-test-labels-idx1-ubyte.gz")],
];

fn read(files: &[[Embedded; 2]; 2]) -> Result<[Labelled; 2], DataError> {
    let part = |[images, labels]: &[Embedded; 2]| {
        let [images_path, labels_path] = [Path::new(images.1), Path::new(labels.1)];
        let (images, labels) = (gzip::gunzip(images.0, images_path)?, gzip::gunzip(labels.0, labels_path)?);
        idx::read((&images, images_path), (&labels, labels_path), 10)
    };
    Ok([part(&files[0])?, part(&files[1])?])
}

fn load_mnist(values: &Values, _places: &Places) -> Result<Loaded, DataError> {
    super::load(MNIST_10K.name(), DIGITS, MNIST_COUNTS, values, || read(&MNIST_FILES))
}

fn load_fashion(values: &Values, _places: &Places) -> Result<Loaded, DataError> {
    super::load(FASHION_12K.name(), CLOTHES, FASHION_COUNTS, values, || read(&FASHION_FILES))
}

/// 10,000 embedded digits of MNIST.
pub static MNIST_10K: DatasetEntry = DatasetEntry {
    info: MethodInfo {
        papers: &[LECUN],
        ..MethodInfo::plain(
            "mnist-10k",
            Kind::Dataset,
            "7,996 + 2,004 handwritten digits, embedded; both parts come from MNIST's training images.",
            Subset::PARAMS,
        )
    },
    licence: "CC BY-SA 3.0",
    page: "http://yann.lecun.com/exdb/mnist/",
    files: &[],
    load: load_mnist,
};

/// 12,000 embedded images of Fashion-MNIST.
pub static FASHION_12K: DatasetEntry = DatasetEntry {
    info: MethodInfo {
        papers: &[XIAO],
        ..MethodInfo::plain(
            "fashion-12k",
            Kind::Dataset,
            "The first 10,000 + 2,000 images of clothes of Fashion-MNIST, embedded.",
            Subset::PARAMS,
        )
    },
    licence: "MIT",
    page: "https://github.com/zalandoresearch/fashion-mnist",
    files: &[],
    load: load_fashion,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics;
    use theriac_core::{Label, Shape};

    const SHAPE: Shape = Shape { channels: 1, height: 28, width: 28 };

    fn whole(entry: &DatasetEntry) -> Loaded {
        (entry.load)(&Values::new(), &Places::only("nowhere")).unwrap()
    }

    // The digests are pinned: a change of the images, the labels or their order changes every result.
    #[test]
    fn mnist_10k_is_what_it_was() {
        let Loaded { train, test } = whole(&MNIST_10K);
        assert_eq!((train.shape(), train.len(), test.len()), (SHAPE, 7_996, 2_004));
        assert_eq!(train.class_counts(), [800, 901, 792, 825, 784, 690, 811, 856, 755, 782]);
        assert_eq!(test.class_counts(), [201, 226, 199, 207, 196, 173, 203, 214, 189, 196]);
        assert_eq!([train.digest().short(16), test.digest().short(16)], ["3fc988bb4d1cd232", "28fc9bb397af976c"]);
        let (mean, deviation) = statistics(&train)[0];
        assert!((mean - 0.1307).abs() < 0.003 && (deviation - 0.3081).abs() < 0.003, "{mean} {deviation}");
    }

    #[test]
    fn fashion_12k_is_what_it_was() {
        let Loaded { train, test } = whole(&FASHION_12K);
        assert_eq!((train.shape(), train.len(), test.len()), (SHAPE, 10_000, 2_000));
        assert_eq!(train.class_counts(), [942, 1027, 1016, 1019, 974, 989, 1021, 1022, 990, 1000]);
        assert_eq!(test.class_counts(), [200, 203, 214, 190, 219, 195, 197, 200, 194, 188]);
        assert_eq!([train.digest().short(16), test.digest().short(16)], ["63265b9c74ee1783", "868f134760f219c8"]);
        // The first labels of Fashion-MNIST: ankle boot, T-shirt, T-shirt, dress.
        let first: Vec<Label> = (0..4).map(|index| train.label(index)).collect();
        assert_eq!(first, [9, 0, 0, 3]);
    }

    #[test]
    fn a_subset_is_drawn_and_too_much_is_refused() {
        let load =
            |train: u64| (MNIST_10K.load)(&[("train".to_owned(), train.into())].into(), &Places::only("nowhere"));
        let loaded = load(1_000).unwrap();
        assert_eq!((loaded.train.len(), loaded.test.len()), (1_000, 2_004));
        assert_eq!(loaded.train.digest().short(16), "6466357c79d51122");
        assert!(loaded.train.class_counts().iter().all(|&count| (60..140).contains(&count)));
        assert!(matches!(load(7_997), Err(DataError::TooMany { key: "train", asked: 7_997, available: 7_996, .. })));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = (MNIST_10K.load)(&[("trian".to_owned(), 5.into())].into(), &Places::default()).unwrap_err();
        assert_eq!(error.to_string(), "failed to accept `trian`: unknown key; did you mean `train`?");
    }
}
