//! `cifar10`: 50,000 training and 10,000 test photographs of 32x32 pixels in ten classes.
//!
//! Krizhevsky: Learning multiple layers of features from tiny images, 2009,
//! <https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf>.
//!
//! Read from the published archive as it is, or from the files that it unpacks into.

use theriac_core::{Kind, MethodInfo, Paper, Values};

use crate::error::DataError;
use crate::files::{self, Checksum, Part, RemoteFile};
use crate::places::Places;
use crate::readers::{Labelled, cifar};
use crate::registry::{DatasetEntry, Loaded};
use crate::subset::Subset;

/// Training and test images.
const COUNTS: [usize; 2] = [50_000, 10_000];

const KRIZHEVSKY: Paper = Paper {
    cite: "Krizhevsky 2009",
    title: "Learning multiple layers of features from tiny images",
    link: "https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
};

const CLASSES: &[&str] = &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

// The last part is the test part.
const ARCHIVE: RemoteFile = RemoteFile {
    name: "cifar-10-binary.tar.gz",
    urls: &["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"],
    size: 170_052_171,
    checksum: Checksum::Sha256("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
    folder: "cifar-10-batches-bin",
    parts: &[
        Part { name: "data_batch_1.bin", sha256: "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5" },
        Part { name: "data_batch_2.bin", sha256: "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed" },
        Part { name: "data_batch_3.bin", sha256: "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67" },
        Part { name: "data_batch_4.bin", sha256: "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48" },
        Part { name: "data_batch_5.bin", sha256: "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add" },
        Part { name: "test_batch.bin", sha256: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b" },
    ],
};

fn read(places: &Places) -> Result<[Labelled; 2], DataError> {
    let files = files::read(CIFAR10.name(), &ARCHIVE, places)?;
    let (train, test) = files.split_at(ARCHIVE.parts.len() - 1);
    let part = |files: &[files::Unpacked]| {
        cifar::read(files.iter().map(|(path, bytes)| (&bytes[..], path.as_path())), CLASSES.len())
    };
    Ok([part(train)?, part(test)?])
}

fn load(values: &Values, places: &Places) -> Result<Loaded, DataError> {
    super::load(CIFAR10.name(), CLASSES, COUNTS, values, || read(places))
}

/// CIFAR-10.
pub static CIFAR10: DatasetEntry = DatasetEntry {
    info: MethodInfo {
        papers: &[KRIZHEVSKY],
        ..MethodInfo::plain(
            "cifar10",
            Kind::Dataset,
            "50,000 + 10,000 photographs of ten kinds of animals and vehicles, 32x32 RGB.",
            Subset::PARAMS,
        )
    },
    licence: "not stated by the authors",
    page: "https://www.cs.toronto.edu/~kriz/cifar.html",
    files: &[ARCHIVE],
    load,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::tests::real;

    #[test]
    fn real_cifar10_has_its_published_counts() {
        let Some(Loaded { train, test }) = real(&CIFAR10) else { return };
        assert_eq!((train.class_counts(), test.class_counts()), (vec![5_000; 10], vec![1_000; 10]));
        // The first training image is a frog.
        assert_eq!((train.label(0), train.image(0)[0]), (6, 59));
    }
}
