//! `run`, `rerun` and `report`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use theriac_core::record::Manifest;
use theriac_lab::files::FileError;
use theriac_lab::run::{CELLS, CHECKPOINT_EVERY, GALLERY, MANIFEST};
use theriac_lab::{Config, Options, Outcome, Plan, Throughput};

use super::{Failure, Folders, Surroundings, duration, everything, note, read_config, say};
use crate::progress::{Progress, Show};
use crate::workbench::Workbench;

pub const EXAMPLES: &str = "\
Examples:
  theriac run configs/quickstart.toml
  theriac run study.toml --jobs 4 --threads 1 --data-dir ~/data
  theriac run study.toml --json | jq .cells
  theriac run study.toml --shard 2/3           the second of three machines

A killed or interrupted run continues where it stopped. A finished one is not run again.
Ctrl-C finishes what is cheap and saves trainings where they are; a second Ctrl-C stops at once.";

#[derive(Args, Debug)]
pub struct Run {
    /// The config, a TOML file.
    config: PathBuf,
    #[command(flatten)]
    folders: Folders,
    #[command(flatten)]
    effort: Effort,
    #[command(flatten)]
    surroundings: Surroundings,
    /// Run only part I of N, counted from 1. The last part to end writes the results of all.
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Print the outcome as JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// How hard to work, and what to show of it.
#[derive(Args, Debug, Clone)]
pub struct Effort {
    /// Steps at a time. Default: as many as there are cores, if there is that much to do.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Threads of one step. Default: the cores that the jobs leave. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Memory that the running steps may take together, such as 4GiB. Default: most of what is free.
    #[arg(long, value_name = "SIZE", value_parser = super::store::size)]
    memory: Option<u64>,
    /// How often a long training saves where it is.
    #[arg(long, value_name = "SECONDS", default_value_t = CHECKPOINT_EVERY.as_secs_f64(), value_parser = seconds)]
    checkpoint_every: f64,
    /// What to show on the way: bars on a terminal, a JSON object a line, or nothing but failures. Goes to standard error.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Show::Bars)]
    progress: Show,
    /// Print nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Args, Debug)]
pub struct Rerun {
    /// The manifest of finished results, such as `results/quickstart/manifest.json`.
    manifest: PathBuf,
    /// Folder in which `rerun` is made, for the new results and steps; nothing is taken from an old store. Default: beside the manifest.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    effort: Effort,
    /// Folder with data sets, before $THERIAC_DATA and ./data.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// `2/3` as part 2 of 3.
fn shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
    let sensible = |&(index, of): &(usize, usize)| (1..=of).contains(&index) && of <= 100_000;
    parts.filter(sensible).ok_or_else(|| "expected I/N with I from 1 to N, such as 2/3".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (0.0..=1e9).contains(value));
    value.ok_or_else(|| "expected a number of seconds, at least 0".to_owned())
}

impl Effort {
    fn options(&self, out: PathBuf, store: PathBuf, config: &Path) -> Options {
        Options {
            config_path: config.display().to_string(),
            jobs: self.jobs.map(usize::from),
            threads: self.threads.map(usize::from),
            memory_mib: self.memory.map(|bytes| bytes as f64 / f64::from(1 << 20)),
            checkpoint_every: Duration::from_secs_f64(self.checkpoint_every),
            ..Options::new(out, store)
        }
    }

    fn run(&self, config: &Config, bench: &Workbench, options: &Options) -> Result<Outcome, Failure> {
        let mut plan = Plan::new(config, bench);
        plan.calibrate(&Throughput::read(&options.store));
        let cancel = Arc::new(AtomicBool::new(false));
        let flag = cancel.clone();
        // Without a handler Ctrl-C still ends the process, and the store still has what was finished.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            note(format_args!("saving trainings and finishing what is cheap; press Ctrl-C again to stop at once"));
        });
        let progress = Progress::new(if self.quiet { Show::None } else { self.progress });
        let outcome = theriac_lab::run(config, &plan, bench, options, &progress, &cancel)?;
        progress.finish();
        Ok(outcome)
    }
}

