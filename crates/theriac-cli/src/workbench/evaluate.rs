//! Measuring a model: on the clean test set, on the attack's probe, and behind a guard if the defense is one.

use std::collections::BTreeMap;

use theriac_core::metrics;
use theriac_core::record::EvaluationRecord;
use theriac_core::{Dataset, Label, Probe};
use theriac_defenses::{Guard, GuardContext};
use theriac_lab::{Files, Job};
use theriac_nn::Network;

use super::Workbench;
use super::inputs::{attack, defense, json, seeds, text};

/// A guard refuses an input when its score is above the guard's threshold.
struct Guarded<'a> {
    guard: &'a dyn Guard,
}

impl Guarded<'_> {
    fn screen(&self, inputs: &Dataset) -> (Vec<f64>, Vec<bool>) {
        let scores = self.guard.scores(inputs);
        let refused = scores.iter().map(|&score| score > self.guard.threshold()).collect();
        (scores, refused)
    }
}

impl Workbench {
    pub(super) fn evaluate(&self, job: &Job) -> Result<Files, String> {
        let prepared = self.data_of(job)?;
        let test = &prepared.data.test;
        let model = self.required(job, "model", &prepared)?;
        let attack = attack(job, &prepared)?;
        let probe = attack.as_ref().and_then(|(_, attack)| attack.probe(test));
        let victim_class = attack.as_ref().and_then(|(_, attack)| attack.victim_class());

        let defense = defense(job.step, &prepared)?;
        let guard_seeds = seeds(job.step).child("defense/guard");
        let context = GuardContext { model: &model, trusted: &prepared.data.train, seeds: &guard_seeds };
        let guard = defense.as_ref().map(|(_, defense)| defense.guard(&context)).transpose().map_err(text)?;
        let guarded = guard.as_ref().map(|guard| Guarded { guard: guard.as_ref() });
        (job.progress)(0.2);

        let mut report = measure(&model, test, victim_class);
        if let Some(probe) = &probe {
            let predictions = model.predict(&probe.inputs);
            measure_probe(&mut report, probe, &predictions, &vec![false; predictions.len()]);
        }
        (job.progress)(0.4);
        if let Some(guarded) = guarded {
            measure_guarded(&mut report, &guarded, &model, test, probe.as_ref());
        }
        Ok(vec![("evaluation.json".to_owned(), json(&report))])
    }
}

fn measure(model: &Network, test: &Dataset, victim_class: Option<Label>) -> EvaluationRecord {
    let logits = model.logits(test);
    let (predictions, labels) = (logits.argmax(), test.labels());
    let losses = theriac_nn::losses(&logits, &labels);
    let confusion = metrics::confusion(&predictions, &labels, test.classes().len());
    let mut found = BTreeMap::new();
    let mut keep = |name: &str, value: Option<f64>| value.map(|value| found.insert(name.to_owned(), value));
    keep("clean_accuracy", metrics::accuracy(&predictions, &labels));
    keep("test_loss", (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64));
    keep("class_recall", victim_class.and_then(|class| metrics::recall(&confusion, class)));
    EvaluationRecord { metrics: found, confusion, ..EvaluationRecord::default() }
}

/// Success counts inputs that were let through and go where the attacker wants; a refused input is neither a success nor correct.
fn measure_probe(report: &mut EvaluationRecord, probe: &Probe, predictions: &[Label], refused: &[bool]) {
    let count = predictions.len().max(1) as f64;
    let passed = || (0..predictions.len()).filter(|&index| !refused[index]);
    let hits = passed().filter(|&index| probe.succeeds(index, predictions[index])).count();
    report.metrics.insert(probe.metric.to_owned(), hits as f64 / count);
    report.success = Some(probe.metric.to_owned());
    if probe.metric == "asr" {
        let correct = passed().filter(|&index| predictions[index] == probe.inputs.label(index)).count();
        report.metrics.insert("robust_accuracy".to_owned(), correct as f64 / count);
    }
}

/// The guard's own detection figures, and accuracy and success with it in place. A refused clean image counts as a wrong answer.
fn measure_guarded(
    report: &mut EvaluationRecord,
    guarded: &Guarded,
    model: &Network,
    test: &Dataset,
    probe: Option<&Probe>,
) {
    let (mut scores, mut refused) = guarded.screen(test);
    let (predictions, labels) = (model.predict(test), test.labels());
    let right = (0..test.len()).filter(|&index| !refused[index] && predictions[index] == labels[index]).count();
    report.metrics.insert("clean_accuracy".to_owned(), right as f64 / test.len().max(1) as f64);
    let mut triggered = vec![false; test.len()];
    if let Some(probe) = probe {
        let (probe_scores, probe_refused) = guarded.screen(&probe.inputs);
        measure_probe(report, probe, &model.predict(&probe.inputs), &probe_refused);
        triggered.extend(vec![true; probe_scores.len()]);
        scores.extend(probe_scores);
        refused.extend(probe_refused);
    }
    let rates = metrics::Detection::of(&refused, &triggered);
    let found = [("tpr", rates.tpr), ("fpr", rates.fpr), ("auroc", metrics::auroc(&scores, &triggered))];
    let found = found.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)));
    report.metrics.extend(found);
    report.roc = metrics::roc(&scores, &triggered);
}
