//! Perfect filter: a control that knows which samples the attacker touched.
//!
//! # Rule
//!
//! ```text
//! score(i) = 1 if the attacker touched sample i, else 0
//! remove poisoned samples until the budget is spent; in random order if it does not reach for all of them
//! matched to a filter: spend what is left on clean samples, drawn at random
//! ```
//!
//! Matched to another filter, it removes exactly as many samples as that one did, so that the two differ in nothing
//! but *which* samples go: the distance between them is what better detection could still gain. That is why it then
//! removes clean samples too once there is no poison left. Matched to nothing, the budget `fraction` is an upper
//! bound, and clean samples stay.
//!
//! A sample counts as poisoned if the attacker's change set names it and it is in the data. What the attacker removed
//! is gone, and no filter brings it back.
//!
//! # Verified against
//!
//! `scripts/verify/selections.py`, 300 samples of which 43 are poisoned, five budgets: the removed samples are those of numpy
//! 2.1.3 with the same draws, which a second ChaCha12 gives. `scripts/verify/draws.py`, beside `outliers` on 500 digits of
//! which 40 are poisoned, 40 seeds: each time as many removed as by the filter, and all the poison that the number reaches.

use theriac_core::{Facts, Hook, MethodInfo, Range, Values, Verified, config};

use crate::vetting::{budget, most_suspicious, removal};
use crate::{Checked, Defense, DefenseEntry, DefenseError, Verdict, VetContext};

config! {
    /// Perfect filter.
    pub struct PerfectFilter {
        /// Fraction of the training set that is removed at most when no filter is matched.
        fraction: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
        /// The filter whose number of removed samples is copied; empty for none. The lab fills it in.
        matches: String = "", Range::Text, "";
    }
}

impl Defense for PerfectFilter {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let data = context.data;
        let touched = context.truth.touched();
        let poisoned: Vec<bool> = (0..data.len()).map(|index| touched.contains(&data.id(index))).collect();

        let mut count = budget(context, self.fraction, &self.matches)?;
        if context.matched.is_none() {
            count = count.min(poisoned.iter().filter(|&&poisoned| poisoned).count());
        }
        let scores: Vec<f64> = poisoned.iter().map(|&poisoned| f64::from(u8::from(poisoned))).collect();
        let mut stream = context.seeds.stream("perfect-filter/ties");
        let order: Vec<f64> = scores.iter().map(|score| score + stream.uniform()).collect();
        let everyone: Vec<usize> = (0..data.len()).collect();
        let removed = most_suspicious(&everyone, &order, count);
        Ok(removal(ENTRY.info.name, context, scores, removed))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "perfect-filter",
        &[Hook::Vet],
        "Control: removes as many samples as another filter, and knows which are poisoned.",
        &[],
        PerfectFilter::PARAMS,
    )
    .verified(&[
        Verified {
            against: "numpy 2.1.3 on the same draws, 300 samples, five budgets (scripts/verify/selections.py)",
            agreement: "removed samples equal",
        },
        Verified {
            against: "outliers on 500 digits, 40 seeds (scripts/verify/draws.py)",
            agreement: "as many removed each time, the poison first",
        },
    ]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(PerfectFilter::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, Golden};

    fn removed(case: &Case, matched: Option<usize>) -> (usize, usize) {
        let context = VetContext { matched, ..case.context() };
        let verdict = PerfectFilter::default().vet(&context).unwrap();
        let removed = case.removed(&verdict);
        (removed.len(), removed.iter().filter(|&&index| case.poisoned[index]).count())
    }

    #[test]
    fn poison_goes_first_and_a_matched_budget_is_spent_to_the_end() {
        let case = Case::backdoor(3, 30, 10);
        assert_eq!(removed(&case, Some(4)), (4, 4));
        assert_eq!(removed(&case, Some(10)), (10, 10));
        assert_eq!(removed(&case, Some(25)), (25, 10));
        assert_eq!(removed(&case, None), (10, 10));
    }

    #[test]
    fn without_a_match_clean_samples_stay() {
        let case = Case::backdoor(3, 30, 5);
        assert_eq!(removed(&case, None), (5, 5));
        assert_eq!(removed(&Case::clean(3, 30), None), (0, 0));
        case.is_deterministic(&PerfectFilter::default());
    }

    #[test]
    fn poison_that_is_not_in_the_data_does_not_count() {
        let mut case = Case::backdoor(3, 30, 10);
        let kept: Vec<usize> = (0..case.data.len()).filter(|&index| !case.poisoned[index]).collect();
        case = case.select(&kept);
        assert_eq!(removed(&case, None), (0, 0));
    }

    #[test]
    fn it_removes_what_numpy_removes_with_the_same_draws() {
        Golden::control("perfect-filter", &PerfectFilter::default());
    }
}
