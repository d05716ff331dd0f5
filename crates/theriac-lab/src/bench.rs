//! The seam between the engine and the methods: the engine plans, stores and schedules steps, a [`Bench`] carries them out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use theriac_core::{Digest, Facts, Kind, MethodInfo, Param, ParamError, Session, record::MethodRecord};

/// What is known of a data set before a step runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetCard {
    /// What configs are checked against.
    pub facts: Facts,
    /// The hash of the loaded content: everything that can show in a result, the names of the classes included.
    pub digest: Digest,
    /// The names of the classes.
    pub classes: Vec<String>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Makes the attack's change set. Input `surrogate` if the attack needs one; the recipe is named if training goes in rounds. Leaves `changes.bin` and `poison.json`, and
    /// `weights.safetensors` of a network that the attacker publishes.
    Poison,
    /// Trains a model. Inputs: `poison`, and `vet` for data that a defense cleaned. Leaves `weights.safetensors`, `curve.json`, and
    /// `recorded.safetensors` if an attacker exchanged the weights afterwards; the weights of each round where there are rounds.
    Train,
    /// What a model sees in its training data. Inputs: `poison`, `model`. Leaves `features.safetensors`.
    Features,
    /// Vets the training data. Inputs: `poison`, `victim`, `features`; `matches` for a control that copies another filter's budget.
    /// Leaves `changes.bin` and `vet.json`.
    Vet,
    /// Watches retrainings in rounds. Inputs: `poison`, `model`. Leaves `weights.safetensors` of the network that is in use at the end, and
    /// `monitor.json`.
    Monitor,
    /// Inspects a model. Inputs: `poison`, `model`; `start` if it has one. Leaves `inspect.json`.
    Inspect,
    /// Repairs a model. Inputs: `poison`, `model`; `vet` and `inspect` of the same defense. Leaves `weights.safetensors`.
    Repair,
    /// Measures a model on an attack, behind a guard if the defense is one. Inputs: `poison`, `model`. Leaves
    /// `evaluation.json`.
    Evaluate,
    /// Trains whatever answers with certificates, and measures it on an attack. Inputs: `poison`. Leaves `evaluation.json`.
    Certify,
}

impl StepKind {
    /// All kinds, in the order of the pipeline.
    pub const ALL: [Self; 9] = [
        Self::Poison,
        Self::Train,
        Self::Features,
        Self::Vet,
        Self::Monitor,
        Self::Inspect,
        Self::Repair,
        Self::Evaluate,
        Self::Certify,
    ];

    /// The name, as in addresses and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Train => "train",
            Self::Features => "features",
            Self::Vet => "vet",
            Self::Monitor => "monitor",
            Self::Inspect => "inspect",
            Self::Repair => "repair",
            Self::Evaluate => "evaluate",
            Self::Certify => "certify",
        }
    }
}

impl std::fmt::Display for StepKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// One node of the plan. Its address is the hash of everything here, so equal steps are one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// The data set.
    pub dataset: MethodRecord,
    /// The hash of the loaded data.
    pub data: Digest,
    /// The network, where one is involved.
    pub model: Option<MethodRecord>,
    /// The training recipe, for steps that may train.
    pub train: Option<MethodRecord>,
    /// The attack, for poisoning and evaluating steps; `none` when a model is evaluated without one.
    pub attack: Option<MethodRecord>,
    /// The defense, for the steps that it takes part in.
    pub defense: Option<MethodRecord>,
    /// The versions of the methods named above, as `kind/name/version`, and of the step itself, as `step/kind/version`.
    pub versions: Vec<String>,
    /// The root of all random draws of this step.
    pub seed: u64,
    /// Sets apart steps that are equal otherwise: `surrogate` for an attacker's own model, else empty.
    pub role: String,
    /// The device, such as `cpu`: results agree within tolerance across devices only.
    pub device: String,
    /// The steps that this one reads, by name.
    pub inputs: BTreeMap<String, Digest>,
}

impl Step {
    /// The content address.
    pub fn address(&self) -> Digest {
        Digest::of_json(self)
    }
}

/// A step that is due, with the folders of its inputs.
pub struct Job<'a> {
    /// What to do.
    pub step: &'a Step,
    /// The finished inputs by name: the step that made them, and the folder with its files.
    pub inputs: BTreeMap<&'a str, (&'a Step, PathBuf)>,
    /// Hears how far it is, keeps what a long step needs to be resumed, and may ask it to stop.
    pub session: &'a (dyn Session + Sync),
}

impl Job<'_> {
    /// The folder of the input called `name`, if there is one.
    pub fn folder(&self, name: &str) -> Option<&Path> {
        self.inputs.get(name).map(|(_, path)| path.as_path())
    }
}

/// What a step takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds on one thread.
    pub seconds: f64,
    /// Memory beside that of the process, in MiB.
    pub memory_mib: f64,
}

/// The files that a step leaves, by name. The first one is the main one.
pub type Files = Vec<(String, Vec<u8>)>;

/// Why a step left no files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// It could not be carried out, and why. The next run tries it again.
    Failed(String),
    /// A training diverged, and how. That is a result, which is kept: it would diverge again.
    Diverged(String),
    /// It was asked to stop, and has saved what it needs to go on.
    Stopped,
}

impl From<String> for Halt {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<&str> for Halt {
    fn from(reason: &str) -> Self {
        Self::Failed(reason.to_owned())
    }
}

/// Carries out steps. The engine calls it from several threads at once; each call runs inside a pool of its own.
pub trait Bench: Sync {
    /// The registry of one kind.
    fn methods(&self, kind: Kind) -> Vec<&'static MethodInfo>;

    /// The parameters of a training recipe (`[train]`).
    fn train_params(&self) -> &'static [Param];

    /// Where the networks run, such as `cpu`. A part of every address.
    fn device(&self) -> String;

    /// Raised whenever steps of this kind give other results for a reason that lies in no method, so that no old result is served.
    fn version(&self, _kind: StepKind) -> u32 {
        1
    }

    /// What is known of a data set. The engine asks once for each.
    ///
    /// # Errors
    /// A message for a person when it cannot be loaded.
    fn dataset(&self, dataset: &MethodRecord) -> Result<DatasetCard, String>;

    /// The rules that need more than a range: a class index below the number of classes, parameters that exclude each other.
    fn check(&self, kind: Kind, method: &MethodRecord, facts: &Facts) -> Vec<ParamError>;

    /// The same for a training recipe (`[train]`).
    fn check_train(&self, recipe: &MethodRecord, facts: &Facts) -> Vec<ParamError>;

    /// Whether victims of this recipe begin with a network that others have published. They get it as the input `start`, and an attacker
    /// has it as its surrogate.
    fn starts_published(&self, _recipe: &MethodRecord) -> bool {
        false
    }

    /// How often victims of this recipe are trained.
    fn rounds(&self, _recipe: &MethodRecord) -> usize {
        1
    }

    /// How many trainings a defense that watches them needs to see, of victims of this recipe.
    fn rounds_needed(&self, _monitor: &MethodRecord, _recipe: &MethodRecord, _facts: &Facts) -> usize {
        2
    }

    /// What a step is expected to take.
    fn estimate(&self, step: &Step, facts: &Facts) -> Cost;

    /// Carries out a step.
    ///
    /// # Errors
    /// Why there are no files; the cells that need this step are recorded without numbers and the run goes on.
    fn run(&self, job: &Job) -> Result<Files, Halt>;
}
