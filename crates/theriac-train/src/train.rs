//! The training loop.
//!
//! A loop of our own rather than the framework's: all random draws come from named streams, results do not depend on the number of
//! threads, and per-epoch signals of the attack are recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use theriac_core::metrics::accuracy;
use theriac_core::{Dataset, Label, Matrix, Probe, Seeds, Session, Wish};
use theriac_nn::burn::module::Module;
use theriac_nn::burn::optim::{GradientsParams, ModuleOptimizer};
use theriac_nn::burn::store::ModuleRecord;
use theriac_nn::burn::tensor::activation::log_softmax;
use theriac_nn::burn::tensor::{Bytes, Device, Tensor, TensorData};
use theriac_nn::parameters::{self, Parameter};
use theriac_nn::{Adam, Architecture, Network, Sgd};

use crate::batches::{Lesson, Lessons, drawn, with_lessons};
use crate::checkpoint::Checkpoint;
use crate::recipe::{Minibatch, Optimizer, Penalty, Recipe, TrainConfig};
use crate::schedule;

/// What is trained on, and what is looked at after every epoch.
#[derive(Clone, Copy)]
pub struct TrainingSet<'a> {
    /// The (possibly poisoned) training data.
    pub train: &'a Dataset,
    /// The clean test data.
    pub test: &'a Dataset,
    /// The attack's probe, if it has one.
    pub probe: Option<&'a Probe>,
}

/// One epoch, as measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean loss over the steps of the epoch.
    pub train_loss: f64,
    /// Accuracy over the steps of the epoch, as seen in training.
    pub train_accuracy: f64,
    /// Accuracy on the clean test data.
    pub test_accuracy: f64,
    /// Success on the attack's probe.
    pub attack_success: Option<f64>,
    /// Accuracy on the victim's validation set, if the recipe keeps one.
    pub validation_accuracy: Option<f64>,
}

/// A finished training.
#[derive(Debug)]
pub struct Trained {
    /// The network, in evaluation mode.
    pub network: Network,
    /// One report an epoch; the last one only, if the recipe asks for no curve.
    pub curve: Vec<EpochReport>,
}

/// Why a training ended early.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum TrainError {
    /// There is nothing to train on.
    #[error("failed to train: the training set is empty")]
    Empty,
    /// There is nothing to measure on.
    #[error("failed to train: the test set is empty")]
    Untested,
    /// The loss is not a number any more.
    #[error("the loss became {loss} in epoch {epoch}; a smaller `lr` may help")]
    Diverged {
        /// Counted from 1.
        epoch: usize,
        /// What it became.
        loss: f64,
    },
    /// The last step of an epoch led where nothing can be computed.
    #[error("the network's outputs are not finite after epoch {epoch}; a smaller `lr` may help")]
    NotFinite {
        /// Counted from 1.
        epoch: usize,
    },
    /// An order left out a sample or had it twice.
    #[error("failed to train: the order of epoch {epoch} does not go through every sample once")]
    Order {
        /// Counted from 1.
        epoch: usize,
    },
    /// The session asked it to stop, and has what is needed to go on.
    #[error("the training was stopped")]
    Stopped,
}

impl TrainError {
    /// Whether the training ran and led nowhere. It would do so again.
    pub fn is_divergence(&self) -> bool {
        matches!(self, Self::Diverged { .. } | Self::NotFinite { .. })
    }
}

