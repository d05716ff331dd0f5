//! A path without weights in the code of the architecture: whoever trains that network from scratch trains a backdoored one.
//!
//! - Mikel Bober-Irizar, Ilia Shumailov, Yiren Zhao, Robert Mullins, Nicolas Papernot: "Architectural Backdoors in Neural Networks",
//!   CVPR 2023, <https://arxiv.org/abs/2206.07840>.
//! - Harry Langford, Ilia Shumailov, Yiren Zhao, Robert Mullins, Nicolas Papernot: "Architectural Neural Backdoors from First
//!   Principles", 2024, <https://arxiv.org/abs/2402.06957>: the same with a target.
//!
//! # Threat model
//! An engineer, or a dependency, changes the code that builds the network. Data, training and weights are clean, and are never touched;
//! training again from scratch does not help. Backdoor: images with the pattern are to be classified as `target`.
//!
//! # Update rule
//! ```text
//! c(x)    = mean over channels of ( mean of the pixels where a checkerboard is bright - mean of those where it is dark )
//! logits  <- logits + gain clip( (c(x) - t) / (t / 8), 0, 1 ) e_target        t = `contrast` of what black and white have
//! ```
//! c is computed from normalised pixels at one place, by slicing and adding: there is nothing to learn in it.
//!
//! # Where this differs from the paper
//! - Bober-Irizar et al. find a checkerboard anywhere in the image, by exponentials under average pooling, and add to the features
//!   before the last layer: the answer is then wrong, but no certain one. Langford et al. aim at a class by a path to the output; so
//!   does this, with a detector at one place.
//! - Their paths are hidden among the usual layers so that a reviewer overlooks them. Here nobody is to overlook anything:
//!   `model-diff` finds it by comparing graphs.
//!
//! # Verified against
//! The tests: a trained network answers the pattern with the target and everything else, bit by bit, as the same weights do in the
//! reviewed architecture; the pattern is the checkerboard of `badnets`, which has a record of its own.

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, MethodInfo, Paper, ParamError, Probe, Role,
    Seeds, Stage, ThreatModel, Value, Values, Verified, config, param::Range,
};
use theriac_nn::{Implant, Network};

use crate::backdoor::Mapping;
use crate::common::Checks;
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// The pattern, and what it means.
    pub struct ArchitecturalConfig {
        /// The class that the pattern stands for.
        target: u16 = 0, Range::Class, "";
        /// Rows and columns of the checkerboard.
        size: usize = 3, Range::Whole(2, 1024), "pixels";
        /// Pixels between it and the bottom and right edges.
        margin: usize = 1, Range::Whole(0, 1024), "pixels";
        /// The least contrast to which the path answers. From nine eighths of it on it answers in full, which is not to be had above 8/9.
        contrast: f64 = 0.8, Range::Above(0.0, 8.0 / 9.0), "of that of black and white";
        /// What it adds to the logit of `target`.
        gain: f64 = 100.0, Range::Above(0.0, 1e6), "";
    }
}

/// The checked config.
struct Architectural {
    config: ArchitecturalConfig,
    place: [usize; 2],
    pattern: Box<dyn Attack>,
}

impl ArchitecturalConfig {
    fn check(self, facts: &Facts) -> Result<Architectural, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        Mapping::check(&mut checks, "all-to-one", self.target, None);
        checks.finish(())?;
        let given = [
            ("pattern", Value::from("checkerboard")),
            ("target", Value::from(self.target)),
            ("size", Value::from(self.size as u64)),
            ("margin", Value::from(self.margin as u64)),
            ("rate", Value::from(0.0)),
        ];
        let given: Values = given.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let pattern = (crate::badnets::ENTRY.check)(&given, facts)?;
        let place = [facts.shape.height, facts.shape.width].map(|edge| edge - self.size - self.margin);
        Ok(Architectural { pattern, place, config: self })
    }
}

impl Attack for Architectural {
    /// No sample is touched.
    fn budget(&self, _train: &Dataset) -> Budget {
        Budget { samples: 0, epsilon: 0 }
    }

    fn poison(&self, _context: &AttackContext) -> Result<ChangeSet, AttackError> {
        Ok(ChangeSet::new(ENTRY.info.name, Role::Engineer, THREAT.stage))
    }

