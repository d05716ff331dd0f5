//! The manifest: all that is needed to understand and repeat a run, and the only place for times and machines.

use std::collections::BTreeMap;
use std::fs;

use theriac_core::record::{Manifest, SCHEMA, StepRecord};

use super::Options;
use super::schedule::Ran;
use crate::config::Config;
use crate::plan::{Plan, brief};

/// The manifest of a finished run.
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
        let entry = ran.stored.get(&index)?;
        Some(StepRecord {
            address: planned.address.to_string(),
            kind: planned.step.kind.to_string(),
            label: planned.label.clone(),
            seconds: entry.note.seconds,
            peak_memory_mib: entry.note.peak_memory_mib,
            output: entry.output().map(|digest| digest.to_string()).unwrap_or_default(),
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
    }
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

/// Highest resident memory of this process so far; 0 on systems that do not tell.
pub(super) fn peak_memory_mib() -> f64 {
    let peak = field("/proc/self/status", "VmHWM");
    let kib = peak.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// The value of the first line `key: value` of a file of the Linux kernel.
fn field(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = |line: &str| {
        line.split_once(':').filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    };
    text.lines().find_map(value)
}
