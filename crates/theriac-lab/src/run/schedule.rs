//! The scheduler: `jobs` threads take steps from one queue, each running them in a pool of its own.
//!
//! A step never runs as a task of a shared pool: a thread that waits inside one step would steal another whole step and hold up the first.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, btree_map};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::observe::{Event, Observer, Totals};
use super::{RunError, manifest, step};
use crate::bench::{Bench, Files};
use crate::journal::{Entry, Journal};
use crate::plan::Plan;
use crate::store::{Found, Store, Stored};

/// Deep networks recurse deeply in unoptimised builds.
const STACK: usize = 16 << 20;

/// Finished steps by their position in the plan.
pub(super) type Finished = BTreeMap<usize, Stored>;

/// What to run and with what.
pub(super) struct Schedule<'a> {
    pub plan: &'a Plan,
    pub bench: &'a dyn Bench,
    pub store: &'a Store,
    pub observer: &'a dyn Observer,
    pub cancel: &'a AtomicBool,
    pub jobs: usize,
    pub threads: usize,
    /// Cores that steps share when fewer are left than there are cores; none if the number of threads is fixed.
    pub cores: Option<usize>,
}

/// What came of it.
pub(super) struct Ran {
    pub stored: Finished,
    /// Failed steps and those that lack an input for it, with the reason.
    pub failed: BTreeMap<usize, String>,
    /// Only the steps that failed themselves, with the bare reason.
    pub causes: BTreeMap<usize, String>,
    pub totals: Totals,
    pub interrupted: bool,
}

struct State<'a> {
    /// By length of the remaining chain; the earlier step of the plan first where that is equal.
    ready: BinaryHeap<(Seconds, std::cmp::Reverse<usize>)>,
    /// Unfinished inputs of each step.
    waiting: Vec<usize>,
    running: usize,
    /// Failed steps and those that lack an input for it.
    lost: BTreeSet<usize>,
    ran: Ran,
    journal: &'a mut Journal,
    error: Option<RunError>,
    /// Estimated seconds of the steps that are not over.
    left: f64,
    /// Estimated and measured seconds of the steps that finished.
    calibration: (f64, f64),
}

/// A total order, for the queue.
#[derive(Clone, Copy, PartialEq)]
struct Seconds(f64);

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
struct Graph {
    dependents: Vec<Vec<usize>>,
    chains: Vec<f64>,
}

