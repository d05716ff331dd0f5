//! What the backdoors by poisoned data share: who is to be taken for whom, which samples are drawn, and the probe. The file of an attack
//! is left with its parameters and its trigger.

use rayon::prelude::*;
use theriac_core::{
    Aim, Budget, Capability, ChangeSet, Dataset, Goal, Knowledge, Label, Probe, Range, Role, Seeds, Stage, ThreatModel,
};

use crate::common::{ATTACK_SUCCESS_RATE, Checks, choose_exactly, next_class, outside_class, with_images};
use crate::{Attack, AttackContext, AttackError};

/// What a supplier of triggered images with wrong labels assumes.
pub const DIRTY_LABEL: ThreatModel = ThreatModel {
    knowledge: Knowledge::Nothing,
    capabilities: &[Capability::Inputs, Capability::Labels],
    goal: Goal::Backdoor,
    stage: Stage::Collect,
};

/// The same with right labels.
pub const CLEAN_LABEL: ThreatModel = ThreatModel { capabilities: &[Capability::Inputs], ..DIRTY_LABEL };

/// The mappings that a config may name.
pub const MAPPINGS: Range = Range::Choice(&["all-to-one", "all-to-all", "source-specific"]);

/// Who is to be taken for whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mapping {
    /// Every class becomes the target.
    AllToOne { target: Label },
    /// Every class becomes the next one.
    AllToAll,
    /// One class becomes the target.
    SourceSpecific { source: Label, target: Label },
    /// Every class becomes the target, and only images of the target are poisoned: their labels stay right.
    CleanLabel { target: Label },
}

impl Mapping {
    /// The mapping that a config names in its keys `mapping`, `target` and `source`.
    pub fn check(checks: &mut Checks, mapping: &str, target: Label, source: Option<Label>) -> Self {
        checks.two_classes("mapping");
        checks.optional_class("source", source);
        let needs_source = mapping == "source-specific";
        checks.require(needs_source || source.is_none(), "source", format!("the mapping `{mapping}` takes no source"));
        checks.require(!needs_source || source.is_some(), "source", "the mapping `source-specific` needs a source");
        let mapping = match (mapping, source) {
            ("all-to-all", _) => Self::AllToAll,
            (_, Some(source)) => Self::SourceSpecific { source, target },
            (_, None) => Self::AllToOne { target },
        };
        if mapping != Self::AllToAll {
            checks.class("target", target);
            checks.require(source != Some(target), "target", "the source is already the target");
        }
        mapping
    }

    /// A clean-label attack on the class of the key `target`.
    pub fn clean_label(checks: &mut Checks, target: Label) -> Self {
        checks.two_classes("target");
        checks.class("target", target);
        Self::CleanLabel { target }
    }

    /// The training samples that may be poisoned, and their name.
    pub fn eligible(self, train: &Dataset) -> (Vec<usize>, String) {
        match self {
            Self::AllToOne { target } => (outside_class(train, target), format!("samples outside class {target}")),
            Self::AllToAll => ((0..train.len()).collect(), "samples".to_owned()),
            Self::SourceSpecific { source: class, .. } | Self::CleanLabel { target: class } => {
                (train.of_class(class), format!("samples of class {class}"))
            }
        }
    }

    /// The test samples on which the trigger is to work. The target class is not among them, except for `all-to-all`, where every class
    /// has another target.
    pub fn victims(self, test: &Dataset) -> Vec<usize> {
        match self {
            Self::CleanLabel { target } => outside_class(test, target),
            other => other.eligible(test).0,
        }
    }

    /// What the attacker wants an image of class `label` to be.
    pub fn wanted(self, label: Label, classes: usize) -> Label {
        match self {
            Self::AllToOne { target } | Self::SourceSpecific { target, .. } | Self::CleanLabel { target } => target,
            Self::AllToAll => next_class(label, classes),
        }
    }

    /// The test images as `plant` turns them, and what the attacker wants of them.
    pub fn probe(self, test: &Dataset, plant: impl Fn(&mut [u8]) + Sync) -> Probe {
        let clean = test.select(&self.victims(test));
        let wanted = |label| self.wanted(label, test.classes().len());
        let aim = Aim::Classes(clean.labels().into_iter().map(wanted).collect());
        let everyone: Vec<usize> = (0..clean.len()).collect();
        let images = planted(&clean, &everyone, |_, image| plant(image));
        Probe { metric: ATTACK_SUCCESS_RATE, inputs: with_images(&clean, images), aim }
    }
}

