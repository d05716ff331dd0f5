//! Repairing a model with a small trusted set.

use theriac_defenses::RepairContext;
use theriac_lab::{Files, Job};
use theriac_train::TrainConfig;

use super::Workbench;
use super::inputs::{WEIGHTS, defense, faults, seeds, text};

impl Workbench {
    pub(super) fn repair(&self, job: &Job) -> Result<Files, String> {
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
            progress: job.progress,
        };
        let repaired = defense.repair(&context).map_err(text)?;
        Ok(vec![(WEIGHTS.to_owned(), repaired.encode())])
    }
}
