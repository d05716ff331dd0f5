//! Whether two methods differ: the paired t test, and Holm's correction where several tests are made at once.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Interval, standard_deviation, student};

/// What pairs of values say about the difference between the second and the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The mean of second minus first, with Student's interval; its bounds are always there.
    pub difference: Interval,
    /// The sample standard deviation of the differences.
    pub deviation: f64,
    /// How probable a mean at least as far from zero is if there is no difference: the two-sided p value.
    pub p: f64,
}

/// The paired t test: `t = mean * sqrt(n) / s` of the differences, with `n - 1` degrees of freedom. `None` for fewer than two
/// pairs, and where a difference is not finite.
///
/// Differences that are all the same have no spread to measure the mean by. Then p is 1 if they are zero and 0 if not, which is
/// the limit of the formula, not a proof: values that are counted on few inputs can agree by chance.
///
/// # Panics
/// When `confidence` is not between 0 and 1.
pub fn paired_t(pairs: &[(f64, f64)], confidence: f64) -> Option<Paired> {
    let differences: Vec<f64> = pairs.iter().map(|(first, second)| second - first).collect();
    let difference = student(&differences, confidence)?;
    // The mean of equal numbers is rounded, and would leave them a spread.
    let same = differences.iter().all(|value| *value == differences[0]);
    let deviation = standard_deviation(&differences).map(|deviation| if same { 0.0 } else { deviation })?;
    let p = match (deviation == 0.0, difference.mean == 0.0) {
        (true, true) => 1.0,
        (true, false) => 0.0,
        (false, _) => {
            let n = differences.len() as f64;
            let student = StudentsT::new(0.0, 1.0, n - 1.0).expect("there are at least two values");
            2.0 * student.sf((difference.mean * n.sqrt() / deviation).abs())
        }
    };
    Some(Paired { difference, deviation, p })
}

