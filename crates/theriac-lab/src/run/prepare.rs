//! Before a run: what is there already, and how the machine is shared out.

use std::collections::BTreeMap;

use theriac_core::record::Outcome;

use super::schedule::{Before, Kept};
use super::{Event, Observer, Options, RunError};
use crate::bench::StepKind;
use crate::journal::{Entry, Journal};
use crate::plan::Plan;
use crate::store::{Found, Store};
use crate::throughput::Throughput;

/// Looks for every step that is wanted.
pub(super) fn search(
    plan: &Plan,
    store: &Store,
    throughput: Throughput,
    journal: &mut Journal,
    observer: &dyn Observer,
) -> Result<Before, RunError> {
    let (mut stored, mut causes, mut failure) = (BTreeMap::new(), BTreeMap::new(), None);
    let mut look = |index: usize| -> Result<bool, RunError> {
        let step = &plan.steps[index];
        match store.find(&step.address)? {
            Found::Nothing => return Ok(false),
            Found::Good(entry) => {
                store.touch(&step.address);
                stored.insert(index, Kept::from(&*entry));
                causes.extend(entry.note.diverged.map(|how| (index, Outcome::Diverged(how))));
            }
            Found::Damaged(why) => {
                observer.observe(&Event::Damaged { step, why: &why });
                journal.write(Entry::Damaged { address: step.address, why })?;
                return Ok(false);
            }
        }
        Ok(true)
    };
    let mut due = plan.due(|index| look(index).unwrap_or_else(|error| failure.replace(error).is_some()));
    if let Some(error) = failure {
        return Err(error);
    }
    // What stands on a training that is known to diverge cannot be run, and what only that needs need not be.
    let mut lost = vec![false; plan.steps.len()];
    for (index, planned) in plan.steps.iter().enumerate() {
        lost[index] = due[index] && planned.inputs.iter().any(|input| lost[*input] || causes.contains_key(input));
    }
    let lost_count = lost.iter().filter(|lost| **lost).count();
    if lost_count > 0 {
        due = plan.due(|index| lost[index] || stored.contains_key(&index));
    }
    Ok(Before { stored, causes, due, lost: lost_count, throughput })
}

/// Steps at a time and threads a step. Steps scale better side by side than inside, so threads are for plans that are narrower than the
/// machine.
pub(super) fn share_out(plan: &Plan, due: &[bool], cores: usize, options: &Options) -> (usize, usize) {
    let mut level = vec![0_usize; plan.steps.len()];
    let mut width: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, planned) in plan.steps.iter().enumerate().filter(|(index, _)| due[*index]) {
        level[index] = planned.inputs.iter().map(|&input| level[input]).max().unwrap_or(0);
        if matches!(planned.step.kind, StepKind::Train | StepKind::Certify) {
            level[index] += 1;
            *width.entry(level[index]).or_default() += 1;
        }
    }
    let steps = due.iter().filter(|due| **due).count();
    let widest = width.values().copied().max().unwrap_or(steps).clamp(1, cores);
    let share = |given: Option<usize>| given.map(|given| (cores / given.max(1)).max(1));
    let jobs = options.jobs.or(share(options.threads)).unwrap_or(widest).max(1);
    (jobs, options.threads.or(share(Some(jobs))).unwrap_or(1).max(1))
}