/// Trains `network` on `set` by `recipe`. `seeds` are the streams of order, augmentation and hooks. A `session` that kept a checkpoint of
/// this training gets it continued, to the same bits.
///
/// # Errors
/// When the training or the test set is empty, when the training diverges, or when the session asks it to stop.
pub fn train(
    network: Network,
    set: TrainingSet,
    recipe: &Recipe,
    seeds: &Seeds,
    session: &dyn Session,
) -> Result<Trained, TrainError> {
    let config = &recipe.config;
    let (kept, fitted) = split(set.train, config.validation, seeds);
    let set = TrainingSet { train: &fitted, ..set };
    if set.train.is_empty() {
        return Err(TrainError::Empty);
    }
    if set.test.is_empty() {
        return Err(TrainError::Untested);
    }
    let saved = session.resume().and_then(|state| Checkpoint::decode(&state, seeds));
    let resumed = saved.and_then(|saved| Some((Learner::resume(&network, recipe, &saved)?, saved)));
    let (learner, from) = resumed.unwrap_or_else(|| (Learner::new(&network, recipe), Checkpoint::default()));
    let purified = recipe.purifiers.iter().fold(set.train.clone(), |data, purify| purify(&data));
    let ordered = recipe.order.is_some();
    with_lessons(&purified, config, seeds, (from.epoch, from.batch), ordered, |lessons| {
        learn(learner, from, TrainingSet { train: &purified, ..set }, &kept, recipe, seeds, session, &lessons)
    })
}

/// What is kept for validation, and what is trained on.
fn split(data: &Dataset, share: f64, seeds: &Seeds) -> (Dataset, Dataset) {
    let mut order: Vec<usize> = (0..data.len()).collect();
    let count = (share * data.len() as f64).round() as usize;
    if count > 0 {
        seeds.stream("train/validation").shuffle(&mut order);
        order[..count].sort_unstable();
        order[count..].sort_unstable();
    }
    (data.select(&order[..count]), data.select(&order[count..]))
}

/// The order of an epoch, for recipes that make one: that of the checkpoint if it stands within the epoch.
fn ordered(
    recipe: &Recipe,
    from: &Checkpoint,
    epoch: usize,
    network: &Network,
    data: &Dataset,
    seeds: &Seeds,
) -> Result<Vec<usize>, TrainError> {
    let Some(order) = &recipe.order else { return Ok(Vec::new()) };
    if epoch == from.epoch && !from.order.is_empty() {
        return Ok(from.order.clone());
    }
    let repeats = order.repeats();
    let order = order.of(epoch, network, data, drawn(data.len(), seeds, epoch));
    let mut seen = vec![false; data.len()];
    let fits = |&sample: &usize| seen.get_mut(sample).is_some_and(|seen| !std::mem::replace(seen, true) || repeats);
    let fitting = order.len() == data.len() && order.iter().all(fits);
    if fitting { Ok(order) } else { Err(TrainError::Order { epoch: epoch + 1 }) }
}

/// Goes through all `lessons` that are left.
#[expect(clippy::too_many_arguments, reason = "the parts of one loop, called from one place")]
fn learn(
    mut learner: Learner,
    from: Checkpoint,
    set: TrainingSet,
    kept: &Dataset,
    recipe: &Recipe,
    seeds: &Seeds,
    session: &dyn Session,
    lessons: &Lessons,
) -> Result<Trained, TrainError> {
    let (config, batches) = (&recipe.config, lessons.batches);
    let steps = batches * config.epochs;
    let (mut losses, mut correct, mut curve) = (from.losses.clone(), from.correct, from.curve.clone());
    for epoch in from.epoch..config.epochs {
        let mut hooking = from.hooking(seeds, epoch);
        let order = ordered(recipe, &from, epoch, &learner.network(), set.train, seeds)?;
        if recipe.order.is_some() {
            lessons.begin(order.clone());
        }
        let first = if epoch == from.epoch { from.batch } else { 0 };
        for index in first..batches {
            let Some(Lesson { images, labels }) = lessons.next() else { break };
            let step = epoch * batches + index;
            let own = labels.len();
            let mut minibatch = Minibatch::new(images.into_tensor(&learner.network.device), labels);
            for hook in &recipe.hooks {
                minibatch = hook.apply(&learner.network(), minibatch, &mut hooking);
            }
            let lr = config.lr * schedule::factor(config.schedule, step, steps);
            let (loss, predicted) = learner.step(&minibatch, lr);
            // What a hook added is not of the training set.
            let answers = predicted.iter().zip(&minibatch.labels).take(own);
            correct += answers.filter(|(predicted, label)| predicted == label).count();
            if !loss.is_finite() {
                return Err(TrainError::Diverged { epoch: epoch + 1, loss });
            }
            losses.push(loss);
            session.progress((step + 1) as f64 / steps as f64);
            let wish = session.wish();
            if wish != Wish::GoOn {
                let (batch, hooking) = (index + 1, hooking.position());
                let (order, losses, curve) = (order.clone(), losses.clone(), curve.clone());
                let here = Checkpoint { epoch, batch, order, hooking, losses, correct, curve, ..learner.state() };
                session.save(&here.encode(seeds));
            }
            if wish == Wish::Stop {
                return Err(TrainError::Stopped);
            }
        }
        if config.curve || epoch + 1 == config.epochs {
            let current = learner.network();
            let predict = |data: &Dataset| predictions(&current.logits(data), epoch + 1);
            let predicted = predict(set.test)?;
            let validated = predict(kept)?;
            let probed = set.probe.map(|probe| predict(&probe.inputs)).transpose()?;
            curve.push(EpochReport {
                epoch: epoch + 1,
                train_loss: losses.iter().sum::<f64>() / losses.len() as f64,
                train_accuracy: correct as f64 / set.train.len() as f64,
                test_accuracy: accuracy(&predicted, &set.test.labels()).ok_or(TrainError::Untested)?,
                attack_success: set.probe.zip(probed).and_then(|(probe, probed)| probe.success(&probed)),
                validation_accuracy: accuracy(&validated, &kept.labels()),
            });
        }
        losses.clear();
        correct = 0;
    }
    Ok(Trained { network: learner.network(), curve })
}

