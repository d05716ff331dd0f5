//! The command line: what can be said, and what each word does.

mod data;
mod explain;
mod ledger;
mod list;
mod plan;
mod poison;
mod results;
mod run;
mod store;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use theriac_core::{Kind, MethodInfo};
use theriac_data::{DataError, Places};
use theriac_lab::run::merge::MergeError;
use theriac_lab::{Config, ConfigError, RunError, files::FileError};
use theriac_ledger::{KeyError, LedgerError, ProofError};
use theriac_nn::DeviceError;
use theriac_report::ReportError;

use crate::workbench::{Workbench, methods};

pub(crate) use explain::{default as default_of, threat_model};
pub(crate) use list::trait_of;

const EXAMPLES: &str = "\
Examples:
  theriac run configs/quickstart.toml          poison, defend, measure, report
  theriac plan configs/quickstart.toml         what that would take
  theriac list attacks                         what there is
  theriac explain badnets                      one method: paper, threat model, parameters
  theriac poison configs/quickstart.toml --out poisoned

Exit codes:
  0    done, or nothing was left to do
  1    something failed; a run keeps what was finished, and running again continues
  2    the command line or the config is wrong; nothing was started
  130  interrupted by Ctrl-C; running again continues";

/// An attack-and-defense laboratory for data poisoning.
#[derive(Parser, Debug)]
#[command(name = "theriac", version, about, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the experiments of a config and write tables, figures and a report.
    #[command(after_help = run::EXAMPLES)]
    Run(run::Run),
    /// Show the cells and the shared steps of a config, and the time they would take. Trains nothing.
    Plan(plan::Plan),
    /// Check a config and report everything that is wrong with it.
    Check(plan::Check),
    /// Run what a manifest describes once more, from nothing, and compare the results byte by byte.
    Rerun(run::Rerun),
    /// Write the tables, figures and the report of a results folder anew.
    Report(run::Report),
    /// Rank the defenses of results folders and write a sortable page, with the config of every row.
    Leaderboard(run::Leaderboard),
    /// Show results, compare two of them, put shards together.
    Results(results::Results),
    /// List, verify and clean up the store of finished steps.
    Store(store::Store),
    /// List data sets, models, attacks and defenses.
    List(list::List),
    /// Explain one method: where it comes from, what it assumes, what it can be told.
    Explain(explain::Explain),
    /// List, fetch and verify data sets.
    Data(data::Data),
    /// Keep a signed ledger of your own data: who changed what, and is everything as it was recorded?
    #[command(after_help = ledger::EXAMPLES)]
    Ledger(ledger::Ledger),
    /// Write the poisoned data sets of a config as image folders with a table of edits.
    Poison(poison::Poison),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the reference pages that are generated from the registries.
    #[command(hide = true)]
    Reference(crate::reference::Reference),
}

/// Where data and networks are.
#[derive(Args, Debug, Clone)]
pub struct Surroundings {
    /// Folder with data sets, before $THERIAC_DATA and ./data.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where networks run: cpu, gpu or ndarray.
    #[arg(long, default_value = "cpu", value_name = "NAME")]
    device: String,
}

impl Surroundings {
    fn workbench(&self) -> Result<Workbench, Failure> {
        Workbench::new(&self.device, Places::new(self.data_dir.clone())).map_err(|error| match error {
            DeviceError::Unknown { .. } | DeviceError::NotBuilt { .. } => Failure::Usage(error.to_string()),
            DeviceError::Missing { .. } => error.into(),
        })
    }
}

/// The folders of a run.
#[derive(Args, Debug, Clone)]
pub struct Folders {
    /// Folder for results; the study gets a folder of its own name in it.
    #[arg(long, default_value = "results", value_name = "DIR")]
    out: PathBuf,
    /// Folder of finished steps, shared by all studies. Default: `.store` in the results folder.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

impl Folders {
    fn store(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(|| self.out.join(".store"))
    }
}

/// Why a command ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Proof(#[from] ProofError),
    #[error("{0}")]
    Step(String),
    // Not `from`: other errors of files must name the file.
    #[error("failed to print: {0}")]
    Print(std::io::Error),
}

/// Carries out one command.
///
/// # Errors
/// What a person should read, with its exit code.
pub fn execute(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Run(command) => command.execute(),
        Command::Plan(command) => command.execute(),
        Command::Check(command) => command.execute(),
        Command::Rerun(command) => command.execute(),
        Command::Report(command) => command.execute(),
        Command::Leaderboard(command) => command.execute(),
        Command::Results(command) => command.execute(),
        Command::Store(command) => command.execute(),
        Command::List(command) => command.execute(),
        Command::Explain(command) => command.execute(),
        Command::Data(command) => command.execute(),
        Command::Ledger(command) => command.execute(),
        Command::Poison(command) => command.execute(),
        Command::Reference(command) => command.execute(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "theriac", &mut script);
            say(&String::from_utf8_lossy(&script))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Tells a person something on standard error. Where nobody listens any more, that is no reason to stop.
fn note(text: std::fmt::Arguments) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Prints a line to standard output. A reader that went away (`theriac list | head`) is no error, and no reason to leave the work undone.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    use std::io::ErrorKind;
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Failure::Print),
    }
}

fn read_config(path: &std::path::Path, bench: &Workbench) -> Result<Config, Failure> {
    Ok(Config::read(path, bench)?)
}

/// The registries, with the names under which `list` shows them.
pub(crate) const REGISTRIES: [(&str, Kind); 4] =
    [("datasets", Kind::Dataset), ("models", Kind::Model), ("attacks", Kind::Attack), ("defenses", Kind::Defense)];

/// Every entry of every registry.
pub(crate) fn everything() -> Vec<&'static MethodInfo> {
    REGISTRIES.iter().flat_map(|(_, kind)| methods(*kind)).collect()
}

/// Seconds for people.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        0 => "less than a second".to_owned(),
        whole @ 1..60 => format!("{whole} s"),
        whole @ 60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        whole => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}
