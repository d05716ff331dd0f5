//! The ledger: an append-only, hash-chained, signed log of what happened to data, with the contents of all samples in a Merkle tree.
//!
//! It answers three questions about a folder of files, a table, or whatever can be cut into samples: is everything as it was recorded,
//! who changed what, and what was this one sample at any time. None of them needs trust in whoever stores the data.
//!
//! ```
//! use theriac_core::{Role, Stage};
//! use theriac_ledger::{Action, Chain, Draft, Form, Scan, SecretKey, differences, of_file, verify};
//!
//! let ada = SecretKey::new("ada", [7; 32]); // from a source of random bytes, outside of examples
//! let scan = |content: &[u8]| Scan::new([("cat/1.png".to_owned(), of_file(content))]);
//! let init = Action::Init { data: "pets".to_owned(), form: Form::Folder };
//! let draft = |action, changes| Draft { stage: Stage::Store, action, note: String::new(), changes };
//!
//! let changes = differences(&Default::default(), &scan(b"a cat"));
//! let (mut chain, first) = Chain::begin(&ada, Role::Engineer, 1_795_795_265, draft(init, changes))?;
//! assert!(verify(&chain, &scan(b"a cat"), &[]).findings.is_empty());
//! let report = verify(&chain, &scan(b"a dog"), &[]);
//! assert!(report.findings[0].to_string().starts_with("cat/1.png: content changed"));
//!
//! let changes = differences(chain.state(), &scan(b"a dog"));
//! let second = chain.extend(&ada, 1_795_795_270, draft(Action::Change { whole: true }, changes))?;
//! assert_eq!(Chain::read((first + &second).as_bytes()).findings(), []);
//! # Ok::<(), theriac_ledger::LedgerError>(())
//! ```
//!
//! # The file
//!
//! `ledger.jsonl` has one entry a line, in the order in which they happened. A line is a JSON object without spaces, its keys in this order:
//!
//! ```text
//! {"header":{"number":1,"time":1795795270,"actor":"ada","role":"engineer","public":KEY,"stage":"store",
//!            "action":{"kind":"change","whole":true},"note":"","changed":1,"changes":DIGEST,"before":DIGEST,
//!            "root":DIGEST,"keys":1,"count":1},
//!  "changes":[["cat/1.png",DIGEST,DIGEST]],
//!  "signature":SIGNATURE}
//! ```
//!
//! Only these bytes are accepted: what is read is written again and compared, so no byte can be changed without being found. Digests are
//! BLAKE3, in 64 lowercase hexadecimal digits. Each is taken of a message that begins with a byte for its kind, and in which a text
//! stands behind its length (8 bytes, little-endian, as all numbers); `opt` is a byte 0, or a byte 1 and a digest.
//!
//! | digest | message |
//! | --- | --- |
//! | leaf | 0, path of the key, version |
//! | node | 1, left, right |
//! | path | 2, key |
//! | version of a sample | 3, opt content, number of the entry, its time, its actor, opt the version before |
//! | changes | 4, how many, and of each: key, opt before, opt after |
//! | entry | 5, the header as it stands in the line |
//! | content | 6, a word (`file`, `row`, `link`, `sample`), and what is described at [`Scan`] |
//! | anchor's check | 7, its text without the last line |
//!
//! The signature is Ed25519 of `theriac ledger entry v1`, a byte 0 and the entry's digest. `changes` are sorted by key; of each they name
//! the content before and after, `null` where the sample is not there.
//!
//! The tree is a binary trie over the paths: a leaf stands at the first depth at which no other path shares all bits so far (the highest
//! bit of the first byte comes first), a node has two children, and where nothing stands the digest is 32 bytes 0. A removed sample keeps
//! its leaf, with a version without content. `root` is the top of the tree after the entry, `keys` the number of leaves, `count` the
//! number of samples that are there.
//!
//! # What it does not do
//!
//! Whoever has the secret key of an admitted author can record anything in that author's name, also a history that never was. What the
//! history was up to a day is fixed by an [`Anchor`] that was kept elsewhere on that day. The clock is the author's; it must not run
//! backwards, no more. And a ledger finds changes, it does not undo them: keep copies.

mod actors;
mod anchor;
mod chain;
mod compare;
mod entry;
mod error;
mod finding;
mod hash;
mod hex;
mod history;
mod key;
mod ledger;
mod proof;
mod scan;
mod state;
mod tree;
mod when;

pub use actors::{Actor, Actors};
pub use anchor::{Anchor, AnchorError};
pub use chain::Chain;
pub use compare::{Report, Scan, differences, verify};
pub use entry::{Action, Change, Entry, Form, Header};
pub use error::LedgerError;
pub use finding::{Finding, Point, Since, What, plain};
pub use history::{Blame, Share};
pub use key::{KeyError, PublicKey, SecretKey, Signature};
pub use ledger::{Draft, FILE, Healed, Ledger};
pub use proof::{Proof, ProofError, Proved};
pub use scan::of_file;
pub use state::{State, Version};
pub use when::utc;

#[cfg(test)]
mod toy;

#[cfg(test)]
mod tests;
