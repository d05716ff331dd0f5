//! One number over seeds.

use serde::Serialize;
use theriac_core::stats;

/// The confidence of every interval in the report.
pub const CONFIDENCE: f64 = 0.95;

/// A metric over seeds: its mean, its interval and how far the seeds lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// Student's 95 % interval; `None` for a single seed, whose spread is unknown.
    pub interval: Option<(f64, f64)>,
    /// The number of seeds.
    pub n: usize,
    /// The sample standard deviation; `None` for a single seed.
    pub deviation: Option<f64>,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl Spread {
    /// Describes `values`; `None` when there are none or one of them is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        let interval = stats::student(values, CONFIDENCE)?;
        Some(Self {
            mean: interval.mean,
            interval: interval.low.zip(interval.high),
            n: interval.n,
            deviation: stats::standard_deviation(values),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }

    /// Half the width of the interval.
    pub fn half_width(&self) -> Option<f64> {
        self.interval.map(|(low, high)| (high - low) / 2.0)
    }

    /// The lower bound, or the mean where there is no interval.
    pub fn low(&self) -> f64 {
        self.interval.map_or(self.mean, |(low, _)| low)
    }

    /// The upper bound, or the mean where there is no interval.
    pub fn high(&self) -> f64 {
        self.interval.map_or(self.mean, |(_, high)| high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_seeds_have_an_interval_and_one_has_none() {
        let three = Spread::of(&[0.9, 1.0, 0.8]).unwrap();
        assert!((three.mean - 0.9).abs() < 1e-12);
        assert!((three.half_width().unwrap() - 4.302_652_73 * 0.1 / 3f64.sqrt()).abs() < 1e-6);
        assert_eq!((three.n, three.min, three.max), (3, 0.8, 1.0));
        let one = Spread::of(&[0.9]).unwrap();
        assert_eq!((one.interval, one.deviation, one.low(), one.n), (None, None, 0.9, 1));
        assert_eq!(Spread::of(&[]), None);
    }
}
