//! `folder`: your own images, one folder a class.
//!
//! ```text
//! PATH/train/cat/*.png      or      PATH/cat/*.png
//! PATH/train/dog/*.png              PATH/dog/*.png
//! PATH/test/cat/*.png
//! PATH/test/dog/*.png
//! ```
//!
//! All images are PNG of one size, gray or RGB with 8 bits. The classes are the sorted names of the folders, the
//! samples come class by class, sorted by file name. Files beside the class folders, and whatever starts with a dot,
//! are passed over. A folder beside `train` and `test` is an error.
//!
//! Without `train` and `test`, each class is split by `test_fraction`. The split of a class depends on its name and its
//! number of images only: it is the same for every seed, and adding a class leaves the others as they were.

use std::path::{Path, PathBuf};

use theriac_core::{Dataset, Kind, Label, MethodInfo, ParamError, Range, Seeds, Values, config};

use crate::error::DataError;
use crate::places::Places;
use crate::readers::png;
use crate::registry::{DatasetEntry, Loaded};
use crate::subset::Subset;

const NAME: &str = "folder";

config! {
    /// What `folder` can be told.
    pub struct FolderConfig {
        /// The folder with one folder a class, or with `train` and `test` in it. A relative path is looked for in the
        /// current directory, then in the data folders.
        path: String = "", Range::Text, "";
        /// The part of each class that is kept for testing; without meaning where the folder has `train` and `test` in
        /// it.
        test_fraction: f64 = 0.2, Range::Above(0.0, 0.9), "of each class";
        /// Number of training samples, drawn at random but the same for every seed; 0 takes all.
        train: usize = 0, Range::Whole(0, u64::MAX), "samples";
        /// Number of test samples, drawn at random but the same for every seed; 0 takes all.
        test: usize = 0, Range::Whole(0, u64::MAX), "samples";
        /// Number of sources that the training samples are dealt to, at random but the same for every seed; all have the same size.
        sources: usize = 1, Range::Whole(1, 10_000), "sources";
    }
}

/// A class and the paths of its images.
struct Class {
    name: String,
    images: Vec<PathBuf>,
}

/// Which image goes where, before any is read.
struct Plan {
    classes: Vec<String>,
    train: Vec<(Label, PathBuf)>,
    test: Vec<(Label, PathBuf)>,
}

fn check(values: &Values, places: &Places) -> Result<(Subset, Plan), DataError> {
    let config = FolderConfig::from_values(values)?;
    if config.path.is_empty() {
        return Err(
            ParamError::new("path", "expected a folder with one folder of PNG images a class, found nothing").into()
        );
    }
    let path = places.resolve(Path::new(&config.path));
    let subset = Subset { train: config.train, test: config.test, sources: config.sources };
    Ok((subset, plan(&path, config.test_fraction)?))
}

fn plan(path: &Path, test_fraction: f64) -> Result<Plan, DataError> {
    let parts = ["train", "test"].map(|part| path.join(part));
    // A class may be called `train`, too: then it holds images and no folders.
    let half = |present, missing| DataError::HalfSplit { path: path.to_path_buf(), present, missing };
    let [train, test] = match &parts {
        [train, test] if train.is_dir() && test.is_dir() => {
            if let Some(path) = list(path)?.into_iter().find(|entry| entry.is_dir() && !parts.contains(entry)) {
                return Err(DataError::BesideParts { path });
            }
            let classes = [scan(train, 1)?, scan(test, 1)?];
            check_same(&classes, &parts)?;
            classes
        }
        [train, _] if has_folders(train)? => return Err(half("train", "test")),
        [_, test] if has_folders(test)? => return Err(half("test", "train")),
        _ => split(scan(path, 2)?, test_fraction),
    };
    let classes = train.iter().map(|class| class.name.clone()).collect();
    let labelled = |classes: Vec<Class>| {
        let images = |(label, class): (usize, Class)| class.images.into_iter().map(move |path| (label as Label, path));
        classes.into_iter().enumerate().flat_map(images).collect()
    };
    Ok(Plan { classes, train: labelled(train), test: labelled(test) })
}

