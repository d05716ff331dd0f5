//! `drift-monitor`: watches a network that is trained again and again, and raises an alarm when something leaves its usual range.
//!
//! The chart of Walter Shewhart: "Economic Control of Quality of Manufactured Product", Van Nostrand 1931, on what monitoring of deployed
//! models looks at: Stephan Rabanser, Stephan Guennemann, Zachary Lipton: "Failing Loudly: An Empirical Study of Methods for Detecting
//! Dataset Shift", NeurIPS 2019, <https://arxiv.org/abs/1810.11953>.
//!
//! # Assumptions
//! The defender sees what arrives in each round, with its labels, and the network that was trained then. It has a few clean, correctly
//! labelled samples; some of them went to the training set under its eyes, its canaries. The first rounds are clean.
//!
//! # Rule
//! ```text
//! for each round t, after the first `window` rounds:
//!   accuracy of class c      = right answers of network t to the trusted samples of c
//!   share of class c         = answers c of network t to all trusted samples
//!   labels of class c        = labels c among what arrived
//!   agreement                = labels of what arrived that network t - 1 gives, too
//!   canaries                 = log of the mean loss of network t on trusted samples that arrived in its window
//!   distance                 = | mean feature of what arrived - mean feature of the trusted samples |_2, features of one network
//! m, s  = mean and standard deviation of a statistic over the first `calibration` of these rounds
//! z     = | x - m | / max(s, r)                  r: what one sample more or less changes at most, in round t and the first `calibration` ones;
//!                                                0 for the last two
//! alarm   if z > t(calibration - 1, 1 - alpha / 2S) sqrt(1 + 1 / calibration)  for any of the S statistics
//! ```
//! That is the prediction interval of one more value, shared out over the S statistics by Bonferroni's rule: of clean rounds, at most `alpha` raise
//! an alarm, if the rounds are independent and their statistics normal. A round in which there is nothing to measure, such as one without a
//! canary, raises no alarm by that statistic; a statistic that cannot be measured in one of the first `calibration` rounds is not watched.
//!
//! # Where this differs from the paper
//! - Shewhart's limits are three standard deviations that are known. Here they are estimated from few rounds, so Student's quantile takes
//!   the place of 3.
//! - Rabanser and others test whole distributions of two samples; this compares their means, in the features of one network only.
//! - Networks that are trained on overlapping windows resemble each other, so that rounds are not independent. How often clean rounds raise an
//!   alarm is measured: as often as `alpha` says, within the intervals (`experiments/drift`).
//!
//! # Verified against
//! 40 charts and their limits by numpy and scipy (`scripts/verify/charts.py`), to 1e-6; a chart by hand; and rounds in which one thing was
//! changed (tests below).
//!
//! # When it fails
//! A backdoor that costs no accuracy changes what the network does on triggered inputs, and of these there are none among the trusted samples.
//! What is changed slowly becomes usual where the chart is set up anew; this one never is. An attacker who is there from the beginning is
//! what it is set up by.

use std::collections::BTreeSet;

use theriac_core::record::{MonitorRecord, MonitoredRound};
use theriac_core::stats::{mean, prediction_limit, standard_deviation};
use theriac_core::{Dataset, Facts, Hook, Matrix, MethodInfo, Paper, Range, SampleId, Values, Verified, config};
use theriac_nn::losses;

use crate::repairing::trusted;
use crate::{Checked, Defense, DefenseEntry, DefenseError, MonitorContext, Round};

config! {
    /// The chart.
    pub struct DriftMonitor {
        /// Size of the trusted set.
        trusted: f64 = 0.05, Range::Above(0.0, 1.0), "of the training set";
        /// How many rounds tell what is usual, after the first ones that fill the window.
        calibration: usize = 10, Range::Whole(2, 1000), "rounds";
        /// How often a clean round may raise an alarm.
        alpha: f64 = 0.01, Range::Above(0.0, 0.5), "of all rounds";
    }
}

/// One statistic over all rounds.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    points: Vec<Option<Point>>,
}

/// A value, and what one sample more or less changes; none where there is nothing to measure.
type Point = (f64, f64);

/// The share of the samples for which `holds`.
fn share(count: usize, holds: impl Fn(usize) -> bool) -> Option<Point> {
    let one = 1.0 / count as f64;
    (count > 0).then(|| ((0..count).filter(|&index| holds(index)).count() as f64 * one, one))
}