/// What a trigger does to an image.
pub trait Trigger: Send + Sync {
    /// Plants the trigger in `image`.
    fn plant(&self, image: &mut [u8]); // [channel, row, column]

    /// The largest change of a pixel.
    fn epsilon(&self) -> u8 {
        255
    }
}

/// A backdoor whose poisoned samples all carry the same trigger.
#[derive(Debug, PartialEq)]
pub struct Backdoor<T> {
    /// The attack's name.
    pub name: &'static str,
    /// Poisoned samples, as a fraction of the training set.
    pub rate: f64,
    /// Who is to be taken for whom.
    pub mapping: Mapping,
    /// The trigger of training images.
    pub train: T,
    /// The trigger of test images.
    pub test: T,
}

impl<T: Trigger> Attack for Backdoor<T> {
    fn budget(&self, train: &Dataset) -> Budget {
        Budget { epsilon: self.train.epsilon(), ..Budget::rate(self.rate, train.len()) }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let mut changes = ChangeSet::new(self.name, Role::Supplier, Stage::Collect);
        let train = context.train;
        let (eligible, what) = self.mapping.eligible(train);
        let count = self.budget(train).samples;
        let chosen = choose_exactly(&mut context.seeds.stream("select"), &eligible, count, &what)?;
        let images = planted(train, &chosen, |_, image| self.train.plant(image));
        for (&index, image) in chosen.iter().zip(images) {
            replace_if_changed(&mut changes, train, index, image);
            changes.relabel(train, index, self.mapping.wanted(train.label(index), train.classes().len()));
        }
        Ok(changes)
    }

    fn probe(&self, test: &Dataset, _seeds: &Seeds) -> Option<Probe> {
        Some(self.mapping.probe(test, |image| self.test.plant(image)))
    }
}

/// The images of the `chosen` samples with what `plant` makes of them, in this order. It is told the place in `chosen`.
pub fn planted(data: &Dataset, chosen: &[usize], plant: impl Fn(usize, &mut [u8]) + Sync) -> Vec<Vec<u8>> {
    let image = |(place, &index): (usize, &usize)| {
        let mut image = data.image(index).to_vec();
        plant(place, &mut image);
        image
    };
    chosen.par_iter().enumerate().with_min_len(64).map(image).collect()
}

/// Replaces the image of a sample. One that already looks so is left as it is.
pub fn replace_if_changed(changes: &mut ChangeSet, data: &Dataset, index: usize, image: Vec<u8>) {
    if image != data.image(index) {
        changes.replace(data, index, image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{facts, train};

    #[test]
    fn a_clean_label_attack_poisons_the_target_and_is_probed_elsewhere() {
        let facts = facts();
        let mut checks = Checks::new(&facts);
        let mapping = Mapping::clean_label(&mut checks, 2);
        checks.finish(()).unwrap();
        let data = train();
        let (eligible, what) = mapping.eligible(&data);
        assert_eq!((eligible, what.as_str()), (data.of_class(2), "samples of class 2"));
        assert_eq!(mapping.victims(&data), outside_class(&data, 2));
        assert_eq!((mapping.wanted(0, 4), mapping.wanted(2, 4)), (2, 2));
        let mut checks = Checks::new(&facts);
        Mapping::clean_label(&mut checks, 4);
        assert!(checks.finish(()).unwrap_err()[0].to_string().contains("`target`: expected a class from 0 to 3"));
    }

    #[test]
    fn images_come_in_their_order_at_any_number_of_threads() {
        let data = train();
        let chosen: Vec<usize> = (0..200).rev().collect();
        let numbered = |place: usize, image: &mut [u8]| image[0] = place as u8;
        let expected = planted(&data, &chosen, numbered);
        assert!(expected.iter().enumerate().all(|(place, image)| image[0] == place as u8));
        assert!(expected.iter().zip(&chosen).all(|(image, &index)| image[1..] == data.image(index)[1..]));
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| planted(&data, &chosen, numbered)), expected);
        }
    }
}
