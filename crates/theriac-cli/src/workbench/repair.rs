//! Repairing a model with a small trusted set.

use theriac_core::record::InspectRecord;
use theriac_defenses::RepairContext;
use theriac_lab::{Files, Halt, Job};
use theriac_train::TrainConfig;

use super::Workbench;
use super::inputs::{INSPECT, changes, defense, defense_seeds, faults, files_of, poisoned_set, read, refused, text};

impl Workbench {
    pub(super) fn repair(&self, job: &Job) -> Result<Files, Halt> {
        let prepared = self.data_of(job)?;
        let model = self.required(job, "model", &prepared)?;
        let (record, defense) = defense(job.step, &prepared)?.ok_or("a repairing step names its defense")?;
        let values = job.step.train.as_ref().ok_or("a repairing step names the recipe that it varies")?;
        let recipe = TrainConfig::check(&values.params, &prepared.facts).map_err(faults)?;
        let inspection = read(job, "inspect", INSPECT)?;
        let inspection: Option<InspectRecord> =
            inspection.map(|bytes| serde_json::from_slice(&bytes)).transpose().map_err(text)?;
        let removed = match changes(job, "vet")? {
            Some(changes) => {
                let data = poisoned_set(job, &prepared)?;
                let (gone, positions) = (changes.touched(), data.positions());
                data.select(&gone.iter().filter_map(|id| positions.get(id).copied()).collect::<Vec<_>>())
            }
            None => prepared.data.train.select(&[]),
        };
        let recorded =
            self.exchanged(job, &prepared)?.filter(|(_, found)| found.is_none()).map(|(recorded, _)| recorded);
        let context = RepairContext {
            model: &model,
            recorded: recorded.as_ref(),
            trusted: &prepared.data.train,
            removed: &removed,
            inspection: inspection.as_ref(),
            recipe: &recipe,
            seeds: &defense_seeds(job.step, &record),
            session: job.session,
        };
        Ok(files_of(&defense.repair(&context).map_err(refused)?))
    }
}
