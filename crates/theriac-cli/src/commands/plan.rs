//! `plan` and `check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use theriac_lab::{Plan as Steps, Store};

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
    #[arg(long)]
    json: bool,
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
        let plan = Steps::new(&config, &bench);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.map_or(cores, usize::from);
        let summary = plan.summary(&Store::at(self.folders.store()), jobs);
        if self.json {
            say(&serde_json::json!({ "summary": summary, "plan": plan }).to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        say(&format!("{}: {} cells over {} steps", config.name, summary.cells, summary.steps))?;
        for (kind, count) in &summary.by_kind {
            say(&format!("  {kind:<9} {count:>6}"))?;
        }
        say(&format!("sharing saves {} steps; {} are in the store", summary.shared, summary.in_store))?;
        say(&format!("about {} with {jobs} at a time", duration(summary.seconds)))?;
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
