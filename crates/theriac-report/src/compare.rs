//! The comparisons that a config asks for: methods against each other, paired by seed, corrected for their number.

use std::collections::BTreeMap;

use serde::Serialize;
use theriac_core::record::{CellRecord, CompareRecord, MethodRecord, filter_key};
use theriac_core::stats::{Paired, holm, paired_t, seeds_needed};

use crate::ReportError;
use crate::group::{Group, distinct, groups, is_reference, matches, unique};
use crate::names::Names;
use crate::rows::{self, PART_COLUMNS, json, number, part_values, parts};
use crate::spread::CONFIDENCE;
use crate::words::{difference_words, metric_title, p_words, seeds_words};

/// A difference holds if its corrected p value is at most this.
pub const LEVEL: f64 = 0.05;
/// The chance of finding a difference that [`Comparison::seeds_needed`] asks for.
pub const POWER: f64 = 0.8;

/// Two methods compared by one metric, where everything else is equal: the second minus the first, seed by seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The experiment's name.
    pub experiment: String,
    /// What is compared: `attack`, `defense` or `model`.
    pub of: String,
    /// What is equal, by name: `dataset`, `model`, `train`, `attack`, `defense`, but for what is compared.
    pub condition: BTreeMap<&'static str, MethodRecord>,
    /// The condition in words, as far as it tells the comparisons of the experiment apart.
    pub place: String,
    /// The two methods.
    pub methods: [MethodRecord; 2],
    /// The methods in words, with those parameters that tell them from their namesakes.
    pub names: [String; 2],
    /// The metric's standard name.
    pub metric: String,
    /// The number of seeds at which both were measured.
    pub n: usize,
    /// The means over these seeds; absent without any.
    pub means: Option<[f64; 2]>,
    /// The difference between the second and the first with its interval and p value; absent for fewer than two seeds.
    pub test: Option<Paired>,
    /// The p value by Holm's correction for all tests of the experiment.
    pub p_holm: Option<f64>,
    /// The number of seeds with which the test, taken alone, would find this difference at this spread with a probability of
    /// 80 %. Absent if no number would, or more than a million.
    pub seeds_needed: Option<usize>,
}

impl Comparison {
    /// Whether the methods differ beyond what their number of seeds and the number of tests leave to chance.
    pub fn holds(&self) -> bool {
        self.p_holm.is_some_and(|p| p <= LEVEL)
    }

    /// The second minus the first.
    pub fn difference(&self) -> Option<f64> {
        let means = self.means.map(|[first, second]| second - first);
        self.test.map_or(means, |test| Some(test.difference.mean))
    }

    /// The result in words, without its place.
    pub fn sentence(&self) -> String {
        let (title, seeds) = (metric_title(&self.metric), seeds_words(self.n));
        let [first, second] = &self.names;
        let (Some(test), Some(p)) = (self.test, self.p_holm) else {
            return match self.difference() {
                None => format!("{title}: there is no seed at which both {first} and {second} were measured."),
                Some(difference) => {
                    let size = difference_words(&self.metric, difference.abs(), None);
                    format!(
                        "{title}: {second} and {first} lie {size} apart ({seeds}), which says nothing of other seeds."
                    )
                }
            };
        };
        // The higher one is named first, so that the difference is positive.
        let interval = test.difference.low.zip(test.difference.high);
        let (higher, lower, interval) = match test.difference.mean >= 0.0 {
            true => (second, first, interval),
            false => (first, second, interval.map(|(low, high)| (-high, -low))),
        };
        let size = difference_words(&self.metric, test.difference.mean.abs(), interval);
        if self.holds() {
            return format!("{title}: {higher} lies {size} above {lower} ({}, {seeds}).", p_words(p));
        }
        let rest = match self.seeds_needed {
            _ if test.difference.mean == 0.0 => "their means are equal".to_owned(),
            None => "not even a million seeds would tell".to_owned(),
            Some(needed) if needed <= self.n => {
                format!("alone the difference would count ({}), among so many tests it does not", p_words(test.p))
            }
            Some(needed) => format!("alone, at this spread, it would take about {needed} seeds"),
        };
        let p = p_words(p);
        format!(
            "{title}: {higher} and {lower} cannot be told apart: the first lies {size} higher ({p}, {seeds}); {rest}."
        )
    }
}

/// Carries out `compares` on `cells`: a row for each condition, each pair of methods, and each metric that either of them has.
/// Pairs without numbers on both sides are left out, and `n` says how many are left.
///
/// Methods of one name are not compared with each other. Where both names sweep a parameter, such as the `rate`, through the same
/// values, it belongs to the condition. A control that matches a filter is compared with that one among the filters.
pub fn comparisons(cells: &[CellRecord], compares: &[CompareRecord]) -> Vec<Comparison> {
    let groups = groups(cells);
    let mut rows = unique(compares.iter().flat_map(|compare| of_one(&groups, compare)));
    for experiment in unique(compares.iter().map(|compare| &compare.experiment)) {
        let mut own: Vec<_> =
            rows.iter_mut().filter(|row| row.experiment == *experiment && row.test.is_some()).collect();
        let p: Vec<f64> = own.iter().filter_map(|row| Some(row.test?.p)).collect();
        for (row, adjusted) in own.iter_mut().zip(holm(&p)) {
            row.p_holm = Some(adjusted);
        }
    }
    rows
}

/// A group's part called `name`.
fn part<'a>(group: &Group<'a>, name: &str) -> Option<&'a MethodRecord> {
    parts(group.first()).into_iter().find(|(part, _)| *part == name).map(|(_, method)| method)
}

