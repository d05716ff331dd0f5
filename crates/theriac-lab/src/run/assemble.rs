//! From what the steps left to the records of the cells, one line at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use theriac_core::Digest;
use theriac_core::record::{
    CellRecord, EpochRecord, EvaluationRecord, GalleryRecord, InspectRecord, MonitorRecord, Outcome, PoisonRecord,
    SCHEMA, VetRecord,
};

use super::schedule::Ran;
use super::step::{CURVE, EVALUATION, INSPECT, MONITOR, POISON, VET};
use super::{CELLS, GALLERY, replace};
use crate::config::Config;
use crate::files::{FileError, PartFile};
use crate::plan::{Cell, Plan};
use crate::store::Store;

/// What was written.
pub(super) struct Assembled {
    /// The hashes of `cells.jsonl` and `gallery.jsonl`.
    pub files: BTreeMap<String, Digest>,
    /// How many of the cells failed.
    pub failed: usize,
    /// How many of them diverged.
    pub diverged: usize,
    /// The cell that each line of the gallery comes from.
    pub gallery: Vec<usize>,
}

/// Writes the records of all cells of `plan` into `folder`. They are never all in memory.
///
/// # Errors
/// A file of the store cannot be read, or the results cannot be written.
pub(super) fn assemble(
    config: &Config,
    plan: &Plan,
    ran: &Ran,
    store: &Store,
    folder: &Path,
) -> Result<Assembled, FileError> {
    let mut reader = Reader { plan, store, evaluations: BTreeMap::new(), poisons: BTreeMap::new() };
    let (mut cells, mut gallery) = (PartFile::begin(&folder.join(CELLS))?, PartFile::begin(&folder.join(GALLERY))?);
    let (mut failed, mut diverged) = (0, 0);
    let (mut shown, mut seen, mut sources) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (at, cell) in plan.cells.iter().enumerate() {
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
            outcome: outcome(cell, ran),
            metrics: BTreeMap::new(),
            confusion: Vec::new(),
            curve: Vec::new(),
            roc: Vec::new(),
            scores: None,
            certified: Vec::new(),
            inspection: None,
            monitor: None,
            poisoned_by_class: Vec::new(),
            classes: card.classes.clone(),
        };
        match record.outcome {
            Outcome::Ok => fill(&mut record, cell, ran, &mut reader)?,
            Outcome::Failed(_) => failed += 1,
            Outcome::Diverged(_) => diverged += 1,
        }
        // The first seed that has pictures stands for all of them.
        let key = (cell.experiment, cell.dataset, &cell.attack.name, text(&cell.attack.params));
        let poison = cell.poison.filter(|poison| ran.stored.contains_key(poison) && !shown.contains(&key));
        if let Some(poison) = poison.filter(|poison| seen.insert((cell.experiment, *poison))) {
            let PoisonRecord { gallery: tiles, .. } = reader.read(poison, POISON)?;
            if !tiles.is_empty() {
                let (experiment, dataset, attack) = (experiment.name.clone(), dataset.clone(), cell.attack.clone());
                gallery.write(&line(&GalleryRecord { experiment, dataset, attack, tiles }))?;
                sources.push(at);
                shown.insert(key);
            }
        }
        cells.write(&line(&record))?;
    }
    let files = replace(folder, [(CELLS, cells), (GALLERY, gallery)])?;
    Ok(Assembled { files, failed, diverged, gallery: sources })
}

/// A failed reference fails its cells, so that a later run completes them. One that diverged is a result; only its own numbers are absent.
fn outcome(cell: &Cell, ran: &Ran) -> Outcome {
    let own = [Some(cell.evaluate), cell.trained, cell.monitor, cell.inspect, cell.vet, cell.poison];
    let own = own.into_iter().flatten().find_map(|source| ran.failed.get(&source));
    let reference = || {
        let failed = cell.sources().filter_map(|source| ran.failed.get(&source));
        failed.into_iter().find(|outcome| matches!(outcome, Outcome::Failed(_)))
    };
    own.or_else(reference).cloned().unwrap_or(Outcome::Ok)
}

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data serialises to JSON")
}

fn line<T: Serialize>(record: &T) -> Vec<u8> {
    (text(record) + "\n").into_bytes()
}

