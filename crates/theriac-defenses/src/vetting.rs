//! What the vetting defenses share: checks of what they are given, and the way from scores to a change set.

use theriac_core::{ChangeSet, Label, Role, Stage};

use crate::{DefenseError, Verdict, VetContext};

/// Refuses features that do not belong to the data, or that a diverged model left behind.
pub(crate) fn check_features(context: &VetContext) -> Result<(), DefenseError> {
    let (rows, samples) = (context.features.rows(), context.data.len());
    if rows != samples {
        return Err(DefenseError::Infeasible(format!("there are {samples} samples, but features of {rows}")));
    }
    match context.features.iter().position(|row| row.iter().any(|value| !value.is_finite())) {
        Some(index) => Err(DefenseError::Infeasible(format!(
            "the features of sample {} are not finite; the model may have diverged",
            context.data.id(index).0
        ))),
        None => Ok(()),
    }
}

/// How many samples a control removes: what the filter it stands beside removed, or a fraction of the data.
pub(crate) fn budget(context: &VetContext, fraction: f64, matches: &str) -> Result<usize, DefenseError> {
    let samples = context.data.len();
    match context.matched {
        Some(matched) => Ok(matched.min(samples)),
        None if matches.is_empty() => Ok((fraction * samples as f64).round() as usize),
        None => Err(DefenseError::Infeasible(format!(
            "the removal budget of `{matches}` is to be copied, but `{matches}` has not vetted these data"
        ))),
    }
}

/// For each value the share of smaller ones; ties count half.
pub(crate) fn rank_shares(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let share = |value: &f64| {
        let smaller = sorted.partition_point(|other| other < value);
        let smaller_or_equal = sorted.partition_point(|other| other <= value);
        (smaller + smaller_or_equal) as f64 / (2 * values.len()) as f64
    };
    values.iter().map(share).collect()
}

/// The `count` highest-scored of `members`; the earlier one on ties.
pub(crate) fn most_suspicious(members: &[usize], scores: &[f64], count: usize) -> Vec<usize> {
    let mut order = members.to_vec();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(count);
    order
}

/// The verdict that removes the samples at `removed`, in ascending order.
pub(crate) fn removal(author: &str, context: &VetContext, scores: Vec<f64>, mut removed: Vec<usize>) -> Verdict {
    let mut changes = ChangeSet::new(author, Role::Defender, Stage::Store);
    removed.sort_unstable();
    removed.into_iter().for_each(|index| changes.remove(context.data, index));
    Verdict { scores, changes }
}

/// The verdict that removes the samples of `found`, in ascending order, or that gives them the label beside their index.
pub(crate) fn drop_or_relabel(
    author: &str,
    context: &VetContext,
    scores: Vec<f64>,
    action: &str,
    found: impl Iterator<Item = (usize, Label)>,
) -> Verdict {
    if action == "drop" {
        return removal(author, context, scores, found.map(|(index, _)| index).collect());
    }
    let mut changes = ChangeSet::new(author, Role::Defender, Stage::Store);
    let wrong = found.filter(|&(index, label)| context.data.label(index) != label);
    wrong.for_each(|(index, label)| changes.relabel(context.data, index, label));
    Verdict { scores, changes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;
    use theriac_core::Matrix;

    #[test]
    fn foreign_and_diverged_features_are_refused() {
        let mut case = Case::backdoor(1, 4, 1);
        assert!(check_features(&case.context()).is_ok());
        let mut values = case.features.values().to_vec();
        values[20] = f32::NAN;
        case.features = Matrix::new(16, values);
        let text = check_features(&case.context()).unwrap_err().to_string();
        assert!(text.contains("features of sample 1 are not finite"), "{text}");
        case.features = case.features.select(&[0, 2]);
        let text = check_features(&case.context()).unwrap_err().to_string();
        assert_eq!(text, "failed to defend: there are 13 samples, but features of 2");
    }

    #[test]
    fn a_budget_is_copied_or_a_fraction_but_never_guessed() {
        let case = Case::backdoor(1, 30, 10);
        let mut context = case.context();
        assert_eq!(budget(&context, 0.1, "").unwrap(), 10);
        let text = budget(&context, 0.1, "deep-knn").unwrap_err().to_string();
        assert!(text.contains("`deep-knn` has not vetted"), "{text}");
        context.matched = Some(7);
        assert_eq!(budget(&context, 0.1, "deep-knn").unwrap(), 7);
        context.matched = Some(1000);
        assert_eq!(budget(&context, 0.1, "deep-knn").unwrap(), 100);
    }

    #[test]
    fn ties_go_to_the_earlier_sample() {
        assert_eq!(most_suspicious(&[3, 1, 0, 2], &[0.5, 0.9, 0.5, 0.5], 3), [1, 0, 2]);
    }

    #[test]
    fn ranks_count_ties_half() {
        assert_eq!(rank_shares(&[5.0, 1.0, 5.0, 0.0]), [0.75, 0.375, 0.75, 0.125]);
        assert!(rank_shares(&[]).is_empty());
    }
}
