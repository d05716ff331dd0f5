//! `results`: show them, compare them, put shards together.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use theriac_core::organisation::Organisation;
use theriac_lab::run::merge::{merge, shards_in};
use theriac_report::Results as Read;

use super::run::write_report;
use super::{Failure, everything, say};

#[derive(Args, Debug)]
pub struct Results {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Print the table of a results folder.
    Show {
        /// A results folder, such as `results/quickstart`.
        folder: PathBuf,
        /// One row for each metric of each group of cells, as CSV.
        #[arg(long, conflicts_with = "json")]
        csv: bool,
        /// One JSON object a cell and line.
        #[arg(long)]
        json: bool,
    },
    /// Tell which cells differ between two results folders, in what, and whether by more than the seeds do.
    Diff {
        /// A results folder.
        a: PathBuf,
        /// The other one.
        b: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell how much damage each role of an organisation can do, by the attacks that were measured, and which permission is best withdrawn.
    Roles {
        /// A results folder.
        folder: PathBuf,
        /// A TOML file with the roles and what each may do, such as `configs/scenarios/organisation.toml`.
        #[arg(long, value_name = "FILE")]
        organisation: PathBuf,
        /// Also draw it, into this SVG file.
        #[arg(long, value_name = "FILE")]
        figure: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put the shards of one study together.
    Merge {
        /// A results folder with shards in it, or the folders of the shards.
        #[arg(required = true)]
        folders: Vec<PathBuf>,
        /// Where the results go. Default: the folder that the shards are in.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Reads and checks an organisation.
fn read_organisation(path: &Path) -> Result<Organisation, Failure> {
    let fault = |message: String| Failure::Usage(format!("failed to read `{}`: {message}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    let organisation: Organisation = toml::from_str(&text).map_err(|error| fault(error.to_string()))?;
    organisation.check().map_err(|error| fault(error.to_string()))
}

impl Results {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        match self.action {
            Action::Show { folder, csv, json } => {
                let results = Read::read(&folder)?;
                if json {
                    results.cells.iter().try_for_each(|cell| {
                        say(&serde_json::to_string(cell).expect("plain data serialises to JSON"))
                    })?;
                } else if csv {
                    let rows = theriac_report::csv(&theriac_report::summarise(&results.cells))?;
                    say(&String::from_utf8_lossy(&rows))?;
                } else {
                    say(&theriac_report::show(&results, &everything()))?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Action::Roles { folder, organisation, figure, json } => {
                let organisation = read_organisation(&organisation)?;
                let results = Read::read(&folder)?;
                let found = theriac_report::roles(&organisation, &results.cells, theriac_attacks::threat_of);
                let found = found.ok_or_else(|| {
                    let attacked = results.cells.iter().any(|cell| cell.attack.name != "none");
                    let what = if attacked {
                        "no seed has an undefended cell of every attack"
                    } else {
                        "no attack was measured"
                    };
                    Failure::Step(format!("failed to tell the damage of roles in {}: {what}", folder.display()))
                })?;
                if let Some(path) = figure {
                    let drawing = found.figure().map_err(theriac_report::ReportError::from)?;
                    theriac_lab::files::write_atomically(&path, drawing.as_bytes())?;
                }
                match json {
                    true => say(&serde_json::to_string(&found).expect("plain data serialises to JSON"))?,
                    false => say(found.table().trim_end())?,
                }
                Ok(ExitCode::SUCCESS)
            }
            Action::Diff { a, b, json } => {
                let diff = theriac_report::diff(&Read::read(&a)?, &Read::read(&b)?);
                match json {
                    true => say(&serde_json::to_string_pretty(&diff).expect("plain data serialises to JSON"))?,
                    false => say(&diff.to_string())?,
                }
                Ok(if diff.is_identical() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Action::Merge { folders, out } => {
                let shards = match folders.as_slice() {
                    [folder] if out.is_none() || !folder.join(theriac_lab::run::MANIFEST).is_file() => {
                        shards_in(folder)?
                    }
                    _ => folders.clone(),
                };
                let whole = out.or_else(|| match folders.as_slice() {
                    [folder] => Some(folder.clone()),
                    several => several.first()?.parent().map(PathBuf::from),
                });
                let whole =
                    whole.ok_or_else(|| Failure::Usage("name a folder for the results with --out".to_owned()))?;
                let merged = merge(&shards, &whole)?;
                write_report(&whole)?;
                say(&format!("{} cells of {} shards in `{}`", merged.cells, shards.len(), whole.display()))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
