//! Edits and change sets: the one form of everything that happens to data.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Label, SampleId, SourceId};
use crate::digest::Digest;
use crate::threat::Stage;

/// One change to one sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edit {
    /// The label changes, the image stays.
    Relabel {
        /// The sample.
        id: SampleId,
        /// The label before.
        from: Label,
        /// The label after.
        to: Label,
    },
    /// The image changes, the label stays.
    Replace {
        /// The sample.
        id: SampleId,
        /// The new pixels, `[channel, row, column]`.
        #[serde(with = "serde_bytes")]
        image: Vec<u8>,
    },
    /// A sample is added at the end.
    Insert {
        /// Its new id; see [`Dataset::next_id`].
        id: SampleId,
        /// Its label.
        label: Label,
        /// Who supplied it.
        source: SourceId,
        /// Its pixels, `[channel, row, column]`.
        #[serde(with = "serde_bytes")]
        image: Vec<u8>,
    },
    /// The sample is taken out.
    Remove {
        /// The sample.
        id: SampleId,
    },
}

impl Edit {
    /// The sample that this edit touches.
    pub fn id(&self) -> SampleId {
        match self {
            Self::Relabel { id, .. } | Self::Replace { id, .. } | Self::Insert { id, .. } | Self::Remove { id } => *id,
        }
    }
}

/// In which role the author of a change set acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Delivers data from outside.
    Supplier,
    /// Gives labels.
    Annotator,
    /// Has access to storage and training.
    Engineer,
    /// Cleans or repairs.
    Defender,
    /// Checks what the others did.
    Auditor,
    /// A program that acts by itself.
    Service,
}

/// What one author did in one step: an ordered list of edits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSet {
    /// Who: the name of an attack, a defense or a person.
    pub author: String,
    /// In which role.
    pub role: Role,
    /// At which stage of the pipeline.
    pub stage: Stage,
    /// What, in order.
    pub edits: Vec<Edit>,
}

/// Why a change set does not fit a data set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EditError {
    /// The sample does not exist (any more).
    #[error("failed to apply edit {index}: there is no sample {}", id.0)]
    NoSuchSample {
        /// Which edit.
        index: usize,
        /// Which sample.
        id: SampleId,
    },
    /// An inserted id is taken.
    #[error("failed to apply edit {index}: sample id {} is already taken", id.0)]
    IdTaken {
        /// Which edit.
        index: usize,
        /// Which sample.
        id: SampleId,
    },
    /// An inserted id leaves no id for the next sample.
    #[error("failed to apply edit {index}: sample id {} is the last number there is", id.0)]
    IdTooLarge {
        /// Which edit.
        index: usize,
        /// Which sample.
        id: SampleId,
    },
    /// A relabel edit expected another label.
    #[error("failed to apply edit {index}: sample {} has label {found}, the edit expects {expected}", id.0)]
    WrongLabel {
        /// Which edit.
        index: usize,
        /// Which sample.
        id: SampleId,
        /// The label that the edit names.
        expected: Label,
        /// The label that the sample has.
        found: Label,
    },
    /// A label names no class.
    #[error("failed to apply edit {index}: label {label} names none of the {classes} classes")]
    NoSuchClass {
        /// Which edit.
        index: usize,
        /// The label.
        label: Label,
        /// Number of classes.
        classes: usize,
    },
    /// An image has the wrong size.
    #[error("failed to apply edit {index}: an image has {expected} bytes here, the edit brings {found}")]
    WrongSize {
        /// Which edit.
        index: usize,
        /// Bytes of an image of this data set.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The stored form is damaged.
    #[error("failed to read a change set: {0}")]
    Decode(String),
}

impl ChangeSet {
    /// An empty change set.
    pub fn new(author: impl Into<String>, role: Role, stage: Stage) -> Self {
        Self { author: author.into(), role, stage, edits: Vec::new() }
    }

    /// The distinct samples that are touched.
    pub fn touched(&self) -> BTreeSet<SampleId> {
        self.edits.iter().map(Edit::id).collect()
    }

    /// The samples that are removed.
    pub fn removed(&self) -> BTreeSet<SampleId> {
        let removed = |edit: &Edit| matches!(edit, Edit::Remove { .. }).then(|| edit.id());
        self.edits.iter().filter_map(removed).collect()
    }

    /// Relabels the sample at `index` of `data`; does nothing if it already has that label.
    pub fn relabel(&mut self, data: &Dataset, index: usize, to: Label) {
        let from = data.label(index);
        if from != to {
            self.edits.push(Edit::Relabel { id: data.id(index), from, to });
        }
    }

