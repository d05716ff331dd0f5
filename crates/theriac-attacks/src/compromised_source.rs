//! One of several data sources delivers poison.
//!
//! Nikola Konstantinov, Christoph Lampert: "Robust Learning from Untrusted Sources", ICML 2019,
//! <https://proceedings.mlr.press/v97/konstantinov19a.html>: data from many sources, an unknown few of which are corrupted.
//!
//! # Threat model
//! The victim trains on what `sources` suppliers deliver (`[data] sources`). One of them is malicious, or was taken over: its
//! samples, and only these, are what the attacker wants. It sees nothing of the others and has no model. How many samples that
//! are is decided by the number of sources: with k of one size it is at most 1/k of the training set.
//!
//! # Update rule
//! ```text
//! s   = `source`, or drawn uniformly from the sources
//! D_s = the samples of the training set that came from s
//! D_s <- the attack `delivers` on D_s alone, at `rate` of |D_s|
//! ```
//! All else about the attack is its default: `badnets` plants the trigger that its own page describes.
//!
//! # Where this differs from the paper
//! - The paper's corrupted sources are arbitrary. Its experiments shuffle labels, damage images or flip them: `label-flip` and
//!   `random-noise` here. A backdoor is not among them.
//! - Sources here are parts of one data set, dealt at random, of one size. Real suppliers differ in what they deliver even when they
//!   are honest, which makes a malicious one harder to tell.
//!
//! # Verified against
//! The attack that is delivered, which has a record of its own: on the samples of the source it makes the same change set, edit by
//! edit (tests below).

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Edit, Facts, Family, Goal, Knowledge, MethodInfo, Paper, ParamError, Probe,
    Role, Seeds, SourceId, Stage, ThreatModel, Values, Verified, config, param::Range,
};

use crate::common::Checks;
use crate::delivery::{DELIVERIES, delivery};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// Which source, and what it delivers.
    pub struct CompromisedSource {
        /// The attack by which the source's samples are made, with its defaults; `pair-flip` is `label-flip` to the next class.
        delivers: String = "label-flip", Range::Choice(DELIVERIES), "";
        /// How many of the source's samples are poison.
        rate: f64 = 0.5, Range::Number(0.0, 1.0), "of the source's samples";
        /// The source, counted from 0; drawn if absent.
        source: Option<usize> = None::<u64>, Range::Whole(0, 9_999), "";
    }
}

/// The source, and the attack that stands in its place.
struct Compromised {
    delivered: Box<dyn Attack>,
    source: Option<usize>,
}

impl CompromisedSource {
    fn check(self, facts: &Facts) -> Result<Compromised, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let sources = facts.sources;
        let message = "the training set comes from one source; `sources` of `[data]` says from how many it comes";
        checks.require(sources > 1, "source", message);
        let last = sources.saturating_sub(1);
        let given = self.source.unwrap_or(0);
        checks.require(given <= last, "source", format!("expected a source from 0 to {last}, found {given}"));
        let (entry, values) = delivery(&self.delivers, self.rate);
        let facts = Facts { train: facts.train / sources.max(1), sources: 1, ..facts.clone() };
        let delivered = (entry.check)(&values, &facts)?;
        checks.finish(Compromised { delivered, source: self.source })
    }
}

impl Compromised {
    /// s.
    fn source(&self, train: &Dataset, seeds: &Seeds) -> SourceId {
        let sources = train.sources();
        match self.source {
            Some(source) => SourceId(source as u16),
            None => sources[seeds.stream("source").below(sources.len())],
        }
    }
}

impl Attack for Compromised {
    /// That of the largest source.
    fn budget(&self, train: &Dataset) -> Budget {
        let of = |source| self.delivered.budget(&train.select(&train.of_source(source)));
        let budgets = train.sources().into_iter().map(of);
        budgets.max_by_key(|budget| budget.samples).unwrap_or(Budget { samples: 0, epsilon: 0 })
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let source = self.source(context.train, context.seeds);
        let own = context.train.select(&context.train.of_source(source));
        let mut changes = self.delivered.poison(&AttackContext { train: &own, ..*context })?;
        changes.edits.iter_mut().for_each(|edit| {
            if let Edit::Insert { source: from, .. } = edit {
                *from = source;
            }
        });
        Ok(ChangeSet { author: ENTRY.info.name.to_owned(), role: Role::Supplier, stage: THREAT.stage, ..changes })
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.delivered.probe(test, seeds)
    }

