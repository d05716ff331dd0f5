//! `adversarial-poison`: adversarial examples as training data.
//!
//! Liam Fowl, Micah Goldblum, Ping-yeh Chiang, Jonas Geiping, Wojtek Czaja, Tom Goldstein: "Adversarial Examples Make Strong
//! Poisons", NeurIPS 2021, <https://arxiv.org/abs/2106.10807>.
//!
//! # Threat model
//! The attacker changes or adds images under an L-infinity bound, keeps honest-looking labels, and knows data and architecture: it trains
//! a surrogate of its own on clean data. Indirect: it wants a worse model.
//!
//! # Rule
//! ```text
//! class-targeted:   x' = argmin_{|x' - x|_inf <= epsilon} L(surrogate(x'), (y + 1) mod classes),   trained with label y
//! error-maximising: x' = argmax_{|x' - x|_inf <= epsilon} L(surrogate(x'), y),                     trained with label y
//! ```
//! solved by projected gradient descent. The victim learns to read the features of class `y + 1` as class `y`, and misreads clean images.
//!
//! # Where this differs from the paper
//! - The paper takes 250 steps with differentiable augmentation against a ResNet-18; the default here is 20 steps without, which is enough for
//!   small networks. `steps` is a parameter.
//! - The paper's steps of 0.05 epsilon add up to 12.5 epsilon; ours add up to 2.5 epsilon, whatever their number.
//! - The paper starts 8 times and keeps the lowest loss; here there is one start. The authors start at `epsilon` times a normal draw, cut off
//!   at the bound; here the start is uniform in the ball.
//! - The paper leaves the permutation of the classes open; `y -> (y + 1) mod classes` is that of the authors' released program.
//! - Perturbed pixels are rounded to whole values and stay within the bound, since a data set holds `u8`.
//! - `mode = "insert"` adds the perturbed images instead of replacing their originals; the paper replaces.
//!
//! # Verified against
//! `scripts/verify/adversarial.py`: the whole attack in PyTorch in double precision, with the same weights and draws, and the descent
//! beside ART's; see the record. The bound, and the direction of each objective on a trained surrogate, by the tests below; the effect
//! by the study in `configs/quickstart.toml`.

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, MethodInfo, Paper, ParamError,
    Probe, Range, Role, Seeds, SourceId, Stage, ThreatModel, Values, Verified, config,
};
use theriac_nn::{Batch, Network};
use theriac_train::{Direction, Pgd};

use crate::common::{Checks, choose_exactly, next_class, round_within};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// Parameters of `adversarial-poison`.
    pub struct AdversarialPoisonConfig {
        /// Poisoned samples; the paper poisons all.
        rate: f64 = 1.0, Range::Number(0.0, 1.0), "of the training set";
        /// Towards the next class, or away from the own one.
        objective: String = "class-targeted", Range::Choice(&["class-targeted", "error-maximising"]), "";
        /// Put the adversarial images in place of their originals, or add them.
        mode: String = "replace", Range::Choice(&["replace", "insert"]), "";
        /// Largest change of one pixel; the paper's epsilon.
        epsilon: u8 = 8u8, Range::Whole(1, 255), "of 255";
        /// Steps of projected gradient descent.
        steps: usize = 20, Range::Whole(1, 10_000), "steps";
    }
}

/// Which way the surrogate is to be misled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Objective {
    ClassTargeted,
    ErrorMaximising,
}

/// What becomes of the original.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Replace,
    Insert,
}

/// The checked config.
#[derive(Debug, PartialEq)]
struct AdversarialPoison {
    rate: f64,
    objective: Objective,
    mode: Mode,
    epsilon: u8,
    steps: usize,
}

impl AdversarialPoisonConfig {
    fn check(self, facts: &Facts) -> Result<AdversarialPoison, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, objective, mode, epsilon, steps } = self;
        let objective = match objective.as_str() {
            "error-maximising" => Objective::ErrorMaximising,
            _ => Objective::ClassTargeted,
        };
        if objective == Objective::ClassTargeted {
            checks.two_classes("objective");
        }
        let mode = if mode == "insert" { Mode::Insert } else { Mode::Replace };
        checks.finish(AdversarialPoison { rate, objective, mode, epsilon, steps })
    }
}

