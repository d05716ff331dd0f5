//! Writing a poisoned data set for other tools: images, the list of edits, and NumPy arrays.
//!
//! ```text
//! OUT/images/0-zero/17.png    one folder a class, one image a sample, named by the sample's id
//! OUT/edits.csv               one row an edit, in order
//! OUT/data.npz                images [sample, channel, row, column] u8, labels i64, ids u64
//! ```
//!
//! `OUT/images` can be loaded as data set `folder` again, with the same labels, as long as every class keeps two images.
//! Equal data give equal bytes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use theriac_core::{ChangeSet, Dataset, Edit, Label, SampleId, Shape};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::error::DataError;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The folder with one folder of PNG images a class.
    pub images: PathBuf,
    /// The list of edits. `changed_pixels` counts the places (row and column) where any channel changed, `linf` is the
    /// largest change of a pixel value, from 0 to 255, both against the base.
    pub edits: PathBuf,
    /// The NumPy archive with `images`, `labels` and `ids`.
    pub arrays: PathBuf,
}

/// Writes `poisoned`, which is `changes` applied to `base`, into the folder `out`. The folder is made if it does not
/// exist.
///
/// # Errors
/// When `out` is not empty or cannot be written, the three do not belong together, or the images are neither gray nor
/// RGB.
pub fn export(base: &Dataset, poisoned: &Dataset, changes: &ChangeSet, out: &Path) -> Result<Exported, DataError> {
    if changes.apply(base)?.digest() != poisoned.digest() {
        return Err(DataError::ChangesDiffer);
    }
    let channels = poisoned.shape().channels;
    if channels != 1 && channels != 3 {
        return Err(DataError::Channels { channels });
    }
    fs::create_dir_all(out).map_err(failed(out))?;
    let mut entries = fs::read_dir(out).map_err(|source| DataError::Read { path: out.to_path_buf(), source })?;
    if entries.next().is_some() {
        return Err(DataError::NotEmpty { path: out.to_path_buf() });
    }
    let exported = Exported { images: out.join("images"), edits: out.join("edits.csv"), arrays: out.join("data.npz") };
    write_images(poisoned, &exported.images)?;
    write_edits(base, changes, &exported.edits).map_err(failed(&exported.edits))?;
    write_arrays(poisoned, &exported.arrays).map_err(failed(&exported.arrays))?;
    Ok(exported)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_path_buf();
    move |source| DataError::Write { path, source }
}

fn write_images(data: &Dataset, out: &Path) -> Result<(), DataError> {
    let folders: Vec<PathBuf> = class_folders(data.classes()).iter().map(|name| out.join(name)).collect();
    for folder in &folders {
        fs::create_dir_all(folder).map_err(failed(folder))?;
    }
    for index in 0..data.len() {
        let path = folders[usize::from(data.label(index))].join(format!("{}.png", data.id(index).0));
        write_png(data.shape(), data.image(index), &path)?;
    }
    Ok(())
}

/// A folder name a class: its index, so that the sorted names are in the order of the classes, and what a file system
/// accepts of its name.
fn class_folders(classes: &[String]) -> Vec<String> {
    let digits = classes.len().saturating_sub(1).to_string().len();
    let safe = |letter: char| if letter.is_alphanumeric() || letter == '-' { letter } else { '_' };
    let folder =
        |(index, name): (usize, &String)| format!("{index:0digits$}-{}", name.chars().map(safe).collect::<String>());
    classes.iter().enumerate().map(folder).collect()
}

fn write_png(shape: Shape, image: &[u8], path: &Path) -> Result<(), DataError> {
    let area = shape.height * shape.width;
    let rows: Vec<u8> =
        (0..area).flat_map(|at| (0..shape.channels).map(move |channel| image[channel * area + at])).collect();
    let file = BufWriter::new(File::create(path).map_err(failed(path))?);
    let mut encoder = png::Encoder::new(file, shape.width as u32, shape.height as u32);
    encoder.set_color(if shape.channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&rows)?;
        writer.finish()
    });
    written.map_err(|source| DataError::Encode { path: path.to_path_buf(), source })
}

