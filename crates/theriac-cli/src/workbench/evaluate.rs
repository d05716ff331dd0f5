//! Measuring a model: on the clean test set, on the attack's probe, and behind a guard if the defense is one.

use theriac_core::metrics;
use theriac_core::record::EvaluationRecord;
use theriac_core::{Dataset, Label, Matrix, Probe};
use theriac_defenses::{Guard, GuardContext};
use theriac_lab::{Files, Job};
use theriac_nn::Network;

use super::Workbench;
use super::inputs::{attack, attack_seeds, defense, json, seeds, text};

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

/// The metric of probes that carry a trigger: the only inputs that a guard is to find.
const TRIGGERED: &str = "asr";

impl Workbench {
    pub(super) fn evaluate(&self, job: &Job) -> Result<Files, String> {
        let prepared = self.data_of(job)?;
        let test = &prepared.data.test;
        let model = self.required(job, "model", &prepared)?;
        let attack = attack(job, &prepared)?;
        let probe = attack.as_ref().and_then(|(record, attack)| attack.probe(test, &attack_seeds(job.step, record)));
        let victim_class = attack.as_ref().and_then(|(_, attack)| attack.victim_class());

        let defense = defense(job.step, &prepared)?;
        let guard_seeds = seeds(job.step).child("defense/guard");
        let context = GuardContext { model: &model, trusted: &prepared.data.train, seeds: &guard_seeds };
        let guard = defense.as_ref().map(|(_, defense)| defense.guard(&context)).transpose().map_err(text)?;
        let guarded = guard.as_ref().map(|guard| Guarded { guard: guard.as_ref() });
        job.session.progress(0.2);

        let mut report = measure(&model, test, victim_class)?;
        if let Some(probe) = &probe {
            measure_probe(&mut report, probe, &predictions(&model, &probe.inputs)?);
        }
        job.session.progress(0.4);
        if let Some(guarded) = guarded {
            measure_guarded(&mut report, &guarded, &model, test, probe.as_ref(), victim_class)?;
        }
        Ok(vec![("evaluation.json".to_owned(), json(&report))])
    }
}

/// The logits of a model that can be judged: the class of the largest logit means nothing where they are no numbers.
fn logits(model: &Network, data: &Dataset) -> Result<Matrix, String> {
    let logits = model.logits(data);
    let wrong = logits.iter().position(|row| row.iter().any(|logit| !logit.is_finite()));
    wrong.map_or(Ok(logits), |index| Err(format!("the model's outputs for sample {} are not finite", data.id(index).0)))
}

fn predictions(model: &Network, data: &Dataset) -> Result<Vec<Label>, String> {
    Ok(logits(model, data)?.argmax())
}

/// The fraction of the places below `count` where `holds`; `None` if there are none.
fn fraction(count: usize, holds: impl Fn(usize) -> bool) -> Option<f64> {
    let hits = (0..count).filter(|&index| holds(index)).count();
    (count > 0).then(|| hits as f64 / count as f64)
}

/// Writes `value` in place of what the report has under `name`; what could not be measured is absent.
pub(super) fn keep(report: &mut EvaluationRecord, name: &str, value: Option<f64>) {
    match value {
        Some(value) => drop(report.metrics.insert(name.to_owned(), value)),
        None => drop(report.metrics.remove(name)),
    }
}

fn measure(model: &Network, test: &Dataset, victim_class: Option<Label>) -> Result<EvaluationRecord, String> {
    let logits = logits(model, test)?;
    let losses = theriac_nn::losses(&logits, &test.labels());
    let mut report = measure_answers(&logits.argmax(), test, victim_class);
    keep(&mut report, "test_loss", (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64));
    Ok(report)
}

