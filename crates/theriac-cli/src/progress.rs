//! Progress for people: one bar over the whole run with the time left, and a line for each running step. Silent when standard error is
//! not a terminal, except for failures. For machines: one JSON object a line.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use theriac_core::record::Outcome;
use theriac_lab::{Event, Observer, Totals};

use crate::commands::duration;

/// How often a machine hears of one running step.
const PULSE: Duration = Duration::from_secs(1);

/// What to show of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Show {
    /// Bars, if standard error is a terminal.
    Bars,
    /// One JSON object a line.
    Json,
    /// Nothing but failures.
    None,
}

/// Draws what a run tells.
pub struct Progress {
    bars: MultiProgress,
    total: ProgressBar,
    steps: Mutex<HashMap<usize, ProgressBar>>,
    /// When a machine heard of each running step last.
    heard: Mutex<HashMap<usize, Instant>>,
    mode: Show,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Progress {
    /// Progress that is shown in one way.
    pub fn new(mode: Show) -> Self {
        let bars = MultiProgress::new();
        if mode != Show::Bars {
            bars.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        let total = bars.add(ProgressBar::new(0));
        total.set_style(style("[{elapsed_precise}] {bar:36} {pos}/{len} steps, {per_sec}, {msg}"));
        Self { bars, total, steps: Mutex::default(), heard: Mutex::default(), mode }
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
        match self.mode {
            Show::Json => self.write(event),
            Show::Bars | Show::None => self.draw(event),
        }
    }
}

impl Progress {
    fn draw(&self, event: &Event) {
        let warn = |text: String| self.bars.suspend(|| drop(writeln!(std::io::stderr(), "{text}")));
        let visible = self.mode == Show::Bars;
        match event {
            Event::Began { jobs, threads, totals } => {
                self.total.enable_steady_tick(Duration::from_millis(200));
                self.show(totals);
                if visible {
                    let due = totals.steps - totals.reused;
                    let line =
                        format!("{due} of {} steps to run, {jobs} at a time, {threads} thread(s) each", totals.steps);
                    self.bars.println(&line).ok();
                }
            }
            Event::Damaged { step, why } if visible => {
                warn(format!("warning: a stored result was damaged ({why}) and is computed again: {}", step.label));
            }
            Event::StepResumed { step, .. } if visible => warn(format!("continued from a checkpoint: {}", step.label)),
            Event::Damaged { .. } | Event::StepResumed { .. } => {}
            Event::NotSaved { step, error } => warn(format!("warning: no checkpoint of {}: {error}", step.label)),
            Event::StepStarted { index, step } => self.begin(*index, &step.label),
            Event::StepProgress { index, fraction } => {
                if let Some(bar) = self.steps.lock().unwrap_or_else(PoisonError::into_inner).get(index) {
                    bar.set_position((fraction * 100.0) as u64);
                }
            }
            Event::StepStopped { index, .. } => self.end(*index),
            Event::StepFinished { index, totals, .. } | Event::StepReused { index, totals, .. } => {
                self.end(*index);
                self.show(totals);
            }
            Event::StepFailed { index, step, outcome, totals } => {
                self.end(*index);
                self.show(totals);
                warn(format!("{}: {}: {}", word(outcome), step.label, outcome.reason().unwrap_or_default()));
            }
        }
    }

    fn write(&self, event: &Event) {
        let object = match event {
            Event::Began { jobs, threads, totals } => {
                json!({ "event": "began", "jobs": jobs, "threads": threads, "totals": totals })
            }
            Event::Damaged { step, why } => json!({ "event": "damaged", "step": step.label, "why": why }),
            Event::StepStarted { index, step } => json!({ "event": "started", "index": index, "step": step.label }),
            Event::StepProgress { index, fraction } => {
                let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                if heard.get(index).is_some_and(|when| when.elapsed() < PULSE) {
                    return;
                }
                heard.insert(*index, Instant::now());
                json!({ "event": "progress", "index": index, "fraction": fraction })
            }
            Event::StepFinished { index, step, seconds, totals } => {
                json!({ "event": "finished", "index": index, "step": step.label, "seconds": seconds, "totals": totals })
            }
            Event::StepReused { index, step, totals } => {
                json!({ "event": "reused", "index": index, "step": step.label, "totals": totals })
            }
            Event::StepResumed { index, step } => json!({ "event": "resumed", "index": index, "step": step.label }),
            Event::StepStopped { index, step, saved } => {
                json!({ "event": "stopped", "index": index, "step": step.label, "saved": saved })
            }
            Event::NotSaved { step, error } => {
                json!({ "event": "not-saved", "step": step.label, "reason": error.to_string() })
            }
            Event::StepFailed { index, step, outcome, totals } => json!({
                "event": word(outcome),
                "index": index,
                "step": step.label,
                "reason": outcome.reason(),
                "totals": totals,
            }),
        };
        print(&object);
    }
}

fn word(outcome: &Outcome) -> &'static str {
    if matches!(outcome, Outcome::Diverged(_)) { "diverged" } else { "failed" }
}

/// A reader that went away is no reason to leave the work undone.
fn print(object: &Value) {
    drop(writeln!(std::io::stderr().lock(), "{object}"));
}
