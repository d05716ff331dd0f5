//! Who did what: to one sample, and in all.

use std::collections::BTreeMap;

use serde::Serialize;
use theriac_core::{Digest, Role};

use crate::chain::Chain;
use crate::entry::{Change, Entry};
use crate::state::Version;

/// Who last touched each aspect of a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blame {
    /// Who brought it in, the last time that it came.
    pub added: Version,
    /// Who gave it the content that it has, or had before it was removed.
    pub content: Version,
    /// Who removed it, if it is not there.
    pub removed: Option<Version>,
}

/// What one actor did in one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Who.
    pub actor: String,
    /// In which role.
    pub role: Role,
    /// Entries of all kinds.
    pub entries: u64,
    /// Samples brought in.
    pub added: u64,
    /// Contents changed.
    pub changed: u64,
    /// Samples removed.
    pub removed: u64,
    /// Samples that are there now as this actor left them.
    pub holds: u64,
    /// Time of the first entry.
    pub first: u64,
    /// Time of the last one.
    pub last: u64,
}

impl Chain {
    /// Who last touched each aspect of a sample; none if it never was there.
    pub fn blame(&self, key: &str) -> Option<Blame> {
        let history = self.history(key);
        let is_there = |version: &&Version| version.content.is_some();
        let content = history.iter().rev().find(is_there)?.clone();
        let gone = history.iter().rposition(|v| v.content.is_none() && v.entry < content.entry);
        let added = history[gone.map_or(0, |at| at + 1)..].iter().find(is_there)?.clone();
        let removed = history.last().filter(|version| version.content.is_none()).cloned();
        Some(Blame { added, content, removed })
    }

    /// What each actor did, sorted by name and role.
    pub fn shares(&self) -> Vec<Share> {
        let mut shares: BTreeMap<(String, String), Share> = BTreeMap::new();
        for Entry { header, changes, .. } in self.entries() {
            let (actor, role) = (header.actor.clone(), header.role);
            let share = shares.entry((actor.clone(), role.to_string())).or_insert_with(|| {
                let first = header.time;
                Share { actor, role, entries: 0, added: 0, changed: 0, removed: 0, holds: 0, first, last: first }
            });
            share.entries += 1;
            share.last = header.time;
            for Change { before, after, .. } in changes {
                match (before, after) {
                    (None, _) => share.added += 1,
                    (_, None) => share.removed += 1,
                    _ => share.changed += 1,
                }
            }
        }
        let role_of: BTreeMap<u64, Role> = self.entries().iter().map(|it| (it.header.number, it.header.role)).collect();
        for version in self.state().samples().values().filter(|version| version.content.is_some()) {
            let role = role_of.get(&version.entry).map(Role::to_string).unwrap_or_default();
            shares.get_mut(&(version.actor.clone(), role)).into_iter().for_each(|share| share.holds += 1);
        }
        shares.into_values().collect()
    }

    /// What changed between the data after entry `from` and those after entry `to`, sorted by key.
    pub fn diff(&self, from: u64, to: u64) -> Vec<Change> {
        let (first, last) = (from.min(to), from.max(to));
        let between = self.entries().iter().filter(|entry| (first + 1..=last).contains(&entry.header.number));
        let mut net: BTreeMap<&str, (Option<Digest>, Option<Digest>)> = BTreeMap::new();
        for change in between.flat_map(|entry| &entry.changes) {
            net.entry(&change.key).or_insert((change.before, None)).1 = change.after;
        }
        let turn = |(before, after)| if from > to { (after, before) } else { (before, after) };
        let changes = net.into_iter().map(|(key, ends)| (key.to_owned(), turn(ends)));
        let changes = changes.filter(|(_, (before, after))| before != after);
        changes.map(|(key, (before, after))| Change { key, before, after }).collect()
    }
}

#[cfg(test)]
mod tests;
