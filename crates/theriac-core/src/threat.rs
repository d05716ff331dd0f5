//! Threat models: what the attacker knows, may touch, wants, where it stands, and how much it may spend.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, SourceId};
use crate::edit::{ChangeSet, Edit};

/// What the attacker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knowledge {
    /// Only what it changes.
    Nothing,
    /// The training data.
    Data,
    /// The data and the architecture: it can train a surrogate.
    Architecture,
    /// The victim's weights.
    Weights,
}

/// What the attacker may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Change labels.
    Labels,
    /// Change images.
    Inputs,
    /// Add samples.
    Insert,
    /// Delete samples.
    Remove,
    /// Control a whole data source: any edit of its samples, and of no others.
    Source,
    /// Change the training code.
    Recipe,
    /// Change weights.
    Weights,
    /// Change the architecture.
    Architecture,
}

/// What the attacker wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// Indirect: a worse model.
    Untargeted,
    /// Direct: certain inputs or classes go wrong.
    Targeted,
    /// A trigger decides.
    Backdoor,
}

/// Where in the pipeline it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Samples are gathered from sources.
    Collect,
    /// Labels are given.
    Label,
    /// The data set lies in storage.
    Store,
    /// The model is trained.
    Train,
    /// The model is handed on.
    Distribute,
    /// The model answers.
    Deploy,
}

macro_rules! display_as_serde {
    ($($type:ty),*) => {$(
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let text = serde_json::to_value(self).ok();
                f.pad(text.as_ref().and_then(|text| text.as_str()).unwrap_or_default())
            }
        }
    )*};
}
pub(crate) use display_as_serde;
display_as_serde!(Knowledge, Capability, Goal, Stage, crate::edit::Role);

/// What an attack assumes about its author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ThreatModel {
    /// What it knows.
    pub knowledge: Knowledge,
    /// What it may touch.
    pub capabilities: &'static [Capability],
    /// What it wants.
    pub goal: Goal,
    /// Where it stands.
    pub stage: Stage,
}

/// How much one run of an attack may spend. The lab checks the change set against it before anything is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Distinct samples that may be touched.
    pub samples: usize,
    /// Largest change of one pixel of a replaced image, 0 to 255; 255 is no limit. An inserted image has no original in the
    /// data set, so this says nothing of it: an attack that inserts near copies has to test their distance itself.
    pub epsilon: u8,
}

impl Budget {
    /// `rate` of the whole training set of `train` samples, without a limit on pixels. Rounded to the nearest sample.
    pub fn rate(rate: f64, train: usize) -> Self {
        Self { samples: samples_at(rate, train), epsilon: 255 }
    }

    /// Checks that `changes`, made to `data`, stay within this budget and within what `threat` allows.
    ///
    /// # Errors
    /// Names the first rule that is broken.
    pub fn enforce(&self, threat: &ThreatModel, data: &Dataset, changes: &ChangeSet) -> Result<(), BudgetError> {
        let author = changes.author.clone();
        if changes.stage != threat.stage {
            return Err(BudgetError::Stage { author, declared: threat.stage, found: changes.stage });
        }
        let touched = changes.touched().len();
        if touched > self.samples {
            return Err(BudgetError::Samples { author, allowed: self.samples, touched });
        }
        let positions = data.positions();
        let whole_source = threat.capabilities.contains(&Capability::Source);
        if whole_source && sources_of(data, changes).len() > 1 {
            return Err(BudgetError::Sources { author });
        }
        for edit in &changes.edits {
            let needs = match edit {
                Edit::Relabel { .. } => Capability::Labels,
                Edit::Replace { .. } => Capability::Inputs,
                Edit::Insert { .. } => Capability::Insert,
                Edit::Remove { .. } => Capability::Remove,
            };
            if !whole_source && !threat.capabilities.contains(&needs) {
                return Err(BudgetError::Capability { author, needs });
            }
            let (Edit::Replace { id, image }, true) = (edit, self.epsilon < 255) else { continue };
            let Some(&at) = positions.get(id) else { continue };
            let before = data.image(at);
            let largest = before.iter().zip(image).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
            if largest > self.epsilon {
                return Err(BudgetError::Epsilon { author, sample: id.0, allowed: self.epsilon, largest });
            }
        }
        Ok(())
    }
}

/// The sources of the samples that `changes` touch.
fn sources_of(data: &Dataset, changes: &ChangeSet) -> BTreeSet<SourceId> {
    let positions = data.positions();
    let source = |edit: &Edit| match edit {
        Edit::Insert { source, .. } => Some(*source),
        other => positions.get(&other.id()).map(|&at| data.source(at)),
    };
    changes.edits.iter().filter_map(source).collect()
}

/// `rate` of `train` samples, rounded to the nearest whole number.
pub fn samples_at(rate: f64, train: usize) -> usize {
    (rate * train as f64).round() as usize
}

