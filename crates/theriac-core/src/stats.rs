//! Intervals: how far a number measured over a few seeds can be trusted.
//!
//! All of them answer `None` when there is nothing that a number could describe (no values, or one that is not finite),
//! so that no NaN reaches a result. A single value is described by itself, without bounds: one seed says nothing about
//! the spread.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::seed::Stream;

/// An estimate with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate from the values themselves.
    pub mean: f64,
    /// The lower bound; `None` for a single value, whose spread is unknown.
    pub low: Option<f64>,
    /// The upper bound; `None` for a single value.
    pub high: Option<f64>,
    /// Number of values behind it.
    pub n: usize,
}

impl Interval {
    /// Half the width, for `mean +- half_width`; `None` for a single value.
    pub fn half_width(&self) -> Option<f64> {
        Some((self.high? - self.low?) / 2.0)
    }
}

/// The arithmetic mean; `None` without values or when one is not finite.
pub fn mean(values: &[f64]) -> Option<f64> {
    let finite = !values.is_empty() && values.iter().all(|value| value.is_finite());
    finite.then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample standard deviation, with `n - 1` in the denominator; `None` for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Student's interval of the mean: `mean +- t(n - 1) * s / sqrt(n)`.
///
/// # Panics
/// When `confidence` is not between 0 and 1.
pub fn student(values: &[f64], confidence: f64) -> Option<Interval> {
    let upper = upper_tail(confidence);
    let (mean, n) = (mean(values)?, values.len());
    let Some(deviation) = standard_deviation(values) else {
        return Some(Interval { mean, low: None, high: None, n });
    };
    let student = StudentsT::new(0.0, 1.0, (n - 1) as f64).expect("there are at least two values");
    let half = student.inverse_cdf(upper) * deviation / (n as f64).sqrt();
    Some(Interval { mean, low: Some(mean - half), high: Some(mean + half), n })
}

/// Student's interval of the mean of `after - before`, pair by pair: of seeds, not of independent samples.
///
/// # Panics
/// When the two are not equally long, or `confidence` is not between 0 and 1.
pub fn paired(before: &[f64], after: &[f64], confidence: f64) -> Option<Interval> {
    assert_eq!(before.len(), after.len(), "a paired comparison needs pairs");
    let differences: Vec<f64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
    student(&differences, confidence)
}

/// Wilson's score interval of a proportion (Wilson 1927, <https://doi.org/10.2307/2276774>). It stays within 0 and 1
/// and is not empty when no trial, or every trial, succeeds. `mean` is `successes / n`, which is not the middle of the
/// interval.
///
/// # Panics
/// When there are more successes than trials, or `confidence` is not between 0 and 1.
pub fn wilson(successes: usize, n: usize, confidence: f64) -> Option<Interval> {
    assert!(successes <= n, "{successes} successes in {n} trials");
    let z = Normal::standard().inverse_cdf(upper_tail(confidence));
    if n == 0 {
        return None;
    }
    let trials = n as f64;
    let mean = successes as f64 / trials;
    let scale = 1.0 / (1.0 + z * z / trials);
    let centre = scale * (mean + z * z / (2.0 * trials));
    let half = scale * z * (mean * (1.0 - mean) / trials + z * z / (4.0 * trials * trials)).sqrt();
    // Exact at the ends, where rounding would leave a bound a hair beyond 0 or 1.
    let low = if successes == 0 { 0.0 } else { centre - half };
    let high = if successes == n { 1.0 } else { centre + half };
    Some(Interval { mean, low: Some(low), high: Some(high), n })
}

/// The percentile bootstrap interval (Efron 1979, <https://doi.org/10.1214/aos/1176344552>) of any `statistic`. Its
/// quantiles are interpolated linearly between the resampled statistics.
///
/// `None` also when the statistic of a resample is not finite. A single value has no bounds, as everywhere here.
///
/// # Panics
/// When `resamples` is 0, or `confidence` is not between 0 and 1.
pub fn bootstrap(
    values: &[f64],
    statistic: impl Fn(&[f64]) -> f64,
    resamples: usize,
    confidence: f64,
    stream: &mut Stream,
) -> Option<Interval> {
    assert!(resamples > 0, "a bootstrap needs at least one resample");
    let upper = upper_tail(confidence);
    mean(values)?;
    let n = values.len();
    let estimate = statistic(values);
    if n == 1 {
        return estimate.is_finite().then_some(Interval { mean: estimate, low: None, high: None, n });
    }
    let mut resample = vec![0.0; n];
    let mut draws = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        resample.fill_with(|| values[stream.below(n)]);
        draws.push(statistic(&resample));
    }
    draws.sort_by(f64::total_cmp);
    let all_finite = estimate.is_finite() && draws.iter().all(|draw| draw.is_finite());
    let bound = |share| Some(quantile(&draws, share));
    all_finite.then(|| Interval { mean: estimate, low: bound(1.0 - upper), high: bound(upper), n })
}

