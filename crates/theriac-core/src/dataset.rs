//! Images and labels with stable sample ids and source ids, copy-on-write over one shared block of pixels.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A class index, counted from 0.
pub type Label = u16;

/// Names a sample for its whole life: relabelling, replacing or reordering never changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SampleId(pub u64);

/// Names where a sample came from (a supplier, a crawl, an annotator's batch). The base data are source 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub u16);

/// The size of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// 1 for gray, 3 for RGB.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// Bytes of one image: `channels * height * width`.
    pub const fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether an image has no pixels.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The offset of a pixel in an image that is stored plane by plane: `[channel, row, column]`.
    pub const fn offset(&self, channel: usize, row: usize, column: usize) -> usize {
        (channel * self.height + row) * self.width + column
    }
}

/// What a config may be checked against before any image is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Size of one image.
    pub shape: Shape,
    /// Number of classes.
    pub classes: usize,
    /// Number of training samples.
    pub train: usize,
    /// Number of test samples.
    pub test: usize,
    /// Number of sources that the training samples come from; 1 if nothing is known of them.
    pub sources: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pixels {
    Base(u32),
    Overlay(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    id: SampleId,
    source: SourceId,
    label: Label,
    pixels: Pixels,
}

/// A labelled set of images, `u8`, each stored `[channel, row, column]`.
///
/// Cloning is cheap in pixels: all versions of a data set share one block, and only replaced or inserted images are stored
/// beside it.
#[derive(Clone, Debug)]
pub struct Dataset {
    name: Arc<str>,
    shape: Shape,
    classes: Arc<[String]>,
    base: Arc<[u8]>,
    overlay: Arc<Vec<u8>>,
    rows: Arc<Vec<Row>>,
    next_id: u64,
}

/// Why a data set could not be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DatasetError {
    /// The pixel block does not hold one image per label.
    #[error("failed to build data set `{name}`: {labels} labels need {expected} bytes of pixels, found {found}")]
    Pixels {
        /// The data set.
        name: String,
        /// Number of labels.
        labels: usize,
        /// Bytes that so many images take.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The images have no pixels.
    #[error(
        "failed to build data set `{name}`: images of {}x{} pixels in {} channels are empty",
        shape.height, shape.width, shape.channels
    )]
    Empty {
        /// The data set.
        name: String,
        /// Size of one image.
        shape: Shape,
    },
    /// A label names no class.
    #[error(
        "failed to build data set `{name}`: sample {index} has label {label}, but there are {classes} classes, counted from 0"
    )]
    Label {
        /// The data set.
        name: String,
        /// Which sample.
        index: usize,
        /// Its label.
        label: Label,
        /// Number of classes.
        classes: usize,
    },
}

impl Dataset {
    /// Builds a data set from one block of pixels, `[sample, channel, row, column]`, and one label a sample.
    /// Samples get the ids `0..n` and source 0.
    ///
    /// # Errors
    /// When an image has no pixels, the block's size does not fit the labels, or a label names no class.
    pub fn new(
        name: impl Into<Arc<str>>,
        shape: Shape,
        classes: impl Into<Arc<[String]>>,
        pixels: impl Into<Arc<[u8]>>,
        labels: &[Label],
    ) -> Result<Self, DatasetError> {
        let (name, classes, base) = (name.into(), classes.into(), pixels.into());
        if shape.is_empty() {
            return Err(DatasetError::Empty { name: name.to_string(), shape });
        }
        let expected = labels.len() * shape.len();
        if base.len() != expected {
            let (name, labels, found) = (name.to_string(), labels.len(), base.len());
            return Err(DatasetError::Pixels { name, labels, expected, found });
        }
        if let Some(index) = labels.iter().position(|&label| usize::from(label) >= classes.len()) {
            let (name, label, classes) = (name.to_string(), labels[index], classes.len());
            return Err(DatasetError::Label { name, index, label, classes });
        }
        let row = |(index, &label): (usize, &Label)| Row {
            id: SampleId(index as u64),
            source: SourceId(0),
            label,
            pixels: Pixels::Base(index as u32),
        };
        let rows = Arc::new(labels.iter().enumerate().map(row).collect());
        let next_id = labels.len() as u64;
        Ok(Self { name, shape, classes, base, overlay: Arc::default(), rows, next_id })
    }

