//! Proofs and anchors: what can be shown to others, and kept elsewhere.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use theriac_core::files::FileError;
use theriac_ledger::{Anchor, Proof, Version, utc};

use super::line;
use super::place::Place;
use crate::commands::{Failure, note, say};

#[derive(Args, Debug)]
pub struct Prove {
    /// The sample: its path in the folder, or the number of its row.
    #[arg(required_unless_present = "check", conflicts_with = "check")]
    sample: Option<String>,
    /// Write the proof to a new file instead of printing it.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// Check a proof: against an anchor if one is named, or else against the ledger.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// The anchor of the entry that the proof rests on.
    #[arg(long, value_name = "FILE", requires = "check")]
    anchor: Option<PathBuf>,
}

impl Prove {
    pub fn execute(self, place: &Place) -> Result<ExitCode, Failure> {
        if let Some(path) = &self.check {
            return check(place, path, self.anchor.as_deref());
        }
        let ledger = place.open()?;
        let sample = self.sample.as_deref().unwrap_or_default();
        if !ledger.chain().state().samples().contains_key(sample) {
            note(format_args!("no entry knows `{sample}`: this proves that it never was among the samples"));
        }
        let proof = ledger.chain().prove(sample);
        let text = proof.map(|proof| proof.text()).unwrap_or_default();
        deliver(&text, self.out)
    }
}

fn check(place: &Place, path: &Path, anchor: Option<&Path>) -> Result<ExitCode, Failure> {
    let proof = Proof::read(&std::fs::read(path).map_err(FileError::at("read", path))?)?;
    let proved = match anchor {
        Some(path) => proof.check(&read_anchor(path)?)?,
        None => proof.check_in(place.open()?.chain())?,
    };
    let (header, sample) = (&proved.header, &proved.sample);
    line(&format!("proved by entry {}, signed by {} at {}:", header.number, header.actor, utc(header.time)))?;
    for Version { content, entry, time, actor, .. } in &proved.versions {
        let content = content.map_or_else(|| "removed".to_owned(), |content| format!("content {content}"));
        line(&format!("  {sample}: entry {entry}, {}, {actor}, {content}", utc(*time)))?;
    }
    if proved.versions.is_empty() {
        line(&format!("  {sample}: never was among the samples"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn anchor(place: &Place, out: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let anchor = place.open()?.chain().anchor();
    deliver(&anchor.map(|anchor| anchor.to_string()).unwrap_or_default(), out)
}

pub fn read_anchor(path: &Path) -> Result<Anchor, Failure> {
    let text = std::fs::read_to_string(path).map_err(FileError::at("read", path))?;
    text.parse().map_err(|error| Failure::Step(format!("{error} (in `{}`)", path.display())))
}

/// Prints, or writes to a new file: old anchors and proofs are not to be lost.
fn deliver(text: &str, out: Option<PathBuf>) -> Result<ExitCode, Failure> {
    match out {
        None => say(text)?,
        Some(path) => {
            let created = std::fs::File::create_new(&path);
            let written = created.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
            written.map_err(FileError::at("write the new file", &path))?;
            line(&path.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
