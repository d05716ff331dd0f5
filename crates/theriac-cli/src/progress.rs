//! Progress for people: one bar over the whole run with the time left, and a line for each running step. Silent when standard error is
//! not a terminal, except for failures.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use theriac_lab::{Event, Observer, Totals};

use crate::commands::duration;

/// Draws what a run tells.
pub struct Progress {
    bars: MultiProgress,
    total: ProgressBar,
    steps: Mutex<HashMap<usize, ProgressBar>>,
    visible: bool,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Progress {
    /// Progress that is drawn, or only failures if not `visible`.
    pub fn new(visible: bool) -> Self {
        let bars = MultiProgress::new();
        if !visible {
            bars.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        let total = bars.add(ProgressBar::new(0));
        total.set_style(style("[{elapsed_precise}] {bar:36} {pos}/{len} steps, {msg}"));
        Self { bars, total, steps: Mutex::default(), visible }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        self.total.finish_and_clear();
    }

    fn show(&self, totals: &Totals) {
        self.total.set_length(totals.steps as u64);
        self.total.set_position(totals.done as u64);
        self.total.set_message(format!("{} left", duration(totals.remaining_seconds)));
    }

    fn begin(&self, index: usize, label: &str) {
        let bar = self.bars.add(ProgressBar::new(100));
        bar.set_style(style("  {bar:12} {msg}"));
        bar.set_message(label.to_owned());
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).insert(index, bar);
    }

    fn end(&self, index: usize) {
        if let Some(bar) = self.steps.lock().unwrap_or_else(PoisonError::into_inner).remove(&index) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Event) {
        match event {
            Event::Began { jobs, threads, totals } => {
                self.total.enable_steady_tick(Duration::from_millis(200));
                self.show(totals);
                if self.visible {
                    let due = totals.steps - totals.reused;
                    let line =
                        format!("{due} of {} steps to run, {jobs} at a time, {threads} thread(s) each", totals.steps);
                    self.bars.println(&line).ok();
                }
            }
            Event::Damaged { step, why } if self.visible => {
                let line =
                    format!("warning: a stored result was damaged ({why}) and is computed again: {}", step.label);
                self.bars.suspend(|| eprintln!("{line}"));
            }
            Event::Damaged { .. } => {}
            Event::StepStarted { index, step } => self.begin(*index, &step.label),
            Event::StepProgress { index, fraction } => {
                if let Some(bar) = self.steps.lock().unwrap_or_else(PoisonError::into_inner).get(index) {
                    bar.set_position((fraction * 100.0) as u64);
                }
            }
            Event::StepFinished { index, totals, .. } | Event::StepReused { index, totals, .. } => {
                self.end(*index);
                self.show(totals);
            }
            Event::StepFailed { index, step, reason, totals } => {
                self.end(*index);
                self.show(totals);
                self.bars.suspend(|| eprintln!("failed: {}: {reason}", step.label));
            }
        }
    }
}