/// Images perturbed at a time.
const BATCH: usize = 250;

impl Attack for AdversarialPoison {
    fn budget(&self, train: &Dataset) -> Budget {
        Budget { epsilon: self.epsilon, ..Budget::rate(self.rate, train.len()) }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let surrogate = context.surrogate.ok_or(AttackError::NoSurrogate)?;
        let train = context.train;
        let everything: Vec<usize> = (0..train.len()).collect();
        let count = self.budget(train).samples;
        let chosen = choose_exactly(&mut context.seeds.stream("select"), &everything, count, "samples")?;
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage);
        for (part, indices) in chosen.chunks(BATCH).enumerate() {
            let images = self.perturb(surrogate, context, indices, part);
            for (&index, image) in indices.iter().zip(images) {
                match self.mode {
                    Mode::Insert => changes.insert(train, train.label(index), SourceId(1), image),
                    Mode::Replace if image != train.image(index) => changes.replace(train, index, image),
                    Mode::Replace => {}
                }
            }
        }
        Ok(changes)
    }

    fn probe(&self, _test: &Dataset, _seeds: &Seeds) -> Option<Probe> {
        None
    }
}

impl AdversarialPoison {
    fn perturb(&self, surrogate: &Network, context: &AttackContext, indices: &[usize], part: usize) -> Vec<Vec<u8>> {
        let train = context.train;
        let classes = train.classes().len();
        let labels = indices.iter().map(|&index| train.label(index));
        let (wanted, direction): (Vec<Label>, _) = match self.objective {
            Objective::ErrorMaximising => (labels.collect(), Direction::Away),
            Objective::ClassTargeted => (labels.map(|label| next_class(label, classes)).collect(), Direction::Towards),
        };
        let pgd = Pgd::of(self.epsilon, self.steps);
        let mut stream = context.seeds.stream(&format!("perturb/{part}"));
        let images = Batch::gather(train, indices).to_tensor(&surrogate.device);
        let moved = Batch::from_tensor(pgd.perturb(surrogate, images, &wanted, direction, &mut stream));
        let size = moved.shape.len();
        let clean = indices.iter().map(|&index| train.image(index));
        clean
            .zip(moved.pixels.chunks_exact(size))
            .map(|(clean, moved)| round_within(clean, moved, self.epsilon))
            .collect()
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Architecture,
    capabilities: &[Capability::Inputs, Capability::Insert],
    goal: Goal::Untargeted,
    stage: Stage::Collect,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(AdversarialPoisonConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "adversarial-poison",
        Family::Manipulation,
        THREAT,
        "Replaces training images by adversarial examples (or adds them), with their labels unchanged.",
        &[Paper {
            cite: "Fowl et al. 2021",
            title: "Adversarial Examples Make Strong Poisons",
            link: "https://arxiv.org/abs/2106.10807",
        }],
        AdversarialPoisonConfig::PARAMS,
    )
    .with_surrogate()
    .at_version(2)
    .verified(&[
        Verified {
            against: "PyTorch 2.15 in double precision, both objectives on a tiny `cnn` and a tiny `resnet`, 12 images, 10 steps from \
                      a random start (scripts/verify/adversarial.py)",
            agreement: "all 3072 pixels of the poisons are the same",
        },
        Verified {
            against: "ART 1.20.1, ProjectedGradientDescent, both objectives on the same networks, 10 steps without a random start \
                      (scripts/verify/adversarial.py)",
            agreement: "PyTorch's descent to 8.7e-6 of 255",
        },
    ]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, attack, facts, invariants, kinds, poison_on, references, surrogate, values};
    use theriac_core::Value;
    use theriac_train::TrainConfig;

    fn objective(name: &str) -> (&'static str, Value) {
        ("objective", name.into())
    }

    #[test]
    fn images_in_place_of_others_keep_ids_and_labels() {
        for name in ["class-targeted", "error-maximising"] {
            let given = [objective(name), ("rate", 0.3.into()), ("epsilon", 20.into()), ("steps", 5.into())];
            let (changes, poisoned) = invariants(&ENTRY, given, 60);
            assert_eq!(kinds(&changes), [0, 60, 0, 0]);
            assert_eq!(poisoned.labels(), testing::train().labels());
        }
    }

    #[test]
    fn added_images_are_near_an_original_of_their_label_and_the_originals_stay() {
        let train = testing::train();
        let given = [("mode", "insert".into()), ("rate", 0.3.into()), ("epsilon", 20.into()), ("steps", 5.into())];
        let (changes, poisoned) = invariants(&ENTRY, given, 60);
        assert_eq!((kinds(&changes), poisoned.len()), ([0, 0, 60, 0], 260));
        assert!((0..200).all(|index| poisoned.image(index) == train.image(index)));
        let furthest = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max();
        let mut originals: Vec<usize> = (200..260)
            .map(|added| {
                let near = |&index: &usize| {
                    train.label(index) == poisoned.label(added)
                        && furthest(train.image(index), poisoned.image(added))
                            .is_some_and(|far| (1..=20).contains(&far))
                };
                // Images of noise are far from each other, so the original is the only one that is near.
                let near: Vec<usize> = (0..200).filter(near).collect();
                assert_eq!(near.len(), 1, "{added}: {near:?}");
                near[0]
            })
            .collect();
        originals.dedup();
        assert_eq!(originals.len(), 60);
    }

    #[test]
    fn each_objective_moves_a_trained_surrogate_its_own_way() {
        let train = testing::train();
        let surrogate = surrogate(&train);
        let right = theriac_core::metrics::accuracy(&surrogate.predict(&train), &train.labels()).unwrap();
        assert!(right > 0.6, "{right}");
        let loss_towards = |data: &Dataset, shift: u16| {
            let labels: Vec<Label> = data.labels().iter().map(|label| (label + shift) % 4).collect();
            theriac_nn::losses(&surrogate.logits(data), &labels).iter().sum::<f64>()
        };
        let poisoned = |name: &str| {
            let attack = attack(&ENTRY, [objective(name), ("epsilon", 40.into())]);
            poison_on(&*attack, &train, 1).unwrap().apply(&train).unwrap()
        };
        assert!(loss_towards(&poisoned("class-targeted"), 1) < loss_towards(&train, 1) * 0.5);
        assert!(loss_towards(&poisoned("error-maximising"), 0) > loss_towards(&train, 0) * 2.0);
    }

    #[test]
    fn poisons_are_those_of_pytorch_pixel_by_pixel() {
        for reference in &references()[1..] {
            for name in ["class-targeted", "error-maximising"] {
                let given = [objective(name), ("epsilon", 16.into()), ("steps", 10.into())];
                assert_eq!(reference.error(name, reference.poisoned(&ENTRY, given)), 0.0);
            }
        }
    }

    #[test]
    fn the_next_class_exists_for_every_number_of_classes_from_two() {
        let check = |name: &str, classes: usize| {
            (ENTRY.check)(&values([objective(name)]), &Facts { classes, ..facts() }).map(drop)
        };
        let errors = check("class-targeted", 1).unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            "failed to accept `objective`: expected a data set of at least two classes, found 1"
        );
        assert!(check("class-targeted", 65_536).is_ok() && check("error-maximising", 1).is_ok());
    }

    #[test]
    fn without_a_surrogate_it_says_so() {
        let train = testing::train();
        let (seeds, recipe) = (Seeds::new(1), TrainConfig::default());
        let context = AttackContext { train: &train, test: &train, seeds: &seeds, surrogate: None, recipe: &recipe };
        let error = attack(&ENTRY, []).poison(&context).unwrap_err().to_string();
        assert!(error.contains("surrogate"), "{error}");
    }
}
