//! From what the steps left to the records of the cells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use theriac_core::record::{
    CellRecord, EpochRecord, EvaluationRecord, GalleryRecord, MethodRecord, Outcome, PoisonRecord, SCHEMA, VetRecord,
};

use super::schedule::Ran;
use super::step::{CURVE, EVALUATION, POISON, VET};
use crate::config::Config;
use crate::files::FileError;
use crate::plan::{Cell, Plan};

/// The records of a study.
pub(super) struct Results {
    /// In plan order.
    pub cells: Vec<CellRecord>,
    /// One per experiment, data set and attack.
    pub gallery: Vec<GalleryRecord>,
    /// How many of the cells failed.
    pub failed: usize,
}

/// Makes the records of all cells of `plan`.
///
/// # Errors
/// A file of the store cannot be read.
pub(super) fn assemble(config: &Config, plan: &Plan, ran: &Ran) -> Result<Results, FileError> {
    let mut reader = Reader { ran, evaluations: BTreeMap::new(), poisons: BTreeMap::new() };
    let mut results = Results { cells: Vec::with_capacity(plan.cells.len()), gallery: Vec::new(), failed: 0 };
    let mut shown = BTreeSet::new();
    for cell in &plan.cells {
        let experiment = &config.experiments[cell.experiment];
        let (dataset, card) = &experiment.datasets[cell.dataset];
        let mut record = CellRecord {
            schema: SCHEMA,
            address: plan.steps[cell.evaluate].address.to_string(),
            experiment: experiment.name.clone(),
            dataset: dataset.clone(),
            model: cell.model.clone(),
            train: cell.train.clone(),
            attack: cell.attack.clone(),
            defense: cell.defense.clone(),
            seed: cell.seed,
            outcome: Outcome::Ok,
            metrics: BTreeMap::new(),
            confusion: Vec::new(),
            curve: Vec::new(),
            roc: Vec::new(),
            poisoned_by_class: Vec::new(),
            classes: card.classes.clone(),
        };
        match cell.sources().find_map(|source| ran.failed.get(&source)) {
            None => fill(&mut record, cell, &mut reader)?,
            Some(reason) => {
                results.failed += 1;
                record.outcome = Outcome::Failed(reason.clone());
            }
        }
        // The first seed that has pictures stands for all of them.
        if let Some(poison) = cell.poison.filter(|poison| !ran.failed.contains_key(poison)) {
            let key = (cell.experiment, cell.dataset, unique_text(&cell.attack));
            let tiles = &reader.poison(poison)?.gallery;
            if !tiles.is_empty() && shown.insert(key) {
                let (experiment, dataset, attack) = (experiment.name.clone(), dataset.clone(), cell.attack.clone());
                results.gallery.push(GalleryRecord { experiment, dataset, attack, tiles: tiles.clone() });
            }
        }
        results.cells.push(record);
    }
    Ok(results)
}

fn unique_text(method: &MethodRecord) -> String {
    serde_json::to_string(method).expect("plain data serialises to JSON")
}

fn fill(record: &mut CellRecord, cell: &Cell, reader: &mut Reader) -> Result<(), FileError> {
    let own = reader.evaluation(cell.evaluate)?;
    let clean = reader.evaluation(cell.clean)?;
    let undefended = reader.evaluation(cell.undefended)?;
    let metrics = &mut record.metrics;
    if let Some(vet) = cell.vet {
        let vet: VetRecord = reader.read(vet, VET)?;
        metrics.extend(vet.metrics);
        record.roc = vet.roc;
    }
    // A guard answers last, so its detection is the one that counts.
    metrics.extend(own.metrics.clone());
    if !own.roc.is_empty() {
        record.roc.clone_from(&own.roc);
    }
    record.confusion.clone_from(&own.confusion);
    record.curve = reader.read::<Vec<EpochRecord>>(cell.trained, CURVE)?;
    if let Some(poison) = cell.poison {
        let poison = reader.poison(poison)?;
        metrics.insert("poisoned".to_owned(), poison.rate);
        record.poisoned_by_class.clone_from(&poison.by_class);
    }
    let references = [("clean_model", &clean), ("undefended", &undefended)];
    for (name, reference) in references {
        metrics.extend(accuracy(reference).map(|value| (format!("{name}_accuracy"), value)));
        metrics.extend(success(reference).map(|value| (format!("{name}_success"), value)));
    }
    let numbers = (accuracy(&own), success(&own), accuracy(&undefended), success(&undefended));
    if let ((Some(accuracy), Some(success), Some(accuracy_before), Some(success_before)), true) =
        (numbers, cell.defense.name != "none")
    {
        let der = theriac_core::metrics::defense_effectiveness_rate(accuracy_before, success_before, accuracy, success);
        metrics.insert("der".to_owned(), der);
    }
    Ok(())
}

fn accuracy(evaluation: &EvaluationRecord) -> Option<f64> {
    evaluation.metrics.get("clean_accuracy").copied()
}

fn success(evaluation: &EvaluationRecord) -> Option<f64> {
    evaluation.metrics.get(evaluation.success.as_ref()?).copied()
}

/// Reads files of the store; what many cells need is read once.
struct Reader<'a> {
    ran: &'a Ran,
    evaluations: BTreeMap<usize, Rc<EvaluationRecord>>,
    poisons: BTreeMap<usize, Rc<PoisonRecord>>,
}

impl Reader<'_> {
    fn read<T: DeserializeOwned>(&self, step: usize, name: &str) -> Result<T, FileError> {
        let entry = self.ran.stored.get(&step).expect("a step that a good cell reads has finished");
        let path = entry.folder.join(name);
        let content = fs::read(&path).map_err(FileError::at("read", &path))?;
        serde_json::from_slice(&content).map_err(io::Error::from).map_err(FileError::at("read", &path))
    }

    fn evaluation(&mut self, step: usize) -> Result<Rc<EvaluationRecord>, FileError> {
        if let Some(known) = self.evaluations.get(&step) {
            return Ok(Rc::clone(known));
        }
        let record = Rc::new(self.read(step, EVALUATION)?);
        self.evaluations.insert(step, Rc::clone(&record));
        Ok(record)
    }

    fn poison(&mut self, step: usize) -> Result<Rc<PoisonRecord>, FileError> {
        if let Some(known) = self.poisons.get(&step) {
            return Ok(Rc::clone(known));
        }
        let record = Rc::new(self.read(step, POISON)?);
        self.poisons.insert(step, Rc::clone(&record));
        Ok(record)
    }
}