/// Holm's step-down correction: p values so adjusted that calling all of those at most `alpha` a difference errs in any of them
/// with a probability of at most `alpha`, however the tests depend on each other. In the order of `p`.
///
/// The i-th smallest of m is multiplied by `m - i + 1`, raised to the largest before it, and ends at 1.
///
/// # References
/// Sture Holm, A Simple Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of Statistics 6(2), 1979.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut floor = 0.0f64;
    for (rank, index) in order.into_iter().enumerate() {
        floor = floor.max((p.len() - rank) as f64 * p[index]).min(1.0);
        adjusted[index] = floor;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(first: &[f64], second: &[f64]) -> Vec<(f64, f64)> {
        first.iter().copied().zip(second.iter().copied()).collect()
    }

    #[test]
    fn the_test_by_hand() {
        // Differences 1, 2, 3: mean 2, s = 1, t = 2 * sqrt(3) = 3.4641. With two degrees of freedom
        // p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14).
        let found = paired_t(&pairs(&[0.0, 0.0, 0.0], &[1.0, 2.0, 3.0]), 0.95).unwrap();
        assert_eq!((found.difference.mean, found.difference.n, found.deviation), (2.0, 3, 1.0));
        assert!((found.p - (1.0 - (12.0f64 / 14.0).sqrt())).abs() < 1e-12, "{found:?}");
        // t(2, 0.975) = 4.302653.
        assert!((found.difference.half_width().unwrap() - 4.302_652_73 / 3f64.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn differences_without_spread_are_certain_or_nothing() {
        let certain = paired_t(&pairs(&[0.1, 0.2, 0.3], &[0.6, 0.7, 0.8]), 0.95).unwrap();
        assert!((certain.difference.mean - 0.5).abs() < 1e-12 && certain.p < 1e-12, "{certain:?}");
        let tenth = paired_t(&pairs(&[0.0, 0.0, 0.0], &[0.1, 0.1, 0.1]), 0.95).unwrap();
        assert_eq!((tenth.deviation, tenth.p), (0.0, 0.0));
        let none = paired_t(&pairs(&[0.1, 0.2], &[0.1, 0.2]), 0.95).unwrap();
        assert_eq!((none.difference.mean, none.deviation, none.p), (0.0, 0.0, 1.0));
    }

    #[test]
    fn one_pair_and_what_is_not_finite_have_no_test() {
        assert_eq!(paired_t(&[], 0.95), None);
        assert_eq!(paired_t(&[(0.1, 0.2)], 0.95), None);
        assert_eq!(paired_t(&[(0.1, 0.2), (0.1, f64::NAN)], 0.95), None);
        assert_eq!(paired_t(&[(-f64::MAX, f64::MAX), (0.0, 0.0)], 0.95), None);
    }

    #[test]
    fn holm_by_hand() {
        // 0.01 * 4, 0.02 * 3, 0.03 * 2 (raised to 0.06), 0.9 * 1.
        assert_eq!(holm(&[0.02, 0.9, 0.01, 0.03]), [0.06, 0.9, 0.04, 0.06]);
        assert_eq!(holm(&[0.4, 0.6]), [0.8, 0.8]);
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
        assert_eq!((holm(&[]), holm(&[0.03])), (vec![], vec![0.03]));
    }

    // Computed once with SciPy 1.17.1 (`stats.ttest_rel`).
    #[test]
    fn the_test_agrees_with_scipy() {
        let near = |found: Paired, p: f64, low: f64, high: f64| {
            let gaps = [found.p - p, found.difference.low.unwrap() - low, found.difference.high.unwrap() - high];
            assert!(gaps.iter().all(|gap| gap.abs() < 1e-9), "{found:?}");
        };
        let five = pairs(&[0.912, 0.934, 0.921, 0.908, 0.940], &[0.931, 0.949, 0.920, 0.935, 0.951]);
        let found = paired_t(&five, 0.95).unwrap();
        near(found, 0.037_411_930_580_882_62, 0.001_344_129_717_072, 0.027_055_870_282_927_9);
        assert!((found.deviation - 0.010_353_743_284_435_8).abs() < 1e-12);
        let three = pairs(&[0.98, 0.97, 0.99], &[0.12, 0.31, 0.05]);
        near(paired_t(&three, 0.9).unwrap(), 0.010_154_529_843_573_2, -1.063_137_388_062_149, -0.576_862_611_937_851);
        let two = pairs(&[0.1, 0.5], &[0.2, 0.9]);
        near(paired_t(&two, 0.95).unwrap(), 0.344_041_739_245_261, -1.655_930_710_426_204, 2.155_930_710_426_205);
    }

    // Computed once with statsmodels 0.15.0 (`multipletests(method="holm")`).
    #[test]
    fn holm_agrees_with_statsmodels() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005, 0.5, 0.021, 0.04]);
        let expected = [0.06, 0.12, 0.12, 0.035, 0.5, 0.105, 0.12];
        assert!(
            adjusted.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12),
            "{adjusted:?}"
        );
    }

    proptest! {
        #[test]
        fn the_other_way_round_is_the_same_test(
            values in prop::collection::vec((-1.0f64..1.0, -1.0f64..1.0), 2..9)
        ) {
            let there = paired_t(&values, 0.95).unwrap();
            let turned: Vec<_> = values.iter().map(|(first, second)| (*second, *first)).collect();
            let back = paired_t(&turned, 0.95).unwrap();
            prop_assert_eq!(there.difference.mean, -back.difference.mean);
            prop_assert_eq!((there.deviation, there.p), (back.deviation, back.p));
            prop_assert!((0.0..=1.0).contains(&there.p));
        }

        #[test]
        fn the_interval_excludes_zero_when_p_is_small(
            values in prop::collection::vec((-1.0f64..1.0, -0.7f64..1.3), 2..9)
        ) {
            let found = paired_t(&values, 0.95).unwrap();
            prop_assume!((found.p - 0.05).abs() > 1e-6);
            let excluded = found.difference.low.unwrap() > 0.0 || found.difference.high.unwrap() < 0.0;
            prop_assert_eq!(found.p < 0.05, excluded);
        }

        #[test]
        fn holm_keeps_the_order_and_never_lowers(p in prop::collection::vec(0.0f64..=1.0, 1..12)) {
            let adjusted = holm(&p);
            for i in 0..p.len() {
                prop_assert!(adjusted[i] >= p[i] && adjusted[i] <= (p.len() as f64 * p[i]).min(1.0));
                for j in 0..p.len() {
                    prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
                }
            }
        }
    }
}