    /// Replaces the pixels of the sample at `index` of `data`.
    pub fn replace(&mut self, data: &Dataset, index: usize, image: Vec<u8>) {
        self.edits.push(Edit::Replace { id: data.id(index), image });
    }

    /// Inserts a sample with the next free id after those that this change set already inserts.
    pub fn insert(&mut self, data: &Dataset, label: Label, source: SourceId, image: Vec<u8>) {
        let inserted = self.edits.iter().rev().find_map(|edit| match edit {
            // A set that was read may hold any id; `apply` refuses what comes after the last one.
            Edit::Insert { id, .. } => Some(id.0.saturating_add(1)),
            _ => None,
        });
        let id = SampleId(inserted.unwrap_or(data.next_id().0));
        self.edits.push(Edit::Insert { id, label, source, image });
    }

    /// Removes the sample at `index` of `data`.
    pub fn remove(&mut self, data: &Dataset, index: usize) {
        self.edits.push(Edit::Remove { id: data.id(index) });
    }

    /// The data set after this change set. `data` is unchanged and its pixels are shared.
    ///
    /// # Errors
    /// When an edit names a sample, label or size that `data` does not have. Nothing is applied then.
    pub fn apply(&self, data: &Dataset) -> Result<Dataset, EditError> {
        let classes = data.classes().len();
        let size = data.shape().len();
        let mut positions: HashMap<SampleId, usize> = data.positions();
        let mut editor = data.editor();
        for (index, edit) in self.edits.iter().enumerate() {
            let check_class = |label: Label| match usize::from(label) < classes {
                true => Ok(()),
                false => Err(EditError::NoSuchClass { index, label, classes }),
            };
            let check_size = |image: &[u8]| match image.len() == size {
                true => Ok(()),
                false => Err(EditError::WrongSize { index, expected: size, found: image.len() }),
            };
            let id = edit.id();
            let found = positions.get(&id).copied().filter(|&at| !editor.is_removed(at));
            let at = || found.ok_or(EditError::NoSuchSample { index, id });
            match edit {
                Edit::Relabel { from, to, .. } => {
                    let at = at()?;
                    check_class(*to)?;
                    let found = editor.label(at);
                    if found != *from {
                        return Err(EditError::WrongLabel { index, id, expected: *from, found });
                    }
                    editor.relabel(at, *to);
                }
                Edit::Replace { image, .. } => {
                    check_size(image)?;
                    editor.replace(at()?, image);
                }
                Edit::Insert { label, source, image, .. } => {
                    check_class(*label)?;
                    check_size(image)?;
                    if positions.contains_key(&id) || id < data.next_id() {
                        return Err(EditError::IdTaken { index, id });
                    }
                    let next = id.0.checked_add(1).ok_or(EditError::IdTooLarge { index, id })?;
                    positions.insert(id, editor.insert(id, next, *source, *label, image));
                }
                Edit::Remove { .. } => editor.remove(at()?),
            }
        }
        Ok(data.with_edits(editor))
    }

    /// The change set that leads back: `undo.apply(&self.apply(data)?)` holds the same samples as `data`, except that removed
    /// ones come back at the end under new ids.
    ///
    /// # Errors
    /// When this change set does not fit `data`.
    pub fn undo(&self, data: &Dataset) -> Result<Self, EditError> {
        let after = self.apply(data)?;
        let mut undo = Self::new(format!("undo {}", self.author), self.role, self.stage);
        undo.lead(&after, data, self.touched());
        Ok(undo)
    }

    /// Adds what makes the samples `ids` of `from` those of `to`. What `from` lacks comes in under new ids.
    pub fn lead(&mut self, from: &Dataset, to: &Dataset, ids: impl IntoIterator<Item = SampleId>) {
        let (here, there) = (from.positions(), to.positions());
        for id in ids {
            match (here.get(&id), there.get(&id)) {
                (Some(&is), Some(&wanted)) => {
                    if to.image(wanted) != from.image(is) {
                        self.replace(from, is, to.image(wanted).to_vec());
                    }
                    self.relabel(from, is, to.label(wanted));
                }
                (None, Some(&wanted)) => {
                    self.insert(from, to.label(wanted), to.source(wanted), to.image(wanted).to_vec());
                }
                (Some(&is), None) => self.remove(from, is),
                (None, None) => {}
            }
        }
    }

