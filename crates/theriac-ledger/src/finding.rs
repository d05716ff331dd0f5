//! What a verification finds: what was changed, where, and since when.

use std::fmt;

use serde::Serialize;
use theriac_core::{Digest, Role};

use crate::key::PublicKey;
use crate::when::utc;

/// What is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// The sample has another content.
    Changed {
        /// What the ledger says.
        expected: Digest,
        /// The entry that says so.
        made: u64,
        /// What is there.
        found: Digest,
    },
    /// The sample has the content of a version before.
    Back {
        /// The entry that made this version.
        of: u64,
        /// The entry that replaced or removed it.
        replaced: u64,
    },
    /// The sample is gone.
    Missing {
        /// What the ledger says.
        expected: Digest,
        /// The entry that says so.
        made: u64,
        /// Another sample that no entry explains, with the content of this one.
        moved_to: Option<String>,
    },
    /// No entry knows the sample.
    Unexplained {
        /// What is there.
        found: Digest,
    },
    /// The sample cannot be read.
    NotReadable {
        /// Why.
        why: String,
    },
    /// Not one sample of the ledger is there.
    OtherData {
        /// The data that the ledger is about.
        expected: String,
    },
    /// The line is no entry.
    NoEntry {
        /// What the parser says.
        why: String,
    },
    /// Not one line of the ledger is an entry, so that nothing is known of the samples.
    NoEntries {
        /// How many lines there are.
        lines: u64,
        /// What is wrong with the first.
        why: String,
    },
    /// The line says what an entry says, in another form than it was written in.
    OtherForm,
    /// The changes in the line are not those that were signed.
    OtherChanges,
    /// The signature is not one of the key for what the line says.
    WrongSignature {
        /// The key that the line names.
        public: PublicKey,
    },
    /// The key was never admitted.
    UnknownKey {
        /// Which.
        public: PublicKey,
    },
    /// The key was retired before.
    RetiredKey {
        /// Which.
        public: PublicKey,
        /// The entry that retired it.
        retired: u64,
    },
    /// The key belongs to somebody else, or to another role.
    FalseName {
        /// Whose it is.
        owner: String,
        /// Whose the entry says it is.
        claimed: String,
    },
    /// The role may not do this.
    NotAllowed {
        /// Which.
        role: Role,
    },
    /// Entries are missing before this one, or this one stands where another should.
    Gap {
        /// The number that should stand here.
        expected: u64,
        /// The number that does.
        found: u64,
    },
    /// The entry follows another one than the one before it.
    Broken,
    /// The entry is older than the one before it.
    Backwards {
        /// The time of the one before.
        before: u64,
        /// Its own.
        found: u64,
    },
    /// A change starts from another content than the sample had.
    WrongBefore {
        /// The sample.
        sample: String,
    },
    /// The root, or the number of samples, is not what the changes lead to.
    WrongRoot,
    /// The entry breaks another rule.
    Misplaced(#[serde(rename = "why")] &'static str),
    /// The last line has no end.
    Cut {
        /// Its bytes.
        bytes: usize,
    },
    /// The ledger ends before the anchor.
    Truncated {
        /// The entry that the anchor names.
        anchored: u64,
        /// How many entries there are.
        entries: u64,
    },
    /// The entry that the anchor names is another one.
    Rewritten {
        /// What the anchor says.
        expected: Digest,
        /// What is there; none if it cannot be read.
        found: Option<Digest>,
    },
    /// The anchor belongs to another ledger.
    OtherLedger {
        /// What the anchor says.
        expected: Digest,
        /// This one; none if its first line cannot be read.
        found: Option<Digest>,
    },
}

/// An entry and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The number of the entry.
    pub entry: u64,
    /// Seconds since 1970.
    pub time: u64,
}

/// Between which entries something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Since {
    /// The last entry at which all was well; none if that is not known.
    pub after: Option<Point>,
    /// The entry at which it had happened; none for now.
    pub by: Option<Point>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// The sample, if it is about one.
    pub sample: Option<String>,
    /// The line of the ledger, counted from 1, if it is about one.
    pub line: Option<u64>,
    /// Since when.
    pub since: Since,
}

impl Finding {
    pub(crate) fn of_sample(sample: &str, what: What, after: Option<Point>) -> Self {
        Self { what, sample: Some(sample.to_owned()), line: None, since: Since { after, by: None } }
    }

    pub(crate) fn of_line(line: u64, what: What, since: Since) -> Self {
        let sample = match &what {
            What::WrongBefore { sample } => Some(sample.clone()),
            _ => None,
        };
        Self { what, sample, line: Some(line), since }
    }

