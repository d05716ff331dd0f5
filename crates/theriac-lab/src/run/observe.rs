//! What a run tells while it goes on, for progress bars and logs.

use theriac_core::record::Outcome;

use crate::files::FileError;
use crate::plan::PlannedStep;

/// Listens to a run. It is called from several threads and must return quickly.
pub trait Observer: Sync {
    /// Something happened.
    fn observe(&self, event: &Event);
}

/// Listens to nothing.
impl Observer for () {
    fn observe(&self, _event: &Event) {}
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Totals {
    /// Distinct steps of the plan.
    pub steps: usize,
    /// Steps that are over: reused, finished and failed ones.
    pub done: usize,
    /// Steps that the store had.
    pub reused: usize,
    /// Steps that failed or diverged, or could not start because an input did.
    pub failed: usize,
    /// Steps that were stopped, and go on from a checkpoint the next time.
    pub saved: usize,
    /// Seconds until the end, judged by the estimates and by how right they have been in this run.
    pub remaining_seconds: f64,
}

/// Something that happened in a run. `index` is the position of the step in the plan.
#[derive(Debug)]
pub enum Event<'a> {
    /// An entry of the store was damaged; the step is run again.
    Damaged {
        /// The step.
        step: &'a PlannedStep,
        /// What was wrong.
        why: &'a str,
    },
    /// The store has been searched, the steps begin.
    Began {
        /// Steps at a time.
        jobs: usize,
        /// Threads a step.
        threads: usize,
        /// Where the run stands.
        totals: Totals,
    },
    /// A step began.
    StepStarted {
        /// Its position.
        index: usize,
        /// The step.
        step: &'a PlannedStep,
    },
    /// A step goes on.
    StepProgress {
        /// Its position.
        index: usize,
        /// What is done, from 0 to 1.
        fraction: f64,
    },
    /// A step is in the store.
    StepFinished {
        /// Its position.
        index: usize,
        /// The step.
        step: &'a PlannedStep,
        /// What it took.
        seconds: f64,
        /// Where the run stands.
        totals: Totals,
    },
    /// Another process has run a step in the meantime.
    StepReused {
        /// Its position.
        index: usize,
        /// The step.
        step: &'a PlannedStep,
        /// Where the run stands.
        totals: Totals,
    },
    /// A step goes on from a checkpoint.
    StepResumed {
        /// Its position.
        index: usize,
        /// The step.
        step: &'a PlannedStep,
    },
    /// A step was stopped on request.
    StepStopped {
        /// Its position.
        index: usize,
        /// The step.
        step: &'a PlannedStep,
        /// Whether it goes on from where it was the next time.
        saved: bool,
    },
    /// A checkpoint could not be saved; the step goes on.
    NotSaved {
        /// The step.
        step: &'a PlannedStep,
        /// Why not.
        error: &'a FileError,
    },
    /// A step failed or diverged.
    StepFailed {
        /// Its position.
        index: usize,
        /// The step.
        step: &'a PlannedStep,
        /// Which of the two, and why.
        outcome: &'a Outcome,
        /// Where the run stands.
        totals: Totals,
    },
}
