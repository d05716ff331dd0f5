//! The results format: one [`CellRecord`] a cell, one line of `cells.jsonl`. Figures and reports are made from it alone.
//!
//! Records hold no times and no machine names, so that equal experiments have byte-equal results; those stand in the manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::param::{Value, Values};

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

impl MethodRecord {
    /// The name, and those parameters that are `shown`: `badnets rate=0.05`.
    pub fn named(&self, shown: impl Fn(&str, &Value) -> bool) -> String {
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let params = self.params.iter().filter(|(key, value)| shown(key, value));
        params.fold(self.name.clone(), |text, (key, value)| format!("{text} {key}={}", plain(value)))
    }
}

/// The control that removes as many samples as the filter that it matches, at random.
pub const RANDOM_FILTER: &str = "random-filter";
/// The control that removes as many samples as the filter that it matches, poison first.
pub const PERFECT_FILTER: &str = "perfect-filter";

/// Whether `name` is a control for vetting filters.
pub fn is_control_filter(name: &str) -> bool {
    [RANDOM_FILTER, PERFECT_FILTER].contains(&name)
}

/// How a control names the filter that it matches, in its parameter `matches`: by name, and where one filter has several
/// parametrisations among `filters` also by the parameters in which these differ.
pub fn filter_key(filter: &MethodRecord, filters: &[&MethodRecord]) -> String {
    filter.named(|key, value| {
        let mut namesakes = filters.iter().filter(|other| other.name == filter.name);
        namesakes.any(|other| other.params.get(key) != Some(value))
    })
}

/// The names of all metrics that a cell can have.
pub const METRICS: [&str; 27] = [
    "clean_accuracy",
    "asr",
    "targeted_success",
    "robust_accuracy",
    "class_recall",
    "test_loss",
    "clean_model_accuracy",
    "clean_model_success",
    "undefended_accuracy",
    "undefended_success",
    "der",
    "tpr",
    "fpr",
    "auroc",
    "average_precision",
    "flagged",
    "poisoned",
    "backdoor_found",
    "target_named",
    "anomaly_index",
    "weights_changed",
    "disagreement",
    "median_certified_radius",
    "detected",
    "detection_delay",
    "false_alarm_rate",
    "damage_until_alarm",
];

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "status", content = "reason")]
pub enum Outcome {
    /// All metrics were measured.
    Ok,
    /// It could not be computed, and why. Running the study again tries it again.
    Failed(String),
    /// A training that it stands on diverged, and how. That is a result: the same training diverges again.
    Diverged(String),
}

impl Outcome {
    /// Why there are no numbers, if there are none.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Failed(reason) | Self::Diverged(reason) => Some(reason),
        }
    }
}

/// One epoch of a training, or one round of retrainings.
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
    /// Accuracy on the samples that the victim kept out of its (poisoned) training set, if it kept some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
}

/// One point of a detection curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RocPoint {
    /// False positive rate.
    pub fpr: f64,
    /// True positive rate.
    pub tpr: f64,
}

/// One point of a certified curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertifiedPoint {
    /// How many of what the defense certifies against, see [`Unit`](crate::Unit): samples that the attacker may insert or delete, where
    /// replacing one counts as two, or sources that it controls.
    pub budget: usize,
    /// The fraction of the test set that is answered correctly, and provably so under any such attack.
    pub accuracy: f64,
}

/// How the scores of a detection lie: samples counted in bins of equal width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreHistogram {
    /// Where the first bin begins. Lower scores are counted in it.
    pub low: f64,
    /// Where the last bin ends. Higher scores are counted in it.
    pub high: f64,
    /// Clean samples in each bin.
    pub clean: Vec<u64>,
    /// Poisoned samples (for a guard: triggered inputs) in each bin.
    pub poisoned: Vec<u64>,
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
    /// `class_recall` (of the attacked class), `test_loss` (nats), `backdoor_found` and `target_named` (1 or 0), `anomaly_index` (the
    /// largest of all classes), `weights_changed`, `disagreement`, `median_certified_radius` (samples, or sources), and of a monitor
    /// `detected` (1 or 0), `detection_delay` (rounds), `false_alarm_rate` (a watched round without poison), `damage_until_alarm` (rounds
    /// of full damage).
    pub metrics: BTreeMap<String, f64>,
    /// Counts on the clean test set: `[true class][predicted class]`.
    pub confusion: Vec<Vec<u64>>,
    /// One entry an epoch, of the training that made the evaluated model, or one a round where it was retrained in rounds; empty when
    /// nothing was trained.
    pub curve: Vec<EpochRecord>,
    /// The detection curve of a vetting or guarding defense; empty otherwise.
    pub roc: Vec<RocPoint>,
    /// How the scores behind that curve lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<ScoreHistogram>,
    /// The certified accuracy by budget; empty unless the defense certifies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certified: Vec<CertifiedPoint>,
    /// What a defense that inspects models found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspection: Option<InspectRecord>,
    /// What a defense that watches retrainings saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<MonitorRecord>,
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
    /// How a guard's scores lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<ScoreHistogram>,
    /// The certified accuracy by budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certified: Vec<CertifiedPoint>,
}

