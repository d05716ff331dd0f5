#![expect(clippy::unwrap_used, reason = "a part of tests and benchmarks")]
//! A bench for tests: methods in name only, steps that take microseconds and leave small files that depend on all their inputs.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::json;
use theriac_core::record::MethodRecord;
use theriac_core::{
    Capability, Digest, Facts, Family, Goal, Hook, Kind, Knowledge, MethodInfo, Param, ParamError, Range, Shape, Stage,
    ThreatModel, Value, Wish,
};

use crate::bench::{Bench, Cost, DatasetCard, Files, Halt, Job, Step, StepKind};
use crate::config::{Config, Faults};
use crate::plan::Plan;

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Data,
    capabilities: &[Capability::Labels],
    goal: Goal::Backdoor,
    stage: Stage::Collect,
};

const fn param(name: &'static str, range: Range, default: fn() -> Value) -> Param {
    Param { name, doc: &[" A parameter."], range, unit: "", optional: false, default }
}

const SIZE: &[Param] = &[param("train", Range::Whole(1, 60_000), || json!(4000))];
const WIDTH: &[Param] = &[param("width", Range::Whole(1, 64), || json!(8))];
const TRAIN: &[Param] = &[
    param("epochs", Range::Whole(1, 1000), || json!(4)),
    param("milestones", Range::Numbers(0.0, 1.0), || json!([0.5])),
];
const ATTACK: &[Param] =
    &[param("rate", Range::Number(0.0, 1.0), || json!(0.1)), param("target", Range::Class, || json!(0))];
const STRENGTH: &[Param] = &[param("strength", Range::Number(0.0, 10.0), || json!(1.0))];
const CONTROL: &[Param] =
    &[param("fraction", Range::Number(0.0, 1.0), || json!(0.1)), param("matches", Range::Text, || json!(""))];

const fn attack(name: &'static str) -> MethodInfo {
    MethodInfo::attack(name, Family::Backdoor, THREAT, "An attack.", &[], ATTACK)
}

const fn defense(name: &'static str, hooks: &'static [Hook]) -> MethodInfo {
    MethodInfo::defense(name, hooks, "A defense.", &[], STRENGTH)
}

static DATASETS: &[MethodInfo] = &[
    MethodInfo::plain("digits", Kind::Dataset, "Digits.", SIZE),
    MethodInfo::plain("lost", Kind::Dataset, "Not there.", SIZE),
];
static MODELS: &[MethodInfo] = &[
    MethodInfo::plain("cnn", Kind::Model, "A network.", WIDTH),
    MethodInfo::plain("mlp", Kind::Model, "A network.", WIDTH),
];
static ATTACKS: &[MethodInfo] = &[
    MethodInfo::attack("none", Family::Clean, THREAT, "None.", &[], &[]),
    attack("badnets"),
    attack("blended"),
    attack("label-flip"),
    attack("sig"),
    attack("trojan"),
    attack("witches-brew").with_surrogate(),
];
static DEFENSES: &[MethodInfo] = &[
    defense("none", &[]),
    defense("spectral", &[Hook::Vet]),
    defense("clustering", &[Hook::Vet]),
    defense("robust", &[Hook::Train]),
    defense("prune", &[Hook::Repair]),
    defense("strip", &[Hook::Guard]),
    defense("reverse", &[Hook::Inspect, Hook::Repair]),
    defense("partition", &[Hook::Certify]),
    defense("watch", &[Hook::Monitor]),
    defense("inspect", &[Hook::Inspect]),
    defense("all-in-one", &[Hook::Vet, Hook::Train, Hook::Inspect, Hook::Repair, Hook::Guard]),
    MethodInfo::defense("clean-model", &[Hook::Control], "The clean model.", &[], &[]),
    MethodInfo::defense("random-filter", &[Hook::Vet], "Random.", &[], CONTROL),
    MethodInfo::defense("perfect-filter", &[Hook::Vet], "Perfect.", &[], CONTROL),
];

/// A small study.
pub const SMALL: &str = r#"
name = "small"
seeds = 2
[data]
name = "digits"
[model]
name = "cnn"
[[experiment]]
name = "one"
[[experiment.attack]]
name = "badnets"
rate = [0.05, 0.1]
[[experiment.defense]]
name = "spectral"
[[experiment.defense]]
name = "prune"
"#;

