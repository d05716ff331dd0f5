//! Random filter: a control that removes samples at random.
//!
//! # Rule
//!
//! ```text
//! score(i) ~ Uniform[0, 1)
//! remove the budget highest scores, budget = what the matched filter removed, else round(fraction * n)
//! ```
//!
//! Removing data at random dilutes poison and clean data alike, and some published filters do no better. A filter is
//! only worth its name if it beats this one at the same number of removed samples.
//!
//! # Verified against
//!
//! `scripts/verify/selections.py`, 300 samples, four budgets: the removed samples are those of numpy 2.1.3 with the same
//! draws, which a second ChaCha12 gives. Of 43 poisoned ones, 2000 seeds remove at a budget of 47 as many as the
//! hypergeometric distribution of scipy 1.17.1 says (chi-square 8.4 in 13 bins, p 0.75). `scripts/verify/draws.py`, beside
//! `outliers` on 500 digits of which 40 are poisoned, 40 seeds: as many removed as by the filter each time; 239 poisoned ones,
//! 242.6 expected (p 0.80), hypergeometric by seed (Kolmogorov-Smirnov p 0.74).

use theriac_core::{Facts, Hook, MethodInfo, Range, Values, Verified, config};

use crate::vetting::{budget, most_suspicious, removal};
use crate::{Checked, Defense, DefenseEntry, DefenseError, Verdict, VetContext};

config! {
    /// Random filter.
    pub struct RandomFilter {
        /// Fraction of the training set that is removed when no filter is matched.
        fraction: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
        /// The filter whose number of removed samples is copied; empty for none. The lab fills it in.
        matches: String = "", Range::Text, "";
    }
}

impl Defense for RandomFilter {
    fn vet(&self, context: &VetContext) -> Result<Verdict, DefenseError> {
        let count = budget(context, self.fraction, &self.matches)?;
        let mut stream = context.seeds.stream("random-filter/scores");
        let scores: Vec<f64> = (0..context.data.len()).map(|_| stream.uniform()).collect();
        let everyone: Vec<usize> = (0..context.data.len()).collect();
        let removed = most_suspicious(&everyone, &scores, count);
        Ok(removal(ENTRY.info.name, context, scores, removed))
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "random-filter",
        &[Hook::Vet],
        "Control: removes as many samples as another filter, at random.",
        &[],
        RandomFilter::PARAMS,
    )
    .verified(&[
        Verified {
            against: "numpy 2.1.3 on the same draws, 300 samples, four budgets (scripts/verify/selections.py)",
            agreement: "removed samples equal",
        },
        Verified {
            against: "scipy 1.17.1: hypergeometric number of poisoned samples removed, 2000 seeds (scripts/verify/selections.py)",
            agreement: "chi-square test, p 0.75",
        },
        Verified {
            against: "outliers on 500 digits, 40 seeds (scripts/verify/draws.py)",
            agreement: "as many removed each time",
        },
    ]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(RandomFilter::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, Golden};
    use statrs::distribution::{ChiSquared, ContinuousCDF};
    use theriac_core::Seeds;

    #[test]
    fn it_finds_poison_no_better_than_chance() {
        let case = Case::backdoor(2, 300, 100);
        let verdict = RandomFilter { fraction: 0.2, ..RandomFilter::default() }.vet(&case.context()).unwrap();
        assert_eq!(verdict.changes.removed().len(), 200);
        let recall = case.recall(&verdict);
        assert!((0.08..0.32).contains(&recall), "{recall}");
    }

    #[test]
    fn it_removes_the_copied_budget_and_its_highest_scores() {
        let case = Case::backdoor(2, 30, 10);
        let context = VetContext { matched: Some(17), ..case.context() };
        let verdict = RandomFilter::default().vet(&context).unwrap();
        let removed = case.removed(&verdict);
        assert_eq!(removed.len(), 17);
        let lowest = removed.iter().map(|&index| verdict.scores[index]).fold(1.0, f64::min);
        assert_eq!(verdict.scores.iter().filter(|&&score| score >= lowest).count(), 17);
        case.is_deterministic(&RandomFilter::default());
    }

    #[test]
    fn it_removes_what_numpy_removes_with_the_same_draws() {
        Golden::control("random-filter", &RandomFilter::default());
    }

    #[test]
    fn the_poison_that_it_removes_is_hypergeometric() {
        let (case, runs) = (Golden::of_controls(), 2000);
        let law = Golden::table(include_str!("../tests/golden/poisoned_removed.csv"));
        let mut found = vec![0.0; law.len()];
        for seed in 0..runs {
            let seeds = Seeds::new(seed);
            let context = VetContext { matched: Some(47), seeds: &seeds, ..case.context() };
            let removed = case.removed(&RandomFilter::default().vet(&context).unwrap());
            assert_eq!(removed.len(), 47);
            found[removed.iter().filter(|&&index| case.poisoned[index]).count()] += 1.0;
        }
        // Counts that are expected less than five times go together at either end.
        let expected = |at: usize| law[at][1] * runs as f64;
        let usual: Vec<usize> = (0..law.len()).filter(|&at| expected(at) >= 5.0).collect();
        let (first, last) = (usual[0], usual[usual.len() - 1]);
        let mut bins = vec![(0.0, 0.0); last - first + 1];
        for (at, count) in found.iter().enumerate() {
            let bin = &mut bins[at.clamp(first, last) - first];
            *bin = (bin.0 + count, bin.1 + expected(at));
        }
        let distance: f64 = bins.iter().map(|(found, expected)| (found - expected).powi(2) / expected).sum();
        let p = ChiSquared::new((bins.len() - 1) as f64).unwrap().sf(distance);
        println!("{} bins, chi-square {distance:.2}, p {p:.3}", bins.len());
        assert!(p > 0.001, "{p}");
    }
}