/// All of its parts but the one called `of`.
fn condition<'a>(group: &Group<'a>, of: &str) -> Vec<(&'static str, &'a MethodRecord)> {
    parts(group.first()).into_iter().filter(|(name, _)| *name != of).collect()
}

fn of_one(groups: &[Group], compare: &CompareRecord) -> Vec<Comparison> {
    let neighbours: Vec<&Group> =
        groups.iter().filter(|group| group.first().experiment == compare.experiment).collect();
    let place =
        |group: &Group| compare.names.iter().position(|name| part(group, &compare.of).is_some_and(|m| m.name == *name));
    let mut own: Vec<&Group> = neighbours.iter().copied().filter(|group| place(group).is_some()).collect();
    own.sort_by_key(|group| place(group));
    let names = Names::of(neighbours.iter().map(|group| group.first()));

    let mut rows = Vec::new();
    for here in unique(neighbours.iter().map(|group| condition(group, &compare.of))) {
        let equal: Vec<&Group> = own.iter().copied().filter(|group| condition(group, &compare.of) == here).collect();
        let methods: Vec<&MethodRecord> = equal.iter().filter_map(|group| part(group, &compare.of)).collect();
        for (index, (first, a)) in equal.iter().zip(&methods).enumerate() {
            for (second, b) in equal.iter().zip(&methods).skip(index + 1).filter(|(_, b)| is_fair(a, b, &methods)) {
                let metrics = compare.metrics.iter().filter(|metric| applies(first, second, metric));
                rows.extend(metrics.map(|metric| {
                    let pairs: Vec<(f64, f64)> = second.pairs(metric, first, metric).map(|(b, a)| (a, b)).collect();
                    let test = paired_t(&pairs, CONFIDENCE);
                    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
                    Comparison {
                        experiment: compare.experiment.clone(),
                        of: compare.of.clone(),
                        condition: here.iter().map(|(name, method)| (*name, (*method).clone())).collect(),
                        place: names.place(here.iter().copied()),
                        methods: [(*a).clone(), (*b).clone()],
                        names: [a, b].map(|method| names.method(&compare.of, method)),
                        metric: metric.clone(),
                        n: pairs.len(),
                        means: (!pairs.is_empty()).then(|| [mean(|pair| pair.0), mean(|pair| pair.1)]),
                        test,
                        p_holm: None,
                        seeds_needed: test
                            .and_then(|test| seeds_needed(test.difference.mean, test.deviation, LEVEL, POWER)),
                    }
                }));
            }
        }
    }
    rows
}

/// Whether a difference between `a` and `b` is one between their names.
fn is_fair(a: &MethodRecord, b: &MethodRecord, methods: &[&MethodRecord]) -> bool {
    let namesakes =
        |of: &MethodRecord| methods.iter().copied().filter(|method| method.name == of.name).collect::<Vec<_>>();
    let (of_a, of_b) = (namesakes(a), namesakes(b));
    let same_sweep = |key: &str| {
        let values = distinct(&of_a, key);
        values.len() > 1 && values == distinct(&of_b, key)
    };
    let level = a.params.keys().all(|key| !same_sweep(key) || a.params.get(key) == b.params.get(key));
    let fits = |control: &MethodRecord, controls: &[&MethodRecord], other: &MethodRecord| {
        let (Some(filter), false) = (matches(control), is_reference(other)) else { return true };
        let key = filter_key(other, methods);
        filter == key || !controls.iter().any(|control| matches(control) == Some(&key))
    };
    a.name != b.name && level && fits(a, &of_a, b) && fits(b, &of_b, a)
}

/// Whether `metric` says anything here: one of the two has it, or one of them has no numbers at all, which is worth a row.
fn applies(first: &Group, second: &Group, metric: &str) -> bool {
    let both = [first, second];
    both.iter().any(|group| !group.values(metric).is_empty() || group.ok().next().is_none())
}

const NUMBERS: [&str; 14] = [
    "a",
    "a_params",
    "b",
    "b_params",
    "metric",
    "n",
    "mean_a",
    "mean_b",
    "difference",
    "ci_low",
    "ci_high",
    "sd",
    "p",
    "p_holm",
];

/// The rows of `comparisons.csv`. What is compared stands in `a` and `b`, and is empty among the other columns; absent numbers are
/// empty too.
///
/// # Errors
/// When the CSV writer fails.
pub fn comparisons_csv(comparisons: &[Comparison]) -> Result<Vec<u8>, ReportError> {
    let header = ["experiment", "of"].into_iter().chain(PART_COLUMNS).chain(NUMBERS).chain(["seeds_needed"]);
    let row = |row: &Comparison| {
        let [a, b] = &row.methods;
        let interval = row.test.map(|test| test.difference);
        let mut values = vec![row.experiment.clone(), row.of.clone()];
        values.extend(part_values(|part| row.condition.get(part)));
        values.extend([
            a.name.clone(),
            json(&a.params),
            b.name.clone(),
            json(&b.params),
            row.metric.clone(),
            row.n.to_string(),
            number(row.means.map(|means| means[0])),
            number(row.means.map(|means| means[1])),
            number(row.difference()),
            number(interval.and_then(|interval| interval.low)),
            number(interval.and_then(|interval| interval.high)),
            number(row.test.map(|test| test.deviation)),
            number(row.test.map(|test| test.p)),
            number(row.p_holm),
            row.seeds_needed.map(|needed| needed.to_string()).unwrap_or_default(),
        ]);
        values
    };
    rows::csv(header, comparisons.iter().map(row))
}

#[cfg(test)]
mod tests;
