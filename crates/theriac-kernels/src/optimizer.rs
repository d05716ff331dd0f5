//! The optimizers' steps, each in one pass over memory and in place.
//!
//! Stochastic gradient descent with momentum ("On the importance of initialization and momentum in deep learning", Sutskever et al.,
//! 2013, <https://proceedings.mlr.press/v28/sutskever13.html>), Adam (Kingma and Ba, 2014, <https://arxiv.org/abs/1412.6980>) and
//! AdamW (Loshchilov and Hutter, 2017, <https://arxiv.org/abs/1711.05101>). With parameter `p`, gradient `g` and step number `t`:
//!
//! ```text
//! SGD     g += weight_decay p;  v = momentum v + g  (the first time v = g);  p -= lr v,  Nesterov: p -= lr (momentum v + g)
//! Adam    g += weight_decay p;  m = beta_1 m + (1 - beta_1) g;  v = beta_2 v + (1 - beta_2) g^2
//!         p -= lr (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)
//! AdamW   as Adam, but g is left alone and p is multiplied with 1 - lr weight_decay
//! ```
//!
//! Each operation is rounded on its own, in the order of Burn 0.22.1, whose results these are bit for bit; memory is the limit here,
//! so that nothing is lost by not contracting them.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::cpu::Cpu;

/// Settings of one step of stochastic gradient descent.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// What is kept of the velocity.
    pub momentum: f32,
    /// Factor of the L2 penalty's gradient; 0 for none.
    pub weight_decay: f32,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
    /// Whether there is no velocity yet; its memory is then overwritten, whatever it holds.
    pub first: bool,
}

/// Settings of one step of Adam or AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// What is kept of the first moment.
    pub beta_1: f32,
    /// What is kept of the second moment.
    pub beta_2: f32,
    /// Keeps the quotient finite.
    pub epsilon: f32,
    /// Factor of the decay; 0 for none.
    pub weight_decay: f32,
    /// AdamW: the parameter shrinks by itself, and the moments do not see it.
    pub decoupled: bool,
    /// Number of the step, from 1. In the first one the moments' memory is overwritten, whatever it holds.
    pub time: usize,
}

/// One step of stochastic gradient descent.
///
/// # Panics
/// If the slices differ in length.
pub fn sgd(cpu: Cpu, parameter: &mut [f32], gradient: &[f32], velocity: &mut [f32], step: SgdStep) {
    assert!([gradient.len(), velocity.len()] == [parameter.len(); 2], "one gradient and one velocity a parameter");
    let run = |(parameter, gradient, velocity)| cpu.run(Update { rule: step, parameter, gradient, state: [velocity] });
    match whole(parameter.len()) {
        true => run((parameter, gradient, velocity)),
        false => (parameter.par_chunks_mut(CHUNK), gradient.par_chunks(CHUNK), velocity.par_chunks_mut(CHUNK))
            .into_par_iter()
            .for_each(run),
    }
}

/// One step of Adam or AdamW; `m` and `v` are the moments.
///
/// # Panics
/// If the slices differ in length, or if `time` is 0.
pub fn adam(cpu: Cpu, parameter: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], step: AdamStep) {
    assert!([gradient.len(), m.len(), v.len()] == [parameter.len(); 3], "one gradient and two moments a parameter");
    assert!(step.time > 0, "steps are counted from 1");
    let rule = Adam::new(step);
    let run = |(parameter, gradient, m, v)| cpu.run(Update { rule, parameter, gradient, state: [m, v] });
    match whole(parameter.len()) {
        true => run((parameter, gradient, m, v)),
        false => {
            let state = (m.par_chunks_mut(CHUNK), v.par_chunks_mut(CHUNK));
            (parameter.par_chunks_mut(CHUNK), gradient.par_chunks(CHUNK), state.0, state.1)
                .into_par_iter()
                .for_each(run);
        }
    }
}

/// Floats of a task.
const CHUNK: usize = 1 << 15;

/// Whether this many floats are not worth several tasks.
fn whole(length: usize) -> bool {
    length <= CHUNK || rayon::current_num_threads() == 1
}

/// An optimizer with `STATE` values a parameter.
trait Rule<const STATE: usize>: Copy {
    /// The new parameter and state.
    fn update<S: Simd>(
        self,
        simd: S,
        parameter: S::f32s,
        gradient: S::f32s,
        state: [S::f32s; STATE],
    ) -> (S::f32s, [S::f32s; STATE]);
}

struct Update<'a, R, const STATE: usize> {
    rule: R,
    parameter: &'a mut [f32],
    gradient: &'a [f32],
    state: [&'a mut [f32]; STATE],
}

