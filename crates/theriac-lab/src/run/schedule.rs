//! The scheduler: `jobs` threads take steps from one queue, each running them in a pool of its own.
//!
//! A step never runs as a task of a shared pool: a thread that waits inside one step would steal another whole step and hold up the first.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use theriac_core::{Digest, record::Outcome};

use super::errand::Errand;
use super::observe::{Event, Observer, Totals};
use super::queue::{Graph, State, guard};
use super::{RunError, memory, step};
use crate::bench::{Bench, Halt};
use crate::journal::{Entry, Journal};
use crate::plan::Plan;
use crate::store::{Found, Spent, Store, Stored};
use crate::throughput::Throughput;

/// Deep networks recurse deeply in unoptimised builds.
const STACK: usize = 16 << 20;
/// How often to look whether another process has finished a step that is wanted here.
const POLL: Duration = Duration::from_millis(100);
/// How many steps are looked at for one that fits into the memory that is left.
const LOOK_AHEAD: usize = 64;

/// What is remembered of a finished step; its files are in the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub output: Option<Digest>,
    pub spent: Spent,
}

impl From<&Stored> for Kept {
    fn from(stored: &Stored) -> Self {
        let (seconds, peak_memory_mib) = (stored.note.seconds, stored.note.peak_memory_mib);
        Self { output: stored.output(), spent: Spent { seconds, peak_memory_mib } }
    }
}

/// Finished steps by their position in the plan.
pub(super) type Finished = BTreeMap<usize, Kept>;

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
    /// What the running steps may take together, in MiB. A step that takes more runs alone.
    pub memory_mib: f64,
    /// How often a long step saves a checkpoint.
    pub checkpoint_every: Duration,
}

/// What was there before.
pub(super) struct Before {
    pub stored: Finished,
    /// Trainings that are known to diverge.
    pub causes: BTreeMap<usize, Outcome>,
    /// Which steps have to be run.
    pub due: Vec<bool>,
    /// Steps that stand on a training that diverged.
    pub lost: usize,
    pub throughput: Throughput,
}

/// What came of it.
pub(super) struct Ran {
    pub stored: Finished,
    /// Steps without files and those that lack an input for it, with the reason.
    pub failed: BTreeMap<usize, Outcome>,
    /// Only the steps that failed or diverged themselves, with the bare reason.
    pub causes: BTreeMap<usize, Outcome>,
    pub totals: Totals,
    pub interrupted: bool,
}