/// Where a two-sided interval of `confidence` ends in the upper tail: 0.975 for 0.95.
fn upper_tail(confidence: f64) -> f64 {
    assert!(confidence > 0.0 && confidence < 1.0, "a confidence lies between 0 and 1, found {confidence}");
    0.5 + confidence / 2.0
}

/// The quantile of ascending values, interpolated linearly (type 7 of Hyndman and Fan).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seeds;
    use proptest::prelude::*;

    fn near(interval: Option<Interval>, mean: f64, low: f64, high: f64, tolerance: f64) {
        let found = interval.unwrap();
        let gaps = [found.mean - mean, found.low.unwrap() - low, found.high.unwrap() - high];
        assert!(gaps.iter().all(|gap| gap.abs() < tolerance), "{found:?}, expected {mean} [{low}, {high}]");
    }

    fn average(values: &[f64]) -> f64 {
        mean(values).unwrap()
    }

    #[test]
    fn the_standard_deviation_divides_by_one_less_than_the_count() {
        assert!((standard_deviation(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap() - 2.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(standard_deviation(&[7.0]), None);
        assert_eq!(standard_deviation(&[7.0, 7.0]), Some(0.0));
    }

    #[test]
    fn student_agrees_with_the_tables() {
        // t(4, 0.975) = 2.776445, s = 1.581139: 2.776445 * 1.581139 / sqrt(5) = 1.963243.
        let half = 1.963_243;
        near(student(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95), 3.0, 3.0 - half, 3.0 + half, 1e-5);
        // t(2, 0.975) = 4.302653, s = 0.01: three seeds, the usual case here.
        let half = 4.302_653 * 0.01 / 3.0f64.sqrt();
        near(student(&[0.97, 0.98, 0.99], 0.95), 0.98, 0.98 - half, 0.98 + half, 1e-7);
        // t(1, 0.95) = 6.313752, s = sqrt(0.5), at 90 %.
        let half = 6.313_752 * 0.5;
        near(student(&[0.0, 1.0], 0.9), 0.5, 0.5 - half, 0.5 + half, 1e-5);
    }

    #[test]
    fn one_value_has_no_bounds_and_none_has_no_interval() {
        let single = student(&[0.5], 0.95).unwrap();
        assert_eq!(single, Interval { mean: 0.5, low: None, high: None, n: 1 });
        assert_eq!(serde_json::to_string(&single).unwrap(), r#"{"mean":0.5,"low":null,"high":null,"n":1}"#);
        assert_eq!(single.half_width(), None);
        assert_eq!(student(&[], 0.95), None);
        assert_eq!(student(&[1.0, f64::NAN], 0.95), None);
        assert_eq!(student(&[1.0, f64::INFINITY], 0.95), None);
        assert_eq!(wilson(0, 0, 0.95), None);
    }

    #[test]
    fn wilson_agrees_with_published_values() {
        near(wilson(1, 10, 0.95), 0.1, 0.017_876, 0.404_150, 1e-6);
        // Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29.
        near(wilson(81, 263, 0.95), 81.0 / 263.0, 0.2553, 0.3662, 5e-5);
        near(wilson(15, 148, 0.95), 15.0 / 148.0, 0.0624, 0.1605, 5e-5);
        near(wilson(0, 20, 0.95), 0.0, 0.0, 0.1611, 5e-5);
        near(wilson(1, 29, 0.95), 1.0 / 29.0, 0.0061, 0.1718, 5e-5);
        near(wilson(20, 20, 0.95), 1.0, 0.8389, 1.0, 5e-5);
    }

    // Computed once with SciPy 1.17.1 (`stats.t.interval`) and statsmodels 0.15.0 (`proportion_confint`).
    #[test]
    fn the_intervals_agree_with_scipy_and_statsmodels() {
        near(student(&[0.97, 0.98, 0.99], 0.95), 0.98, 0.955_158_622_882_496_6, 1.004_841_377_117_503_3, 1e-9);
        near(student(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95), 3.0, 1.036_756_838_522_442_8, 4.963_243_161_477_557, 1e-9);
        near(wilson(1, 10, 0.95), 0.1, 0.017_876_213_095_072_924, 0.404_150_026_795_238_54, 1e-9);
        near(wilson(81, 263, 0.95), 81.0 / 263.0, 0.255_288_519_878_274_2, 0.366_209_576_982_800_04, 1e-9);
    }

    #[test]
    fn a_paired_comparison_sees_a_difference_that_the_spread_hides() {
        let (before, after) = ([0.1, 0.5, 0.9], [0.2, 0.61, 0.99]);
        // Differences 0.1, 0.11, 0.09: mean 0.1, s = 0.01, t(2) = 4.302653.
        let half = 4.302_653 * 0.01 / 3.0f64.sqrt();
        near(paired(&before, &after, 0.95), 0.1, 0.1 - half, 0.1 + half, 1e-7);
        assert_eq!(paired(&[], &[], 0.95), None);
    }

    #[test]
    fn the_bootstrap_is_named_by_its_stream_and_near_the_normal_interval() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let draw = |seed| bootstrap(&values, average, 4000, 0.95, &mut Seeds::new(seed).stream("bootstrap"));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        // The bootstrap's standard error of the mean is sqrt((n^2 - 1) / 12 / n) = 2.8865; 1.96 of it is 5.657.
        near(draw(1), 49.5, 49.5 - 5.657, 49.5 + 5.657, 0.4);
        let constant = bootstrap(&[2.0, 2.0], average, 10, 0.95, &mut Seeds::new(0).stream("bootstrap"));
        near(constant, 2.0, 2.0, 2.0, 1e-15);
        let single = bootstrap(&[2.0], average, 10, 0.95, &mut Seeds::new(0).stream("bootstrap"));
        assert_eq!(single, Some(Interval { mean: 2.0, low: None, high: None, n: 1 }));
        let undefined = bootstrap(&[1.0, 2.0], |_| f64::NAN, 10, 0.95, &mut Seeds::new(0).stream("bootstrap"));
        assert_eq!(undefined, None);
    }

    #[test]
    fn quantiles_are_interpolated() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), 4.0);
    }

    proptest! {
        #[test]
        fn wilson_stays_within_the_unit_interval_and_holds_the_estimate(n in 1usize..400, share in 0.0f64..=1.0) {
            let found = wilson((share * n as f64) as usize, n, 0.95).unwrap();
            let (low, high) = (found.low.unwrap(), found.high.unwrap());
            prop_assert!(0.0 <= low && low <= found.mean && found.mean <= high && high <= 1.0, "{found:?}");
        }

        #[test]
        fn student_moves_with_the_values(values in prop::collection::vec(-1.0f64..1.0, 2..9), by in -5.0f64..5.0) {
            let here = student(&values, 0.95).unwrap();
            let moved: Vec<f64> = values.iter().map(|value| value + by).collect();
            let there = student(&moved, 0.95).unwrap();
            prop_assert!((here.mean + by - there.mean).abs() < 1e-9);
            prop_assert!((here.half_width().unwrap() - there.half_width().unwrap()).abs() < 1e-6);
        }
    }
}
