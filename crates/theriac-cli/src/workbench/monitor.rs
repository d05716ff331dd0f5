//! Watching a network that is trained again and again, scored against when the attacker really came in.

use std::collections::BTreeMap;

use theriac_core::record::{EpochRecord, MonitorRecord};
use theriac_core::{Seeds, stats};
use theriac_defenses::{MonitorContext, Round};
use theriac_lab::{Files, Halt, Job};
use theriac_train::{Rounds, TrainConfig};

use super::Workbench;
use super::inputs::{attack, defense, defense_seeds, faults, files_of, json, poisoned_set, read, refused, text};
use super::train::weights_of_round;

impl Workbench {
    pub(super) fn monitor(&self, job: &Job) -> Result<Files, Halt> {
        let prepared = self.data_of(job)?;
        let data = poisoned_set(job, &prepared)?;
        let values = job.step.train.as_ref().ok_or("a monitoring step names its recipe")?;
        let recipe = TrainConfig::check(&values.params, &prepared.facts).map_err(faults)?;
        let arrivals = Rounds::new(&recipe, &Seeds::new(job.step.seed));
        let attack = attack(job, &prepared)?;
        let onset = attack.is_some().then_some(recipe.onset);
        let model = job.step.model.as_ref().ok_or("a monitoring step names its model")?;
        let rounds = (1..=arrivals.count()).map(|round| {
            let missing = || format!("the training left no weights of round {round}");
            let weights = read(job, "model", &weights_of_round(round))?.ok_or_else(missing)?;
            let mut network = self.fresh(model, &prepared, &Seeds::new(0))?.decode(&weights).map_err(text)?;
            if let Some((_, attack)) = attack.as_ref().filter(|_| round >= recipe.onset) {
                network = attack.build(network);
            }
            Ok(Round { arrived: arrivals.arrived(&data, round), network })
        });
        let rounds: Vec<Round> = rounds.collect::<Result<_, String>>()?;
        let (record, defense) = defense(job.step, &prepared)?.ok_or("a monitoring step names its defense")?;
        let context = MonitorContext {
            rounds: &rounds,
            window: recipe.window,
            trusted: &prepared.data.train,
            seeds: &defense_seeds(job.step, &record),
            session: job.session,
        };
        let seen = defense.monitor(&context).map_err(refused)?;
        let curve = read(job, "model", "curve.json")?.ok_or("a training leaves its curve")?;
        let curve: Vec<EpochRecord> = serde_json::from_slice(&curve).map_err(text)?;
        let found = MonitorRecord { metrics: measure(&seen, onset, &curve, recipe.window), onset, ..seen };
        // Whoever looks into an alarm finds the attacker if there is one, and goes back to the network before.
        let kept = alarm(&found, onset).map_or(rounds.len(), |alarm| (alarm - 1).max(1));
        let mut files = files_of(&rounds[kept - 1].network);
        files.push(("monitor.json".to_owned(), json(&found)));
        Ok(files)
    }
}

/// The first alarm that is not a false one.
fn alarm(seen: &MonitorRecord, onset: Option<usize>) -> Option<usize> {
    onset.and_then(|onset| seen.alarms().find(|&round| round >= onset))
}