/// A study with steps of every kind.
pub const EVERY_KIND: &str = r#"
name = "small"
seeds = 2
[data]
name = "digits"
[model]
name = "cnn"
[train]
epochs = 78
[[experiment]]
name = "one"
[[experiment.attack]]
name = "badnets"
[[experiment.defense]]
name = ["spectral", "prune", "reverse", "partition", "watch"]
"#;

/// Victims that are trained for so many epochs begin with a published network.
const PUBLISHED: u64 = 77;
/// Victims that are trained for so many epochs are trained twice.
const TWICE: u64 = 78;

/// The bench.
#[derive(Default)]
pub struct Toy {
    /// Steps whose JSON contains this fail.
    pub fail: Option<&'static str>,
    /// Which steps diverge.
    pub diverge: Option<fn(&Step) -> bool>,
    /// Steps whose JSON contains this panic.
    pub panic: Option<&'static str>,
    /// Trainings go through so many epochs, each of which can be saved.
    pub epochs: usize,
    /// Epochs that were gone through.
    pub walked: Mutex<usize>,
    /// Called at each epoch.
    pub each: Option<Box<dyn Fn(usize) + Sync + Send>>,
    /// Steps of this kind have another version.
    pub newer: Option<StepKind>,
    /// Whether `ran` and `threads` are not kept.
    pub forget: bool,
    /// What was run.
    pub ran: Mutex<Vec<Step>>,
    /// The number of threads that each had.
    pub threads: Mutex<Vec<usize>>,
}

impl Toy {
    /// What a training does: epoch after epoch, from where it was stopped.
    fn walk(&self, job: &Job) -> Result<(), Halt> {
        let first = job.session.resume().map_or(0, |state| usize::from(state[0]));
        for epoch in first..self.epochs {
            if let Some(each) = &self.each {
                each(epoch);
            }
            *self.walked.lock().unwrap() += 1;
            let wish = job.session.wish();
            if wish != Wish::GoOn {
                job.session.save(&[epoch as u8 + 1]);
            }
            if wish == Wish::Stop {
                return Err(Halt::Stopped);
            }
        }
        Ok(())
    }

    /// How many steps of `kind` were run.
    pub fn count(&self, kind: StepKind) -> usize {
        self.ran.lock().unwrap().iter().filter(|step| step.kind == kind).count()
    }
}

