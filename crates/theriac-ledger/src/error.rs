//! Why a ledger cannot be begun or continued, and how to go on.

use std::path::PathBuf;

use theriac_core::files::FileError;

use crate::finding::{Finding, What};
use crate::key::PublicKey;
use crate::when::utc;

/// Bytes of a note: a proof and an anchor are short, so a note is.
pub(crate) const LONGEST: usize = 1_000;

/// Why a ledger cannot be used as was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is none.
    #[error(
        "failed to find a ledger in `{}`: make one with `theriac ledger init`, or name the folder of one that is elsewhere with --ledger",
        .0.display()
    )]
    NotThere(PathBuf),
    /// There is one.
    #[error("failed to begin a ledger in `{}`: there is one already, and a ledger is never overwritten", .0.display())]
    There(PathBuf),
    /// The last line is cut.
    #[error(
        "failed to accept the ledger in `{}`: its last line is cut, as by an interrupted append ({bytes} bytes); `theriac ledger heal` \
         sets them aside in a file, and nothing is lost", folder.display()
    )]
    Cut {
        /// Where.
        folder: PathBuf,
        /// The bytes of the line.
        bytes: usize,
    },
    /// It is not sound.
    #[error(
        "failed to accept the ledger in `{}`: it is not sound ({first}; {count} in all). `theriac ledger verify` lists them; go on from a copy \
         that is sound", folder.display()
    )]
    Damaged {
        /// Where.
        folder: PathBuf,
        /// How many findings.
        count: usize,
        /// The first.
        first: Box<Finding>,
    },
    /// Somebody else appended since it was read.
    #[error("failed to continue the ledger in `{}`: somebody else wrote to it since it was read; read it again", .0.display())]
    Moved(PathBuf),
    /// The key is not known.
    #[error(
        "failed to sign: key {} of `{name}` is not admitted. Admitted are {admitted}; one of them who is engineer or auditor can admit it \
         with `theriac ledger admit {name} --role ROLE --public {key}`", key.fingerprint()
    )]
    NotAdmitted {
        /// The name in the key's file.
        name: String,
        /// The key.
        key: PublicKey,
        /// Those that are.
        admitted: String,
    },
    /// The clock is behind.
    #[error(
        "failed to continue the ledger: this clock says {}, but the last entry is of {}; set the clock, or wait", utc(*now), utc(*last)
    )]
    Clock {
        /// The time given.
        now: u64,
        /// The time of the last entry.
        last: u64,
    },
    /// The entry breaks a rule.
    #[error("failed to continue the ledger: the entry would be refused: {0}")]
    Refused(What),
    /// The note is too long.
    #[error("failed to continue the ledger: a note has at most {LONGEST} bytes, this one has {0}")]
    Note(usize),
}
