//! The recipe of a training: everything that is neither data nor architecture.

use theriac_core::seed::Stream;
use theriac_core::{Facts, Label, MethodInfo, ParamError, Range, Values, config};
use theriac_nn::Network;
use theriac_nn::burn::tensor::Tensor;

config! {
    /// Parameters of a training, the `[train]` table of a config.
    pub struct TrainConfig {
        /// Passes over the training set.
        epochs: usize = 4, Range::Whole(1, 100_000), "epochs";
        /// Samples of one step.
        batch: usize = 128, Range::Whole(1, 65_536), "samples";
        /// The optimizer: stochastic gradient descent with momentum, Adam with an L2 penalty, or Adam with decoupled weight decay.
        optimizer: String = "sgd", Range::Choice(&["sgd", "adam", "adamw"]), "";
        /// Largest learning rate of the schedule.
        lr: f64 = 0.05, Range::Above(0.0, 100.0), "";
        /// Momentum of `sgd`, or the first decay rate of `adam` and `adamw`.
        momentum: f64 = 0.9, Range::Number(0.0, 0.9999), "";
        /// Strength of the L2 penalty (`sgd`, `adam`) or of the decoupled decay (`adamw`).
        weight_decay: f64 = 5e-4, Range::Number(0.0, 10.0), "";
        /// How the learning rate moves: constant; cosine to zero; one-cycle (linear warm-up over 30 % of the steps, cosine to zero); step
        /// (divided by 10 after half and after three quarters of the epochs).
        schedule: String = "cosine", Range::Choice(&["constant", "cosine", "one-cycle", "step"]), "";
        /// Probability mass that is spread evenly over all classes.
        label_smoothing: f64 = 0.0, Range::Number(0.0, 0.99), "";
        /// Random changes of each image, each epoch: crop shifts it by up to `padding` pixels, flip mirrors it left to right half of the
        /// time.
        augment: String = "none", Range::Choice(&["none", "crop", "flip", "crop-flip"]), "";
        /// Zero padding of `crop`.
        padding: usize = 4, Range::Whole(0, 64), "pixels";
        /// Keep the loss and the accuracy on the clean test set of every epoch. Off, only the last epoch is measured.
        curve: bool = true, Range::Switch, "";
    }
}

impl TrainConfig {
    /// The rules that need the data.
    ///
    /// # Errors
    /// When padding is larger than the image.
    pub fn check(values: &Values, facts: &Facts) -> Result<Self, Vec<ParamError>> {
        let config = Self::from_values(values)?;
        let smallest = facts.shape.height.min(facts.shape.width);
        if config.augment.starts_with("crop") && config.padding >= smallest {
            let message = format!("{} pixels of padding would hide an image of {smallest} pixels", config.padding);
            return Err(vec![ParamError::new("padding", message)]);
        }
        Ok(config)
    }
}

/// Changes the images of a batch just before the step: adversarial training, mixing, purifying.
pub trait BatchHook: Send + Sync {
    /// Answers with the images to train on, `[batch, channels, height, width]` in `[0, 1]`, given the network as it stands.
    fn images(&self, network: &Network, images: Tensor<4>, labels: &[Label], stream: &mut Stream) -> Tensor<4>;
}

/// A config with what defenses add to it.
#[derive(Default)]
pub struct Recipe {
    /// The checked parameters.
    pub config: TrainConfig,
    /// Applied to every batch, in order.
    pub hooks: Vec<Box<dyn BatchHook>>,
}

impl From<TrainConfig> for Recipe {
    fn from(config: TrainConfig) -> Self {
        Self { config, hooks: Vec::new() }
    }
}

/// The registry name of the training recipe in results.
pub const NAME: &str = "sgd-loop";

/// The recipe's place in the reference pages.
pub const INFO: MethodInfo = MethodInfo::plain(
    NAME,
    theriac_core::Kind::Model,
    "The training recipe, the `[train]` table.",
    TrainConfig::PARAMS,
);
