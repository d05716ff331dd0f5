//! What steps read: earlier steps' files, turned back into change sets, data sets, networks and methods.

use std::sync::Arc;

use serde::Serialize;
use theriac_attacks::Attack;
use theriac_core::record::MethodRecord;
use theriac_core::{ChangeSet, Dataset, ParamError, Role, Seeds, Stage};
use theriac_defenses::{Defense, DefenseError};
use theriac_lab::{Files, Halt, Job, Step};
use theriac_nn::Network;
use theriac_train::TrainError;

use super::{Prepared, Workbench};

pub(super) const CHANGES: &str = "changes.bin";
pub(super) const INSPECT: &str = "inspect.json";
pub(super) const WEIGHTS: &str = "weights.safetensors";
/// What somebody added to the code of the network.
const IMPLANT: &str = "implant.json";
/// What a training left before somebody exchanged its weights.
pub(super) const RECORDED: &str = "recorded.safetensors";

/// Turns any error into the message that the engine records.
pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// How the engine is told of a training that ended early.
pub(super) fn halt(error: &TrainError) -> Halt {
    match error {
        TrainError::Stopped => Halt::Stopped,
        error if error.is_divergence() => Halt::Diverged(error.to_string()),
        error => Halt::Failed(error.to_string()),
    }
}

/// How the engine is told of a defense that could not answer.
pub(super) fn refused(error: DefenseError) -> Halt {
    match error {
        DefenseError::Train(error) => halt(&error),
        other => other.to_string().into(),
    }
}

/// Several faults as one message.
pub(super) fn faults(errors: Vec<ParamError>) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A record as a file.
pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records are plain data")
}

pub(super) fn read(job: &Job, input: &str, file: &str) -> Result<Option<Vec<u8>>, String> {
    let Some(folder) = job.folder(input) else { return Ok(None) };
    let path = folder.join(file);
    std::fs::read(&path).map(Some).map_err(|error| format!("failed to read {}: {error}", path.display()))
}

/// A network as files: its weights, and what somebody added to its code.
pub(super) fn files_of(network: &Network) -> Files {
    let weights = (WEIGHTS.to_owned(), network.encode());
    std::iter::once(weights)
        .chain(network.module.implant().map(|implant| (IMPLANT.to_owned(), json(implant))))
        .collect()
}

/// Whether an input step left this file.
fn has(job: &Job, input: &str, file: &str) -> bool {
    job.folder(input).is_some_and(|folder| folder.join(file).is_file())
}

pub(super) fn changes(job: &Job, input: &str) -> Result<Option<ChangeSet>, String> {
    read(job, input, CHANGES)?.map(|bytes| ChangeSet::decode(&bytes).map_err(text)).transpose()
}

/// The attacker's change set; empty where there was no attack.
pub(super) fn truth(job: &Job) -> Result<ChangeSet, String> {
    Ok(changes(job, "poison")?.unwrap_or_else(|| ChangeSet::new("none", Role::Supplier, Stage::Collect)))
}

/// The training set after the attack and after the defense's cleaning, as far as the job has them.
pub(super) fn training_set(job: &Job, prepared: &Prepared) -> Result<Dataset, String> {
    let data = poisoned_set(job, prepared)?;
    changes(job, "vet")?.map_or(Ok(data.clone()), |changes| changes.apply(&data).map_err(text))
}

/// The training set after the attack.
pub(super) fn poisoned_set(job: &Job, prepared: &Prepared) -> Result<Dataset, String> {
    let clean = &prepared.data.train;
    changes(job, "poison")?.map_or(Ok(clean.clone()), |changes| changes.apply(clean).map_err(text))
}

/// A checked method beside the record that it was made from.
pub(super) type Named<T> = Option<(MethodRecord, Box<T>)>;

/// The attack of this step, or of the poisoning that it stands on.
pub(super) fn attack(job: &Job, prepared: &Prepared) -> Result<Named<dyn Attack>, String> {
    let inherited = job.inputs.get("poison").and_then(|(step, _)| step.attack.as_ref());
    let Some(record) = job.step.attack.as_ref().or(inherited) else { return Ok(None) };
    let entry = theriac_attacks::find(&record.name).ok_or_else(|| format!("there is no attack `{}`", record.name))?;
    let attack = (entry.check)(&record.params, &prepared.facts).map_err(faults)?;
    Ok(Some((record.clone(), attack)))
}