/// How well the monitor did. `curve` has one entry a round.
fn measure(seen: &MonitorRecord, onset: Option<usize>, curve: &[EpochRecord], window: usize) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let mut keep = |name: &str, value: Option<f64>| value.map(|value| metrics.insert(name.to_owned(), value));
    let quiet = |round: usize| onset.is_none_or(|onset| round < onset);
    let watched = seen.rounds.iter().filter(|seen| quiet(seen.round)).count();
    let false_alarms = seen.alarms().filter(|&round| quiet(round)).count();
    keep("false_alarm_rate", (watched > 0).then(|| false_alarms as f64 / watched as f64));
    let Some(onset) = onset else { return metrics };
    let alarm = alarm(seen, Some(onset));
    keep("detected", Some(f64::from(u8::from(alarm.is_some()))));
    keep("detection_delay", alarm.map(|alarm| (alarm - onset) as f64));
    // What the attacker gains over the rounds before it came in; the first ones are not trained on a whole window.
    let before = |value: fn(&EpochRecord) -> Option<f64>| {
        let usual: Vec<f64> =
            curve.iter().filter(|at| at.epoch >= window && at.epoch < onset).filter_map(value).collect();
        stats::mean(&usual)
    };
    let [accuracy, success] = [before(|at| Some(at.test_accuracy)), before(|at| at.attack_success)];
    let damage = |at: &EpochRecord| match at.attack_success {
        Some(now) => (now - success.unwrap_or(0.0)).max(0.0),
        None => accuracy.map_or(0.0, |before| (before - at.test_accuracy).max(0.0)),
    };
    let in_use = curve.iter().filter(|at| at.epoch >= onset && alarm.is_none_or(|alarm| at.epoch < alarm));
    keep("damage_until_alarm", Some(in_use.map(damage).fold(0.0, |sum, damage| sum + damage)));
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::record::MonitoredRound;

    fn seen(statistics: &[(usize, f64)]) -> MonitorRecord {
        let round = |&(round, statistic): &(usize, f64)| MonitoredRound { round, statistic, worst: String::new() };
        MonitorRecord { limit: 3.0, rounds: statistics.iter().map(round).collect(), ..MonitorRecord::default() }
    }

    fn curve(rounds: &[(f64, Option<f64>)]) -> Vec<EpochRecord> {
        let epoch = |(at, &(test_accuracy, attack_success)): (usize, &(f64, Option<f64>))| EpochRecord {
            epoch: at + 1,
            train_loss: 0.0,
            train_accuracy: 0.0,
            test_accuracy,
            attack_success,
            validation_accuracy: None,
        };
        rounds.iter().enumerate().map(epoch).collect()
    }

    #[test]
    fn delay_damage_and_false_alarms_by_hand() {
        let record = seen(&[(4, 1.0), (5, 4.0), (6, 1.0), (7, 2.0), (8, 9.0)]);
        let success = [0.0, 0.0, 0.1, 0.1, 0.1, 0.5, 0.9, 1.0].map(|success| (0.9, Some(success)));
        let metrics = measure(&record, Some(6), &curve(&success), 3);
        // Alarms in 5 (of 4 and 5, before anybody came) and in 8; success was 0.1 before, 0.5 and 0.9 in the two rounds without an alarm.
        assert_eq!((metrics["false_alarm_rate"], metrics["detected"], metrics["detection_delay"]), (0.5, 1.0, 2.0));
        assert!((metrics["damage_until_alarm"] - 1.2).abs() < 1e-12);
        // Where nothing is triggered, what counts is accuracy.
        let accuracy = [0.1, 0.1, 0.8, 0.8, 0.8, 0.7, 0.5, 0.2].map(|accuracy| (accuracy, None));
        let metrics = measure(&record, Some(6), &curve(&accuracy), 3);
        assert!((metrics["damage_until_alarm"] - 0.4).abs() < 1e-12);
    }

    #[test]
    fn without_an_attacker_all_alarms_are_false_and_without_an_alarm_all_damage_is_done() {
        let record = seen(&[(4, 1.0), (5, 4.0), (6, 1.0), (7, 2.0)]);
        let calm = curve(&[(0.9, None); 7]);
        let metrics = measure(&record, None, &calm, 3);
        assert_eq!((metrics.len(), metrics["false_alarm_rate"]), (1, 0.25));
        let success = [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0].map(|success| (0.9, Some(success)));
        let metrics = measure(&record, Some(6), &curve(&success), 3);
        assert_eq!((metrics["detected"], metrics["damage_until_alarm"]), (0.0, 1.5));
        assert!(!metrics.contains_key("detection_delay"));
    }
}
