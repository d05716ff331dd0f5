//! Operations of our own on the processor: what `theriac-kernels` computes, differentiable like any other operation of Burn.
//!
//! Activations are `[batch, height, width, channels]` here. Other devices run Burn's stock operations; [`runs`] tells which is which.

pub mod adam;
pub(crate) mod conv;
pub(crate) mod enter;
pub(crate) mod pooled;
pub(crate) mod residual;
pub mod sgd;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::LazyLock;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, BackendTensor, DispatchKindConversion, DispatchTensor, Flex};
use burn::tensor::{DType, Tensor, TensorData};
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};
use theriac_kernels::Cpu;
use theriac_kernels::memory::{Floats, LINE, Out};

/// The instruction set of this processor.
static CPU: LazyLock<Cpu> = LazyLock::new(Cpu::best);

/// A differentiable operation on `N` tensors of the processor.
pub(crate) trait Function<const N: usize>: Debug + Send + 'static {
    /// What the backward pass needs.
    type Saved: Clone + Debug + Send + 'static;
    /// What the forward pass tells besides its output.
    type Aside;

    /// The output.
    fn forward(&self, inputs: &[FlexTensor; N]) -> (FlexTensor, Self::Saved, Self::Aside);

    /// The gradients of those inputs that want one, from the gradient of the output.
    fn backward(saved: Self::Saved, gradient: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

/// Whether a tensor lies where the operations of this module run.
pub(crate) fn runs<const D: usize>(tensor: &Tensor<D>) -> bool {
    let tensor = tensor.clone().into_dispatch();
    plain(tensor.clone()).is_some() || tracked(tensor).is_some()
}

fn plain(tensor: DispatchTensor) -> Option<FlexTensor> {
    match <DispatchTensor as DispatchKindConversion<Flex>>::try_into_backend(tensor) {
        Ok(BackendTensor::Float(tensor)) if tensor.dtype() == DType::F32 => Some(tensor),
        _ => None,
    }
}

type Tracked = <Autodiff<Flex> as burn::backend::BackendTypes>::FloatTensorPrimitive;

fn tracked(tensor: DispatchTensor) -> Option<Tracked> {
    match <DispatchTensor as DispatchKindConversion<Autodiff<Flex>>>::try_into_backend(tensor) {
        Ok(BackendTensor::Float(tensor)) if tensor.primitive().dtype() == DType::F32 => Some(tensor),
        _ => None,
    }
}

/// Applies an operation to tensors that lie on the processor, see [`runs`]. Those without gradients are constants.
pub(crate) fn apply<F: Function<N>, const N: usize, const D: usize>(
    function: F,
    inputs: [DispatchTensor; N],
) -> (Tensor<D>, F::Aside) {
    const ON_CPU: &str = "the caller asked whether the operation runs here";
    let values = |tensor: DispatchTensor| contiguous(plain(tensor).expect(ON_CPU));
    if inputs.iter().all(|tensor| plain(tensor.clone()).is_some()) {
        let (output, _, aside) = function.forward(&inputs.map(values));
        return (wrap(output), aside);
    }
    let lift = |tensor: DispatchTensor| tracked(tensor.clone()).unwrap_or_else(|| Tracked::new(values(tensor)));
    let inputs = inputs.map(lift);
    let nodes = inputs.each_ref().map(Tracked::node);
    let (output, saved, aside) = function.forward(&inputs.map(|tensor| contiguous(tensor.into_primitive())));
    let output = match Step::<F>(PhantomData).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(saved, output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    let output = <DispatchTensor as DispatchKindConversion<Autodiff<Flex>>>::from_backend(BackendTensor::Float(output));
    (Tensor::from_dispatch(output), aside)
}

/// An operation in the graph of the backward pass.
#[derive(Debug)]
struct Step<F>(PhantomData<F>);

impl<F: Function<N>, const N: usize> Backward<Flex, N> for Step<F> {
    type State = F::Saved;

    fn backward(self, ops: Ops<F::Saved, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        for (parent, gradient) in ops.parents.into_iter().zip(F::backward(ops.state, gradient, wanted)) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}

fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// A tensor of the processor without gradients.
fn wrap<const D: usize>(tensor: FlexTensor) -> Tensor<D> {
    Tensor::from_dispatch(<DispatchTensor as DispatchKindConversion<Flex>>::from_backend(BackendTensor::Float(tensor)))
}

/// The values of a tensor that [`apply`] hands out.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("inputs and gradients are contiguous")
}

fn shape<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.layout().shape().dims()
}

/// A tensor that a kernel writes.
fn written<const D: usize>(shape: [usize; D], write: impl FnOnce(Out)) -> FlexTensor {
    // SAFETY: every kernel writes the whole of its result.
    tensor(shape, unsafe { Floats::written(shape.iter().product(), write) })
}

/// Floats as a tensor, without a copy.
fn tensor<const D: usize>(shape: [usize; D], floats: Floats) -> FlexTensor {
    let len = size_of_val::<[f32]>(&floats);
    // SAFETY: all of the floats were written.
    let bytes = unsafe { Bytes::from_controller(Box::new(Memory(floats)), len) };
    FlexTensor::from_data(TensorData::from_bytes(bytes, shape, DType::F32))
}

/// A tensor of one axis.
fn vector(values: Vec<f32>) -> FlexTensor {
    let shape = [values.len()];
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Floats that a tensor owns.
struct Memory(Floats);

impl AllocationController for Memory {
    fn alloc_align(&self) -> usize {
        LINE
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [std::mem::MaybeUninit<u8>], AccessError> {
        let len = size_of_val::<[f32]>(&self.0);
        // SAFETY: the same memory, as bytes; the caller writes initialised bytes only.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[std::mem::MaybeUninit<u8>], AccessError> {
        let len = size_of_val::<[f32]>(&self.0);
        // SAFETY: the same memory, as bytes.
        Ok(unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), len) })
    }
}
