//! What looks into a ledger.

use std::process::ExitCode;

use serde_json::json;
use theriac_core::{Digest, param};
use theriac_ledger::{Action, Chain, Header, Version, utc};

use super::act::{list, summary};
use super::line;
use super::place::Place;
use crate::commands::{Failure, say};

pub fn log(place: &Place, as_json: bool) -> Result<ExitCode, Failure> {
    let chain = place.read()?;
    for (entry, digest) in chain.entries().iter().zip(chain.digests()) {
        let header = &entry.header;
        if as_json {
            say(&json!({ "digest": digest, "header": header, "changes": entry.changes }).to_string())?;
            continue;
        }
        let what = match &header.action {
            Action::Init { data, .. } => format!("begins the ledger of `{data}` with {} samples", header.count),
            Action::Admit { actor, role, public } => format!("admits {actor} as {role}, key {}", public.fingerprint()),
            Action::Retire { public } => format!("retires key {}", public.fingerprint()),
            Action::Change { .. } => summary(&entry.changes),
            Action::Access { purpose } => format!("access: {purpose}"),
            Action::Train { model, data, .. } => format!("trains model {} on data {}", short(model), short(data)),
            Action::Publish { model } => format!("publishes model {}", short(model)),
            Action::Deny { tried } => format!("refused: {tried}"),
            Action::Attest => "attests that nothing was found".to_owned(),
        };
        line(&format!("{:>4}  {}  {what}{}", header.number, author(header), quoted(&header.note)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn short(digest: &Digest) -> String {
    digest.short(12)
}

fn author(header: &Header) -> String {
    format!("{}  {} ({})", utc(header.time), header.actor, header.role)
}

fn quoted(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!("  {note:?}") }
}

/// The versions of a sample, or what it could have been.
fn history(chain: &Chain, sample: &str) -> Result<Vec<Version>, Failure> {
    let history = chain.history(sample);
    if history.is_empty() {
        let known = param::nearest(sample, chain.state().samples().keys().map(String::as_str));
        let hint = known.map_or(String::new(), |known| format!("; did you mean `{known}`?"));
        return Err(Failure::Usage(format!("no entry knows the sample `{sample}`{hint}")));
    }
    Ok(history)
}

pub fn show(place: &Place, sample: &str, as_json: bool) -> Result<ExitCode, Failure> {
    let chain = place.read()?;
    let versions = history(&chain, sample)?;
    if as_json {
        say(&json!({ "sample": sample, "versions": versions }).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let note_of = |number: u64| {
        let entry = chain.entries().iter().find(|entry| entry.header.number == number);
        entry.map_or(String::new(), |entry| quoted(&entry.header.note))
    };
    for Version { content, entry, time, actor, .. } in versions {
        let content = content.map_or_else(|| "removed".to_owned(), |content| format!("content {}", short(&content)));
        line(&format!("{entry:>4}  {}  {actor:<12} {content}{}", utc(time), note_of(entry)))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn blame(place: &Place, sample: &str) -> Result<ExitCode, Failure> {
    let chain = place.read()?;
    history(&chain, sample)?;
    let Some(blame) = chain.blame(sample) else { return Ok(ExitCode::SUCCESS) };
    let aspects = [("added", Some(blame.added)), ("content", Some(blame.content)), ("removed", blame.removed)];
    for (aspect, version) in aspects {
        if let Some(Version { entry, time, actor, .. }) = version {
            line(&format!("{aspect:<8} {actor:<12} entry {entry}, {}", utc(time)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub fn shares(place: &Place) -> Result<ExitCode, Failure> {
    let chain = place.read()?;
    line(&format!(
        "{:<24} {:>8} {:>8} {:>8} {:>8} {:>8}  last entry",
        "author", "entries", "added", "changed", "removed", "theirs"
    ))?;
    for share in chain.shares() {
        let author = format!("{} ({})", share.actor, share.role);
        let counts = [share.entries, share.added, share.changed, share.removed, share.holds];
        let counts: String = counts.iter().map(|count| format!(" {count:>8}")).collect();
        line(&format!("{author:<24}{counts}  {}", utc(share.last)))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn diff(place: &Place, from: u64, to: u64, as_json: bool) -> Result<ExitCode, Failure> {
    let chain = place.read()?;
    let last = chain.head().map_or(0, |(header, _)| header.number);
    if let Some(unknown) = [from, to].into_iter().find(|entry| *entry > last) {
        return Err(Failure::Usage(format!("there is no entry {unknown}; the last one is {last}")));
    }
    let changes = chain.diff(from, to);
    if as_json {
        say(&json!({ "from": from, "to": to, "changes": changes }).to_string())?;
    } else {
        list(&changes)?;
        line(&summary(&changes))?;
    }
    Ok(ExitCode::SUCCESS)
}
