//! The session of one running step: progress goes to the observer, checkpoints go to the store, and a person may stop it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use theriac_core::{Session, Wish};

use super::observe::Event;
use super::schedule::Schedule;

/// A running step.
pub(super) struct Errand<'a> {
    schedule: &'a Schedule<'a>,
    index: usize,
    /// Raised when the run ends early for a reason of its own.
    stop: &'a AtomicBool,
    /// When it began or was saved last.
    since: Mutex<Instant>,
    saved: AtomicBool,
    resumed: AtomicBool,
}

impl<'a> Errand<'a> {
    pub fn new(schedule: &'a Schedule, index: usize, stop: &'a AtomicBool) -> Self {
        Self {
            schedule,
            index,
            stop,
            since: Mutex::new(Instant::now()),
            saved: AtomicBool::new(false),
            resumed: AtomicBool::new(false),
        }
    }

    /// Whether there is a checkpoint of this attempt.
    pub fn saved(&self) -> bool {
        self.saved.load(Ordering::Relaxed)
    }

    /// Whether it went on from a checkpoint.
    pub fn resumed(&self) -> bool {
        self.resumed.load(Ordering::Relaxed)
    }
}

impl Session for Errand<'_> {
    fn progress(&self, fraction: f64) {
        self.schedule.tell(&Event::StepProgress { index: self.index, fraction });
    }

    fn resume(&self) -> Option<Vec<u8>> {
        let step = &self.schedule.plan.steps[self.index];
        let state = self.schedule.store.checkpoint(&step.address)?;
        self.resumed.store(true, Ordering::Relaxed);
        self.schedule.tell(&Event::StepResumed { index: self.index, step });
        Some(state)
    }

    fn wish(&self) -> Wish {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match self.stop.load(Ordering::Relaxed) || self.schedule.cancel.load(Ordering::Relaxed) {
            true => Wish::Stop,
            false if since.elapsed() >= self.schedule.checkpoint_every => Wish::Save,
            false => Wish::GoOn,
        }
    }

    fn save(&self, state: &[u8]) {
        let step = &self.schedule.plan.steps[self.index];
        match self.schedule.store.save_checkpoint(&step.address, state) {
            Ok(()) => self.saved.store(true, Ordering::Relaxed),
            Err(error) => self.schedule.tell(&Event::NotSaved { step, error: &error }),
        }
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}