/// An attack went beyond what it declared: a bug in the attack.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BudgetError {
    /// It acts at another stage of the pipeline than its threat model says.
    #[error(
        "failed to accept the change set of `{author}`: it acts at stage `{found}`, its threat model stands at `{declared}`"
    )]
    Stage {
        /// The attack.
        author: String,
        /// The stage of the threat model.
        declared: Stage,
        /// The stage of the change set.
        found: Stage,
    },
    /// Too many samples.
    #[error("failed to accept the change set of `{author}`: it touches {touched} samples, its budget is {allowed}")]
    Samples {
        /// The attack.
        author: String,
        /// The budget.
        allowed: usize,
        /// What was touched.
        touched: usize,
    },
    /// An edit that the threat model does not grant.
    #[error("failed to accept the change set of `{author}`: its threat model does not grant `{needs}`")]
    Capability {
        /// The attack.
        author: String,
        /// The capability that the edit needs.
        needs: Capability,
    },
    /// Whoever controls a source controls only that one.
    #[error("failed to accept the change set of `{author}`: its threat model grants one source, it touches others too")]
    Sources {
        /// The attack.
        author: String,
    },
    /// A pixel moved too far.
    #[error(
        "failed to accept the change set of `{author}`: sample {sample} moves a pixel by {largest}/255, its budget is {allowed}/255"
    )]
    Epsilon {
        /// The attack.
        author: String,
        /// The sample.
        sample: u64,
        /// The budget.
        allowed: u8,
        /// What was found.
        largest: u8,
    },
}

/// How many samples of each class of `data` are touched by `changes`, to be printed beside the rate. A sample counts for its class before
/// the attack, an inserted one for the class that it claims.
pub fn touched_by_class(data: &Dataset, changes: &ChangeSet) -> Vec<usize> {
    let positions = data.positions();
    let mut counts = vec![0; data.classes().len()];
    let mut seen = BTreeSet::new();
    for edit in &changes.edits {
        let class = match edit {
            Edit::Insert { label, .. } => Some(*label),
            other => positions.get(&other.id()).map(|&at| data.label(at)),
        };
        if let (Some(class), true) = (class, seen.insert(edit.id())) {
            counts[usize::from(class)] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Shape;
    use crate::edit::Role;

    const LABELS_AND_INPUTS: ThreatModel = ThreatModel {
        knowledge: Knowledge::Nothing,
        capabilities: &[Capability::Labels, Capability::Inputs],
        goal: Goal::Backdoor,
        stage: Stage::Collect,
    };

    fn toy() -> Dataset {
        let classes: Vec<String> = ["a", "b"].map(String::from).into();
        let shape = Shape { channels: 1, height: 1, width: 1 };
        Dataset::new("toy", shape, classes, vec![10, 20, 30], &[0, 1, 1]).unwrap()
    }

    #[test]
    fn a_rate_is_a_fraction_of_the_whole_training_set() {
        assert_eq!(Budget::rate(0.05, 8000).samples, 400);
        assert_eq!(Budget::rate(0.001, 7996).samples, 8);
    }

    #[test]
    fn each_rule_of_the_budget_is_enforced() {
        let data = toy();
        let mut set = ChangeSet::new("test", Role::Supplier, Stage::Collect);
        set.replace(&data, 0, vec![14]);
        set.relabel(&data, 0, 1);
        let check = |samples, epsilon| Budget { samples, epsilon }.enforce(&LABELS_AND_INPUTS, &data, &set);
        assert_eq!(check(1, 4), Ok(()));
        let author = || "test".to_owned();
        assert_eq!(check(0, 4), Err(BudgetError::Samples { author: author(), allowed: 0, touched: 1 }));
        assert_eq!(check(1, 3), Err(BudgetError::Epsilon { author: author(), sample: 0, allowed: 3, largest: 4 }));
        set.remove(&data, 1);
        let error = Budget { samples: 9, epsilon: 255 }.enforce(&LABELS_AND_INPUTS, &data, &set);
        assert_eq!(error, Err(BudgetError::Capability { author: author(), needs: Capability::Remove }));
        assert_eq!(touched_by_class(&data, &set), [1, 1]);
        set.stage = Stage::Store;
        let error = Budget { samples: 9, epsilon: 255 }.enforce(&LABELS_AND_INPUTS, &data, &set);
        let expected = BudgetError::Stage { author: author(), declared: Stage::Collect, found: Stage::Store };
        assert_eq!(error, Err(expected));
    }

    #[test]
    fn whoever_controls_a_source_may_do_anything_to_it_and_nothing_to_others() {
        let data = toy().with_sources(&[SourceId(0), SourceId(1), SourceId(1)]);
        let threat = ThreatModel { capabilities: &[Capability::Source], ..LABELS_AND_INPUTS };
        let budget = Budget { samples: 9, epsilon: 255 };
        let mut set = ChangeSet::new("test", Role::Supplier, Stage::Collect);
        set.relabel(&data, 1, 0);
        set.remove(&data, 2);
        set.insert(&data, 0, SourceId(1), vec![7]);
        assert_eq!(budget.enforce(&threat, &data, &set), Ok(()));
        set.relabel(&data, 0, 1);
        assert_eq!(budget.enforce(&threat, &data, &set), Err(BudgetError::Sources { author: "test".to_owned() }));
    }

    #[test]
    fn names_are_written_as_in_configs() {
        assert_eq!(Knowledge::Architecture.to_string(), "architecture");
        assert_eq!(Role::Supplier.to_string(), "supplier");
    }
}
