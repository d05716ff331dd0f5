//! `plan` and `check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use theriac_lab::{Plan as Steps, Store, Throughput};

use super::{Failure, Folders, Surroundings, duration, read_config, say};

#[derive(Args, Debug)]
pub struct Plan {
    /// The config, a TOML file.
    config: PathBuf,
    #[command(flatten)]
    folders: Folders,
    #[command(flatten)]
    surroundings: Surroundings,
    /// Steps at a time, for the estimate of time. Default: the number of cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Print the whole plan, all cells and steps, as JSON.
    #[arg(long, conflicts_with_all = ["dot", "verbose"])]
    json: bool,
    /// Print the graph of steps for Graphviz: `theriac plan study.toml --dot | dot -Tsvg > plan.svg`. What is in the store is pale.
    #[arg(long, conflicts_with = "verbose")]
    dot: bool,
    /// Also list every step.
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Args, Debug)]
pub struct Check {
    /// The config, a TOML file.
    config: PathBuf,
    #[command(flatten)]
    surroundings: Surroundings,
    /// Print the config with all defaults written out.
    #[arg(long)]
    resolved: bool,
}

impl Plan {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let bench = self.surroundings.workbench()?;
        let config = read_config(&self.config, &bench)?;
        let mut plan = Steps::new(&config, &bench);
        let store = Store::at(self.folders.store());
        plan.calibrate(&Throughput::read(store.root()));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.map_or(cores, usize::from);
        if self.dot {
            let due = plan.due(|index| store.contains(&plan.steps[index].address));
            say(&plan.to_dot(&due))?;
            return Ok(ExitCode::SUCCESS);
        }
        let summary = plan.summary(&store, jobs);
        if self.json {
            say(&serde_json::json!({ "summary": summary, "plan": plan }).to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        say(&format!("{}: {} cells over {} steps", config.name, summary.cells, summary.steps))?;
        for (kind, count) in &summary.by_kind {
            say(&format!("  {kind:<9} {count:>6}"))?;
        }
        say(&format!("sharing saves {} steps; {} are in the store", summary.shared, summary.in_store))?;
        // Where nothing is left to do, the sum is a negative zero.
        let (time, memory) = (duration(summary.seconds), summary.memory_mib.abs());
        say(&format!("about {time} and {memory:.0} MiB of working memory with {jobs} at a time"))?;
        if self.verbose {
            for step in &plan.steps {
                say(&format!("{}  {}", step.address.short(12), step.label))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Check {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let bench = self.surroundings.workbench()?;
        let config = read_config(&self.config, &bench)?;
        match self.resolved {
            true => say(&config.to_toml())?,
            false => {
                say(&format!("{}: all {} experiments are in order", self.config.display(), config.experiments.len()))?
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
