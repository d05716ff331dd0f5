//! The model zoo. One architecture, one file; [`MODELS`] is the registry.

pub mod cnn;
pub mod mlp;
pub mod resnet;

use burn::tensor::Device;
use theriac_core::{Facts, MethodInfo, ParamError, Values};

use crate::architecture::Architecture;

/// All networks, in the order in which they are listed.
pub static MODELS: &[&ModelEntry] = &[&mlp::ENTRY, &cnn::ENTRY, &resnet::ENTRY, &resnet::PREACT_RESNET18];

/// One line of the registry.
pub struct ModelEntry {
    /// Name, paper, parameters.
    pub info: MethodInfo,
    /// Builds the network with zero weights on a device, or names everything that is wrong with its config.
    pub build: fn(&Values, &Facts, &Device) -> Result<Architecture, Vec<ParamError>>,
    /// Multiply-adds of one forward pass of one image, for the planner's estimate.
    pub cost: fn(&Values, &Facts) -> f64,
    /// Numbers that all its layers give out for one image, for the planner's estimate of memory.
    pub outputs: fn(&Values, &Facts) -> f64,
}

/// The entry called `name`.
pub fn find(name: &str) -> Option<&'static ModelEntry> {
    MODELS.iter().find(|entry| entry.info.name == name).copied()
}
