//! The samples that are there beside those that the ledger knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use theriac_core::Digest;

use crate::anchor::Anchor;
use crate::chain::Chain;
use crate::entry::{Action, Change};
use crate::finding::{Finding, Point, Since, What};
use crate::state::{State, Version};

/// The samples that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Key and content of each, sorted by key.
    pub items: Vec<(String, Digest)>,
    /// Those that cannot be read, and why.
    pub unreadable: Vec<(String, String)>,
}

impl Scan {
    /// Samples in any order, each key once.
    pub fn new(items: impl IntoIterator<Item = (String, Digest)>) -> Self {
        let mut items: Vec<(String, Digest)> = items.into_iter().collect();
        items.sort_unstable();
        Self { items, unreadable: Vec::new() }
    }
}

/// What would have to be recorded so that the ledger says what is there: from the ledger's content to that of the scan, sorted by key.
/// Samples that cannot be read are left as they are.
pub fn differences(state: &State, scan: &Scan) -> Vec<Change> {
    let mut changes = Vec::new();
    let unreadable: BTreeSet<&str> = scan.unreadable.iter().map(|(key, _)| key.as_str()).collect();
    let mut change = |key: &str, before: Option<Digest>, after: Option<Digest>| {
        if before != after && !unreadable.contains(key) {
            changes.push(Change { key: key.to_owned(), before, after });
        }
    };
    let mut known = state.samples().iter().peekable();
    for (key, found) in &scan.items {
        while let Some((gone, version)) = known.next_if(|(known, _)| *known < key) {
            change(gone, version.content, None);
        }
        let before = known.next_if(|(known, _)| *known == key).and_then(|(_, version)| version.content);
        change(key, before, Some(*found));
    }
    known.for_each(|(gone, version)| change(gone, version.content, None));
    changes
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which ledger: the digest of its first entry.
    pub ledger: Option<Digest>,
    /// How many entries could be read.
    pub entries: u64,
    /// How many samples there should be.
    pub samples: u64,
    /// The last entry at which everything was compared and nothing was found.
    pub good: Option<Point>,
    /// The first line of the ledger from which on nothing is vouched for; none if all of it is.
    pub doubted: Option<u64>,
    /// All that was found, the ledger first.
    pub findings: Vec<Finding>,
}

/// Verifies everything: the ledger by itself, against anchors, and the samples that are there against it.
pub fn verify(chain: &Chain, scan: &Scan, anchors: &[Anchor]) -> Report {
    let (held, failed): (Vec<_>, Vec<_>) =
        anchors.iter().map(|anchor| (anchor.entry, chain.compare(anchor))).partition(|(_, finding)| finding.is_none());
    // Where an anchor fails, any line may be another one but those up to an anchor that holds, counted from 1.
    let anchored = held.iter().map(|(entry, _)| entry + 1).max().unwrap_or(0);
    let unanchored = (!failed.is_empty()).then_some(anchored + 1);
    let doubted = chain.doubted().into_iter().chain(unanchored).min();
    let good = chain.good().filter(|good| vouched(good, doubted));
    let mut findings = chain.findings().to_vec();
    findings.extend(failed.into_iter().filter_map(|(_, finding)| finding));
    findings.extend(of_samples(chain, scan, good, doubted));
    Report {
        ledger: chain.identity(),
        entries: chain.entries().len() as u64,
        samples: chain.state().count(),
        good,
        doubted,
        findings,
    }
}

/// Whether an entry stands before the first line that is doubted.
fn vouched(point: &Point, doubted: Option<u64>) -> bool {
    doubted.is_none_or(|line| point.entry + 1 < line)
}

/// What is found on the samples alone; nothing where no entry says what they should be.
fn of_samples(chain: &Chain, scan: &Scan, good: Option<Point>, doubted: Option<u64>) -> Vec<Finding> {
    if chain.entries().is_empty() {
        return Vec::new();
    }
    let state = chain.state();
    let changes = differences(state, scan);
    let keys: BTreeSet<&str> = changes.iter().map(|change| change.key.as_str()).collect();
    let histories = if keys.is_empty() { BTreeMap::new() } else { chain.histories(&keys) };
    // Where the content of a sample that is gone turns up under a name that no entry knows.
    let strangers = changes.iter().filter(|change| change.before.is_none()).rev();
    let moved: BTreeMap<Digest, &str> =
        strangers.filter_map(|change| Some((change.after?, change.key.as_str()))).collect();
    let since = |key: &str| {
        let made = state.samples().get(key).map(|version| Point { entry: version.entry, time: version.time });
        made.filter(|made| vouched(made, doubted)).into_iter().chain(good).max_by_key(|point| point.entry)
    };
    let finding = |key: &str, what| Finding::of_sample(key, what, since(key));
    let mut findings: Vec<Finding> = Vec::new();
    for Change { key, before, after } in &changes {
        let history = histories.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        let what = match (before, after) {
            (Some(expected), None) => {
                let moved_to = moved.get(expected).map(|&other| other.to_owned());
                What::Missing { expected: *expected, made: made(history), moved_to }
            }
            (before, Some(found)) => {
                match (history.iter().rposition(|version| version.content == Some(*found)), before) {
                    (Some(at), _) => {
                        What::Back { of: history[at].entry, replaced: made(&history[..history.len().min(at + 2)]) }
                    }
                    (None, Some(expected)) => What::Changed { expected: *expected, made: made(history), found: *found },
                    (None, None) => What::Unexplained { found: *found },
                }
            }
            (None, None) => continue,
        };
        findings.push(finding(key, what));
    }
    findings.extend(scan.unreadable.iter().map(|(key, why)| finding(key, What::NotReadable { why: why.clone() })));
    // Rows are counted: 9 comes before 10.
    let place = |finding: &Finding| {
        let key = finding.sample.clone().unwrap_or_default();
        (key.parse::<u64>().ok(), key)
    };
    findings.sort_by_cached_key(place);
    let strange = scan.items.iter().all(|(key, _)| state.content(key).is_none()) && scan.unreadable.is_empty();
    if let (true, true, Some(entry)) = (strange, state.count() > 0, chain.entries().first())
        && let Action::Init { data, .. } = &entry.header.action
    {
        let what = What::OtherData { expected: data.clone() };
        let since = Since { after: good, by: None };
        findings.insert(0, Finding { what, sample: None, line: None, since });
    }
    findings
}

fn made(history: &[Version]) -> u64 {
    history.last().map_or(0, |version| version.entry)
}

#[cfg(test)]
mod tests;
