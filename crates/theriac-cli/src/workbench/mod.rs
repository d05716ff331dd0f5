//! The workbench: carries out the engine's steps with the real methods.
//!
//! This is where the registries meet. The engine below knows addresses and files; the methods above know data and networks.

mod certify;
mod estimate;
mod evaluate;
mod features;
mod inputs;
mod inspect;
mod monitor;
mod poison;
mod repair;
mod train;
mod vet;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use theriac_core::record::MethodRecord;
use theriac_core::{Facts, Kind, MethodInfo, Param, ParamError};
use theriac_data::{Loaded, Places};
use theriac_lab::{Bench, Cost, DatasetCard, Files, Halt, Job, Step, StepKind};
use theriac_nn::burn::tensor::Device;
use theriac_nn::{DeviceError, Normalisation};
use theriac_train::{Start, TrainConfig};

/// All registries, one device, and the data sets that were loaded so far.
pub struct Workbench {
    places: Places,
    device_name: String,
    device: Device,
    loaded: Mutex<HashMap<String, Arc<Prepared>>>,
}

/// A loaded data set with what every step asks of it.
pub struct Prepared {
    /// Training and test data, clean.
    pub data: Loaded,
    /// Sizes and counts.
    pub facts: Facts,
    /// Of the clean training data, per channel.
    pub normalisation: Normalisation,
}

impl Workbench {
    /// Opens the device called `device`; data are looked for in `places`.
    ///
    /// # Errors
    /// When the device is not there.
    pub fn new(device: &str, places: Places) -> Result<Self, DeviceError> {
        let opened = theriac_nn::device::open(device)?;
        Ok(Self { places, device_name: device.to_owned(), device: opened, loaded: Mutex::default() })
    }

    /// Loads a data set, once.
    ///
    /// # Errors
    /// A message for a person.
    pub fn prepared(&self, dataset: &MethodRecord) -> Result<Arc<Prepared>, String> {
        let key = format!("{} {:?}", dataset.name, dataset.params);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = loaded.get(&key) {
            return Ok(prepared.clone());
        }
        let entry = theriac_data::find(&dataset.name).map_err(|error| chain(&error))?;
        let data = (entry.load)(&dataset.params, &self.places).map_err(|error| chain(&error))?;
        let facts = Facts {
            shape: data.train.shape(),
            classes: data.train.classes().len(),
            train: data.train.len(),
            test: data.test.len(),
            sources: data.train.sources().len(),
        };
        let normalisation = Normalisation(theriac_data::statistics(&data.train));
        let prepared = Arc::new(Prepared { data, facts, normalisation });
        loaded.insert(key, prepared.clone());
        Ok(prepared)
    }
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// The entries of one registry.
pub fn methods(kind: Kind) -> Vec<&'static MethodInfo> {
    match kind {
        Kind::Dataset => theriac_data::DATASETS.iter().map(|entry| &entry.info).collect(),
        Kind::Model => theriac_nn::MODELS.iter().map(|entry| &entry.info).collect(),
        Kind::Attack => theriac_attacks::ATTACKS.iter().map(|entry| &entry.info).collect(),
        Kind::Defense => theriac_defenses::DEFENSES.iter().map(|entry| &entry.info).collect(),
    }
}

impl Bench for Workbench {
    fn methods(&self, kind: Kind) -> Vec<&'static MethodInfo> {
        methods(kind)
    }

    fn train_params(&self) -> &'static [Param] {
        TrainConfig::PARAMS
    }

    fn device(&self) -> String {
        self.device_name.clone()
    }

    fn version(&self, kind: StepKind) -> u32 {
        match kind {
            StepKind::Train | StepKind::Evaluate => 3,
            _ => 1,
        }
    }

    fn dataset(&self, dataset: &MethodRecord) -> Result<DatasetCard, String> {
        let prepared = self.prepared(dataset)?;
        let Loaded { train, test, .. } = &prepared.data;
        // The names of the classes stand in results, and a folder may be renamed while its images stay.
        let digest = theriac_core::Digest::of_json(&(train.digest(), test.digest(), train.classes()));
        Ok(DatasetCard { facts: prepared.facts.clone(), digest, classes: train.classes().to_vec() })
    }

    fn check(&self, kind: Kind, method: &MethodRecord, facts: &Facts) -> Vec<ParamError> {
        let (name, values) = (method.name.as_str(), &method.params);
        // The engine resolves names before it asks; an unknown one has been reported already.
        let result = match kind {
            Kind::Dataset => return Vec::new(),
            Kind::Model => {
                theriac_nn::models::find(name).map(|entry| (entry.build)(values, facts, &self.device).map(drop))
            }
            Kind::Attack => theriac_attacks::find(name).map(|entry| (entry.check)(values, facts).map(drop)),
            Kind::Defense => theriac_defenses::find(name).map(|entry| (entry.check)(values, facts).map(drop)),
        };
        result.and_then(Result::err).unwrap_or_default()
    }

    fn check_train(&self, recipe: &MethodRecord, facts: &Facts) -> Vec<ParamError> {
        TrainConfig::check(&recipe.params, facts).err().unwrap_or_default()
    }

    fn starts_published(&self, recipe: &MethodRecord) -> bool {
        TrainConfig::from_values(&recipe.params).is_ok_and(|recipe| recipe.start != Start::Scratch)
    }

    fn rounds(&self, recipe: &MethodRecord) -> usize {
        TrainConfig::from_values(&recipe.params).map_or(1, |recipe| recipe.rounds)
    }

    fn rounds_needed(&self, monitor: &MethodRecord, recipe: &MethodRecord, facts: &Facts) -> usize {
        let window = TrainConfig::from_values(&recipe.params).map_or(1, |recipe| recipe.window);
        let entry = theriac_defenses::find(&monitor.name);
        let defense = entry.and_then(|entry| (entry.check)(&monitor.params, facts).ok());
        defense.map_or(2, |defense| defense.rounds_needed(window).max(2))
    }

    fn estimate(&self, step: &Step, facts: &Facts) -> Cost {
        estimate::cost(step, facts)
    }

    fn run(&self, job: &Job) -> Result<Files, Halt> {
        match job.step.kind {
            StepKind::Poison => Ok(self.poison(job)?),
            StepKind::Train => self.train(job),
            StepKind::Features => Ok(self.features(job)?),
            StepKind::Vet => self.vet(job),
            StepKind::Monitor => self.monitor(job),
            StepKind::Inspect => self.inspect(job),
            StepKind::Repair => self.repair(job),
            StepKind::Evaluate => Ok(self.evaluate(job)?),
            StepKind::Certify => self.certify(job),
        }
    }
}