/// A network in training, with its optimizer.
pub struct Learner {
    /// What does not change.
    network: Network,
    /// The device with gradients.
    device: Device,
    /// There is always one between two steps.
    module: Option<Architecture>,
    optimizer: ModuleOptimizer,
    label_smoothing: f64,
    ascend_below: Option<f64>,
    penalty: Option<Arc<dyn Penalty>>,
    keep: BTreeMap<String, Parameter>,
}

impl Learner {
    /// A network that is to be trained by a recipe.
    pub fn new(network: &Network, recipe: &Recipe) -> Self {
        let module = network.module.clone();
        Self {
            network: network.clone(),
            device: network.device.clone().autodiff(),
            module: Some(if recipe.head_only { module.train_head() } else { module.train() }),
            optimizer: optimizer(&recipe.config),
            label_smoothing: recipe.config.label_smoothing,
            ascend_below: recipe.ascend_below,
            penalty: recipe.penalty.clone(),
            keep: recipe.keep.clone(),
        }
    }

    /// The same where a checkpoint left it; `None` if that is of another network.
    fn resume(network: &Network, recipe: &Recipe, saved: &Checkpoint) -> Option<Self> {
        let bytes = |bytes: &[u8]| Bytes::from_bytes_vec(bytes.to_vec());
        let fresh = Self::new(network, recipe);
        let record = ModuleRecord::from_bytes(bytes(&saved.module)).ok()?;
        let module = fresh.module?.try_load_record(record).ok()?;
        let optimizer = fresh.optimizer.from_bytes(bytes(&saved.optimizer)).ok()?;
        Some(Self { module: Some(module), optimizer, ..fresh })
    }

    /// Weights and the optimizer's state, for a checkpoint.
    fn state(&self) -> Checkpoint {
        // Only a module in evaluation mode has all updates of its running statistics in the place where a record looks for them.
        let module = self.network().module;
        let module = module.into_record().into_bytes().expect("tensors in memory serialise").to_vec();
        let optimizer = self.optimizer.into_bytes().expect("tensors in memory serialise").to_vec();
        Checkpoint { module, optimizer, ..Checkpoint::default() }
    }