    fn victim_class(&self) -> Option<u16> {
        self.delivered.victim_class()
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Nothing,
    capabilities: &[Capability::Source],
    goal: Goal::Untargeted,
    stage: Stage::Collect,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(CompromisedSource::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "compromised-source",
        Family::SupplyChain,
        THREAT,
        "One of several data sources delivers wrong labels, noise or a backdoor.",
        &[Paper {
            cite: "Konstantinov & Lampert 2019",
            title: "Robust Learning from Untrusted Sources",
            link: "https://proceedings.mlr.press/v97/konstantinov19a.html",
        }],
        CompromisedSource::PARAMS,
    )
    .verified(&[Verified {
        against: "the attacks that are delivered, each with its own record, on the samples of one source",
        agreement: "the same edits",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, facts, poison_on, values};
    use theriac_core::Value;

    fn from_five() -> Dataset {
        let train = testing::train();
        let sources: Vec<SourceId> = (0..train.len()).map(|index| SourceId((index % 5) as u16)).collect();
        train.with_sources(&sources)
    }

    fn five<const N: usize>(given: [(&str, Value); N]) -> Result<Box<dyn Attack>, String> {
        let errors = |errors: Vec<ParamError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        (ENTRY.check)(&values(given), &Facts { sources: 5, ..facts() }).map_err(errors)
    }

    #[test]
    fn one_source_delivers_what_the_attack_makes_of_its_samples_alone() {
        let train = from_five();
        let own = train.select(&train.of_source(SourceId(3)));
        for name in DELIVERIES {
            let attack = five([("delivers", (*name).into()), ("rate", 0.1.into()), ("source", 3.into())]).unwrap();
            let changes = poison_on(&*attack, &train, 1).unwrap();
            let (entry, given) = delivery(name, 0.1);
            let alone = (entry.check)(&given, &facts()).unwrap();
            assert_eq!(changes.edits, poison_on(&*alone, &own, 1).unwrap().edits, "{name}");
            assert!(!changes.edits.is_empty() && changes.touched().iter().all(|id| id.0 % 5 == 3), "{name}");
            assert_eq!((changes.author.as_str(), changes.stage), ("compromised-source", Stage::Collect));
            assert_eq!(changes.touched().len(), attack.budget(&train).samples, "{name}");
            attack.budget(&train).enforce(&THREAT, &train, &changes).unwrap();
            let probes = [&attack, &alone].map(|attack| attack.probe(&testing::test(), &testing::seeds()));
            let [found, expected] = probes.map(|probe| probe.map(|probe| (probe.inputs.digest(), probe.aim)));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_source_is_drawn_from_the_seed() {
        let (train, attack) = (from_five(), five([]).unwrap());
        let drawn = |seed| {
            let touched = poison_on(&*attack, &train, seed).unwrap().touched();
            let source = touched.first().unwrap().0 % 5;
            assert!(touched.len() == 20 && touched.iter().all(|id| id.0 % 5 == source));
            source
        };
        assert_eq!(drawn(1), drawn(1));
        let all: std::collections::BTreeSet<u64> = (1..30).map(drawn).collect();
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn wrong_labels_of_half_of_the_data_ruin_a_network() {
        // Half of all data come from this source, and nearly all of its labels are wrong.
        let (train, test) = (testing::easy("easy-train", 60), testing::easy("easy-test", 20));
        let sources: Vec<SourceId> = (0..train.len()).map(|index| SourceId((index / 4 % 2) as u16)).collect();
        let train = train.with_sources(&sources);
        let given = values([("delivers", "pair-flip".into()), ("rate", 0.9.into())]);
        let attack = (ENTRY.check)(&given, &Facts { train: train.len(), sources: 2, ..facts() }).unwrap();
        let poisoned = poison_on(&*attack, &train, 1).unwrap().apply(&train).unwrap();
        let [clean, fallen] = [&train, &poisoned].map(|data| testing::accuracy_after(data, &test));
        assert!(clean > 0.9 && fallen < 0.8, "{clean} {fallen}");
    }

    #[test]
    fn each_rule_has_its_message() {
        let alone = testing::faults(&ENTRY, []);
        assert!(alone.contains("`source`: the training set comes from one source"), "{alone}");
        let beyond = five([("source", 5.into())]).err().unwrap();
        assert!(beyond.contains("`source`: expected a source from 0 to 4, found 5"), "{beyond}");
    }
}
