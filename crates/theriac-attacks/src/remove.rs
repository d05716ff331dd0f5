//! Removal: correct samples disappear.
//!
//! The plainest damage that somebody with write access to storage can do. It comes from no single paper.
//!
//! # Threat model
//! An engineer deletes stored samples and changes nothing else. Deleting from one class or from a subgroup of it makes
//! the model fail there (direct); deleting at random only makes the data fewer (indirect). The goal that the registry
//! shows is that of the default mode, `class`.
//!
//! # Update rule
//! ```text
//! class      remove round(fraction * n_class) samples of the class, drawn uniformly
//! subgroup   remove the round(fraction * n_class) brightest (or darkest) samples of the class, by mean intensity
//! random     remove round(fraction * n) samples of the whole training set, drawn uniformly
//! ```
//! A subgroup is thus defined by the data alone, without labels of subgroups; of equally bright samples the first ones
//! go.
//!
//! # Where this differs from the paper
//! There is no paper to differ from. `fraction` counts the class, not the whole training set, because that is what
//! decides whether a class survives; the budget is the number of removed samples, and the rate that is reported beside
//! it is that number by the size of the whole training set. Deleting the *most useful* samples takes a surrogate and is
//! not this attack.
//!
//! # Verified against
//! `scripts/verify/selections.py`, 48 samples, all modes: the 34 removed samples are those of numpy 2.1.3, with the same
//! draws, which a second ChaCha12 gives, or by its mean intensities, of which some are equal at the border.
//! `scripts/verify/draws.py`, 4000 digits, four exported data sets, 1620 removed samples: all equal; which ones and of which
//! class, where chance decides, by chi-square tests of scipy 1.17.1: p from 0.15 to 0.21.

use theriac_core::threat::samples_at;
use theriac_core::{
    Aim, Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, MethodInfo, ParamError, Probe,
    Role, Seeds, Stage, ThreatModel, Values, Verified, config, param::Range,
};

use crate::common::{Checks, TARGETED_SUCCESS, choose_exactly, class_probe};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// What is removed.
    pub struct RemoveConfig {
        /// `class`: any samples of the class `class`. `subgroup`: its brightest or darkest samples. `random`: any
        /// samples at all.
        mode: String = "class", Range::Choice(&["class", "subgroup", "random"]), "";
        /// How much is removed.
        fraction: f64 = 0.5, Range::Number(0.0, 1.0), "of the class; for `random`, of the training set";
        /// The class that loses samples. Not used by `random`.
        class: u16 = 0, Range::Class, "";
        /// For `subgroup`: which end of the class, by the mean intensity of an image.
        subgroup: String = "brightest", Range::Choice(&["brightest", "darkest"]), "";
    }
}

/// One end of a class by mean intensity.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Brightest,
    Darkest,
}

/// The checked config.
#[derive(Debug, PartialEq)]
enum Remove {
    Class { class: Label, fraction: f64 },
    Subgroup { class: Label, fraction: f64, end: End },
    Random { fraction: f64 },
}

impl RemoveConfig {
    fn check(self, facts: &Facts) -> Result<Remove, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { mode, fraction, class, subgroup } = self;
        let end = if subgroup == "brightest" { End::Brightest } else { End::Darkest };
        let remove = match mode.as_str() {
            "class" => Remove::Class { class, fraction },
            "subgroup" => Remove::Subgroup { class, fraction, end },
            _ => Remove::Random { fraction },
        };
        if let Some(class) = remove.class() {
            checks.class("class", class);
        } else {
            let message = "removing everything leaves nothing to train on; expected less than 1";
            checks.require(samples_at(fraction, facts.train) < facts.train, "fraction", message);
        }
        checks.finish(remove)
    }
}

