//! What the ledger has of a change set.

use crate::threat::Stage;

/// What the author of a change set did about the ledger, the record of all change sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trail {
    /// Entered it, under its own name and role, as everybody should.
    Signed,
    /// Nothing: the data changed, the ledger did not.
    Untouched,
    /// Made the ledger anew, so that it explains what is there. Signed with the one key that the author has.
    Rewritten,
}

impl Trail {
    /// What is usual: whoever collects or labels data enters it, and whoever edits what lies in storage does not.
    pub fn usual(stage: Stage) -> Self {
        if stage == Stage::Store { Self::Untouched } else { Self::Signed }
    }
}