fn write_edits(base: &Dataset, changes: &ChangeSet, path: &Path) -> io::Result<()> {
    let positions = base.positions();
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(["sample_id", "edit", "from_label", "to_label", "source", "changed_pixels", "linf"])?;
    // Samples may be edited twice, and inserted samples may be edited: label and source go along.
    let mut known: HashMap<SampleId, (Label, u16)> = HashMap::new();
    for edit in &changes.edits {
        let id = edit.id();
        let position = positions.get(&id).copied();
        let before = known.get(&id).copied().or_else(|| position.map(|at| (base.label(at), base.source(at).0)));
        let (label, source) = before.unwrap_or_default();
        let (name, from, to, change) = match edit {
            Edit::Relabel { from, to, .. } => ("relabel", Some(*from), Some(*to), Some((0, 0))),
            Edit::Replace { image, .. } => {
                let change = position.map(|at| difference(base.shape(), base.image(at), image));
                ("replace", Some(label), Some(label), change)
            }
            Edit::Insert { label, .. } => ("insert", None, Some(*label), None),
            Edit::Remove { .. } => ("remove", Some(label), None, None),
        };
        let source = if let Edit::Insert { source, .. } = edit { source.0 } else { source };
        known.insert(id, (to.unwrap_or(label), source));
        let text = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        writer.write_record([
            id.0.to_string(),
            name.to_owned(),
            text(from.map(u64::from)),
            text(to.map(u64::from)),
            source.to_string(),
            text(change.map(|(pixels, _)| pixels)),
            text(change.map(|(_, linf)| u64::from(linf))),
        ])?;
    }
    writer.flush()
}

/// At how many places two images differ, and by how much at most.
fn difference(shape: Shape, one: &[u8], other: &[u8]) -> (u64, u8) {
    let area = shape.height * shape.width;
    let change = |at: usize| one[at].abs_diff(other[at]);
    let changed = (0..area).filter(|&at| (0..shape.channels).any(|channel| change(channel * area + at) > 0)).count();
    (changed as u64, (0..shape.len()).map(change).max().unwrap_or(0))
}

fn write_arrays(data: &Dataset, path: &Path) -> io::Result<()> {
    let (shape, count) = (data.shape(), data.len());
    let large = (count * shape.len()) as u64 > u64::from(u32::MAX) / 2;
    // Stored, not compressed: NumPy reads it fastest. The default time is a constant, so equal data give equal files.
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).large_file(large);
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path)?));
    archive.start_file("images.npy", options)?;
    archive.write_all(&npy_header("|u1", &[count, shape.channels, shape.height, shape.width]))?;
    (0..count).try_for_each(|index| archive.write_all(data.image(index)))?;
    archive.start_file("labels.npy", options)?;
    archive.write_all(&npy_header("<i8", &[count]))?;
    (0..count).try_for_each(|index| archive.write_all(&i64::from(data.label(index)).to_le_bytes()))?;
    archive.start_file("ids.npy", options)?;
    archive.write_all(&npy_header("<u8", &[count]))?;
    (0..count).try_for_each(|index| archive.write_all(&data.id(index).0.to_le_bytes()))?;
    archive.finish()?.flush()
}

