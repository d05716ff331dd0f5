//! Repairing a model with a small trusted set.

use theriac_defenses::{DefenseError, RepairContext};
use theriac_lab::{Files, Halt, Job};
use theriac_train::TrainConfig;

use super::Workbench;
use super::inputs::{WEIGHTS, defense, faults, halt, seeds};

impl Workbench {
    pub(super) fn repair(&self, job: &Job) -> Result<Files, Halt> {
        let prepared = self.data_of(job)?;
        let model = self.required(job, "model", &prepared)?;
        let (record, defense) = defense(job.step, &prepared)?.ok_or("a repairing step names its defense")?;
        let values = job.step.train.as_ref().ok_or("a repairing step names the recipe that it varies")?;
        let recipe = TrainConfig::check(&values.params, &prepared.facts).map_err(faults)?;
        let context = RepairContext {
            model: &model,
            trusted: &prepared.data.train,
            recipe: &recipe,
            seeds: &seeds(job.step).child(&format!("defense/{}", record.name)),
            session: job.session,
        };
        let repaired = defense.repair(&context).map_err(|error| match error {
            DefenseError::Train(error) => halt(&error),
            other => other.to_string().into(),
        })?;
        Ok(vec![(WEIGHTS.to_owned(), repaired.encode())])
    }
}
