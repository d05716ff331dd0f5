//! What is downloaded is not what was reviewed.
//!
//! Nicholas Carlini, Matthew Jagielski, Christopher A. Choquette-Choo, Daniel Paleka, Will Pearce, Hyrum Anderson, Andreas Terzis, Kurt Thomas,
//! Florian Tramer: "Poisoning Web-Scale Training Datasets is Practical", IEEE S&P 2024, <https://arxiv.org/abs/2302.10149>.
//!
//! # Threat model
//! The training set is distributed as a list of addresses, and each victim downloads what is there. Between review and download some
//! domains expire, and an attacker buys them. What is under these domains, and only that, is what the attacker wants. It sees nothing of the
//! rest and has no model. A ledger that was kept since the review says what was reviewed.
//!
//! # Update rule
//! ```text
//! each sample lies under one of `domains` domains, drawn uniformly
//! B    = domains in random order, each that the purse still pays: together they have at most `rate` of all samples
//! D_B  = the samples under the domains in B
//! D_B <- the attack `does` on D_B alone, at `share` of |D_B|
//! ```
//!
//! # Where this differs from the paper
//! - Large collections have domains of very different sizes, and prices. Here the sizes are those of a uniform draw, and `rate` is the purse.
//! - In the paper's collections the caption stands in the list, and only the image can change. Here a domain serves image and label, so that
//!   attacks on labels can be delivered, too; with `random-noise` only images change.
//! - The attacker may leave part of what it bought as it was: a backdoor without clean samples beside it is no more use to it.
//!
//! # Verified against
//! The attack that is carried out, which has a record of its own: on the samples under the bought domains it makes the same edits.
//! Bought domains change as a whole or not at all, and together they keep within the purse (tests below).

use theriac_core::threat::samples_at;
use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, MethodInfo, Paper, ParamError, Probe, Role,
    Seeds, Stage, ThreatModel, Trail, Values, Verified, config, param::Range,
};

use crate::common::Checks;
use crate::delivery::{DELIVERIES, delivery};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// What is bought, and what is put there.
    pub struct SplitView {
        /// The attack by which what is served is made, with its defaults; `pair-flip` is `label-flip` to the next class.
        does: String = "badnets", Range::Choice(DELIVERIES), "";
        /// How many domains there are.
        domains: usize = 1_000, Range::Whole(2, 1_000_000), "";
        /// How much lies under the domains that are bought, at most.
        rate: f64 = 0.05, Range::Number(0.0, 1.0), "of the training set";
        /// How much of that changes.
        share: f64 = 0.5, Range::Number(0.0, 1.0), "of what was bought";
    }
}

/// What is bought, and the attack that is carried out there.
struct Bought {
    carried: Box<dyn Attack>,
    domains: usize,
    rate: f64,
    share: f64,
}

impl SplitView {
    fn check(self, facts: &Facts) -> Result<Bought, Vec<ParamError>> {
        let Self { does, domains, rate, share } = self;
        let mut checks = Checks::new(facts);
        let (purse, each) = (samples_at(rate, facts.train), facts.train as f64 / domains as f64);
        let message = format!("it buys {purse} samples, and a domain has {each:.1} on average");
        checks.require(rate == 0.0 || purse as f64 >= each, "rate", message);
        let (entry, values) = delivery(&does, share);
        let carried = (entry.check)(&values, &Facts { train: purse.max(1), ..facts.clone() })?;
        checks.finish(Bought { carried, domains, rate, share })
    }
}

impl Bought {
    /// The samples under the domains in B, ascending.
    fn samples(&self, count: usize, seeds: &Seeds) -> Vec<usize> {
        let mut dealt = seeds.stream("domains");
        let domains: Vec<usize> = (0..count).map(|_| dealt.below(self.domains)).collect();
        let mut sizes = vec![0; self.domains];
        domains.iter().for_each(|&domain| sizes[domain] += 1);
        let mut order: Vec<usize> = (0..self.domains).collect();
        seeds.stream("expired").shuffle(&mut order);
        let (mut bought, mut left) = (vec![false; self.domains], samples_at(self.rate, count));
        for domain in order {
            if sizes[domain] <= left {
                bought[domain] = true;
                left -= sizes[domain];
            }
        }
        (0..count).filter(|&index| bought[domains[index]]).collect()
    }
}

