//! The results format: one [`CellRecord`] a cell, one line of `cells.jsonl`. Figures and reports are made from it alone.
//!
//! Records hold no times and no machine names, so that equal experiments have byte-equal results; those stand in the manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::param::Values;

/// The version of this format. Raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// A method with its resolved parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodRecord {
    /// The registry name.
    pub name: String,
    /// All parameters, defaults written out.
    pub params: Values,
}

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "status", content = "reason")]
pub enum Outcome {
    /// All metrics were measured.
    Ok,
    /// It could not be computed, and why.
    Failed(String),
}

/// One epoch of a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean training loss.
    pub train_loss: f64,
    /// Accuracy on the (poisoned) training data as seen in training, after augmentation.
    pub train_accuracy: f64,
    /// Accuracy on the clean test data.
    pub test_accuracy: f64,
    /// The attack's success metric, if it has one.
    pub attack_success: Option<f64>,
}

/// How well a vetting defense found the poison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RocPoint {
    /// False positive rate.
    pub fpr: f64,
    /// True positive rate.
    pub tpr: f64,
}

/// One cell: data set x model x training x attack x defense x seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The address of the cell's last step.
    pub address: String,
    /// The experiment's name within its config.
    pub experiment: String,
    /// The data set.
    pub dataset: MethodRecord,
    /// The network.
    pub model: MethodRecord,
    /// The training recipe (its name is always `sgd-loop`).
    pub train: MethodRecord,
    /// The attack; `none` is the clean reference.
    pub attack: MethodRecord,
    /// The defense; `none` is the undefended victim.
    pub defense: MethodRecord,
    /// The seed.
    pub seed: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Metrics by their standard names, all as fractions from 0 to 1 unless the name says otherwise. Known names:
    /// `clean_accuracy`, `asr`, `targeted_success`, `robust_accuracy`, `clean_model_accuracy`, `clean_model_success`,
    /// `undefended_accuracy`, `undefended_success`, `der`, `tpr`, `fpr`, `auroc`, `average_precision`, `flagged`, `poisoned`,
    /// `class_recall` (of the attacked class), `test_loss` (nats).
    pub metrics: BTreeMap<String, f64>,
    /// Counts on the clean test set: `[true class][predicted class]`.
    pub confusion: Vec<Vec<u64>>,
    /// One entry an epoch, of the training that made the evaluated model; empty when nothing was trained.
    pub curve: Vec<EpochRecord>,
    /// The detection curve of a vetting or guarding defense; empty otherwise.
    pub roc: Vec<RocPoint>,
    /// Touched samples per class (before the attack).
    pub poisoned_by_class: Vec<usize>,
    /// The names of the classes.
    pub classes: Vec<String>,
}

/// Everything that equal cells at several seeds have in common.
pub fn group_key(cell: &CellRecord) -> String {
    let parts = [&cell.dataset, &cell.model, &cell.train, &cell.attack, &cell.defense];
    let parts = parts.map(|part| serde_json::to_string(part).expect("plain data serialises to JSON"));
    format!("{}\n{}", cell.experiment, parts.join("\n"))
}

/// What evaluating one model on one attack gives; the lab combines it with its references into a [`CellRecord`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// `clean_accuracy`, `test_loss`, and where they apply `asr` or `targeted_success`, `robust_accuracy`, `class_recall`, and a
    /// guard's `tpr`, `fpr`, `auroc`.
    pub metrics: BTreeMap<String, f64>,
    /// Which of the metrics is the attack's success, if it has one.
    pub success: Option<String>,
    /// Counts on the clean test set: `[true class][predicted class]`.
    pub confusion: Vec<Vec<u64>>,
    /// A guard's detection curve.
    pub roc: Vec<RocPoint>,
}

/// What a vetting defense found, scored against the attacker's change set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VetRecord {
    /// `tpr`, `fpr`, `auroc`, `average_precision`, `flagged` (fraction of the training set).
    pub metrics: BTreeMap<String, f64>,
    /// The detection curve.
    pub roc: Vec<RocPoint>,
    /// One score per training sample, higher is more suspicious.
    pub scores: Vec<f64>,
}

/// What a poisoning step reports beside its change set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoisonRecord {
    /// Touched samples per class (before the attack).
    pub by_class: Vec<usize>,
    /// Touched samples as a fraction of the whole training set.
    pub rate: f64,
    /// The hash of the change set.
    pub changes: String,
    /// The hash of the poisoned training set.
    pub data: String,
    /// A few samples to look at.
    pub gallery: Vec<GalleryTile>,
}

/// One poisoned sample beside its clean self.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GalleryTile {
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// What was done, such as `7 -> 0`.
    pub caption: String,
    /// The pixels before, `[channel, row, column]`; absent for inserted samples without an original.
    pub clean: Option<Vec<u8>>,
    /// The pixels after; absent for removed samples.
    pub poisoned: Option<Vec<u8>>,
}

/// The gallery of one attack: one line of `gallery.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GalleryRecord {
    /// The experiment's name.
    pub experiment: String,
    /// The data set.
    pub dataset: MethodRecord,
    /// The attack.
    pub attack: MethodRecord,
    /// A few samples.
    pub tiles: Vec<GalleryTile>,
}

/// What is needed to understand and repeat a run: `manifest.json`. Times, machine and versions stand here and only here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of Theriac.
    pub theriac: String,
    /// The study's name.
    pub name: String,
    /// The question it asks.
    pub question: String,
    /// The experiments' names and questions, in order.
    pub experiments: Vec<(String, String)>,
    /// The config with all defaults written out, as TOML.
    pub config: String,
    /// The hash of the resolved config.
    pub config_digest: String,
    /// The path of the config as given on the command line.
    pub config_path: String,
    /// The hash of each loaded data set, by a readable name.
    pub data: BTreeMap<String, String>,
    /// The processor, operating system and number of cores.
    pub machine: BTreeMap<String, String>,
    /// Where the networks ran.
    pub device: String,
    /// Jobs at a time and threads a job.
    pub jobs: usize,
    /// Threads a job.
    pub threads: usize,
    /// Wall-clock seconds of the whole run, this time only.
    pub seconds: f64,
    /// One entry a step.
    pub steps: Vec<StepRecord>,
}

/// One step of a run, with its cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its content address.
    pub address: String,
    /// Its kind: `poison`, `train`, `vet`, `repair` or `evaluate`.
    pub kind: String,
    /// For people, such as `train cnn on mnist-10k, badnets 0.05, seed 1`.
    pub label: String,
    /// Seconds it took when it was computed.
    pub seconds: f64,
    /// Highest resident memory of the process when it ended, in MiB.
    pub peak_memory_mib: f64,
    /// The hash of the main file that it left: weights, change set or metrics.
    pub output: String,
}
