//! `ledger verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use theriac_ledger::{Report, utc, verify};

use super::place::{Place, Signer};
use super::{act, line, prove};
use crate::commands::{Failure, say};

/// So many findings are printed; the others are counted.
const SHOWN: usize = 50;

#[derive(Args, Debug)]
pub struct Verify {
    /// An anchor that was kept elsewhere; may be given several times.
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
    /// If nothing is found, sign an entry that says so.
    #[arg(long)]
    attest: bool,
    /// Print all findings, however many.
    #[arg(long)]
    all: bool,
    /// Print as JSON, with all findings.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    signer: Signer,
}

impl Verify {
    pub fn execute(self, place: &Place) -> Result<ExitCode, Failure> {
        if self.attest {
            // Whoever cannot sign learns it before all is read.
            self.signer.key(place)?;
        }
        let anchors = self.anchor.iter().map(|path| prove::read_anchor(path)).collect::<Result<Vec<_>, _>>()?;
        let chain = theriac_ledger::Ledger::read(&place.ledger)?;
        let report = verify(&chain, &place.scan_for(&chain)?, &anchors);
        let sound = report.findings.is_empty();
        if self.json {
            let mut object = json!(report);
            let says = report.findings.iter().map(ToString::to_string);
            let findings = object["findings"].as_array_mut().into_iter().flatten();
            findings.zip(says).for_each(|(finding, says)| finding["says"] = says.into());
            say(&object.to_string())?;
        } else {
            tell(&report, self.all, anchors.len())?;
        }
        if self.attest && sound {
            let entry = act::attest(place, &self.signer, chain.digests().last().copied())?;
            let told = format!("entry {}: {} attests that nothing was found", entry.header.number, entry.header.actor);
            if !self.json {
                line(&told)?;
            }
        }
        Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn tell(report: &Report, all: bool, anchors: usize) -> Result<(), Failure> {
    let Report { entries, samples, good, doubted, findings, .. } = report;
    let shown = if all { findings.len() } else { SHOWN.min(findings.len()) };
    findings[..shown].iter().try_for_each(|finding| line(&finding.to_string()))?;
    if shown < findings.len() {
        line(&format!("and {} more; --all prints them", findings.len() - shown))?;
    }
    if let Some(first) = doubted.filter(|_| *entries > 0) {
        line(&format!(
            "from line {first} on, nothing that the ledger says is vouched for, what it says of samples included"
        ))?;
    }
    let against = match anchors {
        0 => String::new(),
        1 => ", against 1 anchor".to_owned(),
        more => format!(", against {more} anchors"),
    };
    let found = match findings.len() {
        0 => "nothing found".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    let good =
        good.map_or(String::new(), |good| format!("; last known to be good: entry {}, {}", good.entry, utc(good.time)));
    let entries = if *entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
    line(&format!("{samples} samples, {entries}{against}: {found}{good}"))
}