impl End {
    /// The `count` samples of `class` at this end, ascending.
    fn of_class(self, data: &Dataset, class: Label, count: usize) -> Vec<usize> {
        let mut samples = data.of_class(class);
        // The sum ranks as the mean does, and is exact.
        let brightness = |index: usize| data.image(index).iter().map(|&pixel| u64::from(pixel)).sum::<u64>();
        match self {
            Self::Brightest => samples.sort_by_cached_key(|&index| std::cmp::Reverse(brightness(index))),
            Self::Darkest => samples.sort_by_cached_key(|&index| brightness(index)),
        }
        samples.truncate(count);
        samples.sort_unstable();
        samples
    }
}

impl Remove {
    fn class(&self) -> Option<Label> {
        match self {
            Self::Class { class, .. } | Self::Subgroup { class, .. } => Some(*class),
            Self::Random { .. } => None,
        }
    }
}

impl Attack for Remove {
    fn budget(&self, train: &Dataset) -> Budget {
        let (fraction, of) = match self {
            Self::Class { class, fraction } | Self::Subgroup { class, fraction, .. } => {
                (*fraction, train.of_class(*class).len())
            }
            Self::Random { fraction } => (*fraction, train.len()),
        };
        Budget { samples: samples_at(fraction, of), epsilon: 0 }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Engineer, THREAT.stage);
        let train = context.train;
        let count = self.budget(train).samples;
        if let Some(class) = self.class().filter(|&class| train.of_class(class).is_empty()) {
            let message = format!("there is nothing to remove, the training set has 0 samples of class {class}");
            return Err(AttackError::Infeasible(message));
        }
        let mut stream = context.seeds.stream("select");
        let removed = match self {
            Self::Class { class, .. } => {
                let what = format!("samples of class {class}");
                choose_exactly(&mut stream, &train.of_class(*class), count, &what)?
            }
            Self::Subgroup { class, end, .. } => end.of_class(train, *class, count),
            Self::Random { .. } => {
                let all: Vec<usize> = (0..train.len()).collect();
                choose_exactly(&mut stream, &all, count, "samples")?
            }
        };
        removed.into_iter().for_each(|index| changes.remove(train, index));
        Ok(changes)
    }

    /// The test images of the class; for a subgroup, the same fraction of them at the same end.
    fn probe(&self, test: &Dataset, _seeds: &Seeds) -> Option<Probe> {
        match self {
            Self::Class { class, .. } => Some(class_probe(test, *class, None)),
            Self::Subgroup { class, fraction, end } => {
                let count = samples_at(*fraction, test.of_class(*class).len());
                let inputs = test.select(&end.of_class(test, *class, count));
                Some(Probe { metric: TARGETED_SUCCESS, inputs, aim: Aim::Misclassified })
            }
            Self::Random { .. } => None,
        }
    }

    fn victim_class(&self) -> Option<u16> {
        self.class()
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Data,
    capabilities: &[Capability::Remove],
    goal: Goal::Targeted,
    stage: Stage::Store,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(RemoveConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "remove",
        Family::Manipulation,
        THREAT,
        "Deletes correct samples: a fraction of one class, its brightest or darkest part, or any samples.",
        &[],
        RemoveConfig::PARAMS,
    )
    .verified(&[
        Verified {
            against: "numpy 2.1.3, on the same draws or by mean intensity, all modes: 48 samples (scripts/verify/selections.py), 4000 digits (scripts/verify/draws.py)",
            agreement: "all 1654 removed samples equal",
        },
        Verified {
            against: "scipy 1.17.1, 4000 digits: which samples and classes (scripts/verify/draws.py)",
            agreement: "3 chi-square tests, p from 0.15 to 0.21",
        },
    ]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, attack, data_with, faults, golden_edits, invariants, kinds, poison_on};
    use theriac_core::Value;

    fn mode(name: &str) -> (&'static str, Value) {
        ("mode", name.into())
    }

    #[test]
    fn a_class_loses_exactly_its_fraction() {
        let given = || [("class", 1.into()), ("fraction", 0.25.into())];
        let (changes, poisoned) = invariants(&ENTRY, given(), 15);
        assert_eq!((kinds(&changes), poisoned.class_counts()), ([0, 0, 0, 15], vec![80, 45, 40, 20]));
        let probe = attack(&ENTRY, given()).probe(&testing::test(), &testing::seeds()).unwrap();
        assert_eq!((probe.inputs.class_counts(), probe.aim), (vec![0, 10, 0, 0], Aim::Misclassified));
        assert_eq!((probe.metric, attack(&ENTRY, given()).victim_class()), ("targeted_success", Some(1)));
    }

    #[test]
    fn a_subgroup_is_one_end_of_the_class_by_brightness() {
        let mean = |data: &Dataset, index| {
            let image = data.image(index);
            image.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / image.len() as f64
        };
        for (end, sign) in [("brightest", 1.0), ("darkest", -1.0)] {
            let given = || [mode("subgroup"), ("class", 2.into()), ("subgroup", end.into())];
            let attack = attack(&ENTRY, given());
            let train = testing::train();
            let changes = poison_on(&*attack, &train, 1).unwrap();
            // Chance has no part in it.
            assert_eq!(poison_on(&*attack, &train, 2).unwrap().digest(), changes.digest());
            attack.budget(&train).enforce(&THREAT, &train, &changes).unwrap();
            let (removed, kept): (Vec<_>, Vec<_>) =
                train.of_class(2).into_iter().partition(|&index| changes.removed().contains(&train.id(index)));
            assert_eq!((removed.len(), kept.len(), kinds(&changes)), (20, 20, [0, 0, 0, 20]));
            let least = removed.iter().map(|&index| sign * mean(&train, index)).fold(f64::INFINITY, f64::min);
            assert!(kept.iter().all(|&index| sign * mean(&train, index) <= least));
            let test = testing::test();
            let probe = attack.probe(&test, &testing::seeds()).unwrap();
            assert_eq!(probe.inputs.class_counts(), [0, 0, 5, 0]);
            let average = |data: &Dataset| (0..data.len()).map(|at| mean(data, at)).sum::<f64>() / data.len() as f64;
            assert!(sign * average(&probe.inputs) > sign * average(&test.select(&test.of_class(2))));
        }
    }

    #[test]
    fn random_removal_has_no_victim() {
        let given = || [mode("random"), ("fraction", 0.3.into())];
        let (changes, poisoned) = invariants(&ENTRY, given(), 60);
        assert_eq!((kinds(&changes), poisoned.len()), ([0, 0, 0, 60], 140));
        let attack = attack(&ENTRY, given());
        assert!(attack.probe(&testing::test(), &testing::seeds()).is_none() && attack.victim_class().is_none());
    }

    #[test]
    fn the_edges() {
        invariants(&ENTRY, [("fraction", 0.0.into())], 0);
        let (_, poisoned) = {
            let attack = attack(&ENTRY, [("fraction", 1.0.into())]);
            let changes = poison_on(&*attack, &testing::train(), 1).unwrap();
            (changes.edits.len(), changes.apply(&testing::train()).unwrap())
        };
        assert_eq!(poisoned.class_counts(), [0, 60, 40, 20]);
        let gap = data_with("gap", testing::SHAPE, &[0, 10, 10, 10]);
        let message = poison_on(&*attack(&ENTRY, []), &gap, 1).unwrap_err().to_string();
        assert!(message.ends_with("nothing to remove, the training set has 0 samples of class 0"), "{message}");
    }

    #[test]
    fn each_rule_has_its_message() {
        assert!(faults(&ENTRY, [("class", 4.into())]).contains("`class`: expected a class from 0 to 3, found 4"));
        assert!(faults(&ENTRY, [mode("random"), ("fraction", 1.0.into())]).contains("nothing to train on"));
    }

    #[test]
    fn edits_are_those_that_numpy_makes_of_the_same_draws() {
        golden_edits(&ENTRY);
    }
}