fn mean_row(rows: &Matrix) -> Vec<f64> {
    let mut sums = vec![0.0; rows.columns()];
    for row in rows.iter() {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let count = rows.iter().count().max(1) as f64;
    sums.into_iter().map(|sum| sum / count).collect()
}

/// z of every round after the first `calibration` ones; `None` if one of these has no value.
fn chart(points: &[Option<Point>], calibration: usize) -> Option<Vec<f64>> {
    let (usual, watched) = points.split_at(calibration);
    let (values, resolutions): (Vec<f64>, Vec<f64>) =
        usual.iter().copied().collect::<Option<Vec<Point>>>()?.into_iter().unzip();
    let spread = resolutions.into_iter().fold(standard_deviation(&values).unwrap_or(0.0).max(1e-12), f64::max);
    let centre = mean(&values).unwrap_or(0.0);
    let z = |point: &Option<Point>| point.map_or(0.0, |(value, one)| (value - centre).abs() / spread.max(one));
    Some(watched.iter().map(z).collect())
}

impl DriftMonitor {
    /// All statistics of the rounds from `first` on, counted from 0.
    fn series(&self, context: &MonitorContext, known: &Dataset, first: usize) -> Vec<Series> {
        let classes = known.classes().len();
        let rounds = &context.rounds[first..];
        // One network sees all rounds with the same eyes.
        let reference = &context.rounds[first + self.calibration - 1].network;
        let centre = mean_row(&reference.taps(known).0);
        let mut series: Vec<Series> = Vec::new();
        for (at, round) in rounds.iter().enumerate() {
            context.session.progress(at as f64 / rounds.len() as f64);
            let logits = round.network.logits(known);
            let answers = logits.argmax();
            let (arrived, arrived_labels) = (&round.arrived, round.arrived.labels());
            let mut keep = |name: String, point| match series.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push(point),
                None => series.push(Series { name, points: vec![point] }),
            };
            for class in 0..classes {
                let (members, name) = (known.of_class(class as u16), &known.classes()[class]);
                let right = share(members.len(), |member| usize::from(answers[members[member]]) == class);
                keep(format!("accuracy of class {name}"), right);
                keep(format!("share of class {name}"), share(known.len(), |at| usize::from(answers[at]) == class));
                let came = share(arrived.len(), |at| usize::from(arrived_labels[at]) == class);
                keep(format!("labels of class {name}"), came);
            }
            let before = context.rounds[first + at - 1].network.predict(arrived);
            keep("agreement".to_owned(), share(arrived.len(), |at| before[at] == arrived_labels[at]));
            let window = &context.rounds[(first + at + 1).saturating_sub(context.window)..=first + at];
            let ids = |round: &Round| (0..round.arrived.len()).map(|index| round.arrived.id(index)).collect::<Vec<_>>();
            let there: BTreeSet<SampleId> = window.iter().flat_map(ids).collect();
            let canaries: Vec<usize> = (0..known.len()).filter(|&index| there.contains(&known.id(index))).collect();
            let on_canaries = losses(&logits.select(&canaries), &known.select(&canaries).labels());
            // Losses are spread over orders of magnitude.
            keep("canaries".to_owned(), mean(&on_canaries).map(|loss| (loss.max(1e-9).ln(), 0.0)));
            let gap = mean_row(&reference.taps(arrived).0);
            let distance = centre.iter().zip(&gap).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            keep("distance".to_owned(), (!arrived.is_empty()).then_some((distance, 0.0)));
        }
        series
    }
}

impl Defense for DriftMonitor {
    fn monitor(&self, context: &MonitorContext) -> Result<MonitorRecord, DefenseError> {
        // The network before the first round that counts is asked, too.
        let first = context.window.max(1);
        let needed = self.rounds_needed(context.window);
        if context.rounds.len() < needed {
            let message = format!(
                "{} rounds are too few: {first} fill the window, {} tell what is usual, and one has to be watched; at least \
                 {needed} are needed",
                context.rounds.len(),
                self.calibration
            );
            return Err(DefenseError::Infeasible(message));
        }
        let known = trusted(context.trusted, context.seeds, self.trusted);
        let series = self.series(context, &known, first);
        let charts: Vec<(String, Vec<f64>)> = series
            .into_iter()
            .filter_map(|series| Some((series.name, chart(&series.points, self.calibration)?)))
            .collect();
        let limit = prediction_limit(self.calibration, self.alpha / charts.len().max(1) as f64);
        let watched = first + self.calibration..context.rounds.len();
        let rounds = watched.enumerate().filter_map(|(at, round)| {
            let (name, z) = charts.iter().max_by(|(_, a), (_, b)| a[at].total_cmp(&b[at]))?;
            Some(MonitoredRound { round: round + 1, statistic: z[at], worst: name.clone() })
        });
        Ok(MonitorRecord { limit, rounds: rounds.collect(), ..MonitorRecord::default() })
    }

    fn rounds_needed(&self, window: usize) -> usize {
        window.max(1) + self.calibration + 1
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "drift-monitor",
        &[Hook::Monitor],
        "Raises an alarm when a network that is trained again and again leaves its usual range.",
        &[Paper {
            cite: "Rabanser et al. 2019",
            title: "Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift",
            link: "https://arxiv.org/abs/1810.11953",
        }],
        DriftMonitor::PARAMS,
    )
    .at_version(2)
    .verified(&[Verified {
        against: "numpy and scipy on 40 charts (scripts/verify/charts.py); rounds whose labels were changed by hand",
        agreement: "limits and deviations to 1e-6; the changed round raises the first alarm, equal rounds raise none",
    }]),
    check,
};

