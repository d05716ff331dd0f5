//! Learning-rate schedules.

use std::f64::consts::PI;

/// The factor on the largest learning rate at `step` of `steps`, both counted over the whole training.
pub(crate) fn factor(schedule: &str, step: usize, steps: usize) -> f64 {
    let progress = step as f64 / steps.max(1) as f64;
    let cosine = |progress: f64| 0.5 * (1.0 + (PI * progress).cos());
    const WARM_UP: f64 = 0.3;
    match schedule {
        "cosine" => cosine(progress),
        "one-cycle" if progress < WARM_UP => ((step as f64 + 1.0) / (WARM_UP * steps as f64).max(1.0)).min(1.0),
        "one-cycle" => cosine((progress - WARM_UP) / (1.0 - WARM_UP)),
        "step" if progress >= 0.75 => 0.01,
        "step" if progress >= 0.5 => 0.1,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::factor;

    #[test]
    fn schedules_start_peak_and_end_where_they_should() {
        assert_eq!(factor("constant", 99, 100), 1.0);
        assert_eq!(factor("cosine", 0, 100), 1.0);
        assert!((factor("cosine", 50, 100) - 0.5).abs() < 1e-12);
        assert!(factor("cosine", 99, 100) < 0.001);
        assert!(factor("one-cycle", 0, 100) < 0.05);
        assert!((factor("one-cycle", 29, 100) - 1.0).abs() < 1e-12);
        assert!(factor("one-cycle", 99, 100) < 0.001);
        assert_eq!([factor("step", 49, 100), factor("step", 50, 100), factor("step", 75, 100)], [1.0, 0.1, 0.01]);
        assert!((0..7).all(|step| factor("one-cycle", step, 7) <= 1.0 + 1e-12));
    }
}