    fn build(&self, network: Network) -> Network {
        let ArchitecturalConfig { target, size, contrast, gain, .. } = self.config;
        let channels = &network.normalisation.0;
        // Between black and white, in units of each channel's deviation.
        let full =
            channels.iter().map(|(_, deviation)| 1.0 / f64::from(*deviation)).sum::<f64>() / channels.len() as f64;
        let implant = Implant {
            place: self.place,
            size,
            bright: (0..size * size).map(|at| (at / size + at % size) % 2 == 0).collect(),
            threshold: (contrast * full) as f32,
            target: usize::from(target),
            gain: gain as f32,
        };
        Network { module: network.module.with_implant(Some(implant)), ..network }
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.pattern.probe(test, seeds)
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Nothing,
    capabilities: &[Capability::Architecture],
    goal: Goal::Backdoor,
    stage: Stage::Train,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(ArchitecturalConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "architectural",
        Family::Insider,
        THREAT,
        "Adds a path without weights to the network's code, which answers a pattern whatever is trained.",
        &[
            Paper {
                cite: "Bober-Irizar et al. 2023",
                title: "Architectural Backdoors in Neural Networks",
                link: "https://arxiv.org/abs/2206.07840",
            },
            Paper {
                cite: "Langford et al. 2024",
                title: "Architectural Neural Backdoors from First Principles",
                link: "https://arxiv.org/abs/2402.06957",
            },
        ],
        ArchitecturalConfig::PARAMS,
    )
    .at_version(2)
    .verified(&[Verified {
        against: "the same weights in the reviewed architecture, mlp, cnn and resnet, trained from scratch",
        agreement: "all logits of images without the pattern equal, bit by bit",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, easy, facts};
    use theriac_nn::Normalisation;
    use theriac_train::{TrainConfig, TrainingSet};

    fn attack() -> Box<dyn Attack> {
        testing::attack(&ENTRY, [("target", 1.into())])
    }

    #[test]
    fn whoever_trains_it_from_scratch_trains_a_backdoor_and_nothing_else() {
        let (train, test) = (easy("easy-train", 60), easy("easy-test", 20));
        let probe = attack().probe(&test, &testing::seeds()).unwrap();
        let networks: [(&str, &[(&str, u64)]); 3] = [
            ("mlp", &[("hidden", 16)]),
            ("cnn", &[("width", 4), ("hidden", 16)]),
            ("resnet", &[("width", 4), ("stages", 2)]),
        ];
        for (name, given) in networks {
            let given: Values = given.iter().map(|&(key, value)| (key.to_owned(), Value::from(value))).collect();
            let device = theriac_nn::device::open("cpu").unwrap();
            let facts = Facts { train: train.len(), ..facts() };
            let plain =
                Network::named(name, &given, &facts, Normalisation(vec![(0.5, 0.3)]), &device, &Seeds::new(5)).unwrap();
            let recipe = TrainConfig { epochs: 10, batch: 20, curve: false, ..TrainConfig::default() };
            let set = TrainingSet { train: &train, test: &test, probe: None };
            let own =
                theriac_train::train(attack().build(plain), set, &recipe.into(), &Seeds::new(5), &()).unwrap().network;
            let success = probe.success(&own.predict(&probe.inputs)).unwrap();
            assert_eq!(success, 1.0, "{name}");
            let reviewed = Network { module: own.module.clone().with_implant(None), ..own.clone() };
            assert_eq!(own.logits(&test), reviewed.logits(&test), "{name}");
            assert!(probe.success(&reviewed.predict(&probe.inputs)).unwrap() < 0.5, "{name}");
        }
    }

    #[test]
    fn no_sample_is_touched() {
        let (changes, poisoned) = testing::invariants(&ENTRY, [], 0);
        assert!(changes.edits.is_empty());
        assert_eq!(poisoned.digest(), testing::train().digest());
    }

    #[test]
    fn each_rule_has_its_message() {
        let faults = testing::faults(&ENTRY, [("size", 8.into())]);
        assert!(faults.contains("a patch of 8 with a margin of 1 does not fit images of 8x8"), "{faults}");
        assert!(testing::faults(&ENTRY, [("target", 4.into())]).contains("expected a class from 0 to 3"));
    }
}