impl Schedule<'_> {
    /// Runs the `due` steps; `stored` has the others, as far as anything needs them.
    pub fn run(&self, stored: Finished, due: &[bool], journal: &mut Journal) -> Result<Ran, RunError> {
        let steps = &self.plan.steps;
        let mut graph = Graph { dependents: vec![Vec::new(); steps.len()], chains: self.plan.chains(due) };
        let mut waiting = vec![0; steps.len()];
        let due_steps = || (0..steps.len()).filter(|&index| due[index]);
        for index in due_steps() {
            for &input in steps[index].inputs.iter().filter(|&&input| due[input]) {
                graph.dependents[input].push(index);
                waiting[index] += 1;
            }
        }
        let first = due_steps().filter(|&index| waiting[index] == 0);
        let ready = first.map(|index| graph.place(index)).collect();
        let reused = steps.len() - due_steps().count();
        let totals = Totals { steps: steps.len(), done: reused, reused, ..Totals::default() };
        let ran = Ran { stored, failed: BTreeMap::new(), causes: BTreeMap::new(), totals, interrupted: false };
        let left = due_steps().map(|index| steps[index].seconds).sum();
        let (running, error, calibration) = (0, None, (0.0, 0.0));
        let lost = BTreeSet::new();
        let mut state = State { ready, waiting, running, lost, ran, journal, error, left, calibration };
        state.judge(self.jobs);
        self.tell(&Event::Began { jobs: self.jobs, threads: self.threads, totals: state.ran.totals });

        let (state, bell) = (Mutex::new(state), Condvar::new());
        let workers = self.jobs.min(due_steps().count());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let worker = std::thread::Builder::new().spawn_scoped(scope, || self.work(&graph, &state, &bell));
                if let Err(source) = worker {
                    guard(&state).error.get_or_insert(RunError::Workers { jobs: self.jobs, source });
                    return bell.notify_all();
                }
            }
        });
        let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = state.error {
            return Err(error);
        }
        let ran = state.ran;
        let interrupted = ran.totals.done < ran.totals.steps;
        Ok(Ran { failed: self.failures(&ran.causes, due), interrupted, ..ran })
    }

    /// What every lost step is told: the failure of its first lost input. In plan order, so that it does not depend on which failed first.
    fn failures(&self, causes: &BTreeMap<usize, String>, due: &[bool]) -> BTreeMap<usize, String> {
        let mut failed: BTreeMap<usize, String> = BTreeMap::new();
        for (index, planned) in self.plan.steps.iter().enumerate().filter(|(index, _)| due[*index]) {
            let own = causes.get(&index).map(|reason| format!("failed to {}: {reason}", planned.label));
            let inherited = || planned.inputs.iter().find_map(|input| failed.get(input).cloned());
            if let Some(reason) = own.or_else(inherited) {
                failed.insert(index, reason);
            }
        }
        failed
    }

    /// A panicking observer must not take the run with it.
    fn tell(&self, event: &Event) {
        drop(catch_unwind(AssertUnwindSafe(|| self.observer.observe(event))));
    }

    fn work(&self, graph: &Graph, state: &Mutex<State>, bell: &Condvar) {
        let mut pools: BTreeMap<usize, ThreadPool> = BTreeMap::new();
        while let Some((index, threads)) = self.next(state, bell) {
            let outcome = match pools.entry(threads) {
                btree_map::Entry::Occupied(pool) => self.carry_out(index, pool.get()),
                btree_map::Entry::Vacant(place) => {
                    match ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK).build() {
                        Ok(pool) => self.carry_out(index, place.insert(pool)),
                        Err(source) => Err(RunError::Threads { threads, source }),
                    }
                }
            };
            let mut state = guard(state);
            state.running -= 1;
            if let Err(error) = outcome.and_then(|outcome| self.record(&mut state, graph, index, outcome)) {
                state.error.get_or_insert(error);
            }
            drop(state);
            bell.notify_all();
        }
    }

    /// Waits for a step, and for the number of threads it gets; `None` when there will be none.
    ///
    /// Where no other step is waiting, a core would soon be idle: the last steps get its threads too. Those that still run beside
    /// them make place when they are done. Results do not depend on it.
    fn next(&self, state: &Mutex<State>, bell: &Condvar) -> Option<(usize, usize)> {
        let mut state = guard(state);
        loop {
            if self.cancel.load(Ordering::Relaxed) || state.error.is_some() {
                return None;
            }
            if let Some((_, std::cmp::Reverse(index))) = state.ready.pop() {
                state.running += 1;
                let share = self.cores.map_or(0, |cores| cores / (1 + state.ready.len()));
                return Some((index, self.threads.max(share)));
            }
            if state.running == 0 {
                return None;
            }
            state = bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn carry_out(&self, index: usize, pool: &ThreadPool) -> Result<Done, RunError> {
        let planned = &self.plan.steps[index];
        // Another process may have been here since the store was searched.
        if let Found::Good(entry) = self.store.find(&planned.address)? {
            return Ok(Done::Reused(*entry));
        }
        self.tell(&Event::StepStarted { index, step: planned });
        let begin = Instant::now();
        let progress = |fraction| self.tell(&Event::StepProgress { index, fraction });
        let files: Result<Files, String> = step::run(self.plan, index, self.bench, self.store, pool, &progress);
        match files {
            Err(reason) => Ok(Done::Failed(reason)),
            Ok(files) => {
                let seconds = begin.elapsed().as_secs_f64();
                let entry = self.store.insert(&planned.step, &files, seconds, manifest::peak_memory_mib())?;
                Ok(Done::Computed(entry, seconds))
            }
        }
    }

    fn record(&self, state: &mut State, graph: &Graph, index: usize, done: Done) -> Result<(), RunError> {
        let step = &self.plan.steps[index];
        let (address, label) = (step.address, step.label.clone());
        match done {
            Done::Reused(entry) => {
                state.ran.totals.reused += 1;
                state.finish(graph, index, entry, step.seconds);
                state.judge(self.jobs);
                self.tell(&Event::StepReused { index, step, totals: state.ran.totals });
            }
            Done::Computed(entry, seconds) => {
                state.journal.write(Entry::Finished { address, label, seconds })?;
                state.calibration.0 += step.seconds;
                state.calibration.1 += seconds;
                state.finish(graph, index, entry, step.seconds);
                state.judge(self.jobs);
                self.tell(&Event::StepFinished { index, step, seconds, totals: state.ran.totals });
            }
            Done::Failed(reason) => {
                state.journal.write(Entry::Failed { address, label, reason: reason.clone() })?;
                state.ran.causes.insert(index, reason.clone());
                let mut open = vec![index];
                while let Some(index) = open.pop() {
                    if state.lost.insert(index) {
                        state.ran.totals.failed += 1;
                        state.ran.totals.done += 1;
                        state.left -= self.plan.steps[index].seconds;
                        open.extend(&graph.dependents[index]);
                    }
                }
                state.judge(self.jobs);
                self.tell(&Event::StepFailed { index, step, reason: &reason, totals: state.ran.totals });
            }
        }
        Ok(())
    }
}

enum Done {
    Reused(Stored),
    Computed(Stored, f64),
    Failed(String),
}

impl Graph {
    fn place(&self, index: usize) -> (Seconds, std::cmp::Reverse<usize>) {
        (Seconds(self.chains[index]), std::cmp::Reverse(index))
    }
}

impl State<'_> {
    fn finish(&mut self, graph: &Graph, index: usize, entry: Stored, estimate: f64) {
        self.ran.stored.insert(index, entry);
        self.ran.totals.done += 1;
        self.left -= estimate;
        for &dependent in &graph.dependents[index] {
            self.waiting[dependent] -= 1;
            if self.waiting[dependent] == 0 {
                self.ready.push(graph.place(dependent));
            }
        }
    }

    fn judge(&mut self, jobs: usize) {
        let (estimated, measured) = self.calibration;
        let truth = if estimated > 0.0 { measured / estimated } else { 1.0 };
        self.ran.totals.remaining_seconds = self.left.max(0.0) * truth / jobs as f64;
    }
}

fn guard<'a, 'b>(state: &'a Mutex<State<'b>>) -> MutexGuard<'a, State<'b>> {
    // Nothing that holds the lock panics; if it did, the journal and the store would still tell the truth.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
