//! `store`: what is in the store, whether it is sound, and making room.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::json;
use theriac_core::record::MethodRecord;
use theriac_lab::Step;
use theriac_lab::Store as Steps;

use super::{Failure, Folders, duration, say};

#[derive(Args, Debug)]
pub struct Store {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the finished steps, what was used last first.
    Ls {
        #[command(flatten)]
        folders: Folders,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Read every file and compare it with its checksum. Damaged entries are set aside and computed again when they are wanted.
    Verify {
        #[command(flatten)]
        folders: Folders,
    },
    /// Remove what is damaged, and what was not used for the longest time, until the rest fits. It can all be computed again.
    Gc {
        #[command(flatten)]
        folders: Folders,
        /// How much may stay, such as 2GiB.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        limit: u64,
        /// Only tell what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Bytes, from a number with an optional unit.
pub fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("b", 1),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?, *bytes)));
    let (number, bytes) = unit.unwrap_or((&lower, 1));
    let number = number.trim().parse::<f64>().ok().filter(|number| (0.0..1e18).contains(number));
    number
        .map(|number| (number * bytes as f64) as u64)
        .ok_or_else(|| "expected a size such as 500MB or 2GiB".to_owned())
}

/// Bytes for people.
fn people(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes >= 1 << shift);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(name, shift)| format!("{:.1} {name}", bytes as f64 / (1_u64 << shift) as f64),
    )
}

impl Store {
    pub fn execute(self) -> Result<ExitCode, Failure> {
        match self.action {
            Action::Ls { folders, json } => list(&folders, json),
            Action::Verify { folders } => verify(&folders),
            Action::Gc { folders, limit, dry_run } => {
                let swept = there(&folders)?.sweep(limit, dry_run)?;
                let verb = if dry_run { "would remove" } else { "removed" };
                say(&format!(
                    "{verb} {} entries ({}); {} stay ({})",
                    swept.removed,
                    people(swept.removed_bytes),
                    swept.kept,
                    people(swept.kept_bytes)
                ))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The store, if there is one: looking makes none.
fn there(folders: &Folders) -> Result<Steps, Failure> {
    let store = Steps::at(folders.store());
    match store.root().is_dir() {
        true => Ok(store),
        false => {
            let message = format!("there is no store at `{}`; name one with --store or --out", store.root().display());
            Err(Failure::Usage(message))
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "people want to know how long ago")]
fn list(folders: &Folders, as_json: bool) -> Result<ExitCode, Failure> {
    let entries = there(folders)?.entries()?;
    let age = |used: SystemTime| SystemTime::now().duration_since(used).unwrap_or_default().as_secs_f64();
    for entry in &entries {
        let step = entry.note.as_ref().map(|note| &note.step);
        let what = step.map_or_else(|| "damaged".to_owned(), describe);
        if as_json {
            let seconds = entry.note.as_ref().map(|note| note.seconds);
            let object = json!({
                "address": entry.address,
                "bytes": entry.bytes,
                "unused_seconds": age(entry.used),
                "seconds": seconds,
                "step": step,
            });
            say(&object.to_string())?;
        } else {
            let (bytes, unused) = (people(entry.bytes), duration(age(entry.used)));
            say(&format!("{}  {bytes:>10}  {unused:>18}  {what}", entry.address.short(12)))?;
        }
    }
    if !as_json {
        let bytes = entries.iter().map(|entry| entry.bytes).sum();
        say(&format!("{} steps, {}", entries.len(), people(bytes)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a step was, by the names of its methods.
fn describe(step: &Step) -> String {
    let name = |method: &Option<MethodRecord>| method.as_ref().map(|method| method.name.clone());
    let names = [name(&step.model), Some(step.dataset.name.clone()), name(&step.attack), name(&step.defense)];
    let names: Vec<String> = names.into_iter().flatten().collect();
    format!("{} {}, seed {}", step.kind, names.join(", "), step.seed)
}

fn verify(folders: &Folders) -> Result<ExitCode, Failure> {
    let (good, damaged) = there(folders)?.check()?;
    for (address, why) in &damaged {
        say(&format!("damaged and set aside: {}  {why}", address.short(12)))?;
    }
    say(&format!("{good} entries are sound, {} were damaged", damaged.len()))?;
    Ok(if damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(size("2GiB"), Ok(2 << 30));
        assert_eq!(size("1.5 kb"), Ok(1500));
        assert_eq!(size("12"), Ok(12));
        assert!(size("much").is_err() && size("-1MB").is_err());
        assert_eq!([people(12), people(3 << 20), people(5 << 29)], ["12 B", "3.0 MiB", "2.5 GiB"]);
    }
}