impl Schedule<'_> {
    /// Runs the due steps; what was there `before` has the others, as far as anything needs them.
    pub fn run(&self, before: Before, journal: &mut Journal) -> Result<Ran, RunError> {
        let Before { stored, causes, due, lost, throughput } = before;
        let steps = &self.plan.steps;
        let mut graph = Graph { dependents: vec![Vec::new(); steps.len()], chains: self.plan.chains(&due) };
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
        let done = steps.len() - due_steps().count();
        let totals = Totals { steps: steps.len(), done, reused: done - lost, failed: lost, ..Totals::default() };
        let ran = Ran { stored, failed: BTreeMap::new(), causes, totals, interrupted: false };
        let mut state = State {
            ready,
            elsewhere: Vec::new(),
            waiting,
            running: 0,
            memory_mib: 0.0,
            lost: BTreeSet::new(),
            ran,
            journal,
            error: None,
            left: due_steps().map(|index| steps[index].seconds).sum(),
            throughput,
            calibration: (0.0, 0.0),
        };
        state.judge(self.jobs * self.threads);
        self.tell(&Event::Began { jobs: self.jobs, threads: self.threads, totals: state.ran.totals });

        let (state, bell, stop) = (Mutex::new(state), Condvar::new(), AtomicBool::new(false));
        let workers = self.jobs.min(due_steps().count());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let worker =
                    std::thread::Builder::new().spawn_scoped(scope, || self.work(&graph, &state, &bell, &stop));
                if let Err(source) = worker {
                    guard(&state).error.get_or_insert(RunError::Workers { jobs: self.jobs, source });
                    return bell.notify_all();
                }
            }
        });
        let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        // It makes the next estimate better; a disk that refuses it will refuse more important things.
        drop(state.throughput.write(self.store.root()));
        if let Some(error) = state.error {
            return Err(error);
        }
        let ran = state.ran;
        let interrupted = ran.totals.done < ran.totals.steps;
        Ok(Ran { failed: self.failures(&ran), interrupted, ..ran })
    }

    /// What every step without files is told: its own failure, or that of its first input that has one. In plan order, so that it does not
    /// depend on which failed first.
    fn failures(&self, ran: &Ran) -> BTreeMap<usize, Outcome> {
        let mut failed: BTreeMap<usize, Outcome> = BTreeMap::new();
        for (index, planned) in self.plan.steps.iter().enumerate() {
            let own = ran.causes.get(&index).map(|cause| match cause {
                Outcome::Diverged(how) => Outcome::Diverged(format!("{}: {how}", planned.label)),
                other => {
                    Outcome::Failed(format!("failed to {}: {}", planned.label, other.reason().unwrap_or_default()))
                }
            });
            let inherited = || planned.inputs.iter().find_map(|input| failed.get(input).cloned());
            let known = ran.stored.contains_key(&index);
            if let Some(reason) = own.or_else(|| if known { None } else { inherited() }) {
                failed.insert(index, reason);
            }
        }
        failed
    }

    /// A panicking observer must not take the run with it.
    pub fn tell(&self, event: &Event) {
        drop(catch_unwind(AssertUnwindSafe(|| self.observer.observe(event))));
    }

    fn work(&self, graph: &Graph, state: &Mutex<State>, bell: &Condvar, stop: &AtomicBool) {
        let mut pools: BTreeMap<usize, ThreadPool> = BTreeMap::new();
        while let Some((index, threads)) = self.next(graph, state, bell) {
            let outcome = match pools.entry(threads) {
                btree_map::Entry::Occupied(pool) => self.carry_out(index, pool.get(), state, stop),
                btree_map::Entry::Vacant(place) => {
                    match ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK).build() {
                        Ok(pool) => self.carry_out(index, place.insert(pool), state, stop),
                        Err(source) => Err(RunError::Threads { threads, source }),
                    }
                }
            };
            let mut state = guard(state);
            state.running -= 1;
            state.memory_mib -= self.plan.steps[index].estimate.memory_mib;
            if let Err(error) = outcome.and_then(|outcome| self.record(&mut state, graph, (index, threads), outcome)) {
                state.error.get_or_insert(error);
                stop.store(true, Ordering::Relaxed);
            }
            drop(state);
            bell.notify_all();
        }
    }

    /// Waits for a step, and for the number of threads it gets; `None` when there will be none.
    ///
    /// Where no other step is waiting, a core would soon be idle: the last steps get its threads too. Those that still run beside
    /// them make place when they are done. Results do not depend on it.
    fn next(&self, graph: &Graph, state: &Mutex<State>, bell: &Condvar) -> Option<(usize, usize)> {
        let mut state = guard(state);
        loop {
            if self.cancel.load(Ordering::Relaxed) || state.error.is_some() {
                return None;
            }
            if let Some(index) = self.take(&mut state) {
                state.running += 1;
                state.memory_mib += self.plan.steps[index].estimate.memory_mib;
                let share = self.cores.map_or(0, |cores| cores / (1 + state.ready.len()));
                return Some((index, self.threads.max(share)));
            }
            if state.elsewhere.is_empty() {
                if state.running == 0 {
                    return None;
                }
                state = bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state = bell.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0;
                let again = std::mem::take(&mut state.elsewhere);
                state.ready.extend(again.into_iter().map(|index| graph.place(index)));
            }
        }
    }

    /// The most urgent step that is ready and fits into memory beside those that run.
    fn take(&self, state: &mut State) -> Option<usize> {
        let mut passed = Vec::new();
        let mut found = None;
        while let Some(place) = state.ready.pop() {
            let std::cmp::Reverse(index) = place.1;
            let fits = state.memory_mib + self.plan.steps[index].estimate.memory_mib <= self.memory_mib;
            if fits || state.running == 0 {
                found = Some(index);
                break;
            }
            passed.push(place);
            if passed.len() == LOOK_AHEAD {
                break;
            }
        }
        state.ready.extend(passed);
        found
    }

    fn carry_out(
        &self,
        index: usize,
        pool: &ThreadPool,
        state: &Mutex<State>,
        stop: &AtomicBool,
    ) -> Result<Done, RunError> {
        let planned = &self.plan.steps[index];
        let Some(_claim) = self.store.claim(&planned.address)? else { return Ok(Done::Elsewhere) };
        // Another process may have been here since the store was searched.
        match self.store.find(&planned.address)? {
            Found::Good(entry) => return Ok(Done::Reused(entry)),
            Found::Damaged(why) => {
                self.tell(&Event::Damaged { step: planned, why: &why });
                guard(state).journal.write(Entry::Damaged { address: planned.address, why })?;
            }
            Found::Nothing => {}
        }
        self.tell(&Event::StepStarted { index, step: planned });
        let begin = Instant::now();
        let errand = Errand::new(self, index, stop);
        let files = step::run(self.plan, index, self.bench, self.store, pool, &errand);
        let spent = || Spent { seconds: begin.elapsed().as_secs_f64(), peak_memory_mib: memory::peak_mib() };
        let done = match files {
            Err(Halt::Stopped) => return Ok(Done::Stopped { saved: errand.saved() }),
            // Where it failed for a passing reason, it goes on from its checkpoint next time.
            Err(Halt::Failed(reason)) => return Ok(Done::Failed(reason)),
            Err(Halt::Diverged(how)) => {
                Done::Diverged(Kept::from(&self.store.insert_diverged(&planned.step, &how, spent())?), how)
            }
            Ok(files) => {
                let kept = Kept::from(&self.store.insert(&planned.step, &files, spent())?);
                Done::Computed { kept, resumed: errand.resumed() }
            }
        };
        self.store.drop_checkpoint(&planned.address);
        Ok(done)
    }

    fn record(
        &self,
        state: &mut State,
        graph: &Graph,
        (index, threads): (usize, usize),
        done: Done,
    ) -> Result<(), RunError> {
        let step = &self.plan.steps[index];
        let (address, label) = (step.address, step.label.clone());
        match done {
            Done::Elsewhere => state.elsewhere.push(index),
            Done::Stopped { saved } => {
                state.ran.totals.saved += usize::from(saved);
                self.tell(&Event::StepStopped { index, step, saved });
            }
            Done::Reused(entry) => {
                state.ran.stored.insert(index, Kept::from(&*entry));
                if let Some(how) = entry.note.diverged {
                    self.lose(state, graph, index, Outcome::Diverged(how));
                    return Ok(());
                }
                state.ran.totals.reused += 1;
                state.finish(graph, index, step.seconds);
                state.judge(self.jobs * self.threads);
                self.tell(&Event::StepReused { index, step, totals: state.ran.totals });
            }
            Done::Computed { kept, resumed } => {
                let seconds = kept.spent.seconds;
                state.journal.write(Entry::Finished { address, label, seconds })?;
                let measured = seconds * threads as f64;
                // A part of a training says nothing of the whole.
                if !resumed {
                    state.calibration.0 += step.seconds;
                    state.calibration.1 += measured;
                    state.throughput.learn(&step.step, step.estimate.seconds, measured);
                }
                state.ran.stored.insert(index, kept);
                state.finish(graph, index, step.seconds);
                state.judge(self.jobs * self.threads);
                self.tell(&Event::StepFinished { index, step, seconds, totals: state.ran.totals });
            }
            Done::Diverged(kept, reason) => {
                state.journal.write(Entry::Diverged { address, label, reason: reason.clone() })?;
                state.ran.stored.insert(index, kept);
                self.lose(state, graph, index, Outcome::Diverged(reason));
            }
            Done::Failed(reason) => {
                state.journal.write(Entry::Failed { address, label, reason: reason.clone() })?;
                self.lose(state, graph, index, Outcome::Failed(reason));
            }
        }
        Ok(())
    }

    /// Gives up a step and all that stand on it.
    fn lose(&self, state: &mut State, graph: &Graph, index: usize, cause: Outcome) {
        let mut open = vec![index];
        while let Some(index) = open.pop() {
            if state.lost.insert(index) {
                state.ran.totals.failed += 1;
                state.ran.totals.done += 1;
                state.left -= self.plan.steps[index].seconds;
                open.extend(&graph.dependents[index]);
            }
        }
        state.judge(self.jobs * self.threads);
        self.tell(&Event::StepFailed {
            index,
            step: &self.plan.steps[index],
            outcome: &cause,
            totals: state.ran.totals,
        });
        state.ran.causes.insert(index, cause);
    }
}

enum Done {
    /// Another process is running it.
    Elsewhere,
    Reused(Box<Stored>),
    Computed {
        kept: Kept,
        /// Whether it went on from a checkpoint.
        resumed: bool,
    },
    Failed(String),
    Diverged(Kept, String),
    /// On request; whether it goes on from where it was.
    Stopped {
        saved: bool,
    },
}