fn check(values: &Values, _: &Facts) -> Checked {
    Ok(Box::new(DriftMonitor::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{stripes, toy_network};
    use theriac_core::{ChangeSet, Role, Seeds, Stage};
    use theriac_train::{TrainConfig, TrainingSet, train};

    fn monitor(calibration: usize) -> DriftMonitor {
        DriftMonitor { trusted: 1.0, calibration, alpha: 0.01 }
    }

    /// Rounds of 60 samples, a network trained on each; `change` is made to what arrives.
    fn rounds(count: usize, change: impl Fn(usize, Dataset) -> Dataset) -> Vec<Round> {
        let recipe = TrainConfig { epochs: 3, batch: 20, ..TrainConfig::default() }.into();
        let made = (1..=count).map(|round| {
            let arrived = change(round, stripes(60, 100 + round as u64));
            let set = TrainingSet { train: &arrived, test: &arrived, probe: None };
            let network = train(toy_network(&arrived), set, &recipe, &Seeds::new(round as u64), &()).unwrap().network;
            Round { arrived, network }
        });
        made.collect()
    }

    fn watch(monitor: &DriftMonitor, rounds: &[Round]) -> Result<MonitorRecord, DefenseError> {
        let (data, seeds) = (stripes(60, 1), Seeds::new(1));
        let context = MonitorContext { rounds, window: 1, trusted: &data, seeds: &seeds, session: &() };
        monitor.monitor(&context)
    }

    #[test]
    fn a_chart_by_hand() {
        // Mean 3, standard deviation 1.
        let of = |points: &[Point], calibration| {
            chart(&points.iter().copied().map(Some).collect::<Vec<_>>(), calibration).unwrap()
        };
        assert_eq!(of(&[(2.0, 0.5), (3.0, 0.5), (4.0, 0.5), (6.0, 0.5), (2.5, 0.5)], 3), [3.0, 0.5]);
        // What never changed is measured by what one sample would have changed, then or now.
        assert_eq!(of(&[(1.0, 0.25), (1.0, 0.125), (0.5, 0.125), (0.5, 0.5)], 2), [2.0, 1.0]);
        assert_eq!(share(8, |at| at < 6), Some((0.75, 0.125)));
        // What cannot be measured raises no alarm, and is not watched if it could not be from the beginning.
        assert_eq!(share(0, |_| true), None);
        assert_eq!(chart(&[Some((1.0, 0.5)), Some((2.0, 0.5)), None], 2), Some(vec![0.0]));
        assert_eq!(chart(&[Some((1.0, 0.5)), None, Some((2.0, 0.5))], 2), None);
    }

    #[test]
    fn charts_and_limits_are_those_of_scipy() {
        for line in include_str!("../tests/golden/charts.csv").lines().skip(1) {
            let numbers: Vec<f64> = line.split(',').map(|number| number.parse().unwrap()).collect();
            let (calibration, rest) = (numbers[0] as usize, &numbers[3..]);
            // The values, the limit, a deviation for each value after the calibration.
            let count = (rest.len() - 1 + calibration) / 2;
            let (values, expected) = rest.split_at(count);
            let points: Vec<Option<Point>> = values.iter().map(|value| Some((*value, numbers[1]))).collect();
            let found = chart(&points, calibration).unwrap();
            let limit = prediction_limit(calibration, numbers[2]);
            for (found, expected) in std::iter::once(limit).chain(found).zip(expected) {
                assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{line}: {found} {expected}");
            }
        }
    }

    #[test]
    fn equal_rounds_raise_no_alarm_and_a_changed_one_is_named() {
        let calm = rounds(12, |_, data| data);
        let seen = watch(&monitor(6), &calm).unwrap();
        // 3 for each of three classes, and three more.
        assert_eq!(seen.limit, prediction_limit(6, 0.01 / 12.0));
        assert_eq!(seen.rounds.iter().map(|round| round.round).collect::<Vec<_>>(), [8, 9, 10, 11, 12]);
        assert_eq!(seen.alarms().count(), 0, "{:?}", seen.rounds);

        let flipped = rounds(12, |round, data| match round {
            11 => {
                let mut changes = ChangeSet::new("test", Role::Annotator, Stage::Label);
                (0..data.len()).for_each(|index| changes.relabel(&data, index, (data.label(index) + 1) % 3));
                changes.apply(&data).unwrap()
            }
            _ => data,
        });
        let seen = watch(&monitor(6), &flipped).unwrap();
        assert_eq!(seen.alarms().next(), Some(11), "{:?}", seen.rounds);
    }

    #[test]
    fn too_few_rounds_are_refused_with_how_many_are_needed() {
        let error = watch(&monitor(10), &rounds(3, |_, data| data)).unwrap_err().to_string();
        assert!(error.contains("3 rounds are too few") && error.contains("at least 12 are needed"), "{error}");
    }
}
