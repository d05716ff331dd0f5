//! The Burn boundary: devices, networks, initialisation, parameters by name, checkpoints.
//!
//! Images enter as `u8` data sets or as `[batch, channels, height, width]` tensors with values in `[0, 1]`; a [`Network`] normalises
//! them itself, so that a perturbation always has the same unit.

pub mod allocator;
mod architecture;
pub mod checkpoint;
pub mod device;
mod implant;
mod init;
pub mod models;
mod network;
mod ops;
pub mod parameters;
mod tangent;

// The derive macro of optimizer states looks for these in the crate's root.
use burn::optim::{RecordState, StateSink, StateSource};

pub use architecture::{Architecture, Taps};
pub use burn;
pub use device::DeviceError;
pub use implant::Implant;
pub use models::{MODELS, ModelEntry};
pub use network::{
    Batch, LoadError, Network, Normalisation, cross_entropies, forward, forward_maps, input_gradient,
    input_gradient_of, losses, parameter_gradients,
};
pub use ops::{adam::Adam, sgd::Sgd};
pub use tangent::{directional_gradient, gradient_difference};
pub use theriac_kernels::conv::set_winograd;