    /// The compact stored form.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a change set is plain data")
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When the bytes are not a change set, or something follows it.
    pub fn decode(bytes: &[u8]) -> Result<Self, EditError> {
        match postcard::take_from_bytes(bytes) {
            Ok((changes, [])) => Ok(changes),
            Ok((_, rest)) => Err(EditError::Decode(format!("{} bytes follow where it should end", rest.len()))),
            Err(error) => Err(EditError::Decode(error.to_string())),
        }
    }

    /// The hash of the stored form.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Shape;
    use proptest::prelude::*;

    fn toy() -> Dataset {
        let classes: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let shape = Shape { channels: 1, height: 1, width: 2 };
        Dataset::new("toy", shape, classes, vec![0, 1, 10, 11, 20, 21], &[0, 1, 2]).unwrap()
    }

    fn changes(edits: Vec<Edit>) -> ChangeSet {
        ChangeSet { edits, ..ChangeSet::new("test", Role::Supplier, Stage::Collect) }
    }

    #[test]
    fn all_four_edits_apply_and_the_base_is_untouched() {
        let base = toy();
        let before = base.digest();
        let mut set = changes(vec![]);
        set.relabel(&base, 0, 2);
        set.replace(&base, 1, vec![7, 8]);
        set.insert(&base, 1, SourceId(3), vec![9, 9]);
        set.remove(&base, 2);
        let after = set.apply(&base).unwrap();
        assert_eq!(after.labels(), [2, 1, 1]);
        assert_eq!(after.image(1), [7, 8]);
        assert_eq!((after.id(2), after.source(2), after.image(2)), (SampleId(3), SourceId(3), &[9, 9][..]));
        assert_eq!(base.digest(), before);
        assert_eq!(set.touched().len(), 4);
        assert_eq!(after.overlay_bytes(), 4);
    }

    #[test]
    fn each_misfit_has_its_error() {
        let base = toy();
        let id = SampleId(9);
        let error = |edit| changes(vec![edit]).apply(&base).unwrap_err();
        assert_eq!(error(Edit::Remove { id }), EditError::NoSuchSample { index: 0, id });
        let id = SampleId(1);
        assert_eq!(
            error(Edit::Relabel { id, from: 1, to: 3 }),
            EditError::NoSuchClass { index: 0, label: 3, classes: 3 }
        );
        let expected = EditError::WrongLabel { index: 0, id, expected: 0, found: 1 };
        assert_eq!(error(Edit::Relabel { id, from: 0, to: 2 }), expected);
        assert_eq!(
            error(Edit::Replace { id, image: vec![1] }),
            EditError::WrongSize { index: 0, expected: 2, found: 1 }
        );
        let insert = Edit::Insert { id, label: 0, source: SourceId(0), image: vec![0, 0] };
        assert_eq!(error(insert), EditError::IdTaken { index: 0, id });
        let twice = changes(vec![Edit::Remove { id }, Edit::Remove { id }]);
        assert_eq!(twice.apply(&base).unwrap_err(), EditError::NoSuchSample { index: 1, id });
        let id = SampleId(u64::MAX);
        let insert = Edit::Insert { id, label: 0, source: SourceId(0), image: vec![0, 0] };
        let mut last = changes(vec![insert]);
        assert_eq!(last.apply(&base).unwrap_err(), EditError::IdTooLarge { index: 0, id });
        last.insert(&base, 0, SourceId(0), vec![0, 0]);
        assert!(last.apply(&base).is_err());
    }

    #[test]
    fn bytes_that_are_no_change_set_or_more_than_one_are_refused() {
        assert!(matches!(ChangeSet::decode(&[255; 3]), Err(EditError::Decode(_))));
        let mut bytes = changes(vec![Edit::Remove { id: SampleId(1) }]).encode();
        assert!(ChangeSet::decode(&bytes).is_ok());
        bytes.push(0);
        let error = ChangeSet::decode(&bytes).unwrap_err().to_string();
        assert_eq!(error, "failed to read a change set: 1 bytes follow where it should end");
    }

    proptest! {
        #[test]
        fn undo_leads_back_and_the_stored_form_is_lossless(label in 0u16..3, pixel: u8, which in 0usize..3) {
            let base = toy();
            let mut set = changes(vec![]);
            set.relabel(&base, which, label);
            set.replace(&base, which, vec![pixel, pixel]);
            set.insert(&base, label, SourceId(1), vec![pixel, 0]);
            prop_assert_eq!(&ChangeSet::decode(&set.encode()).unwrap(), &set);
            let back = set.undo(&base).unwrap().apply(&set.apply(&base).unwrap()).unwrap();
            prop_assert_eq!(back.digest(), base.digest());
        }
    }
}
