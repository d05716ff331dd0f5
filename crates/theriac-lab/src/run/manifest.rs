//! The manifest: all that is needed to understand and repeat a run, and the only place for times and machines.

use std::collections::BTreeMap;

use theriac_core::record::{CompareRecord, Manifest, SCHEMA, StepRecord};

use super::Options;
use super::memory::field;
use super::schedule::Ran;
use crate::config::{Config, Experiment};
use crate::plan::{Plan, brief};

/// The manifest of a finished run of a whole plan.
pub(super) fn manifest(
    config: &Config,
    plan: &Plan,
    ran: &Ran,
    options: &Options,
    device: String,
    (jobs, threads): (usize, usize),
    seconds: f64,
) -> Manifest {
    let datasets = config.experiments.iter().flat_map(|experiment| &experiment.datasets);
    let data = datasets.map(|(method, card)| (brief(method, &[]), card.digest.to_string())).collect();
    let step = |(index, planned): (usize, &crate::plan::PlannedStep)| {
        let kept = ran.stored.get(&index)?;
        Some(StepRecord {
            address: planned.address.to_string(),
            kind: planned.step.kind.to_string(),
            label: planned.label.clone(),
            seconds: kept.spent.seconds,
            peak_memory_mib: kept.spent.peak_memory_mib,
            output: kept.output.map(|digest| digest.to_string()).unwrap_or_default(),
            inputs: planned.inputs.iter().map(|&input| plan.steps[input].address.to_string()).collect(),
        })
    };
    Manifest {
        schema: SCHEMA,
        theriac: env!("CARGO_PKG_VERSION").to_owned(),
        name: config.name.clone(),
        question: config.question.clone(),
        experiments: config.experiments.iter().map(|one| (one.name.clone(), one.question.clone())).collect(),
        config: config.to_toml(),
        config_digest: config.digest().to_string(),
        config_path: options.config_path.clone(),
        data,
        machine: machine(),
        device,
        jobs,
        threads,
        seconds,
        steps: plan.steps.iter().enumerate().filter_map(step).collect(),
        compares: config.experiments.iter().flat_map(compares).collect(),
        shard: None,
    }
}

fn compares(experiment: &Experiment) -> impl Iterator<Item = CompareRecord> {
    experiment.compares.iter().map(|compare| CompareRecord {
        experiment: experiment.name.clone(),
        of: compare.of.to_string(),
        names: compare.names.clone(),
        metrics: compare.metrics.clone(),
    })
}

fn machine() -> BTreeMap<String, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut machine: BTreeMap<String, String> = [
        ("os", std::env::consts::OS.to_owned()),
        ("architecture", std::env::consts::ARCH.to_owned()),
        ("cores", cores.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    machine.extend(field("/proc/cpuinfo", "model name").map(|name| ("processor".to_owned(), name)));
    machine.extend(field("/proc/meminfo", "MemTotal").map(|size| ("memory".to_owned(), size)));
    machine
}