impl Bench for Toy {
    fn methods(&self, kind: Kind) -> Vec<&'static MethodInfo> {
        let methods = match kind {
            Kind::Dataset => DATASETS,
            Kind::Model => MODELS,
            Kind::Attack => ATTACKS,
            Kind::Defense => DEFENSES,
        };
        methods.iter().collect()
    }

    fn train_params(&self) -> &'static [Param] {
        TRAIN
    }

    fn device(&self) -> String {
        "toy".to_owned()
    }

    fn starts_published(&self, recipe: &MethodRecord) -> bool {
        recipe.params.get("epochs").and_then(Value::as_u64) == Some(PUBLISHED)
    }

    fn rounds(&self, recipe: &MethodRecord) -> usize {
        if recipe.params.get("epochs").and_then(Value::as_u64) == Some(TWICE) { 2 } else { 1 }
    }

    fn version(&self, kind: StepKind) -> u32 {
        if self.newer == Some(kind) { 2 } else { 1 }
    }

    fn dataset(&self, dataset: &MethodRecord) -> Result<DatasetCard, String> {
        if dataset.name == "lost" {
            return Err("failed to find the data set `lost`; fetch it first".to_owned());
        }
        let shape = Shape { channels: 1, height: 1, width: 1 };
        let facts = Facts { shape, classes: 10, train: 4000, test: 100, sources: 1 };
        let classes = (0..10).map(|class| class.to_string()).collect();
        Ok(DatasetCard { facts, digest: Digest::of_json(dataset), classes })
    }

    fn check(&self, _kind: Kind, method: &MethodRecord, facts: &Facts) -> Vec<ParamError> {
        let target = method.params.get("target").and_then(Value::as_u64);
        let outside = target.filter(|target| *target >= facts.classes as u64);
        let message = |target| format!("class {target} of {} classes; they are counted from 0", facts.classes);
        outside.map(|target| ParamError::new("target", message(target))).into_iter().collect()
    }

    fn check_train(&self, recipe: &MethodRecord, facts: &Facts) -> Vec<ParamError> {
        let epochs = recipe.params["epochs"].as_u64().unwrap_or_default();
        let message = || format!("{epochs} epochs over {} samples are too many", facts.train);
        (epochs > 800).then(|| ParamError::new("epochs", message())).into_iter().collect()
    }

    fn estimate(&self, step: &Step, _facts: &Facts) -> Cost {
        let seconds = if step.kind == StepKind::Train { 4.0 } else { 0.5 };
        Cost { seconds, memory_mib: 10.0 }
    }

    fn run(&self, job: &Job) -> Result<Files, Halt> {
        let step = job.step;
        if !self.forget {
            self.ran.lock().unwrap().push(step.clone());
            self.threads.lock().unwrap().push(rayon::current_num_threads());
        }
        let text = serde_json::to_string(step).unwrap();
        job.session.progress(0.5);
        assert!(!self.panic.is_some_and(|word| text.contains(word)), "toy panic");
        if self.fail.is_some_and(|word| text.contains(word)) {
            return Err("toy failure".into());
        }
        if self.diverge.is_some_and(|diverges| diverges(step)) {
            return Err(Halt::Diverged("the loss became NaN in epoch 1".to_owned()));
        }
        if step.kind == StepKind::Train {
            self.walk(job)?;
        }
        let mut seen = text.into_bytes();
        for (input, folder) in job.inputs.values() {
            let name = match input.kind {
                StepKind::Poison => "poison.json",
                StepKind::Vet => "vet.json",
                StepKind::Monitor => "monitor.json",
                StepKind::Inspect => "inspect.json",
                _ => "main.bin",
            };
            seen.extend(std::fs::read(folder.join(name)).map_err(|error| error.to_string())?);
        }
        let digest = Digest::of(&seen);
        let number = f64::from(digest.as_bytes()[0]) / 255.0;
        let file = |name: &str, value: Value| vec![(name.to_owned(), value.to_string().into_bytes())];
        let attacked = step.attack.as_ref().is_some_and(|attack| attack.name != "none");
        Ok(match step.kind {
            StepKind::Poison => {
                let tile = json!({"shape": [1, 1, 1], "caption": "7 -> 0", "clean": [0], "poisoned": [9]});
                let record = json!({"by_class": [1, 2], "rate": 0.05, "changes": "", "data": "", "gallery": [tile]});
                file("poison.json", record)
            }
            StepKind::Train | StepKind::Repair => {
                let epoch =
                    json!({"epoch": 1, "train_loss": number, "train_accuracy": number, "test_accuracy": number});
                let curve = file("curve.json", json!([epoch]));
                [vec![("main.bin".to_owned(), digest.as_bytes().to_vec())], curve].concat()
            }
            StepKind::Features => vec![("main.bin".to_owned(), digest.as_bytes().to_vec())],
            StepKind::Monitor => {
                let round = json!({"round": 2, "statistic": number, "worst": "accuracy"});
                let record = json!({"metrics": {"detected": 1.0}, "onset": 1, "limit": 0.5, "rounds": [round]});
                [vec![("main.bin".to_owned(), digest.as_bytes().to_vec())], file("monitor.json", record)].concat()
            }
            StepKind::Inspect => {
                let (metrics, flagged) = (json!({"anomaly_index": number}), [0]);
                let statistics = [number];
                file(
                    "inspect.json",
                    json!({"metrics": metrics, "statistics": statistics, "flagged": flagged, "triggers": []}),
                )
            }
            StepKind::Vet => file("vet.json", json!({"metrics": {"tpr": number}, "roc": [], "scores": [number]})),
            StepKind::Evaluate | StepKind::Certify => {
                let mut metrics: BTreeMap<&str, f64> = [("clean_accuracy", number)].into();
                metrics.extend(attacked.then_some(("asr", 1.0 - number)));
                let success = attacked.then_some("asr");
                file("evaluation.json", json!({"metrics": metrics, "success": success, "confusion": [[1]], "roc": []}))
            }
        })
    }
}

/// The config in `text`.
pub fn config(text: &str) -> Config {
    parse(text).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The config in `text`, or what is wrong with it.
pub fn parse(text: &str) -> Result<Config, Faults> {
    Config::parse(text, "toy.toml", &Toy::default())
}

/// The plan of the config in `text`.
pub fn plan(text: &str) -> Plan {
    Plan::new(&config(text), &Toy::default())
}
