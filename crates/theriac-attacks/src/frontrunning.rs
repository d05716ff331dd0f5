//! Bad edits that are made just before a snapshot is taken, and that would be reverted soon.
//!
//! Nicholas Carlini, Matthew Jagielski, Christopher A. Choquette-Choo, Daniel Paleka, Will Pearce, Hyrum Anderson, Andreas Terzis, Kurt Thomas,
//! Florian Tramer: "Poisoning Web-Scale Training Datasets is Practical", IEEE S&P 2024, <https://arxiv.org/abs/2302.10149>.
//!
//! # Threat model
//! The training set is a snapshot of something that anybody may edit, such as an encyclopedia. Bad edits are found and reverted after a while;
//! the snapshot passes each page at a time that can be foretold to some degree. What the attack takes that is carried out
//! (`does`) is all that it knows. It has no model.
//!
//! # Update rule
//! ```text
//! E     = the edits of the attack `does` on D, at `rate`
//! each touched sample: its page is passed at S ~ uniform(0, window), counted from when the attacker edits it,
//!                      and the edit lives for R ~ exponential with mean `revert`;  it lands if R > S
//! D    <- the edits of E that land
//! P(it lands) = (1 - exp(-x)) / x,  x = window / revert
//! ```
//! The attacker edits at the beginning of the window, which is best: earlier an edit only lives longer before the page is passed,
//! later it comes too late for some pages, and what is lost there is more than what is won.
//!
//! # Where this differs from the paper
//! - The paper measures on Wikipedia how well the time can be foretold and how long edits live; both are distributions with long tails, and
//!   depend on the page. Here they are one uniform and one exponential law with a parameter each, so that the fraction has a closed form.
//! - Its poison is text. Here images and labels are edited, together where the attack takes both.
//! - All edits of one sample land or do not together, and no page's fate depends on another's.
//!
//! # Verified against
//! The closed form at three points by hand, and as the mean of 8,000 draws; what lands are edits of the attack that is carried out,
//! unchanged (tests below).

use std::collections::BTreeSet;

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, MethodInfo, Paper, ParamError, Probe, Role,
    SampleId, Seeds, Stage, ThreatModel, Values, Verified, config, param::Range,
};

use crate::delivery::{DELIVERIES, delivery};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// What is tried, and what comes of it.
    pub struct Frontrunning {
        /// The attack whose edits are tried, with its defaults; `pair-flip` is `label-flip` to the next class.
        does: String = "badnets", Range::Choice(DELIVERIES), "";
        /// How many samples are edited. Fewer land.
        rate: f64 = 0.05, Range::Number(0.0, 1.0), "of the training set";
        /// How long the time is within which the snapshot of a page is known to be taken.
        window: f64 = 30.0, Range::Number(0.0, 1e9), "minutes";
        /// How long an edit lives on average until somebody reverts it.
        revert: f64 = 60.0, Range::Above(0.0, 1e9), "minutes";
    }
}

/// The edits that are tried, and the two times.
struct Tried {
    carried: Box<dyn Attack>,
    window: f64,
    revert: f64,
}

impl Frontrunning {
    fn check(self, facts: &Facts) -> Result<Tried, Vec<ParamError>> {
        let (entry, values) = delivery(&self.does, self.rate);
        Ok(Tried { carried: (entry.check)(&values, facts)?, window: self.window, revert: self.revert })
    }
}

impl Tried {
    /// Those of `tried` that are still there when the snapshot passes them.
    fn landed(&self, tried: BTreeSet<SampleId>, seeds: &Seeds) -> BTreeSet<SampleId> {
        let mut stream = seeds.stream("land");
        let mut lands = |_: &SampleId| {
            let passed = self.window * stream.uniform();
            let lives = -self.revert * (1.0 - stream.uniform()).ln();
            lives > passed
        };
        tried.into_iter().filter(|id| lands(id)).collect()
    }
}

