//! What a cell costs: the seconds of the steps that it stands on, and that others do not.

use std::collections::{BTreeMap, BTreeSet};

use theriac_core::record::{CellRecord, StepRecord};

use crate::group::Group;
use crate::spread::Spread;

/// The steps of a manifest, by address.
pub struct Costs<'a> {
    steps: BTreeMap<&'a str, &'a StepRecord>,
}

impl<'a> Costs<'a> {
    /// Of the `steps` of a manifest.
    pub fn new(steps: &'a [StepRecord]) -> Self {
        Self { steps: steps.iter().map(|step| (step.address.as_str(), step)).collect() }
    }

    /// The seconds that `group` takes beyond those of `base`, over seeds.
    pub fn beyond(&self, group: &Group, base: &Group) -> Option<Spread> {
        Spread::of(&self.by_seed(group, base).into_values().collect::<Vec<_>>())
    }

    /// The same, by seed.
    pub fn by_seed(&self, group: &Group, base: &Group) -> BTreeMap<u64, f64> {
        let base: BTreeMap<u64, &CellRecord> = base.ok().map(|cell| (cell.seed, cell)).collect();
        let seconds = |cell: &CellRecord| {
            let (own, shared) = (self.under(&cell.address)?, self.under(&base.get(&cell.seed)?.address)?);
            Some(own.difference(&shared).map(|address| self.steps[address].seconds).sum())
        };
        group.ok().filter_map(|cell| Some((cell.seed, seconds(cell)?))).collect()
    }

    /// The seconds of making the poison, its surrogate included, over seeds; `None` without an attack.
    pub fn poison(&self, group: &Group) -> Option<Spread> {
        let seconds = |cell: &CellRecord| {
            let under = self.under(&cell.address)?;
            let poison = under.iter().find(|address| self.steps[**address].kind == "poison")?;
            Some(self.under(poison)?.iter().map(|address| self.steps[address].seconds).sum())
        };
        Spread::of(&group.ok().filter_map(seconds).collect::<Vec<f64>>())
    }

    /// The step at `address` and all that it stands on; `None` where a step is not in the manifest.
    fn under(&self, address: &str) -> Option<BTreeSet<&'a str>> {
        let (mut found, mut open) = (BTreeSet::new(), vec![self.steps.get(address)?]);
        while let Some(step) = open.pop() {
            if found.insert(step.address.as_str()) {
                for input in &step.inputs {
                    open.push(self.steps.get(input.as_str())?);
                }
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::group::groups;
    use crate::toy::{cell, method};

    fn step(address: &str, kind: &str, seconds: f64, inputs: &[&str]) -> StepRecord {
        StepRecord {
            address: address.to_owned(),
            kind: kind.to_owned(),
            label: String::new(),
            seconds,
            peak_memory_mib: 0.0,
            output: String::new(),
            inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
        }
    }

    #[test]
    fn a_defense_costs_what_the_undefended_victim_does_not_need() {
        let steps = [
            step("poison", "poison", 1.0, &[]),
            step("victim", "train", 10.0, &["poison"]),
            step("plain", "evaluate", 0.5, &["victim", "poison"]),
            step("vet", "vet", 3.0, &["victim", "poison"]),
            step("again", "train", 8.0, &["vet", "poison"]),
            step("defended", "evaluate", 0.25, &["again", "poison"]),
        ];
        let attack = method("badnets", json!({}));
        let mut cells =
            vec![cell(&attack, &method("none", json!({})), 1, &[]), cell(&attack, &method("f", json!({})), 1, &[])];
        cells[0].address = "plain".to_owned();
        cells[1].address = "defended".to_owned();
        let groups = groups(&cells);
        let costs = Costs::new(&steps);
        assert_eq!(costs.beyond(&groups[1], &groups[0]).unwrap().mean, 11.25);
        assert_eq!(costs.poison(&groups[0]).unwrap().mean, 1.0);
        assert_eq!(Costs::new(&steps[1..]).beyond(&groups[1], &groups[0]), None, "an incomplete sum is no cost");
    }
}
