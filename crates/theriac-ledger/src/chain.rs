//! The entries of a ledger one after the other: what each leads to, and what is wrong with it.

use std::collections::BTreeMap;

use rayon::prelude::*;
use theriac_core::Digest;

use crate::actors::Actors;
use crate::anchor::Anchor;
use crate::entry::{Action, Change, Entry, Fault, Header, Line, read_line};
use crate::finding::{Finding, Point, Since, What};
use crate::state::{State, Version};

/// A ledger as it was read, with all that is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    entries: Vec<Entry>,
    digests: Vec<Digest>,
    findings: Vec<Finding>,
    state: State,
    actors: Actors,
    good: Option<Point>,
    /// The last entry whose line is as it was signed.
    last: Option<Point>,
    /// Lines that are whole.
    lines: u64,
    /// What the next entry has to name: its number, and the digest of the one before; unknown after a line that was changed.
    next: Option<(u64, Option<Digest>)>,
    /// Whether the state is known not to be what the entries' authors saw.
    lost: bool,
    /// Whether a line about keys was changed, so that it is not known any more who may sign.
    keys_lost: bool,
}

impl Chain {
    /// A ledger without entries.
    pub(crate) fn new() -> Self {
        Self { next: Some((0, None)), ..Self::default() }
    }

    /// Reads the text of a ledger.
    pub fn read(text: &[u8]) -> Self {
        let mut chain = Self::new();
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<&[u8]> = text[..whole].split_inclusive(|&byte| byte == b'\n').collect();
        let read: Vec<Result<Line, String>> = lines.par_iter().map(|line| read_line(&line[..line.len() - 1])).collect();
        read.into_iter().for_each(|line| chain.follow(line));
        let tail = text.len() - whole;
        if tail > 0 {
            chain.find(What::Cut { bytes: tail }, chain.lines + 1);
        } else if chain.lines == 0 {
            chain.find(What::NoEntry { why: "the file is empty".to_owned() }, 1);
        }
        // What is wrong with each line is of no use where none is right.
        if let (true, Some(What::NoEntry { why })) = (chain.entries.is_empty(), chain.findings.first().map(|f| &f.what))
        {
            let (lines, why) = (chain.lines, why.clone());
            chain.findings.clear();
            chain.find(What::NoEntries { lines, why }, 1);
        }
        // Whoever appended the last sound entry had verified the lines before it: what was changed in them was changed later.
        let last = chain.last_sound();
        chain.findings.iter_mut().filter(|finding| finding.since.by.is_none()).for_each(|f| f.since.after = last);
        chain
    }

    /// The entries that could be read.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The digests of the entries that could be read.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// What is wrong with the ledger itself.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The samples after the last entry.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whose keys the ledger knows.
    pub fn actors(&self) -> &Actors {
        &self.actors
    }

    /// The last entry at which all samples were compared and the ledger was sound.
    pub fn good(&self) -> Option<Point> {
        self.good
    }

    /// The digest of the first entry: which ledger it is.
    pub fn identity(&self) -> Option<Digest> {
        let first = self.entries.first().filter(|entry| entry.header.number == 0);
        first.and(self.digests.first()).copied()
    }

    /// The last entry and its digest.
    pub fn head(&self) -> Option<(&Header, Digest)> {
        Some((&self.entries.last()?.header, *self.digests.last()?))
    }

    /// The first line from which on nothing is vouched for; none if the ledger is sound.
    pub fn doubted(&self) -> Option<u64> {
        self.findings.iter().filter_map(|finding| finding.line).min()
    }

    /// The versions of a sample, the first one first.
    pub fn history(&self, key: &str) -> Vec<Version> {
        self.histories(&[key].into()).remove(key).unwrap_or_default()
    }