/// What the answers alone tell.
pub(super) fn measure_answers(predictions: &[Label], test: &Dataset, victim_class: Option<Label>) -> EvaluationRecord {
    let labels = test.labels();
    let confusion = metrics::confusion(predictions, &labels, test.classes().len());
    let recall = victim_class.and_then(|class| metrics::recall(&confusion, class));
    let mut report = EvaluationRecord { confusion, ..EvaluationRecord::default() };
    keep(&mut report, "clean_accuracy", metrics::accuracy(predictions, &labels));
    keep(&mut report, "class_recall", recall);
    report
}

/// What the attacker reaches. A probe without inputs measures nothing.
pub(super) fn measure_probe(report: &mut EvaluationRecord, probe: &Probe, predictions: &[Label]) {
    let Some(success) = probe.success(predictions) else { return };
    keep(report, probe.metric, Some(success));
    report.success = Some(probe.metric.to_owned());
    if probe.metric == TRIGGERED {
        keep(report, "robust_accuracy", metrics::accuracy(predictions, &probe.inputs.labels()));
    }
}

/// The guard's own detection figures, and accuracy and success with it in place. A refused clean image counts as a wrong answer; a refused
/// probe is neither a success nor correct.
fn measure_guarded(
    report: &mut EvaluationRecord,
    guarded: &Guarded,
    model: &Network,
    test: &Dataset,
    probe: Option<&Probe>,
    victim_class: Option<Label>,
) -> Result<(), String> {
    let (mut scores, mut refused) = guarded.screen(test);
    let (predicted, labels) = (predictions(model, test)?, test.labels());
    let right = |index: usize| !refused[index] && predicted[index] == labels[index];
    keep(report, "clean_accuracy", fraction(test.len(), right));
    if let Some(class) = victim_class {
        let members = test.of_class(class);
        keep(report, "class_recall", fraction(members.len(), |member| right(members[member])));
    }
    let mut triggered = vec![false; test.len()];
    if let Some(probe) = probe {
        let (probe_scores, probe_refused) = guarded.screen(&probe.inputs);
        let (predicted, labels) = (predictions(model, &probe.inputs)?, probe.inputs.labels());
        let count = predicted.len();
        let success = fraction(count, |index| !probe_refused[index] && probe.succeeds(index, predicted[index]));
        keep(report, probe.metric, success);
        if probe.metric == TRIGGERED {
            let robust = fraction(count, |index| !probe_refused[index] && predicted[index] == labels[index]);
            keep(report, "robust_accuracy", robust);
            triggered.extend(vec![true; count]);
            scores.extend(probe_scores);
            refused.extend(probe_refused);
        }
    }
    let rates = metrics::Detection::of(&refused, &triggered);
    keep(report, "tpr", rates.tpr);
    keep(report, "fpr", rates.fpr);
    keep(report, "auroc", metrics::auroc(&scores, &triggered));
    report.roc = metrics::roc(&scores, &triggered);
    report.histogram = metrics::score_histogram(&scores, &triggered);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::{Aim, Facts, Seeds, Shape, Values};
    use theriac_nn::{Normalisation, parameters};

    /// Images of one pixel, which is 100 times the label.
    fn data(labels: &[Label]) -> Dataset {
        let shape = Shape { channels: 1, height: 1, width: 1 };
        let classes: Vec<String> = ["a", "b"].map(String::from).into();
        let pixels: Vec<u8> = labels.iter().map(|&label| 100 * label as u8).collect();
        Dataset::new("toy", shape, classes, pixels, labels).unwrap()
    }

    /// A network that answers with the label, or with `logit` for class 0.
    fn model(logit: f32) -> Network {
        let facts = Facts { shape: data(&[]).shape(), classes: 2, train: 1, test: 1, sources: 1 };
        let device = theriac_nn::device::open("cpu").unwrap();
        let values: Values = [("hidden".to_owned(), 1u64.into())].into();
        let normalisation = Normalisation(vec![(0.0, 1.0)]);
        let mut network = Network::named("mlp", &values, &facts, normalisation, &device, &Seeds::new(1)).unwrap();
        let mut parameters = parameters::read(&network.module);
        for (name, parameter) in &mut parameters {
            parameter.values = match name.as_str() {
                name if name.ends_with("head.weight") => vec![0.0, 10.0],
                name if name.ends_with("head.bias") => vec![logit, 0.0],
                name if name.ends_with("weight") => vec![1.0],
                _ => vec![0.0],
            };
        }
        network.module = parameters::write(network.module, &parameters).unwrap();
        network
    }

    /// Refuses the samples with these ids.
    struct Refuses(&'static [u64]);

    impl Guard for Refuses {
        fn scores(&self, inputs: &Dataset) -> Vec<f64> {
            let score = |index| f64::from(u8::from(self.0.contains(&inputs.id(index).0)));
            (0..inputs.len()).map(score).collect()
        }

        fn threshold(&self) -> f64 {
            0.5
        }
    }

    fn probe(metric: &'static str, labels: &[Label], wanted: Label) -> Probe {
        Probe { metric, inputs: data(labels), aim: Aim::Classes(vec![wanted; labels.len()]) }
    }

    fn report(probe: &Probe, guard: Option<&Refuses>) -> EvaluationRecord {
        let (model, test) = (model(1.0), data(&[0, 0, 1, 1]));
        let mut report = measure(&model, &test, Some(0)).unwrap();
        measure_probe(&mut report, probe, &predictions(&model, &probe.inputs).unwrap());
        if let Some(guard) = guard {
            measure_guarded(&mut report, &Guarded { guard }, &model, &test, Some(probe), Some(0)).unwrap();
        }
        report
    }

    fn numbers(report: &EvaluationRecord) -> Vec<(&str, f64)> {
        let told = report.metrics.iter().filter(|(name, _)| *name != "test_loss");
        told.map(|(name, &value)| (name.as_str(), value)).collect()
    }

    #[test]
    fn a_bare_model_is_measured_by_its_answers() {
        let found = report(&probe("asr", &[1, 0, 1, 1], 0), None);
        let expected = [("asr", 0.25), ("class_recall", 1.0), ("clean_accuracy", 1.0), ("robust_accuracy", 1.0)];
        assert_eq!(numbers(&found), expected);
        assert_eq!(found.success.as_deref(), Some("asr"));
    }

    #[test]
    fn a_probe_without_inputs_measures_nothing() {
        for guard in [None, Some(&Refuses(&[]))] {
            let found = report(&probe("asr", &[], 0), guard);
            assert_eq!((found.success.as_ref(), found.metrics.get("asr")), (None, None));
            assert_eq!((found.metrics.get("robust_accuracy"), found.metrics.get("tpr")), (None, None));
        }
    }

    #[test]
    fn what_a_guard_refuses_is_wrong_and_no_success() {
        let found = report(&probe("asr", &[1, 0, 1, 1], 0), Some(&Refuses(&[1])));
        let expected = [
            ("asr", 0.0),
            ("auroc", 0.5),
            ("class_recall", 0.5),
            ("clean_accuracy", 0.75),
            ("fpr", 0.25),
            ("robust_accuracy", 0.75),
            ("tpr", 0.25),
        ];
        assert_eq!(numbers(&found), expected);
    }

    #[test]
    fn inputs_without_a_trigger_are_nothing_for_a_guard_to_find() {
        let found = report(&probe("targeted_success", &[0, 0], 0), Some(&Refuses(&[1])));
        let expected = [("class_recall", 0.5), ("clean_accuracy", 0.75), ("fpr", 0.25), ("targeted_success", 0.5)];
        assert_eq!(numbers(&found), expected);
    }

    #[test]
    fn a_model_without_finite_outputs_is_an_error() {
        for logit in [f32::NAN, f32::INFINITY] {
            let error = measure(&model(logit), &data(&[0, 1]), None).unwrap_err();
            assert_eq!(error, "the model's outputs for sample 0 are not finite");
        }
    }
}
