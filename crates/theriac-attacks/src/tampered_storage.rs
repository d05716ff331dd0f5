//! An insider edits what lies in storage.
//!
//! Who may write to a store of data can change it without passing through any of the steps by which data come in. Of the techniques that
//! MITRE's ATLAS lists this is "Poison Training Data", <https://atlas.mitre.org/techniques/AML.T0020>, with valid accounts.
//!
//! # Threat model
//! An engineer with write access to the stored training set, and to the file of its ledger. The engineer has a key of its own, by which
//! the ledger knows it, and nobody else's. What else it knows is what the attack takes that it carries out (`does`): nothing for
//! wrong labels, noise and triggers, a surrogate for `targeted-label-flip`.
//!
//! # Update rule
//! ```text
//! D <- the attack `does` on D, at `rate`, made in storage
//! `ledger`:
//! untouched    only files change; the ledger says what was there before
//! signed       an entry of the change, signed by the engineer as engineer
//! rewritten    another ledger, that begins with the changed data and explains them; signed with the engineer's key, the only one it has
//! ```
//! Models that are trained on D do not see the difference between the three. Those who verify do; see `ledger-audit`.
//!
//! # Where this differs from the paper
//! There is no paper. All else about the attack that is carried out is its default: `badnets` plants the trigger that its own page
//! describes, `remove` takes from class 0.
//!
//! # Verified against
//! The attack that is carried out, which has a record of its own: the same edits, one by one (tests below).

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, MethodInfo, ParamError, Probe, Role, Seeds,
    Stage, ThreatModel, Trail, Values, Verified, config, param::Range,
};

use crate::delivery::delivery;
use crate::{Attack, AttackContext, AttackEntry, AttackError};

/// What is done in storage.
const DEEDS: &[&str] =
    &["label-flip", "pair-flip", "targeted-label-flip", "random-noise", "badnets", "blended", "remove"];

config! {
    /// What is done, and what is done about the ledger.
    pub struct TamperedStorage {
        /// The attack that is carried out in storage, with its defaults; `pair-flip` is `label-flip` to the next class.
        does: String = "pair-flip", Range::Choice(DEEDS), "";
        /// How much is touched.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set; for `remove`, of class 0";
        /// `untouched`: only the data change. `signed`: the change is entered in the ledger, under the insider's name. `rewritten`:
        /// the ledger is replaced by one that explains the data.
        ledger: String = "untouched", Range::Choice(&["untouched", "signed", "rewritten"]), "";
    }
}

/// The attack that is carried out, and what becomes of the ledger.
struct Tampered {
    carried: Box<dyn Attack>,
    trail: Trail,
}

impl TamperedStorage {
    fn check(self, facts: &Facts) -> Result<Tampered, Vec<ParamError>> {
        let (entry, values) = delivery(&self.does, self.rate);
        let trail = match self.ledger.as_str() {
            "untouched" => Trail::Untouched,
            "signed" => Trail::Signed,
            _ => Trail::Rewritten,
        };
        Ok(Tampered { carried: (entry.check)(&values, facts)?, trail })
    }
}

impl Attack for Tampered {
    fn budget(&self, train: &Dataset) -> Budget {
        self.carried.budget(train)
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let changes = self.carried.poison(context)?;
        Ok(ChangeSet { author: ENTRY.info.name.to_owned(), role: Role::Engineer, stage: THREAT.stage, ..changes })
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.carried.probe(test, seeds)
    }

    fn trail(&self, _: &ChangeSet) -> Trail {
        self.trail
    }

    fn victim_class(&self) -> Option<u16> {
        self.carried.victim_class()
    }
}

/// All that any of the attacks takes.
const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Architecture,
    capabilities: &[Capability::Labels, Capability::Inputs, Capability::Remove],
    goal: Goal::Untargeted,
    stage: Stage::Store,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(TamperedStorage::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "tampered-storage",
        Family::Insider,
        THREAT,
        "An insider edits what lies in storage, with the ledger left as it was, with an entry in it, or with another ledger in its place.",
        &[],
        TamperedStorage::PARAMS,
    )
    .with_surrogate()
    .verified(&[Verified {
        against: "the attacks that are carried out, each with its own record",
        agreement: "the same edits",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, attack, facts, poison_on};
    use theriac_core::record::MethodRecord;

    #[test]
    fn what_is_done_in_storage_is_what_the_attack_does() {
        let train = testing::train();
        for does in DEEDS {
            let given = [("does", (*does).into()), ("rate", 0.1.into())];
            let touched = if *does == "remove" { 8 } else { 20 };
            let (changes, _) = testing::invariants(&ENTRY, given.clone(), touched);
            let (entry, values) = delivery(does, 0.1);
            let alone = (entry.check)(&values, &facts()).unwrap();
            assert_eq!(changes.edits, poison_on(&*alone, &train, 1).unwrap().edits, "{does}");
            assert_eq!((changes.role, changes.stage), (Role::Engineer, Stage::Store));
            let probes =
                [&attack(&ENTRY, given), &alone].map(|attack| attack.probe(&testing::test(), &testing::seeds()));
            let [found, expected] = probes.map(|probe| probe.map(|probe| (probe.inputs.digest(), probe.aim)));
            assert_eq!(found, expected, "{does}");
        }
    }

    #[test]
    fn it_takes_what_the_attack_takes_and_no_more() {
        let train = testing::train();
        let changes = poison_on(&*attack(&ENTRY, [("does", "badnets".into())]), &train, 1).unwrap();
        for (does, takes) in [
            ("pair-flip", &[Capability::Labels][..]),
            ("badnets", &[Capability::Inputs, Capability::Labels]),
            ("random-noise", &[Capability::Inputs]),
            ("remove", &[Capability::Remove]),
        ] {
            let params = testing::values([("does", does.into())]);
            let threat = crate::threat_of(&MethodRecord { name: "tampered-storage".to_owned(), params }).unwrap();
            let sorted = |takes: &[Capability]| {
                let mut names: Vec<String> = takes.iter().map(Capability::to_string).collect();
                names.sort();
                names
            };
            assert_eq!((sorted(threat.capabilities), threat.stage), (sorted(takes), Stage::Store));
            assert!(threat.capabilities.iter().all(|capability| THREAT.capabilities.contains(capability)), "{does}");
            let allowed = Budget { samples: 20, epsilon: 255 }.enforce(&threat, &train, &changes).is_ok();
            assert_eq!(allowed, does == "badnets", "{does}");
        }
    }

    #[test]
    fn the_ledger_changes_nothing_about_the_data() {
        let made = ["untouched", "signed", "rewritten"].map(|ledger| {
            let attack = attack(&ENTRY, [("ledger", ledger.into())]);
            let changes = poison_on(&*attack, &testing::train(), 1).unwrap();
            (attack.trail(&changes), changes.digest())
        });
        assert_eq!(made.map(|(trail, _)| trail), [Trail::Untouched, Trail::Signed, Trail::Rewritten]);
        assert!(made.iter().all(|(_, digest)| *digest == made[0].1));
    }

    #[test]
    fn others_enter_what_they_deliver_or_label_and_not_what_they_remove() {
        let trail = |name: &str| {
            let attack = (crate::find(name).unwrap().check)(&Values::new(), &facts()).unwrap();
            attack.trail(&poison_on(&*attack, &testing::train(), 1).unwrap())
        };
        let found = ["label-flip", "badnets", "remove"].map(trail);
        assert_eq!(found, [Trail::Signed, Trail::Signed, Trail::Untouched]);
    }
}