    /// The registry name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size of one image.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The pixels of the sample at `index`: `[channel, row, column]`.
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.shape.len();
        match self.rows[index].pixels {
            Pixels::Base(at) => &self.base[at as usize * size..][..size],
            Pixels::Overlay(at) => &self.overlay[at as usize * size..][..size],
        }
    }

    /// The label of the sample at `index`.
    pub fn label(&self, index: usize) -> Label {
        self.rows[index].label
    }

    /// All labels, in order.
    pub fn labels(&self) -> Vec<Label> {
        self.rows.iter().map(|row| row.label).collect()
    }

    /// The id of the sample at `index`.
    pub fn id(&self, index: usize) -> SampleId {
        self.rows[index].id
    }

    /// The source of the sample at `index`.
    pub fn source(&self, index: usize) -> SourceId {
        self.rows[index].source
    }

    /// The indices of all samples with `label`, ascending.
    pub fn of_class(&self, label: Label) -> Vec<usize> {
        (0..self.len()).filter(|&index| self.label(index) == label).collect()
    }

    /// The indices of all samples from `source`, ascending.
    pub fn of_source(&self, source: SourceId) -> Vec<usize> {
        (0..self.len()).filter(|&index| self.source(index) == source).collect()
    }

    /// The sources that any sample comes from, ascending.
    pub fn sources(&self) -> Vec<SourceId> {
        let found: BTreeSet<SourceId> = self.rows.iter().map(|row| row.source).collect();
        found.into_iter().collect()
    }

    /// Number of samples of each class.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.rows.iter().for_each(|row| counts[usize::from(row.label)] += 1);
        counts
    }

    /// The first id that no sample ever had; an inserted sample takes this or a later one.
    pub fn next_id(&self) -> SampleId {
        SampleId(self.next_id)
    }

    /// The samples at `indices`, in that order, with their ids.
    pub fn select(&self, indices: &[usize]) -> Self {
        let rows = Arc::new(indices.iter().map(|&index| self.rows[index]).collect());
        Self { rows, ..self.clone() }
    }

    /// The same samples with other images: one block of pixels, `[sample, channel, row, column]`.
    ///
    /// # Panics
    /// When the block does not hold one image a sample.
    pub fn with_pixels(&self, pixels: impl Into<Arc<[u8]>>) -> Self {
        let base = pixels.into();
        assert_eq!(base.len(), self.len() * self.shape.len(), "one image a sample");
        let rows = self.rows.iter().enumerate().map(|(at, row)| Row { pixels: Pixels::Base(at as u32), ..*row });
        Self { rows: Arc::new(rows.collect()), base, overlay: Arc::default(), ..self.clone() }
    }

    /// The same samples, said to come from `sources`, one a sample.
    ///
    /// # Panics
    /// When there is not one source a sample.
    pub fn with_sources(&self, sources: &[SourceId]) -> Self {
        assert_eq!(sources.len(), self.len(), "one source a sample");
        let rows = self.rows.iter().zip(sources).map(|(row, &source)| Row { source, ..*row });
        Self { rows: Arc::new(rows.collect()), ..self.clone() }
    }

    /// Where the sample with `id` stands. Linear; use [`Dataset::positions`] for many.
    pub fn position(&self, id: SampleId) -> Option<usize> {
        self.rows.iter().position(|row| row.id == id)
    }

    /// Where each id stands.
    pub fn positions(&self) -> std::collections::HashMap<SampleId, usize> {
        self.rows.iter().enumerate().map(|(index, row)| (row.id, index)).collect()
    }

    /// A hash of everything that training can see: shape, class count, ids, sources, labels and pixels, in order.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for size in [self.shape.channels, self.shape.height, self.shape.width, self.classes.len()] {
            hasher.update(&(size as u64).to_le_bytes());
        }
        for (index, row) in self.rows.iter().enumerate() {
            hasher.update(&row.id.0.to_le_bytes());
            hasher.update(&row.source.0.to_le_bytes());
            hasher.update(&row.label.to_le_bytes());
            hasher.update(self.image(index));
        }
        Digest::of(hasher.finalize().as_bytes())
    }

    /// Bytes of pixels that this version stores beside the shared block.
    pub fn overlay_bytes(&self) -> usize {
        self.overlay.len()
    }

    pub(crate) fn editor(&self) -> Editor {
        Editor {
            rows: self.rows.as_ref().clone(),
            removed: vec![false; self.len()],
            overlay: self.overlay.as_ref().clone(),
            size: self.shape.len(),
            next_id: self.next_id,
        }
    }

    pub(crate) fn with_edits(&self, editor: Editor) -> Self {
        let Editor { rows, removed, overlay, next_id, .. } = editor;
        let kept = rows.into_iter().enumerate().filter(|(index, _)| !removed.get(*index).copied().unwrap_or(false));
        let rows = Arc::new(kept.map(|(_, row)| row).collect());
        Self { rows, overlay: Arc::new(overlay), next_id, ..self.clone() }
    }
}

/// The mutable side of copy-on-write; only [`crate::edit`] uses it.
pub(crate) struct Editor {
    rows: Vec<Row>,
    removed: Vec<bool>,
    overlay: Vec<u8>,
    size: usize,
    next_id: u64,
}

impl Editor {
    fn store(&mut self, image: &[u8]) -> Pixels {
        let at = self.overlay.len() / self.size;
        self.overlay.extend_from_slice(image);
        Pixels::Overlay(at as u32)
    }

    pub(crate) fn label(&self, index: usize) -> Label {
        self.rows[index].label
    }

    pub(crate) fn is_removed(&self, index: usize) -> bool {
        self.removed.get(index).copied().unwrap_or(false)
    }

    pub(crate) fn relabel(&mut self, index: usize, label: Label) {
        self.rows[index].label = label;
    }

    pub(crate) fn replace(&mut self, index: usize, image: &[u8]) {
        self.rows[index].pixels = self.store(image);
    }

    /// `next` is the id that follows `id`.
    pub(crate) fn insert(&mut self, id: SampleId, next: u64, source: SourceId, label: Label, image: &[u8]) -> usize {
        let pixels = self.store(image);
        self.rows.push(Row { id, source, label, pixels });
        self.next_id = self.next_id.max(next);
        self.rows.len() - 1
    }

    pub(crate) fn remove(&mut self, index: usize) {
        if self.removed.len() < self.rows.len() {
            self.removed.resize(self.rows.len(), false);
        }
        self.removed[index] = true;
    }
}

#[cfg(test)]
mod tests;
