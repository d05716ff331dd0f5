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

use theriac_core::{Facts, Hook, MethodInfo, Range, Values, config};

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
    ),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(RandomFilter::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;

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
}