fn fill(record: &mut CellRecord, cell: &Cell, ran: &Ran, reader: &mut Reader) -> Result<(), FileError> {
    let own: EvaluationRecord = reader.read(cell.evaluate, EVALUATION)?;
    let numbers = Numbers::of(&own);
    let mut reference = |step: usize| match ran.failed.contains_key(&step) {
        true => Ok(Numbers::default()),
        false => reader.numbers(step),
    };
    let references = [("clean_model", reference(cell.clean)?), ("undefended", reference(cell.undefended)?)];
    let metrics = &mut record.metrics;
    if let Some(vet) = cell.vet {
        let vet: VetRecord = reader.read(vet, VET)?;
        metrics.extend(vet.metrics);
        record.roc = vet.roc;
        record.scores = vet.histogram;
    }
    if let Some(inspect) = cell.inspect {
        let inspection: InspectRecord = reader.read(inspect, INSPECT)?;
        metrics.extend(inspection.metrics.clone());
        record.inspection = Some(inspection);
    }
    if let Some(monitor) = cell.monitor {
        let monitor: MonitorRecord = reader.read(monitor, MONITOR)?;
        metrics.extend(monitor.metrics.clone());
        record.monitor = Some(monitor);
    }
    // A guard answers last, so its detection is the one that counts.
    metrics.extend(own.metrics);
    if !own.roc.is_empty() {
        record.roc = own.roc;
        record.scores = own.histogram;
    }
    record.confusion = own.confusion;
    record.certified = own.certified;
    if let Some(trained) = cell.trained {
        record.curve = reader.read::<Vec<EpochRecord>>(trained, CURVE)?;
        let validated = record.curve.last().and_then(|last| last.validation_accuracy);
        metrics.extend(validated.map(|value| ("validation_accuracy".to_owned(), value)));
    }
    if let Some(poison) = cell.poison {
        let (rate, by_class) = reader.poison(poison)?;
        metrics.insert("poisoned".to_owned(), *rate);
        record.poisoned_by_class.clone_from(by_class);
    }
    for (name, Numbers { accuracy, success }) in references {
        metrics.extend(accuracy.map(|value| (format!("{name}_accuracy"), value)));
        metrics.extend(success.map(|value| (format!("{name}_success"), value)));
    }
    let (after, before) = (numbers.both(), references[1].1.both());
    if let (Some((accuracy, success)), Some((accuracy_before, success_before)), true) =
        (after, before, cell.defense.name != "none")
    {
        let der = theriac_core::metrics::defense_effectiveness_rate(accuracy_before, success_before, accuracy, success);
        metrics.insert("der".to_owned(), der);
    }
    Ok(())
}

/// What the cells of other methods want to know of an evaluation.
#[derive(Clone, Copy, Default)]
struct Numbers {
    accuracy: Option<f64>,
    success: Option<f64>,
}

impl Numbers {
    fn of(evaluation: &EvaluationRecord) -> Self {
        let metric = |name: &str| evaluation.metrics.get(name).copied();
        Self { accuracy: metric("clean_accuracy"), success: evaluation.success.as_deref().and_then(metric) }
    }

    fn both(self) -> Option<(f64, f64)> {
        self.accuracy.zip(self.success)
    }
}

/// Reads files of the store; of what many cells need, it remembers the numbers.
struct Reader<'a> {
    plan: &'a Plan,
    store: &'a Store,
    evaluations: BTreeMap<usize, Numbers>,
    /// Rate and touched samples by class.
    poisons: BTreeMap<usize, (f64, Vec<usize>)>,
}

impl Reader<'_> {
    fn read<T: DeserializeOwned>(&self, step: usize, name: &str) -> Result<T, FileError> {
        let path = self.store.folder(&self.plan.steps[step].address).join(name);
        let content = fs::read(&path).map_err(FileError::at("read", &path))?;
        serde_json::from_slice(&content).map_err(io::Error::from).map_err(FileError::at("read", &path))
    }

    fn numbers(&mut self, step: usize) -> Result<Numbers, FileError> {
        if let Some(known) = self.evaluations.get(&step) {
            return Ok(*known);
        }
        let numbers = Numbers::of(&self.read(step, EVALUATION)?);
        self.evaluations.insert(step, numbers);
        Ok(numbers)
    }

    fn poison(&mut self, step: usize) -> Result<&(f64, Vec<usize>), FileError> {
        if !self.poisons.contains_key(&step) {
            let PoisonRecord { rate, by_class, .. } = self.read(step, POISON)?;
            self.poisons.insert(step, (rate, by_class));
        }
        Ok(&self.poisons[&step])
    }
}