pub(super) fn defense(step: &Step, prepared: &Prepared) -> Result<Named<dyn Defense>, String> {
    let Some(record) = step.defense.as_ref() else { return Ok(None) };
    let entry = theriac_defenses::find(&record.name).ok_or_else(|| format!("there is no defense `{}`", record.name))?;
    let defense = (entry.check)(&record.params, &prepared.facts).map_err(faults)?;
    Ok(Some((record.clone(), defense)))
}

/// The streams of a step. An attacker's surrogate draws from its own, so that it is never the victim's twin.
pub(super) fn seeds(step: &Step) -> Seeds {
    let seeds = Seeds::new(step.seed);
    if step.role.is_empty() { seeds } else { seeds.child(&step.role) }
}

/// The streams of an attack: the same wherever it takes part. Not those of a surrogate's own training.
pub(super) fn attack_seeds(step: &Step, attack: &MethodRecord) -> Seeds {
    Seeds::new(step.seed).child(&format!("attack/{}", attack.name))
}

/// A defense's streams.
pub(super) fn defense_seeds(step: &Step, defense: &MethodRecord) -> Seeds {
    seeds(step).child(&format!("defense/{}", defense.name))
}

impl Workbench {
    /// The data set of a step.
    pub(super) fn data_of(&self, job: &Job) -> Result<Arc<Prepared>, String> {
        self.prepared(&job.step.dataset)
    }

    /// A network with its initial weights.
    pub(super) fn fresh(&self, record: &MethodRecord, prepared: &Prepared, seeds: &Seeds) -> Result<Network, String> {
        let normalisation = prepared.normalisation.clone();
        Network::named(&record.name, &record.params, &prepared.facts, normalisation, &self.device, seeds)
            .map_err(faults)
    }

    /// The network that an input step left.
    pub(super) fn network(&self, job: &Job, input: &str, prepared: &Prepared) -> Result<Option<Network>, String> {
        self.network_in(job, input, WEIGHTS, prepared)
    }

    fn network_in(&self, job: &Job, input: &str, file: &str, prepared: &Prepared) -> Result<Option<Network>, String> {
        let Some(bytes) = read(job, input, file)? else { return Ok(None) };
        let (step, _) = &job.inputs[input];
        let record = step.model.as_ref().ok_or("a trained step names its model")?;
        let mut network = self.fresh(record, prepared, &Seeds::new(0))?.decode(&bytes).map_err(text)?;
        if has(job, input, IMPLANT) {
            let bytes = read(job, input, IMPLANT)?.unwrap_or_default();
            network.module = network.module.with_implant(Some(serde_json::from_slice(&bytes).map_err(text)?));
        }
        Ok(Some(network))
    }

    /// The network that a training begins with, if it begins with one: the attacker's, where one is there who put its own in place of the
    /// published one.
    pub(super) fn published(&self, job: &Job, prepared: &Prepared, attacked: bool) -> Result<Option<Network>, String> {
        let from = if attacked && has(job, "poison", WEIGHTS) { "poison" } else { "start" };
        if job.folder("start").is_some() { self.network(job, from, prepared) } else { Ok(None) }
    }

    /// What was recorded, and what stands in its place: of the model (`None` there), or of the network that it began with.
    pub(super) fn exchanged(
        &self,
        job: &Job,
        prepared: &Prepared,
    ) -> Result<Option<(Network, Option<Network>)>, String> {
        if has(job, "model", RECORDED) {
            let recorded = self.network_in(job, "model", RECORDED, prepared)?;
            return Ok(recorded.map(|recorded| (recorded, None)));
        }
        if has(job, "model", IMPLANT) {
            let model = self.required(job, "model", prepared)?;
            return Ok(Some((Network { module: model.module.with_implant(None), ..model }, None)));
        }
        if !has(job, "poison", WEIGHTS) {
            return Ok(None);
        }
        Ok(self.network(job, "start", prepared)?.zip(self.network(job, "poison", prepared)?.map(Some)))
    }

    /// The same, where the step cannot do without.
    pub(super) fn required(&self, job: &Job, input: &str, prepared: &Prepared) -> Result<Network, String> {
        self.network(job, input, prepared)?.ok_or_else(|| format!("the step needs its input `{input}`"))
    }
}
