//! Stochastic gradient descent with momentum: on the processor in one pass over memory, elsewhere by the framework's operations.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};
use theriac_kernels::optimizer::{SgdStep, sgd};

use super::{CPU, contiguous, plain, values};
use crate::RecordState;

/// The optimizer, as in PyTorch: `g += weight_decay p; v = momentum v + g; p -= lr v`, with Nesterov `p -= lr (momentum v + g)`.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// What is kept of the velocity at each step.
    pub momentum: f64,
    /// Factor of the L2 penalty's gradient.
    pub weight_decay: f64,
    /// Whether the step looks ahead along the velocity.
    pub nesterov: bool,
}

/// Why the tensors of a step can be taken apart once the parameter is seen to lie on the processor.
pub(super) const ON_CPU: &str = "a parameter, its gradient and what is remembered of it lie on one device";

/// The state of a parameter before its first step.
pub(super) fn zeros<const D: usize>(parameter: &Tensor<D>) -> Tensor<D> {
    Tensor::zeros(parameter.dims(), &parameter.device())
}

/// What is remembered of a parameter.
#[derive(RecordState, Clone)]
pub struct SgdState<const D: usize> {
    velocity: Tensor<D>,
}

impl Optimizer for Sgd {
    type State<const D: usize> = SgdState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<SgdState<D>>,
    ) -> (Tensor<D>, Option<SgdState<D>>) {
        let first = state.is_none();
        if !super::runs(&parameter) {
            return self.stock(lr, parameter, gradient, state);
        }
        let velocity = state.map_or_else(|| zeros(&parameter), |state| state.velocity);
        let [mut parameter, gradient, mut velocity] =
            [parameter, gradient, velocity].map(|tensor| contiguous(plain(tensor.into_dispatch()).expect(ON_CPU)));
        let step = SgdStep {
            lr,
            momentum: self.momentum as f32,
            weight_decay: self.weight_decay as f32,
            nesterov: self.nesterov,
            first,
        };
        sgd(*CPU, parameter.storage_mut(), values(&gradient), velocity.storage_mut(), step);
        let [parameter, velocity] = [parameter, velocity].map(super::wrap);
        (parameter, Some(SgdState { velocity }))
    }

    fn to_device<const D: usize>(state: SgdState<D>, device: &Device) -> SgdState<D> {
        SgdState { velocity: state.velocity.to_device(device) }
    }
}

impl Sgd {
    fn stock<const D: usize>(
        &self,
        lr: f64,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<SgdState<D>>,
    ) -> (Tensor<D>, Option<SgdState<D>>) {
        let gradient = match self.weight_decay > 0.0 {
            true => gradient + parameter.clone() * self.weight_decay,
            false => gradient,
        };
        let velocity = match state {
            Some(state) => state.velocity * self.momentum + gradient.clone(),
            None => gradient.clone(),
        };
        let step = if self.nesterov { velocity.clone() * self.momentum + gradient } else { velocity.clone() };
        (parameter - step * lr, Some(SgdState { velocity }))
    }
}
