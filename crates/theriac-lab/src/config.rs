//! The config: raw TOML in, a checked [`Config`] out, in which every method is known, every value is in range and every default is
//! written out. Everything that is wrong is told at once.

mod check;
mod compare;
mod fault;
mod method;
mod node;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use theriac_core::{Digest, Kind, Values, record::MethodRecord};

use crate::bench::{Bench, DatasetCard};
pub use fault::{ConfigError, Fault, Faults, Rule};

/// A study that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The name, which is also the name of the results folder.
    pub name: String,
    /// The question it asks.
    pub question: String,
    /// In the order of the file; at least one.
    pub experiments: Vec<Experiment>,
}

/// One grid: every data set x model x recipe x attack x defense x seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// Unique in its study.
    pub name: String,
    /// The question it asks.
    pub question: String,
    /// At least one, each once.
    pub seeds: Vec<u64>,
    /// Whether vetting filters get a random and a perfect filter beside them.
    pub controls: bool,
    /// The data sets, with what is known of each.
    pub datasets: Vec<(MethodRecord, DatasetCard)>,
    /// The networks.
    pub models: Vec<MethodRecord>,
    /// The training recipes.
    pub trains: Vec<MethodRecord>,
    /// The attacks, without `none`, which is always there.
    pub attacks: Vec<MethodRecord>,
    /// The defenses, without `none`, which is always there.
    pub defenses: Vec<Defense>,
    /// What is to be compared by tests.
    pub compares: Vec<Compare>,
}

/// Methods of one kind that are compared, each with each, on metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Attacks, defenses or networks.
    pub of: Kind,
    /// The names of the methods, at least two.
    pub names: Vec<String>,
    /// At least one.
    pub metrics: Vec<String>,
}

/// A defense and where it is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Defense {
    /// The method.
    pub method: MethodRecord,
    /// The names of the attacks that it is tried against; all, and the clean model, if absent.
    pub against: Option<Vec<String>>,
}

impl Defense {
    /// Whether it is tried against the attack called `attack`.
    pub fn meets(&self, attack: &str) -> bool {
        self.against.as_ref().is_none_or(|names| names.iter().any(|name| name == attack))
    }
}

impl Config {
    /// Reads and checks the config at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or all that is wrong with it.
    pub fn read(path: &Path, bench: &dyn Bench) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self::parse(&text, &path.display().to_string(), bench)?)
    }

    /// Checks `text`; `file` names it in messages.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str, file: &str, bench: &dyn Bench) -> Result<Self, Faults> {
        check::check(text, bench).map_err(|faults| Faults::new(file, text, faults))
    }

    /// The config with all defaults and all combinations written out. It reads back as an equal config.
    pub fn to_toml(&self) -> String {
        let resolved = Resolved {
            name: &self.name,
            question: &self.question,
            experiment: self.experiments.iter().map(ResolvedExperiment::new).collect(),
        };
        toml::to_string(&resolved).expect("checked configs hold only what TOML can write")
    }

    /// The hash of [`to_toml`](Self::to_toml).
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_toml().as_bytes())
    }
}

#[derive(Serialize)]
struct Resolved<'a> {
    name: &'a str,
    question: &'a str,
    experiment: Vec<ResolvedExperiment<'a>>,
}

#[derive(Serialize)]
struct ResolvedExperiment<'a> {
    name: &'a str,
    question: &'a str,
    seeds: &'a [u64],
    controls: bool,
    data: Vec<ResolvedMethod<'a>>,
    model: Vec<ResolvedMethod<'a>>,
    train: Vec<ResolvedMethod<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attack: Vec<ResolvedMethod<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    defense: Vec<ResolvedMethod<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    compare: Vec<BTreeMap<String, &'a [String]>>,
}

#[derive(Serialize)]
struct ResolvedMethod<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<&'a [String]>,
    #[serde(flatten)]
    params: Values,
}

impl<'a> ResolvedMethod<'a> {
    fn new(method: &'a MethodRecord) -> Self {
        // TOML has no `null`; a parameter without a value is one whose default is none, so leaving it out says the same.
        let given = method.params.iter().filter(|(_, value)| !value.is_null());
        let params = given.map(|(key, value)| (key.clone(), value.clone())).collect();
        Self { name: (method.name != method::RECIPE).then_some(&method.name), against: None, params }
    }
}

impl<'a> ResolvedExperiment<'a> {
    fn new(experiment: &'a Experiment) -> Self {
        let all = |methods: &'a [MethodRecord]| methods.iter().map(ResolvedMethod::new).collect();
        let defense = |defense: &'a Defense| {
            let method = ResolvedMethod::new(&defense.method);
            ResolvedMethod { against: defense.against.as_deref(), ..method }
        };
        let compare = |compare: &'a Compare| {
            BTreeMap::from([(format!("{}s", compare.of), &*compare.names), ("metrics".to_owned(), &*compare.metrics)])
        };
        Self {
            name: &experiment.name,
            question: &experiment.question,
            seeds: &experiment.seeds,
            controls: experiment.controls,
            data: experiment.datasets.iter().map(|(method, _)| ResolvedMethod::new(method)).collect(),
            model: all(&experiment.models),
            train: all(&experiment.trains),
            attack: all(&experiment.attacks),
            defense: experiment.defenses.iter().map(defense).collect(),
            compare: experiment.compares.iter().map(compare).collect(),
        }
    }
}
