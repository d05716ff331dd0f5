//! Metrics by their standard names. A fraction of nothing is `None`, never 0 or NaN.

use serde::{Deserialize, Serialize};

use crate::dataset::Label;
use crate::record::{RocPoint, ScoreHistogram};

/// The most points that [`roc`] answers with.
pub const ROC_POINTS: usize = 200;

/// `hits / all`, or nothing.
fn fraction(hits: usize, all: usize) -> Option<f64> {
    (all > 0).then(|| hits as f64 / all as f64)
}

/// Pairs of prediction and truth.
fn pairs<'a>(predictions: &'a [Label], truth: &'a [Label]) -> impl Iterator<Item = (Label, Label)> + 'a {
    assert_eq!(predictions.len(), truth.len(), "each prediction needs its true label");
    predictions.iter().copied().zip(truth.iter().copied())
}

/// The fraction of predictions that are right. On clean test images this is the clean accuracy (CA).
///
/// # Panics
/// When the two are not equally long.
pub fn accuracy(predictions: &[Label], truth: &[Label]) -> Option<f64> {
    let hits = pairs(predictions, truth).filter(|(predicted, label)| predicted == label).count();
    fraction(hits, truth.len())
}

/// Counts by `[true class][predicted class]`.
///
/// # Panics
/// When the two are not equally long or a label is not below `classes`.
pub fn confusion(predictions: &[Label], truth: &[Label], classes: usize) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; classes]; classes];
    for (predicted, label) in pairs(predictions, truth) {
        counts[usize::from(label)][usize::from(predicted)] += 1;
    }
    counts
}

/// The fraction of images of `class` that are classified as it, from a [`confusion`] matrix.
pub fn recall(confusion: &[Vec<u64>], class: Label) -> Option<f64> {
    let row = confusion.get(usize::from(class))?;
    fraction(row[usize::from(class)] as usize, row.iter().sum::<u64>() as usize)
}

/// The defense effectiveness rate (DER; Zhu et al. 2023, <https://arxiv.org/abs/2304.11823>): 1 when the defense
/// removes an attack of full success without loss of accuracy, 0.5 when it changes nothing, 0 when it only ruins the
/// model.
///
/// ```text
/// DER = (max(0, undefended_asr - asr) - max(0, undefended_ca - ca) + 1) / 2
/// ```
pub fn defense_effectiveness_rate(undefended_ca: f64, undefended_asr: f64, ca: f64, asr: f64) -> f64 {
    ((undefended_asr - asr).max(0.0) - (undefended_ca - ca).max(0.0) + 1.0) / 2.0
}

/// How well the flags of a detector agree with the truth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// The fraction of the poisoned samples that were flagged; `None` if none is poisoned.
    pub tpr: Option<f64>,
    /// The fraction of the clean samples that were flagged; `None` if none is clean.
    pub fpr: Option<f64>,
}

impl Detection {
    /// Compares `flagged` with `poisoned`, sample by sample.
    ///
    /// # Panics
    /// When the two are not equally long.
    pub fn of(flagged: &[bool], poisoned: &[bool]) -> Self {
        assert_eq!(flagged.len(), poisoned.len(), "each flag needs its truth");
        let count = |state: bool, flag: bool| {
            flagged.iter().zip(poisoned).filter(|&(&flagged, &poisoned)| poisoned == state && flagged == flag).count()
        };
        let rate = |state| fraction(count(state, true), count(state, true) + count(state, false));
        Self { tpr: rate(true), fpr: rate(false) }
    }
}

/// What a detector's scores say about the truth: from the most suspicious score down, how many poisoned and how many
/// clean samples share each score. Equal scores cannot be told apart by any threshold, so they stay together.
struct Ranking {
    steps: Vec<(usize, usize)>,
    poisoned: usize,
    clean: usize,
}

