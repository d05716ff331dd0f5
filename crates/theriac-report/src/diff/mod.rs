//! What differs between two folders of results.

mod study;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use theriac_core::record::{CellRecord, MethodRecord, Outcome, group_key};
use theriac_core::stats::{Paired, holm, paired_t};

use crate::input::Results;
use crate::names::Names;
use crate::rows::parts;
use crate::spread::CONFIDENCE;

/// What differs between two results, here called A and B.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The names of the studies.
    pub names: [String; 2],
    /// What differs in how they came about: version, device, config, data.
    pub study: Vec<Change>,
    /// The number of cells with the same outcome and the same metrics.
    pub equal: usize,
    /// How many of these differ in something else: the address, the curves, the counts.
    pub equal_but_for_details: usize,
    /// Cells that only A has.
    pub only_a: Vec<Cell>,
    /// Cells that only B has.
    pub only_b: Vec<Cell>,
    /// Cells that ended otherwise.
    pub outcomes: Vec<OutcomeChange>,
    /// Metrics that differ in cells that ended alike, cell by cell.
    pub metrics: Vec<MetricChange>,
    /// The same over seeds, for each metric that differs at any of them.
    pub over_seeds: Vec<SeedsChange>,
}

/// One setting that differs; absent where only the other has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Which, such as `config experiment.backdoor.seeds`.
    pub what: String,
    /// In A.
    pub a: Option<String>,
    /// In B.
    pub b: Option<String>,
}

/// What cells that differ by the seed only have in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// In words: the experiment, and what tells the cells apart.
    pub label: String,
    /// The experiment's name.
    pub experiment: String,
    /// The data set.
    pub dataset: MethodRecord,
    /// The network.
    pub model: MethodRecord,
    /// The training recipe.
    pub train: MethodRecord,
    /// The attack.
    pub attack: MethodRecord,
    /// The defense.
    pub defense: MethodRecord,
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// All but its seed.
    #[serde(flatten)]
    pub place: Place,
    /// Its seed.
    pub seed: u64,
}

/// A cell that ended otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutcomeChange {
    /// Which.
    #[serde(flatten)]
    pub cell: Cell,
    /// In A.
    pub a: Outcome,
    /// In B.
    pub b: Outcome,
}

/// A metric of a cell that differs; absent where it was not measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricChange {
    /// The cell.
    #[serde(flatten)]
    pub cell: Cell,
    /// The metric's standard name.
    pub metric: String,
    /// In A.
    pub a: Option<f64>,
    /// In B.
    pub b: Option<f64>,
}

/// A metric over the seeds at which both have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedsChange {
    /// The cells.
    #[serde(flatten)]
    pub place: Place,
    /// The metric's standard name.
    pub metric: String,
    /// The number of seeds.
    pub n: usize,
    /// The mean in A.
    pub a: f64,
    /// The mean in B.
    pub b: f64,
    /// B minus A, seed by seed; absent for a single seed.
    pub test: Option<Paired>,
    /// The p value by Holm's correction for all tests of this list.
    pub p_holm: Option<f64>,
}

impl Diff {
    /// Whether both have the same cells with the same outcomes and metrics.
    pub fn same_results(&self) -> bool {
        self.only_a.is_empty() && self.only_b.is_empty() && self.outcomes.is_empty() && self.metrics.is_empty()
    }

    /// Whether there is no difference at all; times and machines are not looked at.
    pub fn is_identical(&self) -> bool {
        self.same_results() && self.study.is_empty() && self.equal_but_for_details == 0
    }
}

