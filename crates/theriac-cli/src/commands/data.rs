//! `data list | fetch | verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use theriac_data::{DATASETS, DatasetEntry, FileState, Places};

use super::{Failure, say};

#[derive(Args, Debug)]
pub struct Data {
    /// Folder with data sets, before $THERIAC_DATA and ./data.
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand, Debug)]
enum DataCommand {
    /// Show all data sets, and which of them are on this machine.
    List {
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a data set from its publisher, checked and resumable.
    Fetch {
        /// The data set.
        name: String,
    },
    /// Check the files of a data set against the published checksums.
    Verify {
        /// The data set.
        name: String,
    },
}

impl Data {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let places = Places::new(self.data_dir);
        match self.command {
            DataCommand::List { json } => list(&places, json),
            DataCommand::Fetch { name } => fetch(&places, &name),
            DataCommand::Verify { name } => verify(&places, &name),
        }
    }
}

/// Where the files of a data set are. Only a data set of the user's own was never published.
fn state(entry: &DatasetEntry, places: &Places) -> &'static str {
    match (entry.files.is_empty(), !entry.page.is_empty()) {
        (true, false) => "your own",
        (true, true) => "built in",
        (false, _) if entry.is_available(places) => "here",
        (false, _) => "absent",
    }
}

fn list(places: &Places, json: bool) -> Result<ExitCode, Failure> {
    if json {
        let row = |entry: &&DatasetEntry| {
            serde_json::json!({
                "name": entry.name(), "state": state(entry, places), "summary": entry.info.summary,
                "licence": entry.licence, "page": entry.page,
            })
        };
        say(&serde_json::Value::from(DATASETS.iter().map(row).collect::<Vec<_>>()).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    for entry in DATASETS {
        say(&format!("{:<14} {:<9} {}", entry.name(), state(entry, places), entry.info.summary))?;
    }
    say("\n`theriac data fetch NAME` brings an absent one; `--data-dir` and $THERIAC_DATA name other folders")?;
    Ok(ExitCode::SUCCESS)
}

/// A data set that does not exist is a slip on the command line.
fn find(name: &str) -> Result<&'static DatasetEntry, Failure> {
    theriac_data::find(name).map_err(|error| Failure::Usage(error.to_string()))
}

fn fetch(places: &Places, name: &str) -> Result<ExitCode, Failure> {
    find(name)?;
    let bar = ProgressBar::no_length();
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let files = theriac_data::fetch(name, places, &mut |progress| {
        bar.set_message(progress.file.to_owned());
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    })?;
    bar.finish_and_clear();
    if files.is_empty() {
        say(&format!("{name}: nothing to fetch"))?;
    }
    for file in files {
        say(&file.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(places: &Places, name: &str) -> Result<ExitCode, Failure> {
    let entry = find(name)?;
    let files = theriac_data::verify(name, places)?;
    if files.is_empty() {
        say(&format!("{name}: {}, nothing to verify", state(entry, places)))?;
    }
    for file in &files {
        let word = match &file.state {
            FileState::Missing => "missing".to_owned(),
            FileState::Published => "ok".to_owned(),
            FileState::SameContent => "ok (same content in another wrapping)".to_owned(),
            FileState::Different(why) => format!("DIFFERENT: {why}"),
            FileState::Unreadable(why) => format!("UNREADABLE: {why}"),
        };
        let place = file.path.as_ref().map_or(String::new(), |path| format!("  {}", path.display()));
        say(&format!("{:<32} {word}{place}", file.name))?;
    }
    Ok(if files.iter().all(theriac_data::FileStatus::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
