//! Adam and AdamW: on the processor in one pass over memory, elsewhere by the framework's operations.

use burn::optim::{AdamState, AdaptiveMomentumState, LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};
use theriac_kernels::optimizer::{AdamStep, adam};

use super::sgd::{ON_CPU, zeros};
use super::{CPU, contiguous, plain, values};

/// The optimizer, as in PyTorch: "Adam" adds the L2 penalty to the gradient, "AdamW" shrinks the parameters by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// What is kept of the first moment at each step.
    pub beta_1: f64,
    /// What is kept of the second moment at each step.
    pub beta_2: f64,
    /// Keeps the quotient finite.
    pub epsilon: f64,
    /// Factor of the decay.
    pub weight_decay: f64,
    /// Whether it is AdamW.
    pub decoupled: bool,
}

impl Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let state = state.map(|state| state.momentum).unwrap_or_else(|| {
            let zeros = zeros(&parameter);
            AdaptiveMomentumState::new(0, zeros.clone(), zeros)
        });
        let time = state.time + 1;
        if !super::runs(&parameter) {
            return self.stock(lr, parameter, gradient, AdaptiveMomentumState { time, ..state });
        }
        let tensors = [parameter, gradient, state.moment_1, state.moment_2];
        let [mut parameter, gradient, mut first, mut second] =
            tensors.map(|tensor| contiguous(plain(tensor.into_dispatch()).expect(ON_CPU)));
        let step = AdamStep {
            lr,
            beta_1: self.beta_1 as f32,
            beta_2: self.beta_2 as f32,
            epsilon: self.epsilon as f32,
            weight_decay: self.weight_decay as f32,
            decoupled: self.decoupled,
            time,
        };
        let [m, v] = [first.storage_mut(), second.storage_mut()];
        adam(*CPU, parameter.storage_mut(), values(&gradient), m, v, step);
        let [parameter, first, second] = [parameter, first, second].map(super::wrap);
        (parameter, Some(AdamState::new(AdaptiveMomentumState::new(time, first, second))))
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        AdamState::new(state.momentum.to_device(device))
    }
}

impl Adam {
    fn stock<const D: usize>(
        &self,
        lr: f64,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: AdaptiveMomentumState<D>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let (parameter, gradient) = match self.decoupled {
            true => (parameter * (1.0 - lr * self.weight_decay), gradient),
            false => (parameter.clone(), gradient + parameter * self.weight_decay),
        };
        let first = state.moment_1 * self.beta_1 + gradient.clone() * (1.0 - self.beta_1);
        let second = state.moment_2 * self.beta_2 + gradient.clone() * gradient * (1.0 - self.beta_2);
        let correction = |beta: f64| 1.0 - beta.powi(state.time as i32);
        let mean = first.clone() / correction(self.beta_1);
        let deviation = (second.clone() / correction(self.beta_2)).sqrt();
        let parameter = parameter - mean / (deviation + self.epsilon) * lr;
        (parameter, Some(AdamState::new(AdaptiveMomentumState::new(state.time, first, second))))
    }
}
