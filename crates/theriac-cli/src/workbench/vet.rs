//! Vetting the training data, scored against what the attacker really did.

use std::collections::BTreeMap;

use theriac_core::record::VetRecord;
use theriac_core::{Seeds, Trail, metrics};
use theriac_defenses::{Past, VetContext};
use theriac_lab::{Files, Halt, Job};
use theriac_train::{Rounds, TrainConfig};

use super::Workbench;
use super::features::seen;
use super::inputs::{CHANGES, attack, changes, defense, defense_seeds, faults, json, poisoned_set, refused, truth};

impl Workbench {
    pub(super) fn vet(&self, job: &Job) -> Result<Files, Halt> {
        let prepared = self.data_of(job)?;
        let data = poisoned_set(job, &prepared)?;
        let truth = truth(job)?;
        let victim = self.required(job, "victim", &prepared)?;
        let (record, defense) = defense(job.step, &prepared)?.ok_or("a vetting step names its defense")?;
        let (features, logits) = seen(job)?;
        let values = job.step.train.as_ref().ok_or("a vetting step names the victim's recipe")?;
        let recipe = TrainConfig::check(&values.params, &prepared.facts).map_err(faults)?;
        let seeds = defense_seeds(job.step, &record);
        let matched = changes(job, "matches")?.map(|changes| changes.touched().len());
        let probabilities = logits.softmax();
        let attack = attack(job, &prepared)?;
        let rounds = Rounds::new(&recipe, &Seeds::new(job.step.seed));
        let past = Past {
            before: &prepared.data.train,
            changes: &truth,
            threat: attack.as_ref().and_then(|(record, _)| theriac_attacks::threat_of(record)),
            trail: attack.as_ref().map_or(Trail::Signed, |(_, attack)| attack.trail(&truth)),
            round_of: &|id| rounds.of(id),
        };
        let context = VetContext {
            data: &data,
            features: &features,
            probabilities: &probabilities,
            seeds: &seeds,
            trusted: &prepared.data.train,
            victim: &victim,
            recipe: &recipe,
            session: job.session,
            past: Some(past),
            truth: &truth,
            matched,
        };
        let verdict = defense.vet(&context).map_err(refused)?;
        let (touched, flagged) = (truth.touched(), verdict.changes.touched());
        let poisoned: Vec<bool> = (0..data.len()).map(|index| touched.contains(&data.id(index))).collect();
        let flags: Vec<bool> = (0..data.len()).map(|index| flagged.contains(&data.id(index))).collect();
        let rates = metrics::Detection::of(&flags, &poisoned);
        let mut found = BTreeMap::new();
        let mut keep = |name: &str, value: Option<f64>| value.map(|value| found.insert(name.to_owned(), value));
        keep("tpr", rates.tpr);
        keep("fpr", rates.fpr);
        keep("auroc", metrics::auroc(&verdict.scores, &poisoned));
        keep("average_precision", metrics::average_precision(&verdict.scores, &poisoned));
        keep("flagged", Some(flagged.len() as f64 / data.len().max(1) as f64));
        let roc = metrics::roc(&verdict.scores, &poisoned);
        let histogram = metrics::score_histogram(&verdict.scores, &poisoned);
        let report = VetRecord { metrics: found, roc, scores: verdict.scores, histogram };
        Ok(vec![(CHANGES.to_owned(), verdict.changes.encode()), ("vet.json".to_owned(), json(&report))])
    }
}