impl<R: Rule<STATE>, const STATE: usize> WithSimd for Update<'_, R, STATE> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (parameter, parameter_end) = S::as_mut_simd_f32s(self.parameter);
        let (gradient, gradient_end) = S::as_simd_f32s(self.gradient);
        let mut state = self.state.map(|values| S::as_mut_simd_f32s(values));
        for (index, (parameter, &gradient)) in parameter.iter_mut().zip(gradient).enumerate() {
            let new;
            (*parameter, new) =
                self.rule.update(simd, *parameter, gradient, state.each_ref().map(|state| state.0[index]));
            state.iter_mut().zip(new).for_each(|(state, new)| state.0[index] = new);
        }
        if !parameter_end.is_empty() {
            let [parameter, gradient] = [&*parameter_end, gradient_end].map(|end| simd.partial_load_f32s(end));
            let old = state.each_ref().map(|state| simd.partial_load_f32s(state.1));
            let (parameter, new) = self.rule.update(simd, parameter, gradient, old);
            simd.partial_store_f32s(parameter_end, parameter);
            state.iter_mut().zip(new).for_each(|(state, new)| simd.partial_store_f32s(state.1, new));
        }
    }
}

impl Rule<1> for SgdStep {
    #[inline(always)]
    fn update<S: Simd>(
        self,
        simd: S,
        parameter: S::f32s,
        gradient: S::f32s,
        [old]: [S::f32s; 1],
    ) -> (S::f32s, [S::f32s; 1]) {
        let times = |value, factor: f32| simd.mul_f32s(value, simd.splat_f32s(factor));
        let mut gradient = gradient;
        if self.weight_decay != 0.0 {
            gradient = simd.add_f32s(times(parameter, self.weight_decay), gradient);
        }
        let velocity = if self.first { gradient } else { simd.add_f32s(gradient, times(old, self.momentum)) };
        let direction = if self.nesterov { simd.add_f32s(times(velocity, self.momentum), gradient) } else { velocity };
        (simd.sub_f32s(parameter, times(direction, self.lr as f32)), [velocity])
    }
}

/// A step with the factors that depend on its number.
#[derive(Clone, Copy)]
struct Adam {
    step: AdamStep,
    /// What is left of the parameter (AdamW).
    keep: f32,
    /// `1 - beta_1^t`.
    correction_1: f32,
    /// `1 - beta_2^t`, and its root.
    correction_2: f32,
    root_2: f32,
}

impl Adam {
    fn new(step: AdamStep) -> Self {
        let time = step.time as i32;
        let correction_2 = 1.0 - step.beta_2.powi(time);
        Self {
            step,
            keep: (1.0 - step.lr * f64::from(step.weight_decay)) as f32,
            correction_1: 1.0 - step.beta_1.powi(time),
            correction_2,
            root_2: correction_2.sqrt(),
        }
    }
}

