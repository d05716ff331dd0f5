//! Intervals: how far a number measured over a few seeds can be trusted.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

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

/// How far one more value may lie from the mean of `n` others of its kind, in their standard deviations: it lies further, on either side,
/// with probability `alpha`, if all are normal. `t(n - 1) * sqrt(1 + 1 / n)`, the prediction interval.
///
/// # Panics
/// When `n` is below 2, or `alpha` is not between 0 and 1.
pub fn prediction_limit(n: usize, alpha: f64) -> f64 {
    let student = StudentsT::new(0.0, 1.0, n as f64 - 1.0).expect("there are at least two values");
    student.inverse_cdf(upper_tail(1.0 - alpha)) * (1.0 + 1.0 / n as f64).sqrt()
}

/// Where a two-sided interval of `confidence` ends in the upper tail: 0.975 for 0.95.
fn upper_tail(confidence: f64) -> f64 {
    assert!(confidence > 0.0 && confidence < 1.0, "a confidence lies between 0 and 1, found {confidence}");
    0.5 + confidence / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(interval: Option<Interval>, mean: f64, low: f64, high: f64, tolerance: f64) {
        let found = interval.unwrap();
        let gaps = [found.mean - mean, found.low.unwrap() - low, found.high.unwrap() - high];
        assert!(gaps.iter().all(|gap| gap.abs() < tolerance), "{found:?}, expected {mean} [{low}, {high}]");
    }

    #[test]
    fn the_standard_deviation_divides_by_one_less_than_the_count() {
        assert!((standard_deviation(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap() - 2.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(standard_deviation(&[7.0]), None);
        assert_eq!(standard_deviation(&[7.0, 7.0]), Some(0.0));
    }

    #[test]
    fn a_prediction_limit_agrees_with_the_tables() {
        // t(9) at 0.975 is 2.26216, t(4) at 0.995 is 4.60409.
        assert!((prediction_limit(10, 0.05) - 2.262_157 * 1.1_f64.sqrt()).abs() < 1e-5);
        assert!((prediction_limit(5, 0.01) - 4.604_095 * 1.2_f64.sqrt()).abs() < 1e-5);
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
    }

    // Computed once with SciPy 1.17.1 (`stats.t.interval`).
    #[test]
    fn the_intervals_agree_with_scipy() {
        near(student(&[0.97, 0.98, 0.99], 0.95), 0.98, 0.955_158_622_882_496_6, 1.004_841_377_117_503_3, 1e-9);
        near(student(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95), 3.0, 1.036_756_838_522_442_8, 4.963_243_161_477_557, 1e-9);
    }

    proptest! {
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
