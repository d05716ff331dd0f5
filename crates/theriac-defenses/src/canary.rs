//! Canaries: known samples among the others. If one of them comes out changed, somebody changed data.
//!
//! Gold questions, by which crowd-sourced labels are checked (David Oleson, Alexander Sorokin, Greg Laughlin, Vaughn Hester, John Le, Lukas
//! Biewald: "Programmatic Gold: Targeted and Scalable Quality Assurance in Crowdsourcing", Human Computation: Papers from the 2011 AAAI
//! Workshop), which here also watch images and what lies in storage.
//!
//! # Assumptions
//! The defender has copies of `canaries` samples, drawn at random and kept elsewhere, and nobody can tell them from the others. No ledger, no
//! model, and nothing about the attack; it may stand at any stage after the samples were taken in.
//!
//! # Rule
//! ```text
//! C        = the canaries, drawn uniformly from the samples as they were taken in
//! score(i) = 1 if i is in C and its image or label is not the known one, else 0
//! alarm    = there is such a sample, or one of C is missing
//! P(alarm) = 1 - C(n - k, c) / C(n, c)    for k changed samples of n, and c canaries
//! ```
//! What is put back are the canaries alone. An alarm casts doubt on everything that passed the same stage; but nothing tells which of it
//! is wrong, so the rest stays as it is and people have to look. `flagged` above 0 is the alarm, `tpr` the share of the poison that
//! happened to be a canary.
//!
//! # Where this differs from the paper
//! - There canaries measure workers, who are dropped when they fail too many. Here one failure is enough for an alarm, and nobody is dropped.
//!
//! # Verified against
//! The formula (tests below): for 60 samples, 6 of them changed, and 5 canaries the alarm has probability 0.4209; it comes in
//! 4,000 draws as often, within four standard deviations.
//!
//! # When it fails
//! Few changed samples slip through: at n = 8,000 and 100 canaries, 40 changed samples raise an alarm in 40 cases of 100. Samples that are
//! added change no canary. Who knows the canaries leaves them alone.

use theriac_core::{
    ChangeSet, Dataset, Facts, Hook, MethodInfo, ParamError, Range, Role, SampleId, Stage, Values, Verified, config,
};

use crate::ledger_audit::past_of;
use crate::{Checked, Defense, DefenseEntry, DefenseError, Verdict, VetContext};

config! {
    /// The canaries.
    pub struct Canary {
        /// How many samples are known.
        canaries: usize = 100, Range::Whole(1, 1_000_000), "samples";
    }
}

/// The samples at `drawn` of `before` that `data` has otherwise, or no more.
fn changed(before: &Dataset, data: &Dataset, drawn: &[usize]) -> Vec<SampleId> {
    let places = data.positions();
    let is_known = |index: usize| {
        let place = places.get(&before.id(index));
        place.is_some_and(|&at| (data.image(at), data.label(at)) == (before.image(index), before.label(index)))
    };
    drawn.iter().filter(|&&index| !is_known(index)).map(|&index| before.id(index)).collect()
}

impl Canary {
    fn check(self, facts: &Facts) -> Result<Self, Vec<ParamError>> {
        if self.canaries <= facts.train {
            return Ok(self);
        }
        let message = format!("there are {} training samples, expected no more canaries than that", facts.train);
        Err(vec![ParamError::new("canaries", message)])
    }
}

impl Defense for Canary {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let (before, data) = (past_of(context)?.before, context.data);
        let all: Vec<usize> = (0..before.len()).collect();
        let drawn = context.seeds.stream("canaries").choose(&all, self.canaries.min(all.len()));
        let found = changed(before, data, &drawn);
        let score = |index| f64::from(u8::from(found.contains(&data.id(index))));
        let scores = (0..data.len()).map(score).collect();
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Defender, Stage::Store);
        changes.lead(data, before, found);
        Ok(Verdict { scores, changes })
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "canary",
        &[Hook::Vet],
        "Known samples among the others raise an alarm if one of them comes out changed.",
        &[],
        Canary::PARAMS,
    )
    .verified(&[Verified {
        against: "1 - C(n - k, c) / C(n, c), 4,000 draws",
        agreement: "alarms as often, within four standard deviations",
    }]),
    check,
};

