//! Vetting the training data, scored against what the attacker really did.

use std::collections::BTreeMap;

use theriac_core::metrics;
use theriac_core::record::VetRecord;
use theriac_defenses::VetContext;
use theriac_lab::{Files, Job};

use super::Workbench;
use super::inputs::{CHANGES, changes, defense, json, seeds, text, training_set, truth};

impl Workbench {
    pub(super) fn vet(&self, job: &Job) -> Result<Files, String> {
        let prepared = self.data_of(job)?;
        let data = training_set(job, &prepared)?;
        let truth = truth(job)?;
        let victim = self.required(job, "victim", &prepared)?;
        job.session.progress(0.1);
        let (features, logits) = victim.taps(&data);
        job.session.progress(0.5);
        let (record, defense) = defense(job.step, &prepared)?.ok_or("a vetting step names its defense")?;
        let seeds = seeds(job.step).child(&format!("defense/{}", record.name));
        let matched = changes(job, "matches")?.map(|changes| changes.touched().len());
        let probabilities = logits.softmax();
        let context = VetContext {
            data: &data,
            features: &features,
            probabilities: &probabilities,
            seeds: &seeds,
            truth: &truth,
            matched,
        };
        let verdict = defense.vet(&context).map_err(text)?;
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
        let report = VetRecord { metrics: found, roc, scores: verdict.scores };
        Ok(vec![(CHANGES.to_owned(), verdict.changes.encode()), ("vet.json".to_owned(), json(&report))])
    }
}