impl Attack for Tried {
    /// That of all edits that are tried: if the snapshot comes at once, all land.
    fn budget(&self, train: &Dataset) -> Budget {
        self.carried.budget(train)
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let mut changes = self.carried.poison(context)?;
        let landed = self.landed(changes.touched(), context.seeds);
        changes.edits.retain(|edit| landed.contains(&edit.id()));
        Ok(ChangeSet { author: ENTRY.info.name.to_owned(), role: Role::Supplier, stage: THREAT.stage, ..changes })
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.carried.probe(test, seeds)
    }

    fn victim_class(&self) -> Option<u16> {
        self.carried.victim_class()
    }
}

/// All that any of the attacks takes.
const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Nothing,
    capabilities: &[Capability::Labels, Capability::Inputs],
    goal: Goal::Untargeted,
    stage: Stage::Collect,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(Frontrunning::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "frontrunning",
        Family::SupplyChain,
        THREAT,
        "Bad edits are made just before a snapshot is taken; those that are not reverted in time land in the training set.",
        &[Paper {
            cite: "Carlini et al. 2024",
            title: "Poisoning Web-Scale Training Datasets is Practical",
            link: "https://arxiv.org/abs/2302.10149",
        }],
        Frontrunning::PARAMS,
    )
    .verified(&[Verified {
        against: "the closed form of the fraction that lands, by hand at three points, 8,000 draws at each",
        agreement: "within four standard deviations; what lands are edits of the attack that is carried out",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, attack, facts, poison_on};
    use theriac_core::Trail;

    #[test]
    fn as_many_edits_land_as_the_closed_form_says() {
        // (1 - exp(-x)) / x for x = 1/2, 1 and 2.
        for (window, expected) in [(30.0, 0.786_938_68), (60.0, 0.632_120_56), (120.0, 0.432_332_36)] {
            let tried = Frontrunning { window, ..Frontrunning::default() }.check(&facts()).unwrap();
            let all: BTreeSet<SampleId> = (0..8000).map(SampleId).collect();
            let x: f64 = window / 60.0;
            assert!(((1.0 - (-x).exp()) / x - expected).abs() < 1e-8);
            let share = tried.landed(all, &testing::seeds()).len() as f64 / 8000.0;
            let deviation = (expected * (1.0 - expected) / 8000.0_f64).sqrt();
            assert!((share - expected).abs() < 4.0 * deviation, "{share} {expected}");
        }
    }

    #[test]
    fn what_lands_is_unchanged_and_at_once_all_lands() {
        let train = testing::train();
        for does in DELIVERIES {
            let given = |window: f64| [("does", (*does).into()), ("rate", 0.3.into()), ("window", window.into())];
            let (entry, values) = delivery(does, 0.3);
            let all = poison_on(&*(entry.check)(&values, &facts()).unwrap(), &train, 1).unwrap();
            let (changes, _) = testing::invariants(&ENTRY, given(0.0), 60);
            assert_eq!(changes.edits, all.edits, "{does}");
            let attack = attack(&ENTRY, given(60.0));
            let changes = poison_on(&*attack, &train, 1).unwrap();
            let landed = changes.touched();
            // 60 of which 37.9 are expected, give or take 3.7.
            assert!((24..=52).contains(&landed.len()), "{does} {}", landed.len());
            let expected: Vec<_> = all.edits.iter().filter(|edit| landed.contains(&edit.id())).cloned().collect();
            assert_eq!(changes.edits, expected, "{does}");
            attack.budget(&train).enforce(&THREAT, &train, &changes).unwrap();
            assert_eq!((attack.trail(&changes), changes.role), (Trail::Signed, Role::Supplier));
        }
    }

    #[test]
    fn who_knows_the_time_better_lands_more() {
        let landed = |window: f64, revert: f64| {
            let given = [("rate", 0.5.into()), ("window", window.into()), ("revert", revert.into())];
            poison_on(&*attack(&ENTRY, given), &testing::train(), 1).unwrap().touched().len()
        };
        assert!(landed(1.0, 60.0) > landed(60.0, 60.0) && landed(60.0, 60.0) > landed(600.0, 60.0));
        assert!(landed(600.0, 6000.0) > landed(600.0, 60.0));
    }
}