    /// The versions of several samples, from one pass over the entries.
    pub(crate) fn histories<'k>(&self, keys: &std::collections::BTreeSet<&'k str>) -> BTreeMap<&'k str, Vec<Version>> {
        let mut histories: BTreeMap<&str, Vec<Version>> = BTreeMap::new();
        for Entry { header, changes, .. } in &self.entries {
            for change in changes {
                let Some(key) = keys.get(change.key.as_str()) else { continue };
                let versions = histories.entry(key).or_default();
                let before = versions.last().map(Version::digest);
                let (content, actor) = (change.after, header.actor.clone());
                versions.push(Version { content, entry: header.number, time: header.time, actor, before });
            }
        }
        histories
    }

    /// What speaks against this anchor being one of this ledger.
    pub fn compare(&self, anchor: &Anchor) -> Option<Finding> {
        let since = Since { after: Some(anchor.point()), by: None };
        let line = anchor.entry + 1;
        let found = |line: u64, what| Some(Finding { what, sample: None, line: Some(line), since });
        if self.identity() != Some(anchor.ledger) {
            return found(1, What::OtherLedger { expected: anchor.ledger, found: self.identity() });
        }
        let at = self.entries.iter().position(|entry| entry.header.number == anchor.entry);
        let Some(at) = at else {
            return match self.lines > anchor.entry {
                true => found(line, What::Rewritten { expected: anchor.head, found: None }),
                false => found(self.lines, What::Truncated { anchored: anchor.entry, entries: self.lines }),
            };
        };
        let header = &self.entries[at].header;
        let same = (header.root, header.count, header.time) == (anchor.root, anchor.count, anchor.time);
        match self.digests[at] == anchor.head && same {
            true => None,
            false => found(line, What::Rewritten { expected: anchor.head, found: Some(self.digests[at]) }),
        }
    }

    /// What speaks against an entry that would come next, as far as it can be told before its changes are made.
    pub(crate) fn objections(&self, header: &Header, changes: &[Change]) -> Vec<What> {
        let mut objections = Vec::new();
        if let Some((number, before)) = self.next {
            if header.number != number {
                objections.push(What::Gap { expected: number, found: header.number });
            } else if header.before != before {
                objections.push(What::Broken);
            }
        }
        if let Some(last) = self.last.filter(|last| last.time > header.time) {
            objections.push(What::Backwards { before: last.time, found: header.time });
        }
        if !self.keys_lost {
            objections.extend(self.actors.objections(header));
        }
        if matches!(header.action, Action::Init { .. }) != (self.lines == 0) {
            objections.push(What::Misplaced("a ledger begins with `init`, once"));
        }
        if !changes.is_empty() && !matches!(header.action, Action::Init { .. } | Action::Change { .. }) {
            objections.push(What::Misplaced("an entry changes samples that is no change"));
        }
        if let (Action::Train { data, .. }, false) = (&header.action, self.lost)
            && !self.entries.iter().any(|entry| entry.header.root == *data)
        {
            objections.push(What::Misplaced("trains on data that this ledger never had"));
        }
        if !changes.is_sorted_by(|one, two| one.key < two.key) {
            objections.push(What::Misplaced("its changes are not sorted, or name a sample twice"));
        } else if !self.lost && !misses_entries(&objections) {
            let misfits = changes.iter().filter(|change| !self.state.fits(change));
            objections.extend(misfits.map(|change| What::WrongBefore { sample: change.key.clone() }));
        }
        objections
    }

    /// Makes the changes of an entry.
    pub(crate) fn apply(&mut self, header: &Header, changes: &[Change]) {
        self.actors.apply(header);
        self.state.apply(header.number, header.time, &header.actor, changes);
    }

    /// Takes in an entry whose changes are made.
    pub(crate) fn push(&mut self, entry: Entry, digest: Digest) {
        let header = &entry.header;
        let looked = matches!(header.action, Action::Init { .. } | Action::Change { whole: true } | Action::Attest);
        if looked && self.findings.is_empty() {
            self.good = Some(point(header));
        }
        self.last = Some(point(header));
        self.next = Some((header.number + 1, Some(digest)));
        self.lines += 1;
        self.entries.push(entry);
        self.digests.push(digest);
    }

    fn follow(&mut self, line: Result<Line, String>) {
        let Line { entry, digest, faults } = match line {
            Ok(line) => line,
            Err(why) => {
                self.find(What::NoEntry { why }, self.lines + 1);
                self.lines += 1;
                (self.next, self.lost, self.keys_lost) = (None, true, true);
                return;
            }
        };
        let Entry { header, changes, .. } = &entry;
        for fault in &faults {
            let what = match fault {
                Fault::Form => What::OtherForm,
                Fault::Changes => What::OtherChanges,
                Fault::Signature => What::WrongSignature { public: header.public },
            };
            self.find(what, self.lines + 1);
        }
        // Of a line that was changed after it was signed nothing more is to be said: it is not what its author wrote.
        let altered = faults.iter().any(|fault| *fault != Fault::Form);
        let mut objections = if altered { Vec::new() } else { self.objections(header, changes) };
        let explained = altered || self.lost || misses_entries(&objections);
        self.apply(header, changes);
        let state = &self.state;
        self.lost = (state.root(), state.keys(), state.count()) != (header.root, header.keys, header.count);
        if self.lost && !explained {
            objections.push(What::WrongRoot);
        }
        let since = Since { after: self.last, by: Some(point(header)) };
        let line = self.lines + 1;
        self.findings.extend(objections.into_iter().map(|what| Finding::of_line(line, what, since)));
        let of_keys = matches!(header.action, Action::Init { .. } | Action::Admit { .. } | Action::Retire { .. });
        self.keys_lost |= altered && of_keys;
        let last = self.last;
        self.push(entry, digest);
        if altered {
            (self.next, self.last) = (None, last);
        }
    }

    fn find(&mut self, what: What, line: u64) {
        self.findings.push(Finding::of_line(line, what, Since::default()));
    }

    /// The last entry that is as it was signed.
    fn last_sound(&self) -> Option<Point> {
        let wrong = |entry: &&Entry| {
            let line = entry.header.number + 1;
            !self.findings.iter().any(|finding| finding.line == Some(line))
        };
        self.entries.iter().rev().find(wrong).map(|entry| point(&entry.header))
    }
}

/// Whether entries are missing before the one that these objections are about.
fn misses_entries(objections: &[What]) -> bool {
    objections.iter().any(|what| matches!(what, What::Gap { .. } | What::Broken))
}

pub(crate) fn point(header: &Header) -> Point {
    Point { entry: header.number, time: header.time }
}

#[cfg(test)]
mod tests;
