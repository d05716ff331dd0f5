//! Cells for unit tests, with nothing in them that a test does not need.

use serde_json::{Value, json};
use theriac_core::record::{CellRecord, Manifest, MethodRecord, Outcome, SCHEMA};

use crate::input::Results;

/// A method with its parameters.
pub fn method(name: &str, params: Value) -> MethodRecord {
    MethodRecord { name: name.to_owned(), params: serde_json::from_value(params).unwrap() }
}

/// A measured cell of the experiment `e`.
pub fn cell(attack: &MethodRecord, defense: &MethodRecord, seed: u64, metrics: &[(&str, f64)]) -> CellRecord {
    CellRecord {
        schema: SCHEMA,
        address: format!("{seed:064x}"),
        experiment: "e".to_owned(),
        dataset: method("mnist", json!({"train": 10})),
        model: method("mlp", json!({})),
        train: method("sgd-loop", json!({"lr": 0.05})),
        attack: attack.clone(),
        defense: defense.clone(),
        seed,
        outcome: Outcome::Ok,
        metrics: metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        confusion: Vec::new(),
        curve: Vec::new(),
        scores: None,
        certified: Vec::new(),
        inspection: None,
        monitor: None,
        roc: Vec::new(),
        poisoned_by_class: Vec::new(),
        classes: Vec::new(),
    }
}

/// Cells at seeds from 1 on, one for each value of `metric`.
pub fn seeds(attack: &MethodRecord, defense: &MethodRecord, metric: &str, values: &[f64]) -> Vec<CellRecord> {
    (1..).zip(values).map(|(seed, value)| cell(attack, defense, seed, &[(metric, *value)])).collect()
}

/// Results with these cells.
pub fn results(cells: Vec<CellRecord>) -> Results {
    let manifest = Manifest {
        schema: SCHEMA,
        theriac: "0.1.0".to_owned(),
        name: "toy".to_owned(),
        question: String::new(),
        experiments: Vec::new(),
        config: "name = \"toy\"\n".to_owned(),
        config_digest: String::new(),
        config_path: "toy.toml".to_owned(),
        data: Default::default(),
        machine: Default::default(),
        device: "cpu".to_owned(),
        jobs: 1,
        threads: 1,
        seconds: 1.0,
        steps: Vec::new(),
        compares: Vec::new(),
        shard: None,
    };
    Results { cells, gallery: Vec::new(), manifest }
}