/// What a defense that inspects a model found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InspectRecord {
    /// `backdoor_found`, `anomaly_index`, and `target_named` where the attack has one target.
    pub metrics: BTreeMap<String, f64>,
    /// One number a class; higher is more suspicious.
    pub statistics: Vec<f64>,
    /// The classes that are held for targets of a backdoor, the most suspicious one first.
    pub flagged: Vec<u16>,
    /// The trigger that was reconstructed for each class; empty if the method makes none.
    pub triggers: Vec<ReversedTrigger>,
}

/// What a defense that watches retrainings saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MonitorRecord {
    /// `detected`, `detection_delay`, `false_alarm_rate`, `damage_until_alarm`, as far as they apply.
    pub metrics: BTreeMap<String, f64>,
    /// The first round that an attacker reached, if there is one.
    pub onset: Option<usize>,
    /// A statistic above this raises an alarm.
    pub limit: f64,
    /// The rounds that were watched, in order; those by which the monitor was set up are not among them.
    pub rounds: Vec<MonitoredRound>,
}

/// One round, as a monitor saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonitoredRound {
    /// Counted from 1.
    pub round: usize,
    /// The largest of all statistics, in units of what was usual.
    pub statistic: f64,
    /// Which one that is, such as `accuracy of class 3`.
    pub worst: String,
}

impl MonitorRecord {
    /// The rounds with an alarm.
    pub fn alarms(&self) -> impl Iterator<Item = usize> {
        self.rounds.iter().filter(|round| round.statistic > self.limit).map(|round| round.round)
    }
}

/// A trigger that was reconstructed: `x' = (1 - mask) x + mask pattern`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReversedTrigger {
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// `[row, column]`, from 0 to 1, the same in every channel.
    pub mask: Vec<f32>,
    /// `[channel, row, column]`, from 0 to 1.
    pub pattern: Vec<f32>,
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
    /// How these scores lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<ScoreHistogram>,
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
    /// Steps at a time.
    pub jobs: usize,
    /// Threads a step.
    pub threads: usize,
    /// Wall-clock seconds of the whole run, this time only.
    pub seconds: f64,
    /// One entry a step.
    pub steps: Vec<StepRecord>,
    /// The comparisons that the config asks for, in its order.
    #[serde(default)]
    pub compares: Vec<CompareRecord>,
    /// Which part of the plan this is; absent for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardRecord>,
}

/// Methods that a config wants compared, each with each, paired by seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareRecord {
    /// The experiment's name.
    pub experiment: String,
    /// What is compared: `attack`, `defense` or `model`. Everything else is equal in the cells of a pair.
    pub of: String,
    /// The names of the methods, at least two.
    pub names: Vec<String>,
    /// The metrics to compare, at least one.
    pub metrics: Vec<String>,
}

/// A part of a plan that was run by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// Which part, counted from 1.
    pub index: usize,
    /// Of how many.
    pub of: usize,
    /// The identity of the whole plan.
    pub plan: String,
    /// The position in the whole plan of each line of `cells.jsonl`.
    pub cells: Vec<usize>,
    /// The position in the whole plan of the cell that each line of `gallery.jsonl` comes from.
    pub gallery: Vec<usize>,
    /// The position in the whole plan of each entry of `steps`.
    pub steps: Vec<usize>,
    /// The hashes of `cells.jsonl` and `gallery.jsonl`.
    pub files: BTreeMap<String, String>,
}

/// One step of a run, with its cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its content address.
    pub address: String,
    /// Its kind, such as `train`.
    pub kind: String,
    /// For people, such as `train cnn on mnist-10k, badnets 0.05, seed 1`.
    pub label: String,
    /// Seconds it took when it was computed.
    pub seconds: f64,
    /// Highest resident memory of the process when it ended, in MiB.
    pub peak_memory_mib: f64,
    /// The hash of the main file that it left: weights, change set or metrics.
    pub output: String,
    /// The addresses of the steps that it stands on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
}

#[cfg(test)]
mod tests;