impl Ranking {
    /// `None` when a score is not a number.
    fn of(scores: &[f64], poisoned: &[bool]) -> Option<Self> {
        assert_eq!(scores.len(), poisoned.len(), "each score needs its truth");
        if scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        // Compared with `==`, not by bits: 0 and -0 are one score, and the order above puts them side by side.
        let tied = order.chunk_by(|&a, &b| scores[a] == scores[b]);
        let count = |group: &[usize]| group.iter().filter(|&&at| poisoned[at]).count();
        let steps: Vec<_> = tied.map(|group| (count(group), group.len() - count(group))).collect();
        let total = poisoned.iter().filter(|&&poisoned| poisoned).count();
        Some(Self { steps, poisoned: total, clean: poisoned.len() - total })
    }
}

/// The area under the ROC curve: the probability that a poisoned sample scores above a clean one, where a tie counts
/// one half (midranks; the Mann-Whitney statistic). Higher scores are more suspicious.
///
/// `None` when no sample is poisoned, when none is clean, or when a score is not a number.
///
/// # Panics
/// When the two are not equally long.
pub fn auroc(scores: &[f64], poisoned: &[bool]) -> Option<f64> {
    let ranking = Ranking::of(scores, poisoned)?;
    let mut above = 0;
    // Twice the wins of poisoned samples, so that a half stays a whole number and the sum is exact.
    let mut doubled = 0;
    for (poisoned, clean) in &ranking.steps {
        doubled += clean * (2 * above + poisoned);
        above += poisoned;
    }
    fraction(doubled, 2 * ranking.poisoned * ranking.clean)
}

/// The average precision, with scikit-learn's definition: `sum over thresholds of (recall_n - recall_(n-1)) *
/// precision_n`, without interpolation, equal scores as one threshold.
///
/// `None` when no sample is poisoned or a score is not a number.
///
/// # Panics
/// When the two are not equally long.
pub fn average_precision(scores: &[f64], poisoned: &[bool]) -> Option<f64> {
    let ranking = Ranking::of(scores, poisoned)?;
    let (mut found, mut seen, mut area) = (0, 0, 0.0);
    for (poisoned, clean) in &ranking.steps {
        found += poisoned;
        seen += poisoned + clean;
        area += *poisoned as f64 * found as f64 / seen as f64;
    }
    (ranking.poisoned > 0).then(|| area / ranking.poisoned as f64)
}

/// The ROC curve from (0, 0) to (1, 1), equal scores as one threshold. Points on a straight line between their
/// neighbours are left out; if more than [`ROC_POINTS`] remain, those that shape the curve most are kept. Empty where
/// [`auroc`] is `None`.
///
/// # Panics
/// When the two are not equally long.
pub fn roc(scores: &[f64], poisoned: &[bool]) -> Vec<RocPoint> {
    let Some(ranking) = Ranking::of(scores, poisoned).filter(|ranking| ranking.poisoned > 0 && ranking.clean > 0)
    else {
        return Vec::new();
    };
    let mut points = vec![(0.0, 0.0)];
    let (mut true_positives, mut false_positives) = (0, 0);
    for (poisoned, clean) in &ranking.steps {
        true_positives += poisoned;
        false_positives += clean;
        let rates = (false_positives as f64 / ranking.clean as f64, true_positives as f64 / ranking.poisoned as f64);
        points.push(rates);
    }
    let kept = thin(&points, ROC_POINTS);
    kept.into_iter().map(|at| RocPoint { fpr: points[at].0, tpr: points[at].1 }).collect()
}

/// The bins of a [`score_histogram`].
pub const BINS: usize = 40;

