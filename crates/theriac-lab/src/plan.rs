//! The plan: the cells of a study over a graph of steps in which equal steps are one.

mod compose;
mod draw;
mod label;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;
use theriac_core::{Digest, record::MethodRecord};

use crate::bench::{Bench, Cost, Step, StepKind};
use crate::config::Config;
use crate::store::Store;
use crate::throughput::Throughput;
pub(crate) use label::{brief, filter_labels};

/// Cells and steps of a study.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The study.
    pub name: String,
    /// In the order of the results.
    pub cells: Vec<Cell>,
    /// Each step once, after its inputs.
    pub steps: Vec<PlannedStep>,
    /// How many steps there would be if every cell made its own.
    pub unshared: usize,
}

/// One step of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedStep {
    /// Its content address.
    pub address: Digest,
    /// For people, such as `train cnn on mnist-10k, badnets rate=0.05, seed 1`.
    pub label: String,
    /// The step.
    pub step: Step,
    /// The positions of its inputs in the plan.
    pub inputs: Vec<usize>,
    /// What it takes, by its arithmetic alone.
    pub estimate: Cost,
    /// Seconds that it is expected to take on one thread of this machine; see [`Plan::calibrate`].
    pub seconds: f64,
}

/// One cell, and where its numbers come from: positions of steps in the plan.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The position of its experiment in the config.
    pub experiment: usize,
    /// The position of its data set in the experiment.
    pub dataset: usize,
    /// The network.
    pub model: MethodRecord,
    /// The training recipe.
    pub train: MethodRecord,
    /// The attack.
    pub attack: MethodRecord,
    /// The defense.
    pub defense: MethodRecord,
    /// The seed.
    pub seed: u64,
    /// The attack's change set.
    pub poison: Option<usize>,
    /// The first vetting of the training data.
    pub vet: Option<usize>,
    /// The watching of the retrainings.
    pub monitor: Option<usize>,
    /// The inspection of the model.
    pub inspect: Option<usize>,
    /// The training that made the evaluated model; `None` where many were made.
    pub trained: Option<usize>,
    /// The evaluation.
    pub evaluate: usize,
    /// The evaluation of the clean model on the same attack.
    pub clean: usize,
    /// The evaluation of the undefended victim on the same attack.
    pub undefended: usize,
}

impl Cell {
    /// The steps whose files the cell's record is made from.
    pub fn sources(&self) -> impl Iterator<Item = usize> {
        let always = [self.evaluate, self.clean, self.undefended];
        always
            .into_iter()
            .chain(self.trained)
            .chain(self.poison)
            .chain(self.vet)
            .chain(self.monitor)
            .chain(self.inspect)
    }
}

/// A plan in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Cells.
    pub cells: usize,
    /// Distinct steps.
    pub steps: usize,
    /// Distinct steps by kind.
    pub by_kind: BTreeMap<StepKind, usize>,
    /// Steps that sharing saves.
    pub shared: usize,
    /// Steps that need not be run because the store has what they lead to.
    pub in_store: usize,
    /// Seconds that the remaining steps are expected to take.
    pub seconds: f64,
    /// Memory that the largest of the remaining steps are expected to take side by side, in MiB.
    pub memory_mib: f64,
}

impl Plan {
    /// Plans a study.
    pub fn new(config: &Config, bench: &dyn Bench) -> Self {
        compose::compose(config, bench)
    }

    /// Corrects the estimates by what was measured on this machine.
    pub fn calibrate(&mut self, throughput: &Throughput) {
        for planned in &mut self.steps {
            planned.seconds = planned.estimate.seconds * throughput.factor(&planned.step);
        }
    }

    /// Which steps have to be run when `there` says of a position whether that step is finished: those that a cell reads, and their inputs.
    pub fn due(&self, mut there: impl FnMut(usize) -> bool) -> Vec<bool> {
        let mut wanted = vec![false; self.steps.len()];
        self.cells.iter().flat_map(Cell::sources).for_each(|source| wanted[source] = true);
        for (index, planned) in self.steps.iter().enumerate().rev() {
            wanted[index] = wanted[index] && !there(index);
            if wanted[index] {
                planned.inputs.iter().for_each(|&input| wanted[input] = true);
            }
        }
        wanted
    }

    /// The inputs of a step, by name.
    pub fn inputs(&self, index: usize) -> impl Iterator<Item = (&str, usize)> {
        let planned = &self.steps[index];
        let position =
            |address: &Digest| planned.inputs.iter().copied().find(|&input| self.steps[input].address == *address);
        planned.step.inputs.iter().filter_map(move |(name, address)| Some((name.as_str(), position(address)?)))
    }

    /// Seconds from the start of each step to the end of the longest chain that it begins, among the `due` ones.
    pub fn chains(&self, due: &[bool]) -> Vec<f64> {
        let mut chains: Vec<f64> = self.steps.iter().map(|planned| planned.seconds).collect();
        for (index, planned) in self.steps.iter().enumerate().rev().filter(|(index, _)| due[*index]) {
            for &input in &planned.inputs {
                chains[input] = chains[input].max(self.steps[input].seconds + chains[index]);
            }
        }
        chains
    }

    /// The seconds that the `due` steps take with `jobs` at a time: their sum shared out, but no less than the longest chain.
    pub fn seconds(&self, due: &[bool], jobs: usize) -> f64 {
        let due_ones = || due.iter().enumerate().filter(|(_, due)| **due).map(|(index, _)| index);
        let sum: f64 = due_ones().map(|index| self.steps[index].seconds).sum();
        let chains = self.chains(due);
        due_ones().map(|index| chains[index]).fold(sum / jobs.max(1) as f64, f64::max)
    }

    /// The plan in numbers, for a run with `jobs` at a time.
    pub fn summary(&self, store: &Store, jobs: usize) -> Summary {
        let due = self.due(|index| store.contains(&self.steps[index].address));
        let mut by_kind = BTreeMap::new();
        for planned in &self.steps {
            *by_kind.entry(planned.step.kind).or_default() += 1;
        }
        let mut memory: Vec<f64> = self
            .steps
            .iter()
            .zip(&due)
            .filter(|(_, due)| **due)
            .map(|(planned, _)| planned.estimate.memory_mib)
            .collect();
        memory.sort_by(|one, two| two.total_cmp(one));
        Summary {
            cells: self.cells.len(),
            steps: self.steps.len(),
            by_kind,
            shared: self.unshared - self.steps.len(),
            in_store: due.iter().filter(|due| !**due).count(),
            seconds: self.seconds(&due, jobs),
            memory_mib: memory.iter().take(jobs).sum(),
        }
    }
}