/// Whether there is a folder at `path` with folders in it.
fn has_folders(path: &Path) -> Result<bool, DataError> {
    Ok(path.is_dir() && list(path)?.iter().any(|entry| entry.is_dir()))
}

/// The classes in `path`, sorted by name, each with at least so many images.
fn scan(path: &Path, at_least: usize) -> Result<Vec<Class>, DataError> {
    let mut classes = Vec::new();
    for folder in list(path)?.into_iter().filter(|entry| entry.is_dir()) {
        let images = list(&folder)?;
        if let Some(path) = images.iter().find(|image| !is_png(image)) {
            return Err(DataError::NotAnImage { path: path.clone() });
        }
        if images.len() < at_least {
            return Err(DataError::TooFewImages { path: folder, expected: at_least, found: images.len() });
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        classes.push(Class { name, images });
    }
    if classes.is_empty() {
        return Err(DataError::NoClass { path: path.to_path_buf() });
    }
    if classes.len() > usize::from(Label::MAX) + 1 {
        return Err(DataError::TooManyClasses { path: path.to_path_buf(), found: classes.len() });
    }
    Ok(classes)
}

/// The sorted entries of a folder, without hidden ones.
fn list(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source| DataError::Read { path: folder.to_path_buf(), source };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    entries.sort();
    Ok(entries)
}

fn is_png(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
}

fn check_same([train, test]: &[Vec<Class>; 2], [train_path, test_path]: &[PathBuf; 2]) -> Result<(), DataError> {
    let lonely = |one: &[Class], other: &[Class]| {
        let is_lonely = |class: &&Class| other.iter().all(|candidate| candidate.name != class.name);
        one.iter().find(is_lonely).map(|class| class.name.clone())
    };
    match lonely(train, test).or_else(|| lonely(test, train)) {
        None => Ok(()),
        Some(class) => Err(DataError::ClassesDiffer { train: train_path.clone(), test: test_path.clone(), class }),
    }
}

fn split(classes: Vec<Class>, test_fraction: f64) -> [Vec<Class>; 2] {
    let seeds = Seeds::new(0).child("data/folder");
    let [mut train, mut test] = [Vec::new(), Vec::new()];
    for Class { name, images } in classes {
        let count = ((images.len() as f64 * test_fraction).round() as usize).clamp(1, images.len() - 1);
        let all: Vec<usize> = (0..images.len()).collect();
        let chosen = seeds.stream(&format!("split/{name}")).choose(&all, count);
        let (kept, rest): (Vec<_>, Vec<_>) =
            images.into_iter().enumerate().partition(|(index, _)| chosen.binary_search(index).is_ok());
        let class = |images: Vec<(usize, PathBuf)>| Class {
            name: name.clone(),
            images: images.into_iter().map(|(_, path)| path).collect(),
        };
        train.push(class(rest));
        test.push(class(kept));
    }
    [train, test]
}

fn load(values: &Values, places: &Places) -> Result<Loaded, DataError> {
    let (subset, plan) = check(values, places)?;
    let first = plan.train[0].1.clone();
    let expected = png::read_shape(&first)?;
    // Decoding a large folder takes a while, so what the config asks for is compared with what is there first.
    subset.check(NAME, plan.train.len(), plan.test.len())?;
    let read = |images: &[(Label, PathBuf)]| {
        let mut pixels = Vec::new();
        for (_, path) in images {
            // By the header alone: memory is not taken for a size that is refused anyway.
            let found = png::read_shape(path)?;
            if found != expected {
                return Err(DataError::ImageSize { path: path.clone(), found, expected, first: first.clone() });
            }
            pixels.extend(png::read(path)?.1);
        }
        let labels: Vec<Label> = images.iter().map(|&(label, _)| label).collect();
        Ok(Dataset::new(NAME, expected, &plan.classes[..], pixels, &labels)?)
    };
    subset.draw(Loaded { train: read(&plan.train)?, test: read(&plan.test)? })
}

/// One's own images.
pub static FOLDER: DatasetEntry = DatasetEntry {
    info: MethodInfo::plain(
        NAME,
        Kind::Dataset,
        "Your own PNG images of one size, gray or RGB, one folder a class.",
        FolderConfig::PARAMS,
    ),
    licence: "yours",
    page: "",
    files: &[],
    load,
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(path: PathBuf, width: u32, height: u32, color: ::png::ColorType, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut encoder = ::png::Encoder::new(fs::File::create(path).unwrap(), width, height);
        encoder.set_color(color);
        encoder.set_depth(::png::BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(bytes).unwrap();
    }

    fn gray(path: PathBuf, pixel: u8) {
        write(path, 2, 1, ::png::ColorType::Grayscale, &[pixel, pixel + 1]);
    }

    /// Two classes of ten images each, directly in the folder.
    fn toy() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for index in 0..10 {
            gray(root.path().join(format!("dog/{index}.png")), 100 + index);
            gray(root.path().join(format!("cat/{index}.png")), index);
        }
        root
    }

    fn values(root: &Path, test_fraction: f64) -> Values {
        let path = root.to_string_lossy().into_owned();
        [("path".to_owned(), path.into()), ("test_fraction".to_owned(), test_fraction.into())].into()
    }

    fn run(root: &Path) -> Result<Loaded, DataError> {
        load(&values(root, 0.3), &Places::only("nowhere"))
    }

    fn error(root: &Path) -> DataError {
        run(root).unwrap_err()
    }

    #[test]
    fn one_folder_is_split_class_by_class() {
        let root = toy();
        fs::write(root.path().join("readme.txt"), "beside the classes").unwrap();
        fs::write(root.path().join("cat/.hidden"), "").unwrap();
        let Loaded { train, test } = run(root.path()).unwrap();
        assert_eq!(train.classes(), ["cat", "dog"]);
        assert_eq!((train.class_counts(), test.class_counts()), (vec![7, 7], vec![3, 3]));
        let mut pixels: Vec<u8> =
            [&train, &test].iter().flat_map(|data| (0..data.len()).map(|i| data.image(i)[0])).collect();
        pixels.sort_unstable();
        assert_eq!(pixels, (0..10).chain(100..110).collect::<Vec<u8>>());
        assert!((0..train.len()).all(|index| (train.image(index)[0] >= 100) == (train.label(index) == 1)));
        let again = run(root.path()).unwrap();
        assert_eq!((again.train.digest(), again.test.digest()), (train.digest(), test.digest()));
    }

    #[test]
    fn train_and_test_folders_are_taken_as_they_are() {
        let root = tempfile::tempdir().unwrap();
        for (name, pixel) in [("train/b/1", 3), ("train/a/2", 2), ("train/a/1", 1), ("test/a/1", 4), ("test/b/1", 5)] {
            gray(root.path().join(format!("{name}.png")), pixel);
        }
        let Loaded { train, test } = run(root.path()).unwrap();
        assert_eq!((train.labels(), test.labels()), (vec![0, 0, 1], vec![0, 1]));
        assert_eq!((train.image(0), train.image(2), test.image(1)), (&[1, 2][..], &[3, 4][..], &[5, 6][..]));
        gray(root.path().join("test/c/1.png"), 6);
        assert!(matches!(error(root.path()), DataError::ClassesDiffer { class, .. } if class == "c"));
    }

    #[test]
    fn a_third_folder_beside_train_and_test_is_named() {
        let root = tempfile::tempdir().unwrap();
        for name in ["train/a/1", "test/a/1", "valid/a/1"] {
            gray(root.path().join(format!("{name}.png")), 1);
        }
        fs::write(root.path().join("readme.txt"), "beside the parts").unwrap();
        assert!(matches!(error(root.path()), DataError::BesideParts { path } if path.ends_with("valid")));
        fs::rename(root.path().join("valid"), root.path().join(".valid")).unwrap();
        assert!(run(root.path()).is_ok());
    }

    #[test]
    fn one_part_without_the_other_is_told_and_nothing_is_to_be_removed() {
        for (present, missing) in [("train", "test"), ("test", "train")] {
            let root = tempfile::tempdir().unwrap();
            gray(root.path().join(present).join("a/1.png"), 1);
            let text = error(root.path()).to_string();
            let path = |name: &str| root.path().join(name).display().to_string();
            let advice = format!("make `{}`, or name `{}` as path", path(missing), path(present));
            assert!(text.ends_with(&advice), "{text}");
        }
        // A class may have that name.
        let root = toy();
        fs::rename(root.path().join("dog"), root.path().join("train")).unwrap();
        assert_eq!(run(root.path()).unwrap().train.classes(), ["cat", "train"]);
    }

    #[test]
    fn rgb_images_and_subsets_work() {
        let root = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            for index in 0..4 {
                let path = root.path().join(format!("{class}/{index}.png"));
                write(path, 1, 2, ::png::ColorType::Rgb, &[1, 2, 3, 4, 5, 6]);
            }
        }
        let mut values = values(root.path(), 0.5);
        values.insert("train".to_owned(), 2.into());
        let loaded = load(&values, &Places::only("nowhere")).unwrap();
        assert_eq!((loaded.train.len(), loaded.test.len(), loaded.train.image(0)), (2, 4, &[1, 4, 2, 5, 3, 6][..]));
        values.insert("train".to_owned(), 5.into());
        let error = load(&values, &Places::only("nowhere")).unwrap_err();
        assert!(matches!(error, DataError::TooMany { key: "train", asked: 5, available: 4, .. }), "{error}");
        // Told before any image is decoded.
        let path = root.path().join("b/3.png");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
        assert!(matches!(load(&values, &Places::only("nowhere")), Err(DataError::TooMany { .. })));
    }

    #[test]
    fn a_path_is_needed_and_must_be_a_folder_with_classes() {
        let message = load(&Values::new(), &Places::only("nowhere")).unwrap_err().to_string();
        assert!(message.starts_with("failed to accept `path`"), "{message}");
        assert!(matches!(error(Path::new("nowhere")), DataError::Read { .. }));
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(error(root.path()), DataError::NoClass { .. }));
    }

    #[test]
    fn a_class_needs_images() {
        let root = toy();
        fs::create_dir(root.path().join("eel")).unwrap();
        assert!(matches!(error(root.path()), DataError::TooFewImages { expected: 2, found: 0, .. }));
        gray(root.path().join("eel/1.png"), 1);
        assert!(matches!(error(root.path()), DataError::TooFewImages { expected: 2, found: 1, .. }));
    }

    #[test]
    fn foreign_files_are_refused() {
        let root = toy();
        fs::write(root.path().join("cat/notes.txt"), "text").unwrap();
        assert!(matches!(error(root.path()), DataError::NotAnImage { path } if path.ends_with("notes.txt")));
        fs::rename(root.path().join("cat/notes.txt"), root.path().join("cat/notes.png")).unwrap();
        assert!(matches!(error(root.path()), DataError::Png { path, .. } if path.ends_with("notes.png")));
    }

    #[test]
    fn all_images_must_have_one_size() {
        let root = toy();
        write(root.path().join("dog/big.png"), 2, 2, ::png::ColorType::Grayscale, &[0; 4]);
        let error = error(root.path());
        assert!(matches!(&error, DataError::ImageSize { path, .. } if path.ends_with("big.png")));
        assert!(error.to_string().contains("2x2 pixels in 1 channels, expected 1x2 in 1"), "{error}");
        png::tests::declare(&root.path().join("dog/big.png"), 50_000_000, 2_000_000_000);
        assert!(matches!(run(root.path()), Err(DataError::ImageSize { .. } | DataError::Png { .. })));
    }
}