impl Run {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let bench = self.surroundings.workbench()?;
        let config = read_config(&self.config, &bench)?;
        let options = self.effort.options(self.folders.out.clone(), self.folders.store(), &self.config);
        let outcome = self.effort.run(&config, &bench, &Options { shard: self.shard, ..options })?;
        self.conclude(&outcome)
    }

    fn conclude(&self, outcome: &Outcome) -> Result<ExitCode, Failure> {
        let (folder, cells, failed) = match outcome {
            Outcome::Interrupted { .. } => {
                note(format_args!("{outcome}:\n  {}", again()));
                return Ok(ExitCode::from(130));
            }
            Outcome::NothingToDo { folder, cells } => (folder, *cells, 0),
            Outcome::Finished(report) => (&report.folder, report.cells, report.failed_cells),
        };
        let page = folder.join("report.html");
        if matches!(outcome, Outcome::Finished(_)) || !is_newer(&page, &folder.join(MANIFEST)) {
            write_report(folder)?;
        }
        if self.json {
            let ran = !matches!(outcome, Outcome::NothingToDo { .. });
            let value = serde_json::json!({ "folder": folder, "cells": cells, "failed_cells": failed, "ran": ran, "report": page });
            say(&value.to_string())?;
        } else if !self.effort.quiet {
            if let Outcome::Finished(report) = outcome {
                let results = theriac_report::Results::read(folder)?;
                say(&theriac_report::table(&results.cells, &everything()))?;
                note(format_args!("{outcome} in {}", duration(report.seconds)));
            } else {
                note(format_args!("{outcome}"));
            }
            note(format_args!("report: {}", page.display()));
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The command line that continues this run.
fn again() -> String {
    let quote = |word: String| if word.contains([' ', '"', '\'']) { format!("{word:?}") } else { word };
    std::env::args().map(quote).collect::<Vec<_>>().join(" ")
}

impl Rerun {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let read = |path: &Path| std::fs::read(path).map_err(FileError::at("read", path));
        let before = read(&self.manifest)?;
        let unclear =
            |error| Failure::Usage(format!("failed to read the manifest `{}`: {error}", self.manifest.display()));
        let before: Manifest = serde_json::from_slice(&before).map_err(unclear)?;
        if before.shard.is_some() {
            return Err(Failure::Usage(
                "failed to run again: this is a shard; name the manifest of the whole".to_owned(),
            ));
        }
        if before.theriac != env!("CARGO_PKG_VERSION") {
            note(format_args!(
                "warning: the results are of version {}, this is {}",
                before.theriac,
                env!("CARGO_PKG_VERSION")
            ));
        }
        let surroundings = Surroundings { data_dir: self.data_dir.clone(), device: before.device.clone() };
        let bench = surroundings.workbench()?;
        let config = Config::parse(&before.config, &self.manifest.display().to_string(), &bench);
        let config = config.map_err(theriac_lab::ConfigError::from)?;
        let beside = self.manifest.parent().unwrap_or(Path::new("."));
        // A folder that nothing but repetitions writes to, so that no older step is taken for a new one.
        let out = self.out.as_deref().unwrap_or(beside).join("rerun");
        let folder = out.join(&config.name);
        // Results that are compared with themselves are always identical.
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        if real(&folder).is_some_and(|folder| Some(folder) == real(beside)) {
            let message = format!(
                "the results of `{}` would be compared with themselves; name another folder with --out",
                beside.display()
            );
            return Err(Failure::Usage(message));
        }
        let options = self.effort.options(out.clone(), out.join(".store"), &self.manifest);
        match self.effort.run(&config, &bench, &options)? {
            interrupted @ Outcome::Interrupted { .. } => {
                note(format_args!("{interrupted}:\n  {}", again()));
                return Ok(ExitCode::from(130));
            }
            Outcome::NothingToDo { .. } => {
                note(format_args!(
                    "compared with an earlier repetition; remove `{}` to repeat it once more",
                    out.display()
                ));
            }
            Outcome::Finished(_) => {}
        }
        let mut different = Vec::new();
        for name in [CELLS, GALLERY] {
            if read(&beside.join(name))? != read(&folder.join(name))? {
                different.push(format!("{name} differs"));
            }
        }
        let after: Manifest = serde_json::from_slice(&read(&folder.join(MANIFEST))?).map_err(unclear)?;
        different.extend(differences(&before, &after));
        if different.is_empty() {
            say(&format!("identical: {} steps, {CELLS} and {GALLERY}, in `{}`", after.steps.len(), folder.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        say(&different.join("\n"))?;
        note(format_args!(
            "not identical; `theriac results diff {} {}` tells the cells",
            beside.display(),
            folder.display()
        ));
        Ok(ExitCode::FAILURE)
    }
}

/// What else differs between two runs of one config: the data, and the first step whose output differs.
fn differences(before: &Manifest, after: &Manifest) -> Vec<String> {
    let data = before.data.iter().filter(|(name, hash)| after.data.get(*name) != Some(hash));
    let mut found: Vec<String> = data.map(|(name, _)| format!("the data set {name} is not the same")).collect();
    // By address: a step whose files were not needed any more may be in one of them only.
    let after: BTreeMap<&str, &str> = after.steps.iter().map(|step| (&*step.address, &*step.output)).collect();
    let step = before.steps.iter().find(|step| after.get(&*step.address) != Some(&&*step.output));
    found.extend(step.map(|step| format!("the first step that differs: {}", step.label)));
    found
}

#[derive(Args, Debug)]
pub struct Report {
    /// A results folder, such as `results/quickstart`.
    folder: PathBuf,
}

impl Report {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        write_report(&self.folder)?;
        let results = theriac_report::Results::read(&self.folder)?;
        say(&theriac_report::table(&results.cells, &everything()))?;
        note(format_args!("report: {}", self.folder.join("report.html").display()));
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args, Debug)]
pub struct Leaderboard {
    /// Results folders, such as `results/mnist-grid`.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Folder for the leaderboard.
    #[arg(long, default_value = "results/leaderboard", value_name = "DIR")]
    out: PathBuf,
}

impl Leaderboard {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        theriac_report::leaderboard(&self.folders, &self.out)?;
        note(format_args!("leaderboard: {}", self.out.join("leaderboard.html").display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether the report was written after the results. A run that was killed between the two leaves the report of an earlier one.
fn is_newer(page: &Path, manifest: &Path) -> bool {
    let age = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified());
    matches!((age(page), age(manifest)), (Ok(page), Ok(manifest)) if page >= manifest)
}

pub fn write_report(folder: &Path) -> Result<(), Failure> {
    theriac_report::write(folder, &everything())?;
    Ok(())
}