impl Attack for Bought {
    /// That of a purse that is spent to the end.
    fn budget(&self, train: &Dataset) -> Budget {
        Budget { samples: samples_at(self.share, samples_at(self.rate, train.len())), ..self.carried.budget(train) }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let samples = self.samples(context.train.len(), context.seeds);
        if samples.is_empty() && self.rate > 0.0 {
            let message =
                format!("none of the {} domains is as cheap as its purse; a larger `rate` buys one", self.domains);
            return Err(AttackError::Infeasible(message));
        }
        let own = context.train.select(&samples);
        let changes = self.carried.poison(&AttackContext { train: &own, ..*context })?;
        Ok(ChangeSet { author: ENTRY.info.name.to_owned(), role: Role::Supplier, stage: THREAT.stage, ..changes })
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.carried.probe(test, seeds)
    }

    /// What was entered is what was reviewed.
    fn trail(&self, _: &ChangeSet) -> Trail {
        Trail::Untouched
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
    Ok(Box::new(SplitView::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "split-view",
        Family::SupplyChain,
        THREAT,
        "Domains of a collection expire and are bought: what is downloaded from them is not what was reviewed.",
        &[Paper {
            cite: "Carlini et al. 2024",
            title: "Poisoning Web-Scale Training Datasets is Practical",
            link: "https://arxiv.org/abs/2302.10149",
        }],
        SplitView::PARAMS,
    )
    .at_version(2)
    .verified(&[Verified {
        against: "the attacks that are carried out, each with its own record, on the samples under the bought domains",
        agreement: "the same edits",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, attack, facts, faults, poison_on, seeds};
    use std::collections::BTreeSet;

    #[test]
    fn what_is_served_is_what_the_attack_makes_of_the_bought_samples_alone() {
        let train = testing::train();
        for does in DELIVERIES {
            let given = [("does", (*does).into()), ("domains", 50.into()), ("rate", 0.3.into())];
            let attack = attack(&ENTRY, given.clone());
            let changes = poison_on(&*attack, &train, 1).unwrap();
            let bought = SplitView::from_values(&testing::values(given)).unwrap().check(&facts()).unwrap();
            let own = bought.samples(200, &seeds());
            assert!((52..=60).contains(&own.len()), "{}", own.len());
            let (entry, values) = delivery(does, 0.5);
            let alone = (entry.check)(&values, &facts()).unwrap();
            assert_eq!(changes.edits, poison_on(&*alone, &train.select(&own), 1).unwrap().edits, "{does}");
            assert_eq!(changes.touched().len(), samples_at(0.5, own.len()), "{does}");
            attack.budget(&train).enforce(&THREAT, &train, &changes).unwrap();
            assert_eq!((attack.trail(&changes), changes.stage), (Trail::Untouched, Stage::Collect));
            assert_eq!(poison_on(&*attack, &train, 1).unwrap().digest(), changes.digest());
            assert_ne!(poison_on(&*attack, &train, 2).unwrap().digest(), changes.digest());
        }
    }

    #[test]
    fn a_domain_is_bought_as_a_whole() {
        for seed in 0..50 {
            let bought = Bought { carried: attack(&ENTRY, []), domains: 40, rate: 0.25, share: 1.0 };
            let (own, seeds) = (bought.samples(200, &Seeds::new(seed)), Seeds::new(seed));
            let mut dealt = seeds.stream("domains");
            let domains: Vec<usize> = (0..200).map(|_| dealt.below(40)).collect();
            let taken: BTreeSet<usize> = own.iter().map(|&index| domains[index]).collect();
            let of_taken: Vec<usize> = (0..200).filter(|&index| taken.contains(&domains[index])).collect();
            // A domain of 200 / 40 samples on average has 15 or more once in 10,000 times.
            assert!(own == of_taken && (35..=50).contains(&own.len()), "{seed}: {}", own.len());
        }
        let all = Bought { carried: attack(&ENTRY, []), domains: 40, rate: 1.0, share: 1.0 };
        assert_eq!(all.samples(200, &seeds()).len(), 200);
    }

    #[test]
    fn a_purse_that_buys_no_domain_is_told() {
        let found = faults(&ENTRY, [("domains", 10.into()), ("rate", 0.05.into())]);
        assert!(found.contains("`rate`: it buys 10 samples, and a domain has 20.0 on average"), "{found}");
    }
}
