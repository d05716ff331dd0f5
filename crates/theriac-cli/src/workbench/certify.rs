//! Answers with certificates, measured like those of any model.

use theriac_core::record::{CertifiedPoint, EvaluationRecord};
use theriac_core::{Dataset, Label};
use theriac_defenses::{Certificate, CertifyContext};
use theriac_lab::{Files, Halt, Job};
use theriac_train::TrainConfig;

use super::Workbench;
use super::evaluate::{keep, measure_answers, measure_probe};
use super::inputs::{attack, attack_seeds, defense, defense_seeds, faults, json, refused, training_set};

impl Workbench {
    pub(super) fn certify(&self, job: &Job) -> Result<Files, Halt> {
        let prepared = self.data_of(job)?;
        let (data, test) = (training_set(job, &prepared)?, &prepared.data.test);
        let (record, defense) = defense(job.step, &prepared)?.ok_or("a certifying step names its defense")?;
        let values = job.step.train.as_ref().ok_or("a certifying step names its recipe")?;
        let recipe = TrainConfig::check(&values.params, &prepared.facts).map_err(faults)?;
        let model = job.step.model.as_ref().ok_or("a certifying step names its model")?;
        let seeds = defense_seeds(job.step, &record);
        let mut network = self.fresh(model, &prepared, &seeds)?;
        let attack = attack(job, &prepared)?;
        if let Some((_, attack)) = &attack {
            network = attack.build(network);
        }
        let probe = attack.as_ref().and_then(|(record, attack)| attack.probe(test, &attack_seeds(job.step, record)));
        let inputs: Vec<&Dataset> = std::iter::once(test).chain(probe.as_ref().map(|probe| &probe.inputs)).collect();
        let context = CertifyContext {
            data: &data,
            network: &network,
            recipe: &recipe,
            inputs: &inputs,
            seeds: &seeds,
            session: job.session,
        };
        let certificates = defense.certify(&context).map_err(refused)?;
        let victim_class = attack.and_then(|(_, attack)| attack.victim_class());
        let mut report = measure(&certificates[0], test, victim_class);
        if let Some(probe) = &probe {
            let predicted: Vec<Label> = certificates[1].iter().map(|certificate| certificate.class).collect();
            measure_probe(&mut report, probe, &predicted);
        }
        Ok(vec![("evaluation.json".to_owned(), json(&report))])
    }
}

/// Accuracy, and what of it is certified.
fn measure(certificates: &[Certificate], test: &Dataset, victim_class: Option<Label>) -> EvaluationRecord {
    let predicted: Vec<Label> = certificates.iter().map(|answer| answer.class).collect();
    let mut radii: Vec<Option<usize>> = certificates
        .iter()
        .zip(test.labels())
        .map(|(answer, label)| (answer.class == label).then_some(answer.radius))
        .collect();
    radii.sort_unstable();
    let median = radii.get(radii.len().saturating_sub(1) / 2).copied().flatten();
    let mut report = measure_answers(&predicted, test, victim_class);
    report.certified = certified_curve(&radii);
    keep(&mut report, "median_certified_radius", median.map(|radius| radius as f64));
    report
}

/// The certified accuracy wherever it changes; `None` is a wrong answer, and the radii ascend.
fn certified_curve(radii: &[Option<usize>]) -> Vec<CertifiedPoint> {
    let share = |at: usize| (radii.len() - at) as f64 / radii.len() as f64;
    let mut curve = Vec::new();
    let wrong = radii.partition_point(Option::is_none);
    let mut at = wrong;
    while let Some(&Some(radius)) = radii.get(at) {
        // All that are certified for less fall away at this budget.
        curve.push(CertifiedPoint { budget: radius, accuracy: share(at) });
        at += radii[at..].partition_point(|other| *other <= Some(radius));
    }
    if curve.first().is_none_or(|point| point.budget > 0) && wrong < radii.len() {
        curve.insert(0, CertifiedPoint { budget: 0, accuracy: share(wrong) });
    }
    curve
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_counts_right_answers_that_hold() {
        let radii = [None, Some(2), Some(2), Some(5)];
        let points: Vec<(usize, f64)> =
            certified_curve(&radii).iter().map(|point| (point.budget, point.accuracy)).collect();
        assert_eq!(points, [(0, 0.75), (2, 0.75), (5, 0.25)]);
        assert!(certified_curve(&[]).is_empty() && certified_curve(&[None]).is_empty());
        assert_eq!(certified_curve(&[Some(0)])[0], CertifiedPoint { budget: 0, accuracy: 1.0 });
    }
}