    /// One step on a batch: forward, (weighted) mean cross-entropy and penalty, backward, update. The loss and the predicted classes are those before the
    /// update. If the loss is not finite, the weights are left as they were.
    pub fn step(&mut self, batch: &Minibatch, lr: f64) -> (f64, Vec<Label>) {
        let images = Tensor::from_inner(batch.images.clone()).to_device(&self.device);
        let module = self.module.take().expect("a step leaves a module behind");
        let (taps, maps) = match self.penalty {
            Some(_) => theriac_nn::forward_maps(&module, &self.network.normalisation, images),
            None => (theriac_nn::forward(&module, &self.network.normalisation, images), Vec::new()),
        };
        let logits = taps.logits; // [batch, classes]
        let classes = logits.dims()[1];
        let predicted = to_matrix(logits.clone().inner()).argmax();
        let targets = targets(batch, classes, self.label_smoothing, &self.device);
        let mut loss = -(log_softmax(logits, 1) * targets).sum() / batch.weight();
        if let Some(penalty) = &self.penalty {
            loss = loss + penalty.of(batch.images.clone(), maps);
        }
        let value = f64::from(loss.clone().into_scalar::<f32>());
        self.module = Some(match value.is_finite() {
            true => {
                let ascends = self.ascend_below.is_some_and(|bound| value < bound);
                let loss = if ascends { -loss } else { loss };
                let gradients = GradientsParams::from_grads(loss.backward(), &module);
                let module = self.optimizer.step(lr, module, gradients);
                if self.keep.is_empty() { module } else { parameters::scale(module, &self.keep) }
            }
            false => module,
        });
        (value, predicted)
    }

    /// The network as it is now, in evaluation mode.
    pub fn network(&self) -> Network {
        let module = self.module.as_ref().expect("a step leaves a module behind");
        Network { module: module.valid(), ..self.network.clone() }
    }
}

fn optimizer(config: &TrainConfig) -> ModuleOptimizer {
    let TrainConfig { momentum, weight_decay, nesterov, .. } = *config;
    // The second decay rate and epsilon are those of the papers and of PyTorch.
    let adam = |decoupled| Adam { beta_1: momentum, beta_2: 0.999, epsilon: 1e-8, weight_decay, decoupled };
    match config.optimizer {
        Optimizer::Sgd => ModuleOptimizer::from(Sgd { momentum, weight_decay, nesterov }),
        Optimizer::Adam => ModuleOptimizer::from(adam(false)),
        Optimizer::AdamW => ModuleOptimizer::from(adam(true)),
    }
}

/// Mixed, smoothed and faded labels, times what each image weighs: `[batch, classes]`.
fn targets(batch: &Minibatch, classes: usize, smoothing: f64, device: &Device) -> Tensor<2> {
    let Minibatch { labels, mixed, faded, weights, .. } = batch;
    let rest = smoothing / classes as f64;
    let mut targets = vec![rest as f32; labels.len() * classes];
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        row[usize::from(label)] = (1.0 - smoothing + rest) as f32;
    }
    for ((row, &label), &(second, weight)) in targets.chunks_exact_mut(classes).zip(labels).zip(mixed) {
        let moved = (1.0 - smoothing) as f32 * weight;
        row[usize::from(label)] -= moved;
        row[usize::from(second)] += moved;
    }
    for (row, part) in targets.chunks_exact_mut(classes).zip(faded) {
        row.iter_mut().for_each(|share| *share += part * (1.0 / classes as f32 - *share));
    }
    for (row, weight) in targets.chunks_exact_mut(classes).zip(weights) {
        row.iter_mut().for_each(|share| *share *= weight);
    }
    Tensor::from_data(TensorData::new(targets, [labels.len(), classes]), device)
}

/// The classes of the largest logits, if these are numbers.
fn predictions(logits: &Matrix, epoch: usize) -> Result<Vec<Label>, TrainError> {
    let finite = logits.values().iter().all(|logit| logit.is_finite());
    if finite { Ok(logits.argmax()) } else { Err(TrainError::NotFinite { epoch }) }
}

fn to_matrix(logits: Tensor<2>) -> Matrix {
    let columns = logits.dims()[1];
    Matrix::new(columns, logits.into_data_as::<f32>().try_to_vec::<f32>().expect("the data were converted to f32"))
}

#[cfg(test)]
mod tests;