impl Rule<2> for Adam {
    #[inline(always)]
    fn update<S: Simd>(
        self,
        simd: S,
        parameter: S::f32s,
        gradient: S::f32s,
        [m, v]: [S::f32s; 2],
    ) -> (S::f32s, [S::f32s; 2]) {
        let Self { step, keep, correction_1, correction_2, root_2 } = self;
        let times = |value, factor: f32| simd.mul_f32s(value, simd.splat_f32s(factor));
        let (mut parameter, mut gradient) = (parameter, gradient);
        if step.weight_decay != 0.0 && !step.decoupled {
            gradient = simd.add_f32s(times(parameter, step.weight_decay), gradient);
        }
        let mut new_m = times(gradient, 1.0 - step.beta_1);
        let mut new_v = times(simd.mul_f32s(gradient, gradient), 1.0 - step.beta_2);
        if step.time > 1 {
            new_m = simd.add_f32s(times(m, step.beta_1), new_m);
            new_v = simd.add_f32s(times(v, step.beta_2), new_v);
        }
        // The same quotient in two ways, as the framework takes it: Adam multiplies both sides of it with the root.
        let (upper, lower) = if step.decoupled {
            let mean_square = simd.div_f32s(new_v, simd.splat_f32s(correction_2));
            let lower = simd.add_f32s(simd.sqrt_f32s(mean_square), simd.splat_f32s(step.epsilon));
            parameter = times(parameter, keep);
            (simd.div_f32s(new_m, simd.splat_f32s(correction_1)), lower)
        } else {
            let lower = simd.add_f32s(simd.sqrt_f32s(new_v), simd.splat_f32s(step.epsilon * root_2));
            (times(new_m, root_2 / correction_1), lower)
        };
        let delta = times(simd.div_f32s(upper, lower), step.lr as f32);
        (simd.sub_f32s(parameter, delta), [new_m, new_v])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers between -1 and 1 that look random.
    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mix = |index: u64| (index ^ seed << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        let number = |index| mix(mix(index)) >> 40;
        (0..count as u64).map(|index| number(index) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn close(found: &[f32], expected: &[f64]) -> Result<(), TestCaseError> {
        let largest = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        for (&found, expected) in found.iter().zip(expected) {
            prop_assert!((f64::from(found) - expected).abs() <= 1e-4 * largest, "{} is not {}", found, expected);
        }
        Ok(())
    }

    fn double(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&value| value.into()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn descent_agrees_with_double_precision(
            count in 1_usize..70, seed: u32, lr in 1e-3..1.0, momentum in 0.0_f32..1.0, weight_decay in 0.0_f32..0.1, nesterov: bool,
        ) {
            for cpu in Cpu::all() {
                let (mut parameter, mut velocity) = (noise(count, seed.into()), vec![f32::NAN; count]);
                let (mut p, mut v) = (double(&parameter), vec![0.0; count]);
                for time in 1..5 {
                    let gradient = noise(count, u64::from(seed) + time);
                    let step = SgdStep { lr, momentum, weight_decay, nesterov, first: time == 1 };
                    sgd(cpu, &mut parameter, &gradient, &mut velocity, step);
                    for ((p, v), g) in p.iter_mut().zip(&mut v).zip(double(&gradient)) {
                        let g = g + f64::from(weight_decay) * *p;
                        *v = f64::from(momentum) * *v + g;
                        *p -= lr * if nesterov { f64::from(momentum) * *v + g } else { *v };
                    }
                }
                close(&parameter, &p)?;
                close(&velocity, &v)?;
            }
        }

        #[test]
        fn adam_agrees_with_double_precision(
            count in 1_usize..70, seed: u32, lr in 1e-3..0.1, beta_1 in 0.0_f32..0.95, weight_decay in 0.0_f32..0.1, decoupled: bool,
        ) {
            for cpu in Cpu::all() {
                let (mut parameter, mut m, mut v) = (noise(count, seed.into()), vec![f32::NAN; count], vec![f32::NAN; count]);
                let (mut p, mut first, mut second) = (double(&parameter), vec![0.0; count], vec![0.0; count]);
                for time in 1..5 {
                    let gradient = noise(count, (u64::from(seed)) + time as u64);
                    let step = AdamStep { lr, beta_1, beta_2: 0.99, epsilon: 1e-5, weight_decay, decoupled, time };
                    adam(cpu, &mut parameter, &gradient, &mut m, &mut v, step);
                    let [beta_1, beta_2, epsilon, weight_decay] = [beta_1, 0.99, 1e-5, weight_decay].map(f64::from);
                    for (index, g) in double(&gradient).into_iter().enumerate() {
                        let (p, m, v) = (&mut p[index], &mut first[index], &mut second[index]);
                        let g = if decoupled { g } else { g + weight_decay * *p };
                        *p *= if decoupled { 1.0 - lr * weight_decay } else { 1.0 };
                        *m = beta_1 * *m + (1.0 - beta_1) * g;
                        *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                        let [m, v] = [*m / (1.0 - beta_1.powi(time as i32)), *v / (1.0 - beta_2.powi(time as i32))];
                        *p -= lr * m / (v.sqrt() + epsilon);
                    }
                }
                close(&parameter, &p)?;
                close(&m, &first)?;
                close(&v, &second)?;
            }
        }
    }

    /// Nothing is contracted, so that vectors of any width round alike; and tasks share no values.
    #[test]
    fn instruction_sets_and_threads_give_the_same_bits() {
        let count = 3 * CHUNK + 77;
        let gradients = [noise(count, 1), noise(count, 2)];
        let run = |cpu| {
            let mut state = [5, 6, 7, 8, 9, 10, 11, 12].map(|seed| noise(count, seed));
            let [p, v, q, m, w, n, u, o] = state.each_mut().map(Vec::as_mut_slice);
            for (gradient, time) in gradients.iter().zip(1..) {
                let step = SgdStep { lr: 0.1, momentum: 0.9, weight_decay: 0.01, nesterov: true, first: time == 1 };
                sgd(cpu, p, gradient, v, step);
                let step = AdamStep {
                    lr: 0.1,
                    beta_1: 0.9,
                    beta_2: 0.999,
                    epsilon: 1e-8,
                    weight_decay: 0.01,
                    decoupled: false,
                    time,
                };
                adam(cpu, q, gradient, m, w, step);
                adam(cpu, n, gradient, u, o, AdamStep { decoupled: true, ..step });
            }
            state
        };
        let threads = |count| rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
        let alone = threads(1).install(|| run(Cpu::best()));
        for cpu in Cpu::all() {
            assert!([1, 2, 3].iter().all(|&count| threads(count).install(|| run(cpu)) == alone), "{cpu:?}");
        }
    }
}
