//! Inspecting a model, scored against what the attacker wants.

use theriac_core::{Aim, Label, Probe};
use theriac_defenses::InspectContext;
use theriac_lab::{Files, Halt, Job};

use super::Workbench;
use super::inputs::{INSPECT, attack, attack_seeds, defense, defense_seeds, json, refused};

impl Workbench {
    pub(super) fn inspect(&self, job: &Job) -> Result<Files, Halt> {
        let prepared = self.data_of(job)?;
        let model = self.required(job, "model", &prepared)?;
        let (record, defense) = defense(job.step, &prepared)?.ok_or("an inspecting step names its defense")?;
        let seeds = defense_seeds(job.step, &record);
        let exchanged = self.exchanged(job, &prepared)?;
        let recorded = exchanged.as_ref().map(|(recorded, found)| (recorded, found.as_ref().unwrap_or(&model)));
        let context = InspectContext {
            model: &model,
            recorded,
            trusted: &prepared.data.train,
            seeds: &seeds,
            session: job.session,
        };
        let mut found = defense.inspect(&context).map_err(refused)?;
        let attack = attack(job, &prepared)?;
        let probe =
            attack.and_then(|(record, attack)| attack.probe(&prepared.data.test, &attack_seeds(job.step, &record)));
        if let Some(target) = probe.as_ref().and_then(target) {
            let named = f64::from(u8::from(found.flagged.first() == Some(&target)));
            found.metrics.insert("target_named".to_owned(), named);
        }
        Ok(vec![(INSPECT.to_owned(), json(&found))])
    }
}

/// The class that all probed inputs are to become, if it is one.
fn target(probe: &Probe) -> Option<Label> {
    let Aim::Classes(wanted) = &probe.aim else { return None };
    let first = *wanted.first()?;
    (probe.metric == "asr" && wanted.iter().all(|&wanted| wanted == first)).then_some(first)
}
