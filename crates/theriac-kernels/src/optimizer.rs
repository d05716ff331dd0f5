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