fn check(values: &Values, facts: &Facts) -> Checked {
    Ok(Box::new(Canary::from_values(values)?.check(facts)?))
}

#[cfg(test)]
mod tests {
    use theriac_core::{Seeds, SourceId, Trail};

    use super::*;
    use crate::Past;
    use crate::testing::{Case, stripes};

    /// Vets `before` after `changes` with so many canaries.
    fn vetted(before: &Dataset, changes: &ChangeSet, canaries: usize, seed: u64, case: &Case) -> (Dataset, Verdict) {
        let data = changes.apply(before).unwrap();
        let past = Past { before, changes, threat: None, trail: Trail::Signed, round_of: &|_| 1 };
        let seeds = Seeds::new(seed);
        let context = VetContext { data: &data, past: Some(past), seeds: &seeds, ..case.context() };
        let verdict = Canary { canaries }.vet(&context).unwrap();
        (data, verdict)
    }

    fn changes(edit: impl Fn(&mut ChangeSet)) -> ChangeSet {
        let mut changes = ChangeSet::new("test", Role::Annotator, Stage::Label);
        edit(&mut changes);
        changes
    }

    #[test]
    fn a_changed_canary_is_named_and_put_back_and_nothing_else_is() {
        let (before, case) = (stripes(60, 1), Case::clean(1, 20));
        let edits = changes(|changes| {
            changes.relabel(&before, 4, 0);
            changes.replace(&before, 7, vec![3; 36]);
            changes.insert(&before, 1, SourceId(0), vec![5; 36]);
        });
        let (data, verdict) = vetted(&before, &edits, 60, 1, &case);
        let named: Vec<usize> = (0..61).filter(|&at| verdict.scores[at] == 1.0).collect();
        assert_eq!(named, [4, 7]);
        let restored = verdict.changes.apply(&data).unwrap();
        assert_eq!((restored.len(), restored.label(4), restored.image(7)), (61, before.label(4), before.image(7)));
        let (data, verdict) = vetted(&before, &changes(|changes| changes.remove(&before, 9)), 60, 1, &case);
        assert!(verdict.scores.iter().all(|score| *score == 0.0));
        assert_eq!(verdict.changes.apply(&data).unwrap().image(59), before.image(9));
        let (_, verdict) = vetted(&before, &changes(|_| {}), 60, 1, &case);
        assert!(verdict.changes.edits.is_empty());
    }

    #[test]
    fn the_alarm_is_as_likely_as_the_formula_says() {
        let (before, case) = (stripes(60, 1), Case::clean(1, 20));
        let edits =
            changes(|changes| (0..6).for_each(|at| changes.relabel(&before, 9 * at, (before.label(9 * at) + 1) % 3)));
        // 1 - C(54, 5) / C(60, 5) = 1 - (54 53 52 51 50) / (60 59 58 57 56).
        let expected = 1.0 - (54.0 * 53.0 * 52.0 * 51.0 * 50.0) / (60.0 * 59.0 * 58.0 * 57.0 * 56.0);
        assert!((expected - 0.4209_f64).abs() < 5e-5, "{expected}");
        let alarm = |seed: &u64| !vetted(&before, &edits, 5, *seed, &case).1.changes.edits.is_empty();
        let share = (0..4000).filter(alarm).count() as f64 / 4000.0;
        let deviation = (expected * (1.0 - expected) / 4000.0).sqrt();
        assert!((share - expected).abs() < 4.0 * deviation, "{share} {expected}");
        // All canaries, one changed sample: always. One canary: one in sixty.
        let one = changes(|changes| changes.relabel(&before, 0, 1));
        assert!((0..50).all(|seed| !vetted(&before, &one, 60, seed, &case).1.changes.edits.is_empty()));
    }

    #[test]
    fn more_canaries_than_samples_are_refused() {
        let facts = Case::clean(1, 20).facts();
        let error = Canary { canaries: 61 }.check(&facts).err().unwrap()[0].to_string();
        assert!(error.contains("there are 60 training samples"), "{error}");
    }
}
