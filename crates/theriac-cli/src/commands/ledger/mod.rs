//! `ledger`: who changed what in one's own data, and is everything as it was recorded?

mod act;
mod look;
mod place;
mod prove;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use theriac_core::{Role, Stage};

use super::{Failure, say};
use place::{Place, Signer};

pub const EXAMPLES: &str = "\
Examples:
  theriac ledger key ada                                  a key pair for the author ada
  theriac ledger init pets --key ada.theriac-key          the ledger of the folder pets
  cd pets; theriac ledger verify                          is everything as it was recorded?
  theriac ledger record --note \"new cats\" --key ../ada.theriac-key
  theriac ledger anchor --out ../anchor.txt               keep it elsewhere: it finds what was cut off
  theriac ledger verify --anchor ../anchor.txt
  theriac ledger prove cat/1.png --out proof.json

The ledger of a folder DIR lies in DIR/.theriac-ledger, that of a table FILE.csv in FILE.csv.theriac-ledger.

Exit codes:
  0    done, nothing was found
  1    something was found, or failed
  2    the command line is wrong; nothing was done";

#[derive(Args, Debug)]
pub struct Ledger {
    /// The data: a folder (a sample is a file) or a table (a sample is a row).
    #[arg(long, global = true, default_value = ".", value_name = "DIR|FILE.csv")]
    data: PathBuf,
    /// The folder of the ledger, if it is not beside the data.
    #[arg(long, global = true, value_name = "DIR")]
    ledger: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make a key pair. The file is the author's secret; the printed half is for everybody.
    Key {
        /// The author.
        name: String,
        /// The file of the key. Default: NAME.theriac-key in the current folder.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Begin a ledger with the samples that are there.
    Init {
        /// The data: a folder or a table.
        #[arg(value_name = "DIR|FILE.csv")]
        path: PathBuf,
        /// The role of the first author: engineer or auditor, since nobody else may admit others.
        #[arg(long, default_value = "engineer", value_parser = word::<Role>)]
        role: Role,
        #[command(flatten)]
        signer: Signer,
        #[command(flatten)]
        note: Note,
    },
    /// Take up what changed since the last entry, as one change set.
    Record {
        #[command(flatten)]
        signer: Signer,
        #[command(flatten)]
        note: Note,
        /// Only list what would be taken up.
        #[arg(long)]
        dry_run: bool,
    },
    /// List the entries.
    Log {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show all versions of a sample: by whom, and when.
    Show {
        /// Its path in the folder, or the number of its row.
        sample: String,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Verify the ledger, and all samples against it. Everything is looked at, whatever is found.
    Verify(verify::Verify),
    /// Prove what the ledger says of a sample, or check such a proof.
    Prove(prove::Prove),
    /// Tell who last touched each aspect of a sample; without one, what each author did.
    Blame {
        /// Its path in the folder, or the number of its row.
        sample: Option<String>,
    },
    /// List what was added, removed and changed between two entries.
    Diff {
        /// The number of an entry.
        from: u64,
        /// The number of another one.
        to: u64,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a few lines that fix the ledger as it is now. Kept elsewhere, they show whether something was cut off or rewritten.
    Anchor {
        /// Write them to a new file.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Admit the key of an author.
    Admit {
        /// The author.
        name: String,
        /// The public half of the key, which `theriac ledger key` printed.
        #[arg(long, value_name = "HEX")]
        public: String,
        /// In which role the author signs.
        #[arg(long, value_parser = word::<Role>)]
        role: Role,
        #[command(flatten)]
        signer: Signer,
        #[command(flatten)]
        note: Note,
    },
    /// Retire a key: what it signs from now on is a finding.
    Retire {
        /// The author's name, or the first digits of the public key.
        #[arg(value_name = "NAME|HEX")]
        whose: String,
        #[command(flatten)]
        signer: Signer,
        #[command(flatten)]
        note: Note,
    },
    /// Note what happened to the data without changing them.
    Tell {
        #[command(subcommand)]
        event: act::Event,
        #[command(flatten)]
        signer: Signer,
        #[command(flatten)]
        note: Note,
    },
    /// Set a line aside that was cut, as by an interrupted append.
    Heal,
}

/// Why, and where in the pipeline.
#[derive(Args, Debug)]
struct Note {
    /// Why, in a few words.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    note: String,
    /// The stage of the pipeline.
    #[arg(long, default_value = "store", value_parser = word::<Stage>)]
    stage: Stage,
}

/// Prints one line, whatever is in the names and notes in it.
fn line(text: &str) -> Result<(), Failure> {
    say(&theriac_ledger::plain(text))
}

/// A role or a stage by its name.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    // What serde says of an unknown name lists the known ones.
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

impl Ledger {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let place = |data: PathBuf| Place::new(data, self.ledger.clone());
        match self.action {
            Action::Key { name, out } => act::key(&name, out),
            Action::Init { path, role, signer, note } => act::init(&place(path), role, &signer, note),
            Action::Record { signer, note, dry_run: false } => act::record(&place(self.data), &signer, &note),
            Action::Record { dry_run: true, .. } => act::preview(&place(self.data)),
            Action::Admit { name, public, role, signer, note } => {
                act::admit(&place(self.data), (name, public, role), &signer, note)
            }
            Action::Retire { whose, signer, note } => act::retire(&place(self.data), &whose, &signer, note),
            Action::Tell { event, signer, note } => act::tell(&place(self.data), event, &signer, note),
            Action::Heal => act::heal(&place(self.data)),
            Action::Log { json } => look::log(&place(self.data), json),
            Action::Show { sample, json } => look::show(&place(self.data), &sample, json),
            Action::Blame { sample: Some(sample) } => look::blame(&place(self.data), &sample),
            Action::Blame { sample: None } => look::shares(&place(self.data)),
            Action::Diff { from, to, json } => look::diff(&place(self.data), from, to, json),
            Action::Anchor { out } => prove::anchor(&place(self.data), out),
            Action::Verify(verify) => verify.execute(&place(self.data)),
            Action::Prove(prove) => prove.execute(&place(self.data)),
        }
    }
}