    /// Whether it is about the ledger, not about the data.
    pub fn is_of_ledger(&self) -> bool {
        self.line.is_some()
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { expected, made, found } => {
                write!(f, "content changed: entry {made} says {}, found {}", expected.short(12), found.short(12))
            }
            Self::Back { of, replaced } => {
                write!(f, "an older version is back: that of entry {of}, which entry {replaced} had replaced")
            }
            Self::Missing { made, moved_to: None, .. } => write!(f, "missing: entry {made} says that it is there"),
            Self::Missing { made, moved_to: Some(other), .. } => {
                write!(f, "missing: entry {made} says that it is there; `{other}` has its content")
            }
            Self::Unexplained { .. } => f.write_str("unexplained: no entry knows it"),
            Self::NotReadable { why } => write!(f, "cannot be read: {why}"),
            Self::OtherData { expected } => {
                write!(f, "other data: not one sample is here that this ledger knows; it is about `{expected}`")
            }
            Self::NoEntry { why } => write!(f, "no entry can be read: {why}"),
            Self::NoEntries { lines, why } => {
                let more = lines.saturating_sub(1);
                let others = if more > 0 { format!(", nor in the {more} after it") } else { String::new() };
                write!(
                    f,
                    "no entry can be read{others} ({why}), so nothing is known of the samples; bring back a copy of the ledger, or move this one away and \
                     begin another with `theriac ledger init`"
                )
            }
            Self::OtherForm => f.write_str("written in another form than entries are written in"),
            Self::OtherChanges => f.write_str("the changes are not those that were signed"),
            Self::WrongSignature { public } => {
                write!(f, "the signature is not one of key {} for this line", public.fingerprint())
            }
            Self::UnknownKey { public } => {
                write!(f, "signed by key {}, which was never admitted", public.fingerprint())
            }
            Self::RetiredKey { public, retired } => {
                write!(f, "signed by key {}, which entry {retired} had retired", public.fingerprint())
            }
            Self::FalseName { owner, claimed } => write!(f, "signed as {claimed} with the key of {owner}"),
            Self::NotAllowed { role } => {
                write!(f, "keys are admitted and retired by engineers and auditors, not by the role `{role}`")
            }
            Self::Gap { expected, found } if found > expected && found - expected == 1 => {
                write!(f, "entry {expected} is missing: this is entry {found}")
            }
            Self::Gap { expected, found } if found > expected => {
                write!(f, "entries {expected} to {} are missing: this is entry {found}", found - 1)
            }
            Self::Gap { expected, found } => write!(f, "entry {expected} should stand here, not entry {found}"),
            Self::Broken => f.write_str("does not follow the entry before it: one of the two was replaced"),
            Self::Backwards { before, found } => {
                write!(f, "the clock runs backwards: {} after {}", utc(*found), utc(*before))
            }
            Self::WrongBefore { sample } => {
                write!(f, "changes `{sample}` from a content that it did not have, or to the one that it had")
            }
            Self::WrongRoot => f.write_str("states a root or a number of samples to which the changes do not lead"),
            Self::Misplaced(why) => f.write_str(why),
            Self::Cut { bytes } => write!(
                f,
                "cut in the middle: the last {bytes} bytes are no whole line; `theriac ledger heal` sets them aside"
            ),
            Self::Truncated { anchored, entries } => write!(
                f,
                "the end is missing: the anchor names entry {anchored}, and here are {entries} entries, counted from 0"
            ),
            Self::Rewritten { expected, found } => {
                let found = found.map_or_else(|| "a line that cannot be read".to_owned(), |found| found.short(12));
                write!(f, "rewritten: the anchor says {}, here is {found}", expected.short(12))
            }
            Self::OtherLedger { expected, found } => {
                let found = found.map_or_else(|| "one whose first line cannot be read".to_owned(), |it| it.short(12));
                write!(f, "another ledger: the anchor is of ledger {}, this is {found}", expected.short(12))
            }
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} ({})", self.entry, utc(self.time))
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.after, self.by) {
            (Some(after), None) => write!(f, "after {after}"),
            (Some(after), Some(by)) => write!(f, "after {after}, by {by}"),
            (None, Some(by)) => write!(f, "by {by}"),
            (None, None) => f.write_str("since when is not known"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match (&self.sample, self.line) {
            (_, Some(line)) => format!("ledger.jsonl, line {line}: "),
            (Some(sample), None) => format!("{sample}: "),
            (None, None) => String::new(),
        };
        f.write_str(&plain(&format!("{place}{} [{}]", self.what, self.since)))
    }
}

/// A text in one line: whoever names a sample or writes a note must not be able to paint over what is told about it.
pub fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}
