//! How long steps take on this machine, beside what was expected of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bench::Step;
use crate::files::{FileError, write_atomically};

/// Once this much has been measured, in expected seconds, older measurements count half.
const MEMORY: f64 = 600.0;
const FILE: &str = "throughput.json";

/// Measured against expected seconds, by device, kind of step and network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Throughput(BTreeMap<String, Pace>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pace {
    expected: f64,
    measured: f64,
}

impl Throughput {
    /// What was measured with the store at `root`. A file that is not there or cannot be understood says nothing.
    pub fn read(root: &Path) -> Self {
        let text = std::fs::read(root.join(FILE)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Keeps it for the next run.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, root: &Path) -> Result<(), FileError> {
        let text = serde_json::to_vec_pretty(self).expect("plain data serialises to JSON");
        write_atomically(&root.join(FILE), &text)
    }

    /// How many times longer than expected a step takes here; as other steps of this machine, if none like it was measured.
    pub fn factor(&self, step: &Step) -> f64 {
        let ratio = |pace: Pace| (pace.expected > 0.0 && pace.measured > 0.0).then(|| pace.measured / pace.expected);
        let all = || {
            let sum = |sum: Pace, pace: &Pace| Pace {
                expected: sum.expected + pace.expected,
                measured: sum.measured + pace.measured,
            };
            self.0.values().fold(Pace::default(), sum)
        };
        self.0.get(&key(step)).copied().and_then(ratio).or_else(|| ratio(all())).unwrap_or(1.0)
    }

    /// Takes note of a step: seconds as expected and as measured, on one thread.
    pub fn learn(&mut self, step: &Step, expected: f64, measured: f64) {
        let pace = self.0.entry(key(step)).or_default();
        if pace.expected > MEMORY {
            *pace = Pace { expected: pace.expected / 2.0, measured: pace.measured / 2.0 };
        }
        pace.expected += expected;
        pace.measured += measured;
    }
}

fn key(step: &Step) -> String {
    let model = step.model.as_ref().map_or("", |model| &model.name);
    format!("{} {} {model}", step.device, step.kind).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::StepKind;
    use crate::toy;

    #[test]
    fn what_was_measured_is_expected_next_time() {
        let plan = toy::plan(toy::SMALL);
        let of = |kind| &plan.steps.iter().find(|planned| planned.step.kind == kind).unwrap().step;
        let (train, vet) = (of(StepKind::Train), of(StepKind::Vet));
        let mut throughput = Throughput::default();
        assert_eq!(throughput.factor(train), 1.0);
        throughput.learn(train, 10.0, 30.0);
        assert_eq!(throughput.factor(train), 3.0);
        // Nothing like it was measured, so it goes by the machine.
        assert_eq!(throughput.factor(vet), 3.0);
        throughput.learn(vet, 10.0, 10.0);
        assert_eq!((throughput.factor(train), throughput.factor(vet)), (3.0, 1.0));
        // What is old counts less.
        throughput.learn(train, 2.0 * MEMORY, 6.0 * MEMORY);
        throughput.learn(train, MEMORY, MEMORY);
        assert!((throughput.factor(train) - 2.0).abs() < 0.02);

        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Throughput::read(folder.path()), Throughput::default());
        throughput.write(folder.path()).unwrap();
        assert_eq!(Throughput::read(folder.path()), throughput);
    }
}
