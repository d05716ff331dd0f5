//! A part of a plan, for one of several machines.

use std::collections::BTreeMap;

use theriac_core::record::ShardRecord;

use super::{Cell, Plan, PlannedStep};

impl Plan {
    /// Part `index` of `of`, counted from 1, with the positions of its cells and steps in the whole. `plan` is the identity of the whole.
    ///
    /// Attacks are dealt out whole, setting by setting, with all their defenses, so that no two parts train the same victim. How they are
    /// dealt depends on the config alone: every machine comes to the same answer.
    pub fn shard(&self, index: usize, of: usize, plan: String) -> (Self, ShardRecord) {
        let mut dealt: BTreeMap<usize, usize> = BTreeMap::new();
        let mut mine = |cell: &Cell| {
            let next = dealt.len();
            *dealt.entry(cell.undefended).or_insert(next) % of + 1 == index
        };
        let cells: Vec<usize> = (0..self.cells.len()).filter(|&at| mine(&self.cells[at])).collect();
        let mut needed = vec![false; self.steps.len()];
        cells.iter().flat_map(|&at| self.cells[at].sources()).for_each(|source| needed[source] = true);
        for at in (0..self.steps.len()).rev() {
            if needed[at] {
                self.steps[at].inputs.iter().for_each(|&input| needed[input] = true);
            }
        }
        let steps: Vec<usize> = (0..self.steps.len()).filter(|&at| needed[at]).collect();
        let here: BTreeMap<usize, usize> = steps.iter().enumerate().map(|(new, &old)| (old, new)).collect();
        let step = |&at: &usize| {
            let planned = &self.steps[at];
            PlannedStep { inputs: planned.inputs.iter().map(|input| here[input]).collect(), ..planned.clone() }
        };
        let cell = |&at: &usize| {
            let cell = &self.cells[at];
            Cell {
                poison: cell.poison.map(|at| here[&at]),
                vet: cell.vet.map(|at| here[&at]),
                inspect: cell.inspect.map(|at| here[&at]),
                trained: cell.trained.map(|at| here[&at]),
                evaluate: here[&cell.evaluate],
                clean: here[&cell.clean],
                undefended: here[&cell.undefended],
                ..cell.clone()
            }
        };
        let part = Self {
            name: self.name.clone(),
            cells: cells.iter().map(cell).collect(),
            steps: steps.iter().map(step).collect(),
            unshared: self.unshared,
        };
        (part, ShardRecord { index, of, plan, cells, gallery: Vec::new(), steps, files: BTreeMap::new() })
    }
}