/// Compares two results. Cells are the same if experiment, data set, network, recipe, attack, defense and seed are, with all their
/// parameters; numbers are the same if they are exactly equal.
pub fn diff(a: &Results, b: &Results) -> Diff {
    let names = Names::of(a.cells.iter().chain(&b.cells));
    let (of_a, of_b) = (keyed(&a.cells), keyed(&b.cells));
    let (keys_a, keys_b): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (of_a.iter().cloned().collect(), of_b.iter().cloned().collect());
    let only = |own: &[(Key, &CellRecord)], other: &BTreeMap<Key, &CellRecord>| {
        own.iter().filter(|(key, _)| !other.contains_key(key)).map(|(_, record)| cell(record, &names)).collect()
    };
    let both: Vec<(&CellRecord, &CellRecord)> =
        of_a.iter().filter_map(|(key, record)| Some((*record, *keys_b.get(key)?))).collect();

    let (mut outcomes, mut metrics) = (Vec::new(), Vec::new());
    let (mut equal, mut equal_but_for_details) = (0, 0);
    for (a, b) in &both {
        if a.outcome != b.outcome {
            outcomes.push(OutcomeChange { cell: cell(a, &names), a: a.outcome.clone(), b: b.outcome.clone() });
            continue;
        }
        let measured: BTreeSet<&String> = a.metrics.keys().chain(b.metrics.keys()).collect();
        for metric in measured.into_iter().filter(|metric| a.metrics.get(*metric) != b.metrics.get(*metric)) {
            let [a_value, b_value] = [a, b].map(|record| record.metrics.get(metric).copied());
            metrics.push(MetricChange { cell: cell(a, &names), metric: metric.clone(), a: a_value, b: b_value });
        }
        if a.metrics == b.metrics {
            equal += 1;
            equal_but_for_details += usize::from(a != b);
        }
    }
    Diff {
        names: [&a.manifest, &b.manifest].map(|manifest| manifest.name.clone()),
        study: study::changes(&a.manifest, &b.manifest),
        equal,
        equal_but_for_details,
        only_a: only(&of_a, &keys_b),
        only_b: only(&of_b, &keys_a),
        outcomes,
        metrics,
        over_seeds: over_seeds(&both, &names),
    }
}

/// What tells cells apart; the last is a number for cells that are there twice.
type Key = (String, u64, usize);

fn keyed(cells: &[CellRecord]) -> Vec<(Key, &CellRecord)> {
    let mut seen: BTreeMap<(String, u64), usize> = BTreeMap::new();
    let key = |cell: &CellRecord| {
        let count = seen.entry((group_key(cell), cell.seed)).or_default();
        *count += 1;
        (group_key(cell), cell.seed, *count)
    };
    cells.iter().map(key).zip(cells).collect()
}

fn cell(record: &CellRecord, names: &Names) -> Cell {
    Cell { place: place(record, names), seed: record.seed }
}

fn place(record: &CellRecord, names: &Names) -> Place {
    Place {
        label: format!("{}: {}", record.experiment, names.place(parts(record).into_iter())),
        experiment: record.experiment.clone(),
        dataset: record.dataset.clone(),
        model: record.model.clone(),
        train: record.train.clone(),
        attack: record.attack.clone(),
        defense: record.defense.clone(),
    }
}

fn over_seeds(both: &[(&CellRecord, &CellRecord)], names: &Names) -> Vec<SeedsChange> {
    let mut order: Vec<String> = Vec::new();
    let mut groups: BTreeMap<String, Vec<(&CellRecord, &CellRecord)>> = BTreeMap::new();
    for (a, b) in both {
        let key = group_key(a);
        let group = groups.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        group.push((*a, *b));
    }
    let mut found = Vec::new();
    for cells in order.iter().map(|key| &groups[key]) {
        let measured: BTreeSet<&String> = cells.iter().flat_map(|(a, _)| a.metrics.keys()).collect();
        for metric in measured {
            let pair = |(a, b): &(&CellRecord, &CellRecord)| Some((*a.metrics.get(metric)?, *b.metrics.get(metric)?));
            let pairs: Vec<(f64, f64)> = cells.iter().filter_map(pair).collect();
            if pairs.iter().all(|(a, b)| a == b) {
                continue;
            }
            let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
            found.push(SeedsChange {
                place: place(cells[0].0, names),
                metric: metric.clone(),
                n: pairs.len(),
                a: mean(|pair| pair.0),
                b: mean(|pair| pair.1),
                test: paired_t(&pairs, CONFIDENCE),
                p_holm: None,
            });
        }
    }
    let mut tested: Vec<&mut SeedsChange> = found.iter_mut().filter(|change| change.test.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|change| Some(change.test?.p)).collect();
    for (change, adjusted) in tested.iter_mut().zip(holm(&p)) {
        change.p_holm = Some(adjusted);
    }
    found
}
