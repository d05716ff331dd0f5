//! `run` and `report`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use theriac_core::Kind;
use theriac_lab::{Options, Outcome, Plan, run::MANIFEST};

use super::{Failure, Folders, Surroundings, duration, read_config, say};
use crate::progress::Progress;
use crate::workbench::methods;

pub const EXAMPLES: &str = "\
Examples:
  theriac run configs/quickstart.toml
  theriac run study.toml --jobs 4 --threads 1 --data-dir ~/data
  theriac run study.toml --json | jq .cells

A killed or interrupted run continues where it stopped. A finished one is not run again.";

#[derive(Args, Debug)]
pub struct Run {
    /// The config, a TOML file.
    config: PathBuf,
    #[command(flatten)]
    folders: Folders,
    #[command(flatten)]
    surroundings: Surroundings,
    /// Steps at a time. Default: as many as there are cores, if there is that much to do.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Threads of one step. Default: the cores that the jobs leave. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print nothing but errors.
    #[arg(long, short)]
    quiet: bool,
    /// Print the outcome as JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub struct Report {
    /// A results folder, such as `results/quickstart`.
    folder: PathBuf,
}

impl Run {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let bench = self.surroundings.workbench()?;
        let config = read_config(&self.config, &bench)?;
        let plan = Plan::new(&config, &bench);
        let options = Options {
            out: self.folders.out.clone(),
            store: self.folders.store(),
            config_path: self.config.display().to_string(),
            jobs: self.jobs.map(usize::from),
            threads: self.threads.map(usize::from),
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let flag = cancel.clone();
        // Without a handler Ctrl-C still ends the process, and the store still has what was finished.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("finishing the running steps; press Ctrl-C again to stop at once");
        });
        let progress = Progress::new(!self.quiet);
        let outcome = theriac_lab::run(&config, &plan, &bench, &options, &progress, &cancel)?;
        progress.finish();
        self.conclude(&outcome)
    }

    fn conclude(&self, outcome: &Outcome) -> Result<ExitCode, Failure> {
        let (folder, cells, failed) = match outcome {
            Outcome::Interrupted { .. } => {
                eprintln!("{outcome}");
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
        } else if !self.quiet {
            if let Outcome::Finished(report) = outcome {
                let results = theriac_report::Results::read(folder)?;
                say(&theriac_report::table(&results.cells))?;
                eprintln!("{outcome} in {}", duration(report.seconds));
            } else {
                eprintln!("{outcome}");
            }
            eprintln!("report: {}", page.display());
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Report {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        write_report(&self.folder)?;
        let results = theriac_report::Results::read(&self.folder)?;
        say(&theriac_report::table(&results.cells))?;
        eprintln!("report: {}", self.folder.join("report.html").display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether the report was written after the results. A run that was killed between the two leaves the report of an earlier one.
fn is_newer(page: &Path, manifest: &Path) -> bool {
    let age = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified());
    matches!((age(page), age(manifest)), (Ok(page), Ok(manifest)) if page >= manifest)
}

fn write_report(folder: &Path) -> Result<(), Failure> {
    let methods: Vec<_> =
        [Kind::Dataset, Kind::Model, Kind::Attack, Kind::Defense].into_iter().flat_map(methods).collect();
    theriac_report::write(folder, &methods)?;
    Ok(())
}
