//! How many seeds it takes to see a difference.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::function::erf::erfc;
use statrs::function::gamma::ln_gamma;

/// More pairs than anybody has.
const MOST: f64 = 1e6;

/// The smallest number of pairs, at least 2, with which the two-sided paired t test at level `alpha` finds a difference of
/// `mean_difference` with a probability of at least `power`, where single differences spread by `deviation`.
///
/// `None` where no number helps: no difference, one that is not finite, or more than a million pairs.
///
/// ```
/// use theriac_core::stats::seeds_needed;
///
/// // A difference of half a standard deviation, at the usual 5 % and 80 %.
/// assert_eq!(seeds_needed(0.01, 0.02, 0.05, 0.8), Some(34));
/// ```
///
/// # Panics
/// When `alpha` or `power` is not between 0 and 1.
pub fn seeds_needed(mean_difference: f64, deviation: f64, alpha: f64, power: f64) -> Option<usize> {
    assert!(alpha > 0.0 && alpha < 1.0, "a level lies between 0 and 1, found {alpha}");
    assert!(power > 0.0 && power < 1.0, "a power lies between 0 and 1, found {power}");
    let effect = (mean_difference / deviation).abs();
    if mean_difference == 0.0 || !mean_difference.is_finite() || !deviation.is_finite() || effect == 0.0 {
        return None;
    }
    let normal = Normal::new(0.0, 1.0).expect("the standard normal distribution");
    let guess = ((normal.inverse_cdf(1.0 - alpha / 2.0) + normal.inverse_cdf(power)) / effect).powi(2).ceil();
    if guess > MOST {
        return None;
    }
    // If the spread were known the guess would be right. Estimating it costs a few pairs more.
    let mut n = (guess as usize).max(2);
    while n > 2 && power_of(effect, n - 1, alpha) >= power {
        n -= 1;
    }
    while power_of(effect, n, alpha) < power {
        n += 1;
    }
    Some(n)
}

/// The probability that the two-sided paired t test at level `alpha` calls `effect`, the mean difference in standard deviations, a
/// difference, with `n` pairs.
fn power_of(effect: f64, n: usize, alpha: f64) -> f64 {
    let degrees = (n - 1) as f64;
    let student = StudentsT::new(0.0, 1.0, degrees).expect("there are at least two pairs");
    let critical = student.inverse_cdf(1.0 - alpha / 2.0);
    let shift = effect * (n as f64).sqrt();
    upper_tail(critical, degrees, shift) + upper_tail(critical, degrees, -shift)
}

/// The probability that a noncentral t variable, `(Z + shift) / S` with `S = sqrt(chi2 / degrees)`, exceeds `critical`:
/// the mean of `Phi(shift - critical * S)` over the density of S, by Simpson's rule. Good to about 1e-7.
fn upper_tail(critical: f64, degrees: f64, shift: f64) -> f64 {
    const STEPS: u32 = 2000;
    // S lies about 1, with a deviation of 1 / sqrt(2 degrees).
    let reach = 10.0 / (2.0 * degrees).sqrt();
    let (low, high) = ((1.0 - reach).max(0.0), 1.0 + reach);
    let step = (high - low) / f64::from(STEPS);
    let half = degrees / 2.0;
    let constant = 2f64.ln() + half * half.ln() - ln_gamma(half);
    let integrand = |s: f64| {
        let density = (constant + (degrees - 1.0) * s.max(f64::MIN_POSITIVE).ln() - half * s * s).exp();
        density * 0.5 * erfc((critical * s - shift) / std::f64::consts::SQRT_2)
    };
    let weighted = (0..=STEPS).map(|index| {
        let weight = match index {
            0 | STEPS => 1.0,
            odd if odd % 2 == 1 => 4.0,
            _ => 2.0,
        };
        weight * integrand(low + step * f64::from(index))
    });
    weighted.sum::<f64>() * step / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nobody_can_find_what_is_not_there() {
        assert_eq!(seeds_needed(0.0, 1.0, 0.05, 0.8), None);
        assert_eq!(seeds_needed(0.0, 0.0, 0.05, 0.8), None);
        assert_eq!(seeds_needed(f64::NAN, 1.0, 0.05, 0.8), None);
        assert_eq!(seeds_needed(1.0, f64::INFINITY, 0.05, 0.8), None);
        assert_eq!(seeds_needed(1e-4, 1.0, 0.05, 0.8), None, "78 million pairs");
        assert_eq!(seeds_needed(0.5, 0.0, 0.05, 0.8), Some(2), "no spread");
    }

    // Computed once with SciPy 1.17.1 (`stats.nct`, n tried one by one), confirmed by statsmodels 0.15.0
    // (`TTestPower.solve_power`, rounded up; for an effect of 10 that ends at its smallest n).
    #[test]
    fn the_numbers_of_seeds_agree_with_scipy_and_statsmodels() {
        let usual = [
            (0.05, 3142),
            (0.2, 199),
            (0.5, 34),
            (0.8, 15),
            (1.0, 10),
            (1.5, 6),
            (2.0, 5),
            (3.0, 4),
            (5.0, 3),
            (10.0, 3),
        ];
        for (effect, n) in usual {
            assert_eq!(seeds_needed(effect, 1.0, 0.05, 0.8), Some(n), "{effect}");
        }
        assert_eq!(seeds_needed(0.5, 1.0, 0.01, 0.9), Some(63));
        assert_eq!(seeds_needed(0.8, 1.0, 0.05, 0.95), Some(23));
        assert_eq!(seeds_needed(0.3, 1.0, 0.1, 0.5), Some(32));
    }

    // Computed once with SciPy 1.17.1 (`stats.nct`) and statsmodels 0.15.0 (`TTestPower.power`), which agree.
    #[test]
    fn the_power_agrees_with_scipy_and_statsmodels() {
        let known = [
            (3.0, 2, 0.260_770_714_229_109),
            (2.0, 3, 0.470_749_431_278_435),
            (1.0, 5, 0.401_389_917_371_795),
            (0.5, 34, 0.807_777_501_279_274),
            (0.2, 199, 0.801_691_024_037_066),
        ];
        for (effect, n, power) in known {
            let found = power_of(effect, n, 0.05);
            assert!((found - power).abs() < 1e-7, "{effect} at {n}: {found}");
        }
    }

    #[test]
    fn without_a_shift_the_power_is_the_level() {
        for n in [2, 3, 5, 30, 1000] {
            let found = power_of(0.0, n, 0.05);
            assert!((found - 0.05).abs() < 1e-7, "{n} pairs: {found}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn one_pair_less_would_not_do(effect in 0.05f64..6.0, power in 0.3f64..0.95) {
            let n = seeds_needed(effect, 1.0, 0.05, power).unwrap();
            prop_assert!(power_of(effect, n, 0.05) >= power);
            prop_assert!(n == 2 || power_of(effect, n - 1, 0.05) < power);
            prop_assert_eq!(seeds_needed(-3.0 * effect, 3.0, 0.05, power), Some(n));
        }
    }
}