/// How the scores of clean and poisoned samples lie, in [`BINS`] bins. A far outlier must not push all others into one bin: the bins
/// span what is left when the farthest thousandth of the scores is set aside at each end, and what lies beyond counts in the outer
/// bins. `None` where [`auroc`] is `None`.
///
/// # Panics
/// When the two are not equally long.
pub fn score_histogram(scores: &[f64], poisoned: &[bool]) -> Option<ScoreHistogram> {
    auroc(scores, poisoned)?;
    let mut sorted: Vec<f64> = scores.iter().copied().filter(|score| score.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let aside = sorted.len() / 1000;
    let (low, high) = (*sorted.get(aside)?, *sorted.get(sorted.len() - 1 - aside)?);
    let mut histogram = ScoreHistogram { low, high, clean: vec![0; BINS], poisoned: vec![0; BINS] };
    // Dividing both first keeps differences of huge scores finite.
    let width = (high / BINS as f64 - low / BINS as f64).max(f64::MIN_POSITIVE);
    for (score, poisoned) in scores.iter().zip(poisoned) {
        let bin = ((score.clamp(low, high) - low) / width).min((BINS - 1) as f64) as usize;
        let counts = if *poisoned { &mut histogram.poisoned } else { &mut histogram.clean };
        counts[bin] += 1;
    }
    Some(histogram)
}

/// The indices of at most `most` points that describe the line through `points`: its ends, and then again and again the
/// point that is farthest from the line so far (Ramer, Douglas and Peucker), until all others lie on it.
fn thin(points: &[(f64, f64)], most: usize) -> Vec<usize> {
    const ON_THE_LINE: f64 = 1e-12;
    // The point between `first` and `last` that is farthest from their chord, and how far it is.
    let farthest = |first: usize, last: usize| {
        let ((x0, y0), (x1, y1)) = (points[first], points[last]);
        let length = (x1 - x0).hypot(y1 - y0);
        let distance = |(x, y): (f64, f64)| ((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)).abs() / length;
        let inner = (first + 1..last).map(|at| (at, distance(points[at])));
        inner.fold((first, 0.0), |best, next| if next.1 > best.1 { next } else { best })
    };
    let last = points.len() - 1;
    let mut chords = vec![(0, last, farthest(0, last))];
    while chords.len() + 1 < most {
        let widest = (0..chords.len()).fold(0, |best, at| if chords[at].2.1 > chords[best].2.1 { at } else { best });
        let (first, last, (middle, distance)) = chords[widest];
        if distance <= ON_THE_LINE {
            break;
        }
        chords[widest] = (first, middle, farthest(first, middle));
        chords.insert(widest + 1, (middle, last, farthest(middle, last)));
    }
    std::iter::once(0).chain(chords.iter().map(|chord| chord.1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seeds;
    use proptest::prelude::*;

    fn near(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-12, "found {found}, expected {expected}");
    }

    fn points(curve: &[RocPoint]) -> Vec<(f64, f64)> {
        curve.iter().map(|point| (point.fpr, point.tpr)).collect()
    }

    #[test]
    fn accuracy_confusion_and_recall_on_a_small_case() {
        let (predictions, truth) = ([0, 1, 1, 2, 0], [0, 1, 2, 2, 1]);
        assert_eq!(accuracy(&predictions, &truth), Some(0.6));
        let counts = confusion(&predictions, &truth, 4);
        assert_eq!(counts, [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]);
        assert_eq!((recall(&counts, 0), recall(&counts, 1)), (Some(1.0), Some(0.5)));
        assert_eq!((recall(&counts, 3), recall(&counts, 9)), (None, None));
        assert_eq!(accuracy(&[], &[]), None);
    }

    #[test]
    fn a_defense_that_removes_the_attack_scores_high_and_one_that_ruins_the_model_low() {
        assert_eq!(defense_effectiveness_rate(0.9, 1.0, 0.9, 0.0), 1.0);
        assert_eq!(defense_effectiveness_rate(0.9, 1.0, 0.9, 1.0), 0.5);
        // The sign matters: worse accuracy lowers it, a higher success rate does not raise it.
        assert!(defense_effectiveness_rate(0.9, 1.0, 0.1, 1.0) < 0.5);
        assert_eq!(defense_effectiveness_rate(0.9, 0.5, 0.9, 1.0), 0.5);
        // Fine-tuning on BackdoorBench's BadNets at 10 %: 91.32/95.03 -> 89.96/1.48.
        near(Some(defense_effectiveness_rate(0.9132, 0.9503, 0.8996, 0.0148)), 0.960_95);
    }

    #[test]
    fn detection_counts_each_side_by_itself() {
        let poisoned = [true, true, false, false, false];
        let found = Detection::of(&[true, false, true, false, false], &poisoned);
        assert_eq!((found.tpr, found.fpr), (Some(0.5), Some(1.0 / 3.0)));
        assert_eq!(Detection::of(&[true], &[false]), Detection { tpr: None, fpr: Some(1.0) });
    }

    #[test]
    fn ranking_metrics_on_hand_computed_cases() {
        // Clean 1, 2, 3; poisoned 3, 4: wins 2.5 + 3 of 6.
        let (scores, poisoned) = ([1.0, 2.0, 3.0, 3.0, 4.0], [false, false, false, true, true]);
        near(auroc(&scores, &poisoned), 5.5 / 6.0);
        // Thresholds 4 (precision 1, recall 1/2) and 3 (2/3, 1): 1/2 + 1/2 * 2/3.
        near(average_precision(&scores, &poisoned), 5.0 / 6.0);
        assert_eq!(points(&roc(&scores, &poisoned)), [(0.0, 0.0), (0.0, 0.5), (1.0 / 3.0, 1.0), (1.0, 1.0)]);
        // One score for all is worth nothing.
        near(auroc(&[7.0; 4], &[true, false, true, false]), 0.5);
        assert_eq!(points(&roc(&[0.0, -0.0], &[true, false])), [(0.0, 0.0), (1.0, 1.0)]);
    }

    #[test]
    fn a_histogram_counts_every_score_and_sets_outliers_aside() {
        let scores: Vec<f64> = (0..2000).map(f64::from).chain([1e300, f64::INFINITY]).collect();
        let poisoned: Vec<bool> = scores.iter().map(|score| *score >= 1000.0).collect();
        let found = score_histogram(&scores, &poisoned).unwrap();
        assert_eq!((found.low, found.high), (2.0, 1998.0));
        assert_eq!((found.clean.iter().sum::<u64>(), found.poisoned.iter().sum::<u64>()), (1000, 1002));
        assert_eq!((found.clean[BINS - 1], found.poisoned[0]), (0, 0));
        // Bins of 49.9: the first holds 0 to 51, the second 52 to 101.
        assert_eq!(found.clean[..2], [52, 50]);
        let equal = score_histogram(&[3.0; 4], &[true, false, true, false]).unwrap();
        assert_eq!((equal.low, equal.high, equal.clean[0], equal.poisoned[0]), (3.0, 3.0, 2, 2));
        assert_eq!(score_histogram(&[1.0], &[true]), None);
    }

    // The numbers were computed once with scikit-learn 1.9.1: `roc_auc_score`, `average_precision_score`, `roc_curve`
    // (its corners), `confusion_matrix`, `accuracy_score`, `recall_score`.
    #[test]
    fn the_metrics_agree_with_scikit_learn() {
        let scores =
            [0.1, 0.4, 0.35, 0.8, 0.8, 0.3, 0.3, 0.55, 0.9, 0.05, 0.6, 0.6, 0.6, 0.2, 0.7, 0.15, 0.4, 0.95, 0.5, 0.25];
        let poisoned = [0, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0].map(|poisoned| poisoned == 1);
        near(auroc(&scores, &poisoned), 0.755_208_333_333_333_3);
        near(average_precision(&scores, &poisoned), 0.696_474_358_974_358_9);
        let corners = [(0, 0), (0, 2), (1, 3), (2, 3), (3, 5), (5, 5), (6, 6), (6, 7), (7, 8), (12, 8)];
        let corners = corners.map(|(clean, poisoned)| (f64::from(clean) / 12.0, f64::from(poisoned) / 8.0));
        assert_eq!(points(&roc(&scores, &poisoned)), corners);
        let (predictions, truth) = ([0, 1, 1, 2, 0, 2, 2, 1], [0, 1, 2, 2, 1, 0, 2, 1]);
        let counts = confusion(&predictions, &truth, 3);
        assert_eq!(counts, [[1, 0, 1], [1, 2, 0], [0, 1, 2]]);
        assert_eq!(accuracy(&predictions, &truth), Some(0.625));
        assert_eq!([0, 1, 2].map(|class| recall(&counts, class)), [Some(0.5), Some(2.0 / 3.0), Some(2.0 / 3.0)]);
    }

    #[test]
    fn what_cannot_be_ranked_has_no_value() {
        assert_eq!((auroc(&[1.0], &[true]), auroc(&[1.0], &[false]), auroc(&[], &[])), (None, None, None));
        assert_eq!((average_precision(&[1.0], &[true]), average_precision(&[1.0], &[false])), (Some(1.0), None));
        assert_eq!(auroc(&[f64::NAN, 1.0], &[true, false]), None);
        assert!(roc(&[1.0], &[true]).is_empty());
        near(auroc(&[f64::INFINITY, f64::NEG_INFINITY], &[true, false]), 1.0);
    }

    #[test]
    fn a_long_curve_is_thinned_without_moving_its_area() {
        let mut stream = Seeds::new(1).stream("roc");
        let poisoned: Vec<bool> = (0..20_000).map(|at| at % 10 == 0).collect();
        let scores: Vec<f64> =
            poisoned.iter().map(|&poisoned| stream.normal() + f64::from(u8::from(poisoned))).collect();
        let curve = points(&roc(&scores, &poisoned));
        assert!(curve.len() <= ROC_POINTS && curve.len() > 20, "{}", curve.len());
        assert!(curve.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        let area: f64 = curve.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum();
        assert!((area - auroc(&scores, &poisoned).unwrap()).abs() < 2e-3);
        // A perfect detector has exactly one corner, however many samples there are.
        let scores: Vec<f64> =
            poisoned.iter().map(|&poisoned| stream.uniform() + f64::from(u8::from(poisoned))).collect();
        assert_eq!(points(&roc(&scores, &poisoned)), [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]);
    }

    fn scored() -> impl Strategy<Value = (Vec<f64>, Vec<bool>)> {
        // Whole numbers, so that ties are frequent and the maps below are exact.
        prop::collection::vec((-9i32..9, any::<bool>()), 2..60)
            .prop_map(|pairs| pairs.into_iter().map(|(score, poisoned)| (f64::from(score), poisoned)).unzip())
    }

    proptest! {
        #[test]
        fn ranking_metrics_depend_on_the_order_alone((scores, poisoned) in scored()) {
            let mapped: Vec<f64> = scores.iter().map(|score| (score / 3.0).exp() - 7.0).collect();
            prop_assert_eq!(auroc(&scores, &poisoned), auroc(&mapped, &poisoned));
            prop_assert_eq!(average_precision(&scores, &poisoned), average_precision(&mapped, &poisoned));
            prop_assert_eq!(roc(&scores, &poisoned), roc(&mapped, &poisoned));
        }

        #[test]
        fn turned_scores_turn_the_area((scores, poisoned) in scored()) {
            let turned: Vec<f64> = scores.iter().map(|score| -score).collect();
            let sum = auroc(&scores, &poisoned).zip(auroc(&turned, &poisoned)).map(|(a, b)| a + b);
            prop_assert!(sum.is_none_or(|sum| (sum - 1.0).abs() < 1e-12));
        }

        #[test]
        fn a_short_curve_keeps_its_whole_area((scores, poisoned) in scored()) {
            let curve = points(&roc(&scores, &poisoned));
            let area: f64 = curve.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum();
            prop_assert!(auroc(&scores, &poisoned).is_none_or(|exact| (area - exact).abs() < 1e-9));
        }

        #[test]
        fn der_is_a_fraction(a in 0.0f64..=1.0, b in 0.0f64..=1.0, c in 0.0f64..=1.0, d in 0.0f64..=1.0) {
            prop_assert!((0.0..=1.0).contains(&defense_effectiveness_rate(a, b, c, d)));
        }
    }
}
