//! The recipe of a training: everything that is neither data nor architecture.

use std::collections::BTreeMap;
use std::sync::Arc;

use theriac_core::param::{FromValue, Value};
use theriac_core::seed::Stream;
use theriac_core::{Dataset, Facts, Label, MethodInfo, ParamError, Range, Values, config};
use theriac_nn::Network;
use theriac_nn::burn::tensor::Tensor;
use theriac_nn::parameters::Parameter;

/// An enum whose variants are words of a config.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$meaning])* $variant,)*
        }

        impl $name {
            const WORDS: &'static [&'static str] = &[$($word),*];
        }

        impl FromValue for $name {
            fn from_value(value: &Value) -> Option<Self> {
                match value.as_str()? {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// How gradients become steps.
    Optimizer {
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
        /// Adam with an L2 penalty.
        Adam = "adam",
        /// Adam with decoupled weight decay.
        AdamW = "adamw",
    }
}

words! {
    /// How the learning rate moves.
    Schedule {
        /// Not at all.
        Constant = "constant",
        /// Along a cosine to zero.
        Cosine = "cosine",
        /// Linear warm-up, then a cosine to zero.
        OneCycle = "one-cycle",
        /// Divided by 10 after half and after three quarters of the epochs.
        Step = "step",
    }
}

words! {
    /// Random changes of each image.
    Augment {
        /// None.
        None = "none",
        /// Shifts.
        Crop = "crop",
        /// Mirrors.
        Flip = "flip",
        /// Both.
        CropFlip = "crop-flip",
    }
}

words! {
    /// Which weights a victim begins with.
    Start {
        /// Its own draw.
        Scratch = "scratch",
        /// Those of a published network, of which only the last layer is trained.
        Published = "published",
        /// Those of a published network, of which all layers are trained.
        FineTuned = "fine-tuned",
    }
}

impl Augment {
    /// Whether images are shifted.
    pub fn crops(self) -> bool {
        matches!(self, Self::Crop | Self::CropFlip)
    }

    /// Whether images are mirrored.
    pub fn flips(self) -> bool {
        matches!(self, Self::Flip | Self::CropFlip)
    }
}

config! {
    /// Parameters of a training, the `[train]` table of a config.
    pub struct TrainConfig {
        /// Passes over the training set.
        epochs: usize = 4, Range::Whole(1, 100_000), "epochs";
        /// Samples of one step.
        batch: usize = 128, Range::Whole(1, 65_536), "samples";
        /// The optimizer: stochastic gradient descent with momentum, Adam with an L2 penalty, or Adam with decoupled weight decay.
        optimizer: Optimizer = "sgd", Range::Choice(Optimizer::WORDS), "";
        /// Largest learning rate of the schedule.
        lr: f64 = 0.05, Range::Above(0.0, 100.0), "";
        /// Momentum of `sgd`, or the first decay rate of `adam` and `adamw`.
        momentum: f64 = 0.9, Range::Number(0.0, 0.9999), "";
        /// Whether `sgd` looks ahead along its momentum (Nesterov).
        nesterov: bool = false, Range::Switch, "";
        /// Strength of the L2 penalty (`sgd`, `adam`) or of the decoupled decay (`adamw`).
        weight_decay: f64 = 5e-4, Range::Number(0.0, 10.0), "";
        /// How the learning rate moves: constant; cosine to zero; one-cycle (linear warm-up over 30 % of the steps, cosine to zero); step
        /// (divided by 10 after half and after three quarters of the epochs).
        schedule: Schedule = "cosine", Range::Choice(Schedule::WORDS), "";
        /// Probability mass that is spread evenly over all classes.
        label_smoothing: f64 = 0.0, Range::Number(0.0, 0.99), "";
        /// Random changes of each image, each epoch: crop shifts it by up to `padding` pixels, flip mirrors it left to right half of the
        /// time.
        augment: Augment = "none", Range::Choice(Augment::WORDS), "";
        /// Zero padding of `crop`.
        padding: usize = 4, Range::Whole(0, 64), "pixels";
        /// Which weights a victim begins with. `scratch`: its own draw. `published`: those of a network that others trained from scratch on
        /// the clean data by the same recipe. Its features are kept, and only a new last layer is trained. `fine-tuned`: all of that network
        /// goes on being trained. An attacker's surrogate, if it has one, is that network; one who publishes it may have changed it.
        start: Start = "scratch", Range::Choice(Start::WORDS), "";
        /// How much of the training set is kept out of it, drawn at random, as the victim's own validation set. It is as poisoned as the
        /// rest: whether the victim would notice is what its accuracy there tells, beside that on the clean test set.
        validation: f64 = 0.0, Range::Number(0.0, 0.9), "of the training set";
        /// How often the victim is trained: the training set arrives in so many rounds, each sample in one of them, drawn at random. After
        /// each round a new network is trained on the last `window` rounds and takes the place of the one before. 1 is a single training
        /// on all of it.
        rounds: usize = 1, Range::Whole(1, 1000), "rounds";
        /// On how many rounds a network is trained, the last one included; at the beginning on those that there are.
        window: usize = 1, Range::Whole(1, 1000), "rounds";
        /// The round with which an attacker comes in: of its edits, those of samples that arrive earlier do not happen.
        onset: usize = 1, Range::Whole(1, 1000), "";
        /// Keep the loss and the accuracy on the clean test set of every epoch. Off, only the last epoch is measured.
        curve: bool = true, Range::Switch, "";
    }
}

impl TrainConfig {
    /// One such training without a curve and without samples kept for validation, for networks that are a step on somebody's way.
    pub fn unmeasured(&self) -> Self {
        Self { curve: false, validation: 0.0, ..self.once() }
    }

    /// One such training on all data at once.
    pub fn once(&self) -> Self {
        Self { rounds: 1, window: 1, onset: 1, ..self.clone() }
    }

    /// Reads the values and checks them against the data.
    ///
    /// # Errors
    /// When a value is not accepted, when the padding of a crop is as large as the image or larger, or when a round is named that there
    /// is not.
    pub fn check(values: &Values, facts: &Facts) -> Result<Self, Vec<ParamError>> {
        let config = Self::from_values(values)?;
        let smallest = facts.shape.height.min(facts.shape.width);
        if config.augment.crops() && config.padding >= smallest {
            let message = format!("{} pixels of padding would hide an image of {smallest} pixels", config.padding);
            return Err(vec![ParamError::new("padding", message)]);
        }
        for (key, value) in [("window", config.window), ("onset", config.onset)] {
            if value > config.rounds {
                let message = format!("{value} is more than the {} of `rounds`", config.rounds);
                return Err(vec![ParamError::new(key, message)]);
            }
        }
        Ok(config)
    }
}

/// What one step is made on.
#[derive(Clone, Debug)]
pub struct Minibatch {
    /// `[batch, channels, height, width]` in `[0, 1]`, on the network's device without gradients.
    pub images: Tensor<4>,
    /// One label an image.
    pub labels: Vec<Label>,
    /// For each image a second label and its weight `w`, so that the target is `(1 - w) label + w second`. Empty where nothing is mixed.
    pub mixed: Vec<(Label, f32)>,
    /// For each image the part of its target that is spread evenly over all classes instead. Empty where nothing is.
    pub faded: Vec<f32>,
    /// What each image weighs in the mean of the losses. Empty where all weigh the same.
    pub weights: Vec<f32>,
}

impl Minibatch {
    /// Images with one label each.
    pub fn new(images: Tensor<4>, labels: Vec<Label>) -> Self {
        Self { images, labels, mixed: Vec::new(), faded: Vec::new(), weights: Vec::new() }
    }

    /// What all images weigh together.
    pub(crate) fn weight(&self) -> f64 {
        match self.weights.is_empty() {
            true => self.labels.len() as f64,
            false => self.weights.iter().copied().map(f64::from).sum(),
        }
    }
}

/// Answers with the same samples and labels in the same order, with other images.
pub type Purifier = Box<dyn Fn(&Dataset) -> Dataset + Send + Sync>;

/// Changes a batch just before the step: adversarial training, mixing, and attacks on the training code.
pub trait BatchHook: Send + Sync {
    /// Answers with the batch to train on, given the network as it stands. What is added stands behind what was there.
    fn apply(&self, network: &Network, batch: Minibatch, stream: &mut Stream) -> Minibatch;
}

/// Says in which order an epoch goes through the training set.
pub trait Order: Send + Sync {
    /// Answers with what was `drawn`, all indices of `data`, in another order: batches are consecutive parts of it. `epoch` counts from 0,
    /// and `network` is as the epoch before left it. An answer in which a sample is missing or comes twice ends the training, unless it
    /// [`repeats`](Self::repeats).
    fn of(&self, epoch: usize, network: &Network, data: &Dataset, drawn: Vec<usize>) -> Vec<usize>;

    /// Whether samples may come several times or not at all. There are as many as were drawn either way.
    fn repeats(&self) -> bool {
        false
    }
}

/// A second term of the loss.
pub trait Penalty: Send + Sync {
    /// Answers with one number: what is added to the cross-entropy of a batch, given what each stage of the learning network gives out.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]` in `[0, 1]`, on the network's device without gradients
    /// - maps: those of [`theriac_nn::forward_maps`], with gradients
    fn of(&self, images: Tensor<4>, maps: Vec<Tensor<4>>) -> Tensor<1>;
}

/// A config with what attacks on the training code and defenses add to it.
#[derive(Default)]
pub struct Recipe {
    /// The checked parameters.
    pub config: TrainConfig,
    /// Applied to the training data once, in order, before batches are drawn and augmented.
    pub purifiers: Vec<Purifier>,
    /// The order of every epoch; as drawn if there is none.
    pub order: Option<Box<dyn Order>>,
    /// Applied to every batch, in order.
    pub hooks: Vec<Box<dyn BatchHook>>,
    /// Steps whose loss lies below this go up the loss instead of down, in nats; infinity unlearns the data.
    pub ascend_below: Option<f64>,
    /// Added to the loss.
    pub penalty: Option<Arc<dyn Penalty>>,
    /// Factors on parameters after each step, by dotted path: what is multiplied by 0 stays pruned.
    pub keep: BTreeMap<String, Parameter>,
    /// Whether only the last layer is trained, on features that stay as they are.
    pub head_only: bool,
}

impl From<TrainConfig> for Recipe {
    fn from(config: TrainConfig) -> Self {
        Self { config, ..Self::default() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::Shape;

    fn check(given: &[(&str, Value)]) -> Result<TrainConfig, String> {
        let facts =
            Facts { shape: Shape { channels: 1, height: 5, width: 9 }, classes: 3, train: 1, test: 1, sources: 1 };
        let values = given.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        TrainConfig::check(&values, &facts).map_err(|errors| errors[0].to_string())
    }

    #[test]
    fn every_word_has_its_meaning_and_no_other_is_accepted() {
        let optimizers = ["sgd", "adam", "adamw"].map(|word| check(&[("optimizer", word.into())]).unwrap().optimizer);
        assert_eq!(optimizers, [Optimizer::Sgd, Optimizer::Adam, Optimizer::AdamW]);
        let schedules = Schedule::WORDS.iter().map(|&word| check(&[("schedule", word.into())]).unwrap().schedule);
        let expected = [Schedule::Constant, Schedule::Cosine, Schedule::OneCycle, Schedule::Step];
        assert!(schedules.eq(expected));
        let moves = |word: &str| {
            let augment = check(&[("augment", word.into()), ("padding", 1.into())]).unwrap().augment;
            (augment.crops(), augment.flips())
        };
        let found = ["none", "crop", "flip", "crop-flip"].map(moves);
        assert_eq!(found, [(false, false), (true, false), (false, true), (true, true)]);
        assert!(check(&[("optimizer", "adamm".into())]).unwrap_err().contains("did you mean \"adam"));
        assert_eq!(Optimizer::from_value(&"adamm".into()), None);
    }

    #[test]
    fn a_round_that_is_named_is_one_of_them() {
        assert!(check(&[("rounds", 9.into()), ("window", 9.into()), ("onset", 9.into())]).is_ok());
        assert!(check(&[("rounds", 9.into()), ("onset", 10.into())]).unwrap_err().contains("10 is more than the 9"));
        assert!(check(&[("window", 2.into())]).unwrap_err().contains("`window`: 2 is more than the 1 of `rounds`"));
        let one = check(&[("rounds", 9.into()), ("window", 9.into()), ("onset", 9.into())]).unwrap().unmeasured();
        assert_eq!((one.rounds, one.window, one.onset), (1, 1, 1));
    }

    #[test]
    fn a_crop_leaves_a_part_of_the_image() {
        let padded = |augment: &str, padding: u64| check(&[("augment", augment.into()), ("padding", padding.into())]);
        assert!(padded("crop", 4).is_ok() && padded("flip", 5).is_ok() && padded("none", 64).is_ok());
        let error = padded("crop-flip", 5).unwrap_err();
        assert!(error.contains("`padding`: 5 pixels of padding would hide an image of 5 pixels"), "{error}");
    }
}
