//! What the data are after an entry: the version of every sample, and the tree over them.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use theriac_core::Digest;

use crate::entry::Change;
use crate::hash::{self, Message, Tag};
use crate::tree::Tree;

/// One version of one sample. It names the version before by its digest, so the history of a sample is a chain of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// The content; none if the sample was removed.
    pub content: Option<Digest>,
    /// The entry that made it.
    pub entry: u64,
    /// When, in seconds since 1970.
    pub time: u64,
    /// Who made it.
    pub actor: String,
    /// The digest of the version before; none for the first.
    pub before: Option<Digest>,
}

impl Version {
    /// The digest, which stands in the sample's leaf.
    pub fn digest(&self) -> Digest {
        let message = Message::new(Tag::Version).optional(self.content.as_ref()).number(self.entry).number(self.time);
        message.bytes(self.actor.as_bytes()).optional(self.before.as_ref()).finish()
    }
}

/// The samples after an entry.
#[derive(Clone, Debug, Default)]
pub struct State {
    samples: BTreeMap<String, Version>,
    tree: Tree,
    count: u64,
}

impl State {
    /// All samples that ever were, by key, with their last version.
    pub fn samples(&self) -> &BTreeMap<String, Version> {
        &self.samples
    }

    /// What is in the sample now; none if it is not there.
    pub fn content(&self, key: &str) -> Option<Digest> {
        self.samples.get(key)?.content
    }

    /// How many samples ever were.
    pub fn keys(&self) -> u64 {
        self.samples.len() as u64
    }

    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether the change is one, and its sample is as it says before.
    pub(crate) fn fits(&self, change: &Change) -> bool {
        change.before != change.after && self.content(&change.key) == change.before
    }

    /// Makes the changes of an entry.
    pub(crate) fn apply(&mut self, entry: u64, time: u64, actor: &str, changes: &[Change]) {
        let version = |change: &Change| {
            let before = self.samples.get(&change.key).map(Version::digest);
            let version = Version { content: change.after, entry, time, actor: actor.to_owned(), before };
            (hash::path(&change.key), version.digest(), version)
        };
        let made: Vec<(Digest, Digest, Version)> = changes.par_iter().with_min_len(256).map(version).collect();
        self.tree.set(made.iter().map(|(path, digest, _)| (*path, *digest)).collect());
        for (change, (.., version)) in changes.iter().zip(made) {
            let is = u64::from(version.content.is_some());
            let was = self.samples.insert(change.key.clone(), version).and_then(|version| version.content);
            self.count = self.count + is - u64::from(was.is_some());
        }
    }
}
