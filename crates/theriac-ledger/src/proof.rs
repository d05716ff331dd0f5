//! What a ledger says of one sample, in a form that can be checked without the ledger: its versions, its way in the tree, and the signed
//! header of the entry whose root the tree has.

use serde::{Deserialize, Serialize};
use theriac_core::Digest;

use crate::anchor::Anchor;
use crate::chain::Chain;
use crate::entry::Header;
use crate::hash;
use crate::key::Signature;
use crate::state::Version;
use crate::tree::{End, root_of};

const FORMAT: &str = "theriac-ledger-proof-1";

/// A version as a proof tells it; what it follows is computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    content: Option<Digest>,
    entry: u64,
    time: u64,
    actor: String,
}

/// A proof that a sample has a history, or was never there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    format: String,
    sample: String,
    versions: Vec<Told>,
    /// The digests beside the way from the root; none where nothing stands.
    beside: Vec<Option<Digest>>,
    /// Of a sample that was never there: the path and the version of the leaf in its place, if there is one.
    instead: Option<(Digest, Digest)>,
    header: Header,
    signature: Signature,
}

/// Why a proof proves nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProofError {
    /// It is something else.
    #[error("failed to read a proof: {0}")]
    NoProof(String),
    /// The tree is another one.
    #[error(
        "failed to check the proof of `{sample}`: its versions and its way do not lead to the root of entry {entry}; the proof was changed"
    )]
    Root {
        /// The sample.
        sample: String,
        /// The entry.
        entry: u64,
    },
    /// The header was changed.
    #[error("failed to check the proof of `{sample}`: the signature of entry {entry} is wrong; the proof was changed")]
    Signature {
        /// The sample.
        sample: String,
        /// The entry.
        entry: u64,
    },
    /// The entry is not one that is trusted.
    #[error(
        "failed to check the proof of `{sample}`: it rests on entry {entry} with digest {}, and the {against} says otherwise; it is a proof \
         of another ledger, or of a history that was replaced", digest.short(12)
    )]
    Entry {
        /// The sample.
        sample: String,
        /// The entry.
        entry: u64,
        /// Its digest.
        digest: Digest,
        /// What it was compared with.
        against: &'static str,
    },
}

/// What a proof has proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The sample.
    pub sample: String,
    /// Its versions, the first one first; none if it was never there.
    pub versions: Vec<Version>,
    /// The entry that proves it.
    pub header: Header,
}

impl Chain {
    /// Proves what the ledger says of a sample, also that it says nothing. None for a ledger without entries.
    pub fn prove(&self, sample: &str) -> Option<Proof> {
        let head = self.entries().last()?;
        let (beside, end) = self.state().tree().way(&hash::path(sample));
        let nothing = Digest::from(blake3::Hash::from_bytes([0; 32]));
        let told = |Version { content, entry, time, actor, .. }| Told { content, entry, time, actor };
        Some(Proof {
            format: FORMAT.to_owned(),
            sample: sample.to_owned(),
            versions: self.history(sample).into_iter().map(told).collect(),
            beside: beside.into_iter().map(|digest| (digest != nothing).then_some(digest)).collect(),
            instead: match end {
                End::Other(path, version) => Some((path, version)),
                End::Here(_) | End::Nothing => None,
            },
            header: head.header.clone(),
            signature: head.signature,
        })
    }
}

impl Proof {
    /// Reads what [`Proof::text`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(text: &[u8]) -> Result<Self, ProofError> {
        let proof: Self = serde_json::from_slice(text).map_err(|error| ProofError::NoProof(error.to_string()))?;
        match proof.format == FORMAT {
            true => Ok(proof),
            false => Err(ProofError::NoProof(format!("expected the format `{FORMAT}`, found `{}`", proof.format))),
        }
    }

    /// A file.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data with text keys serialise to JSON") + "\n"
    }

    /// Checks it against an anchor of its entry.
    ///
    /// # Errors
    /// When it was changed, or rests on another entry than the anchor's.
    pub fn check(&self, anchor: &Anchor) -> Result<Proved, ProofError> {
        self.follow("anchor", |header, digest| header.number == anchor.entry && *digest == anchor.head)
    }

    /// Checks it against a ledger that is known to be sound.
    ///
    /// # Errors
    /// When it was changed, or rests on an entry that the ledger does not have.
    pub fn check_in(&self, chain: &Chain) -> Result<Proved, ProofError> {
        self.follow("ledger", |_, digest| chain.digests().contains(digest))
    }

    fn follow(&self, against: &'static str, trusts: impl Fn(&Header, &Digest) -> bool) -> Result<Proved, ProofError> {
        let (sample, entry, digest) = (self.sample.clone(), self.header.number, self.header.digest());
        let mut versions: Vec<Version> = Vec::new();
        for Told { content, entry, time, actor } in self.versions.iter().cloned() {
            let before = versions.last().map(Version::digest);
            versions.push(Version { content, entry, time, actor, before });
        }
        let nothing = Digest::from(blake3::Hash::from_bytes([0; 32]));
        let beside: Vec<Digest> = self.beside.iter().map(|digest| digest.unwrap_or(nothing)).collect();
        let end = match (versions.last(), self.instead) {
            (Some(last), None) => End::Here(last.digest()),
            (None, Some((path, version))) => End::Other(path, version),
            (None, None) => End::Nothing,
            (Some(_), Some(_)) => return Err(ProofError::Root { sample, entry }),
        };
        if root_of(&hash::path(&sample), &beside, &end) != Some(self.header.root) {
            return Err(ProofError::Root { sample, entry });
        }
        if !self.header.public.verifies(&digest, &self.signature) {
            return Err(ProofError::Signature { sample, entry });
        }
        match trusts(&self.header, &digest) {
            true => Ok(Proved { sample, versions, header: self.header.clone() }),
            false => Err(ProofError::Entry { sample, entry, digest, against }),
        }
    }
}

#[cfg(test)]
mod tests;