/// The header of a NumPy array, version 1.0, padded to 64 bytes; see
/// <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
/// Written here because the crates for it bring a parser of Python literals along.
fn npy_header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let dictionary = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", sizes.trim_end());
    let unpadded = 10 + dictionary.len() + 1;
    let length = unpadded.next_multiple_of(64) - 10;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(format!("{dictionary:<width$}\n", width = length - 1).into_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Places, find};
    use std::io::Read;
    use theriac_core::threat::Stage;
    use theriac_core::{Role, SourceId};

    fn base() -> Dataset {
        let shape = Shape { channels: 3, height: 1, width: 2 };
        let classes = ["T-shirt/top", "bag"].map(String::from).to_vec();
        Dataset::new("toy", shape, classes, (0..24).collect::<Vec<u8>>(), &[0, 1, 0, 1]).unwrap()
    }

    fn poisoned(base: &Dataset) -> (Dataset, ChangeSet) {
        let mut changes = ChangeSet::new("toy", Role::Supplier, Stage::Collect);
        changes.relabel(base, 0, 1);
        changes.replace(base, 1, vec![6, 7, 8, 19, 10, 21]);
        changes.insert(base, 0, SourceId(3), vec![9; 6]);
        changes.remove(base, 2);
        (changes.apply(base).unwrap(), changes)
    }

    #[test]
    fn images_edits_and_arrays_are_written() {
        let out = tempfile::tempdir().unwrap();
        let base = base();
        let (poisoned, changes) = poisoned(&base);
        let exported = export(&base, &poisoned, &changes, out.path()).unwrap();
        assert_eq!(
            fs::read_to_string(&exported.edits).unwrap(),
            "sample_id,edit,from_label,to_label,source,changed_pixels,linf\n\
             0,relabel,0,1,0,0,0\n\
             1,replace,1,1,0,1,10\n\
             4,insert,,0,3,,\n\
             2,remove,0,,0,,\n"
        );
        let image = crate::readers::png::read(&exported.images.join("1-bag/1.png")).unwrap();
        assert_eq!(image, (poisoned.shape(), poisoned.image(1).to_vec()));

        let mut archive = zip::ZipArchive::new(File::open(&exported.arrays).unwrap()).unwrap();
        let mut array = |name: &str| {
            let mut bytes = Vec::new();
            archive.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
            let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            assert_eq!((start % 64, bytes[start - 1]), (0, b'\n'));
            (String::from_utf8_lossy(&bytes[10..start]).trim_end().to_owned(), bytes[start..].to_vec())
        };
        let (header, bytes) = array("images.npy");
        assert_eq!(header, "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 3, 1, 2,), }");
        assert_eq!((bytes.len(), &bytes[6..12]), (24, poisoned.image(1)));
        let (header, bytes) = array("labels.npy");
        assert_eq!(header, "{'descr': '<i8', 'fortran_order': False, 'shape': (4,), }");
        assert_eq!(bytes, [1i64, 1, 1, 0].map(i64::to_le_bytes).concat());
        assert_eq!(array("ids.npy").1, [0u64, 1, 3, 4].map(u64::to_le_bytes).concat());
    }

    #[test]
    fn what_was_exported_can_be_loaded_with_the_same_labels() {
        let out = tempfile::tempdir().unwrap();
        let base = base();
        let none = ChangeSet::new("toy", Role::Supplier, Stage::Collect);
        let exported = export(&base, &base, &none, &out.path().join("new/folder")).unwrap();
        let path = exported.images.to_string_lossy().into_owned();
        let values = [("path".to_owned(), path.into()), ("test_fraction".to_owned(), 0.5.into())].into();
        let loaded = (find("folder").unwrap().load)(&values, &Places::only("nowhere")).unwrap();
        assert_eq!(loaded.train.classes(), ["0-T-shirt_top", "1-bag"]);
        for data in [&loaded.train, &loaded.test] {
            for index in 0..data.len() {
                let original = (0..base.len()).find(|&at| base.image(at) == data.image(index)).unwrap();
                assert_eq!(base.label(original), data.label(index));
            }
        }
    }

    #[test]
    fn a_folder_with_content_is_left_alone() {
        let out = tempfile::tempdir().unwrap();
        fs::write(out.path().join("mine"), "precious").unwrap();
        let base = base();
        let (poisoned, changes) = poisoned(&base);
        let error = export(&base, &poisoned, &changes, out.path()).unwrap_err();
        assert!(matches!(error, DataError::NotEmpty { .. }), "{error}");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    }

    #[test]
    fn changes_that_do_not_fit_and_odd_channels_are_refused() {
        let out = tempfile::tempdir().unwrap();
        let base = base();
        let (poisoned, changes) = poisoned(&base);
        assert!(matches!(export(&base, &base, &changes, out.path()), Err(DataError::ChangesDiffer)));
        assert!(matches!(export(&poisoned, &poisoned, &changes, out.path()), Err(DataError::Edit(_))));
        let shape = Shape { channels: 2, height: 1, width: 1 };
        let odd = Dataset::new("odd", shape, vec!["a".to_owned()], vec![0, 1], &[0]).unwrap();
        let none = ChangeSet::new("toy", Role::Supplier, Stage::Collect);
        assert!(matches!(export(&odd, &odd, &none, out.path()), Err(DataError::Channels { channels: 2 })));
    }

    #[test]
    fn equal_data_give_equal_bytes() {
        let base = base();
        let (poisoned, changes) = poisoned(&base);
        let bytes = || {
            let out = tempfile::tempdir().unwrap();
            fs::read(export(&base, &poisoned, &changes, out.path()).unwrap().arrays).unwrap()
        };
        assert_eq!(bytes(), bytes());
    }
}
