//! One step: call the bench, survive what it does, and look at what it leaves.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use theriac_core::Session;
use theriac_core::record::{EpochRecord, EvaluationRecord, InspectRecord, MonitorRecord, PoisonRecord, VetRecord};

use crate::bench::{Bench, Files, Halt, Job, StepKind};
use crate::plan::Plan;
use crate::store::Store;

/// The record that a vetting step leaves, and so on.
pub(super) const POISON: &str = "poison.json";
pub(super) const CURVE: &str = "curve.json";
pub(super) const VET: &str = "vet.json";
pub(super) const MONITOR: &str = "monitor.json";
pub(super) const INSPECT: &str = "inspect.json";
pub(super) const EVALUATION: &str = "evaluation.json";

/// Runs the step at `index` inside `pool`.
///
/// # Errors
/// Why there are no files, be it an answer, a panic or a missing file.
pub(super) fn run(
    plan: &Plan,
    index: usize,
    bench: &dyn Bench,
    store: &Store,
    pool: &rayon::ThreadPool,
    session: &(dyn Session + Sync),
) -> Result<Files, Halt> {
    let folder = |input: usize| (&plan.steps[input].step, store.folder(&plan.steps[input].address));
    let inputs: BTreeMap<_, _> = plan.inputs(index).map(|(name, input)| (name, folder(input))).collect();
    let step = &plan.steps[index].step;
    let job = Job { step, inputs, session };
    // Unwinding leaves nothing behind that is used again: the job is local, and a bench shares only what survives panics.
    let files = catch_unwind(AssertUnwindSafe(|| pool.install(|| bench.run(&job))));
    let files = files.map_err(|panic| format!("it panicked: {}", message(panic.as_ref())))??;
    check(step.kind, &files)?;
    Ok(files)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Results are read from the store much later; what cannot be read must fail here, where the step is known.
fn check(kind: StepKind, files: &Files) -> Result<(), String> {
    if let Some((name, _)) = files.iter().find(|(name, _)| !is_file_name(name)) {
        return Err(format!("it left a file called `{name}`, which is no name for a file in the store"));
    }
    match kind {
        StepKind::Poison => readable::<PoisonRecord>(files, POISON),
        StepKind::Train => readable::<Vec<EpochRecord>>(files, CURVE),
        StepKind::Vet => readable::<VetRecord>(files, VET),
        StepKind::Monitor => readable::<MonitorRecord>(files, MONITOR),
        StepKind::Inspect => readable::<InspectRecord>(files, INSPECT),
        StepKind::Features | StepKind::Repair => Ok(()),
        StepKind::Evaluate | StepKind::Certify => readable::<EvaluationRecord>(files, EVALUATION),
    }
}

fn is_file_name(name: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    !name.is_empty()
        && name.chars().all(plain)
        && !name.starts_with('.')
        && !["step.json", "checksums.json"].contains(&name)
}

fn readable<T: DeserializeOwned>(files: &Files, name: &str) -> Result<(), String> {
    let (_, content) = files.iter().find(|(other, _)| other == name).ok_or_else(|| format!("it left no `{name}`"))?;
    let read: Result<T, _> = serde_json::from_slice(content);
    read.map(drop).map_err(|error| format!("it left a `{name}` that cannot be read: {error}"))
}
