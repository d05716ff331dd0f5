//! Learning-rate schedules.

use std::f64::consts::PI;

use crate::recipe::Schedule;

/// The factor on the largest learning rate at `step` of `steps`, both counted over the whole training.
pub(crate) fn factor(schedule: Schedule, step: usize, steps: usize) -> f64 {
    let progress = step as f64 / steps.max(1) as f64;
    let cosine = |progress: f64| 0.5 * (1.0 + (PI * progress).cos());
    const WARM_UP: f64 = 0.3;
    match schedule {
        Schedule::Constant => 1.0,
        Schedule::Cosine => cosine(progress),
        Schedule::OneCycle if progress < WARM_UP => ((step as f64 + 1.0) / (WARM_UP * steps as f64).max(1.0)).min(1.0),
        Schedule::OneCycle => cosine((progress - WARM_UP) / (1.0 - WARM_UP)),
        Schedule::Step if progress >= 0.75 => 0.01,
        Schedule::Step if progress >= 0.5 => 0.1,
        Schedule::Step => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::factor;
    use crate::recipe::Schedule::{Constant, Cosine, OneCycle, Step};

    #[test]
    fn schedules_start_peak_and_end_where_they_should() {
        assert_eq!(factor(Constant, 99, 100), 1.0);
        assert_eq!(factor(Cosine, 0, 100), 1.0);
        assert!((factor(Cosine, 50, 100) - 0.5).abs() < 1e-12);
        assert!(factor(Cosine, 99, 100) < 0.001);
        assert!(factor(OneCycle, 0, 100) < 0.05);
        assert!((factor(OneCycle, 29, 100) - 1.0).abs() < 1e-12);
        assert!(factor(OneCycle, 99, 100) < 0.001);
        assert_eq!([factor(Step, 49, 100), factor(Step, 50, 100), factor(Step, 75, 100)], [1.0, 0.1, 0.01]);
        assert!((0..7).all(|step| factor(OneCycle, step, 7) <= 1.0 + 1e-12));
    }
}
