//! `poison`: the attacks of a config, carried out on the data and written as files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use theriac_core::ChangeSet;
use theriac_data::DataError;
use theriac_lab::files::FileError;
use theriac_lab::store::{Found, Spent};
use theriac_lab::{Bench, Halt, Job, Plan, Step, StepKind, Store};

use super::{Failure, Folders, Surroundings, read_config, say};
use crate::workbench::Workbench;

#[derive(Args, Debug)]
pub struct Poison {
    /// The config, a TOML file.
    config: PathBuf,
    /// The folder to write to; each poisoned data set gets a folder of its own in it.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only this seed of the config. Default: its first one.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Folder of results, whose store of finished steps is used.
    #[arg(long, default_value = "results", value_name = "DIR")]
    results: PathBuf,
    #[command(flatten)]
    surroundings: Surroundings,
}

impl Poison {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let bench = self.surroundings.workbench()?;
        let config = read_config(&self.config, &bench)?;
        let plan = Plan::new(&config, &bench);
        let poisons = |index: &usize| plan.steps[*index].step.kind == StepKind::Poison;
        let attacks: Vec<usize> = (0..plan.steps.len()).filter(poisons).collect();
        let seed_of = |index: usize| plan.steps[index].step.seed;
        let Some(&first) = attacks.first() else {
            return Err(Failure::Usage("the config has no attack".to_owned()));
        };
        let seed = self.seed.unwrap_or(seed_of(first));
        let chosen: Vec<usize> = attacks.iter().copied().filter(|&index| seed_of(index) == seed).collect();
        if chosen.is_empty() {
            let seeds: BTreeSet<u64> = attacks.iter().map(|&index| seed_of(index)).collect();
            let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
            let seeds = seeds.join(", ");
            return Err(Failure::Usage(format!("the config has no attack with seed {seed}; it has {seeds}")));
        }
        let mut names = BTreeMap::new();
        let mut exports = Vec::new();
        for index in chosen {
            let step = &plan.steps[index].step;
            let attack = step.attack.as_ref().map_or("attack", |attack| attack.name.as_str());
            let count = names.entry(format!("{}-{attack}", step.dataset.name)).or_insert(0);
            *count += 1;
            let folder = self.out.join(format!("{}-{attack}-{count}", step.dataset.name));
            // Told before the work, and before another folder is written.
            if std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
                return Err(DataError::NotEmpty { path: folder }.into());
            }
            exports.push((index, folder));
        }
        let store = Store::open(Folders { out: self.results.clone(), store: None }.store())?;
        for (index, folder) in exports {
            let planned = &plan.steps[index];
            eprintln!("{}", planned.label);
            ensure(&plan, index, &store, &bench)?;
            let step = &planned.step;
            let path = store.folder(&planned.address).join("changes.bin");
            let bytes = std::fs::read(&path).map_err(FileError::at("read", &path))?;
            let changes = ChangeSet::decode(&bytes).map_err(|error| Failure::Step(error.to_string()))?;
            let prepared = bench.prepared(&step.dataset).map_err(Failure::Step)?;
            let clean = &prepared.data.train;
            let poisoned = changes.apply(clean).map_err(|error| Failure::Step(error.to_string()))?;
            theriac_data::export(clean, &poisoned, &changes, &folder)?;
            let text = serde_json::to_string_pretty(step).expect("a step is plain data");
            theriac_lab::files::write_atomically(&folder.join("attack.json"), text.as_bytes())?;
            say(&format!("{}  {} of {} samples touched", folder.display(), changes.touched().len(), clean.len()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Sees to it that a step and its inputs are in the store.
fn ensure(plan: &Plan, index: usize, store: &Store, bench: &Workbench) -> Result<(), Failure> {
    let planned = &plan.steps[index];
    if matches!(store.find(&planned.address)?, Found::Good(_)) {
        return Ok(());
    }
    for &input in &planned.inputs {
        ensure(plan, input, store, bench)?;
    }
    let inputs: BTreeMap<&str, (&Step, PathBuf)> = plan
        .inputs(index)
        .map(|(name, at)| (name, (&plan.steps[at].step, store.folder(&plan.steps[at].address))))
        .collect();
    let begin = Instant::now();
    let files = bench.run(&Job { step: &planned.step, inputs, session: &() }).map_err(|halt| match halt {
        Halt::Failed(reason) | Halt::Diverged(reason) => Failure::Step(reason),
        Halt::Stopped => Failure::Step("stopped".to_owned()),
    })?;
    store.insert(&planned.step, &files, Spent { seconds: begin.elapsed().as_secs_f64(), peak_memory_mib: 0.0 })?;
    Ok(())
}
