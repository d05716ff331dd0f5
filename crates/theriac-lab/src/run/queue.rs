//! Which steps are ready, and how far the run is.

use std::collections::{BTreeSet, BinaryHeap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::RunError;
use super::schedule::Ran;
use crate::journal::Journal;
use crate::throughput::Throughput;

/// Where the schedule stands.
pub(super) struct State<'a> {
    /// By length of the remaining chain; the earlier step of the plan first where that is equal.
    pub ready: BinaryHeap<(Seconds, std::cmp::Reverse<usize>)>,
    /// Steps that another process is running now.
    pub elsewhere: Vec<usize>,
    /// Unfinished inputs of each step.
    pub waiting: Vec<usize>,
    pub running: usize,
    /// Memory of the running steps, in MiB.
    pub memory_mib: f64,
    /// Steps without files and those that lack an input for it.
    pub lost: BTreeSet<usize>,
    pub ran: Ran,
    pub journal: &'a mut Journal,
    pub error: Option<RunError>,
    /// Expected seconds of the steps that are not over.
    pub left: f64,
    pub throughput: Throughput,
    /// Seconds as expected by the plan and as they were.
    pub calibration: (f64, f64),
}

/// A total order, for the queue.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Seconds(f64);

impl Eq for Seconds {}

impl Ord for Seconds {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The graph of the due steps.
pub(super) struct Graph {
    pub dependents: Vec<Vec<usize>>,
    pub chains: Vec<f64>,
}

impl Graph {
    pub fn place(&self, index: usize) -> (Seconds, std::cmp::Reverse<usize>) {
        (Seconds(self.chains[index]), std::cmp::Reverse(index))
    }
}

impl State<'_> {
    pub fn finish(&mut self, graph: &Graph, index: usize, estimate: f64) {
        self.ran.totals.done += 1;
        self.left -= estimate;
        for &dependent in &graph.dependents[index] {
            self.waiting[dependent] -= 1;
            if self.waiting[dependent] == 0 && !self.lost.contains(&dependent) {
                self.ready.push(graph.place(dependent));
            }
        }
    }

    pub fn judge(&mut self, cores: usize) {
        let (expected, measured) = self.calibration;
        let truth = if expected > 0.0 { measured / expected } else { 1.0 };
        self.ran.totals.remaining_seconds = self.left.max(0.0) * truth / cores as f64;
    }
}

pub(super) fn guard<'a, 'b>(state: &'a Mutex<State<'b>>) -> MutexGuard<'a, State<'b>> {
    // Nothing that holds the lock panics; if it did, the journal and the store would still tell the truth.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
