//! An entry of the ledger: who did what, when, and what the data were after it.

use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use theriac_core::{Digest, Role, Stage};

use crate::hash::{Message, Tag};
use crate::key::{PublicKey, SecretKey, Signature};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// The ledger begins. The author's key is the first that it admits.
    Init {
        /// The name of the data.
        data: String,
        /// How they are cut into samples.
        form: Form,
    },
    /// A key is admitted.
    Admit {
        /// Whose.
        actor: String,
        /// In which role it signs.
        role: Role,
        /// The key.
        public: PublicKey,
    },
    /// A key signs no longer.
    Retire {
        /// The key.
        public: PublicKey,
    },
    /// The data changed.
    Change {
        /// Whether all samples were compared, so that after this entry the data were as the ledger says.
        whole: bool,
    },
    /// The data were read or handed out.
    Access {
        /// For what.
        purpose: String,
    },
    /// A model was trained.
    Train {
        /// The root of the data that it was trained on.
        data: Digest,
        /// The training code and its parameters.
        recipe: Digest,
        /// What came out.
        model: Digest,
    },
    /// A model was handed on.
    Publish {
        /// Which.
        model: Digest,
    },
    /// Something was tried and refused.
    Deny {
        /// What.
        tried: String,
    },
    /// All samples and the whole ledger were verified, and nothing was found.
    Attest,
}

/// How data are cut into samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A sample is a file of a folder, its key the path in it.
    Folder,
    /// A sample is a row of a table, its key the number of the row.
    Csv,
    /// A sample is what the program that wrote the ledger says it is.
    Items,
}

/// What happened to one sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: String,
    /// Its content before; none if it was not there.
    pub before: Option<Digest>,
    /// Its content after; none if it is not there any more.
    pub after: Option<Digest>,
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(3)?;
        tuple.serialize_element(&self.key)?;
        tuple.serialize_element(&self.before)?;
        tuple.serialize_element(&self.after)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (key, before, after) = Deserialize::deserialize(deserializer)?;
        Ok(Self { key, before, after })
    }
}

/// Everything of an entry but its changes, which it names by their digest: so an entry can be shown to somebody without them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Counted from 0.
    pub number: u64,
    /// Seconds since 1970, UTC.
    pub time: u64,
    /// Who.
    pub actor: String,
    /// In which role.
    pub role: Role,
    /// The key that signs.
    pub public: PublicKey,
    /// At which stage of the pipeline.
    pub stage: Stage,
    /// What happened.
    pub action: Action,
    /// Why, in the author's words.
    pub note: String,
    /// How many samples changed.
    pub changed: u64,
    /// The digest of the changes.
    pub changes: Digest,
    /// The digest of the entry before; none for the first.
    pub before: Option<Digest>,
    /// The root of the Merkle tree over the versions of all samples, after this entry.
    pub root: Digest,
    /// How many samples ever were, removed ones included: the leaves of the tree.
    pub keys: u64,
    /// How many samples there are.
    pub count: u64,
}

impl Header {
    /// The digest of the entry: what is signed, and what the next entry names.
    pub fn digest(&self) -> Digest {
        Message::new(Tag::Entry).bytes(json(self).as_bytes()).finish()
    }
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What is signed.
    pub header: Header,
    /// What changed, sorted by key.
    pub changes: Vec<Change>,
    /// The author's signature of the header's digest.
    pub signature: Signature,
}

impl Entry {
    /// Signs.
    pub(crate) fn sign(header: Header, changes: Vec<Change>, secret: &SecretKey) -> Self {
        let signature = secret.sign(&header.digest());
        Self { header, changes, signature }
    }

    /// The line of the ledger, with its end.
    pub fn line(&self) -> String {
        json(self) + "\n"
    }
}

/// The digest of a list of changes.
pub(crate) fn digest_of(changes: &[Change]) -> Digest {
    let begin = Message::new(Tag::Changes).number(changes.len() as u64);
    let each = |message: Message, change: &Change| {
        let message = message.bytes(change.key.as_bytes());
        message.optional(change.before.as_ref()).optional(change.after.as_ref())
    };
    changes.iter().fold(begin, each).finish()
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data with text keys serialise to JSON")
}

/// What is wrong with a line by itself, whatever stands in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It says what an entry says, in other words.
    Form,
    /// Its changes are not those that its header names.
    Changes,
    /// The signature is not one of the key that the header names.
    Signature,
}

/// A line as it was read.
pub(crate) struct Line {
    pub(crate) entry: Entry,
    pub(crate) digest: Digest,
    pub(crate) faults: Vec<Fault>,
}

/// Reads a line without its end. Whatever byte is changed in a sound one, this says so.
pub(crate) fn read_line(line: &[u8]) -> Result<Line, String> {
    let entry: Entry = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let digest = entry.header.digest();
    let header = &entry.header;
    let checks = [
        (Fault::Form, json(&entry).as_bytes() == line),
        (Fault::Changes, header.changed == entry.changes.len() as u64 && header.changes == digest_of(&entry.changes)),
        (Fault::Signature, header.public.verifies(&digest, &entry.signature)),
    ];
    let faults = checks.into_iter().filter(|(_, sound)| !sound).map(|(fault, _)| fault).collect();
    Ok(Line { entry, digest, faults })
}
