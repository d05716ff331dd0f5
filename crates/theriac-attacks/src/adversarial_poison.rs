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
//! - The class permutation is `y -> y + 1`; the paper draws a random one.
//! - Perturbed pixels are rounded to whole values and stay within the bound, since a data set holds `u8`.
//! - `mode = "insert"` adds the perturbed images instead of replacing their originals; the paper replaces.
//!
//! # Verified against
//! The bound and the direction by tests on a trained network; the effect by the study in `configs/quickstart.toml`.

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, MethodInfo, Paper, ParamError,
    Probe, Range, Role, SourceId, Stage, ThreatModel, Values, config, threat::samples_at,
};
use theriac_nn::{Batch, Network};
use theriac_train::{Direction, Pgd};

use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// Parameters of `adversarial-poison`.
    pub struct AdversarialPoison {
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

/// Images perturbed at a time.
const BATCH: usize = 250;

impl Attack for AdversarialPoison {
    fn budget(&self, train: &Dataset) -> Budget {
        Budget { epsilon: self.epsilon, ..Budget::rate(self.rate, train.len()) }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let surrogate = context
            .surrogate
            .ok_or_else(|| AttackError::Infeasible("the attack needs a surrogate model".to_owned()))?;
        let train = context.train;
        let everything: Vec<usize> = (0..train.len()).collect();
        let chosen = context.seeds.stream("select").choose(&everything, samples_at(self.rate, train.len()));
        let mut changes = ChangeSet::new("adversarial-poison", Role::Supplier, Stage::Collect);
        for (part, indices) in chosen.chunks(BATCH).enumerate() {
            let images = self.perturb(surrogate, context, indices, part);
            for (&index, image) in indices.iter().zip(images) {
                match self.mode.as_str() {
                    "insert" => changes.insert(train, train.label(index), SourceId(1), image),
                    _ if image != train.image(index) => changes.replace(train, index, image),
                    _ => {}
                }
            }
        }
        Ok(changes)
    }

    fn probe(&self, _test: &Dataset) -> Option<Probe> {
        None
    }
}

impl AdversarialPoison {
    fn perturb(&self, surrogate: &Network, context: &AttackContext, indices: &[usize], part: usize) -> Vec<Vec<u8>> {
        let train = context.train;
        let classes = train.classes().len() as Label;
        let labels = indices.iter().map(|&index| train.label(index));
        let (wanted, direction): (Vec<Label>, _) = match self.objective.as_str() {
            "error-maximising" => (labels.collect(), Direction::Away),
            _ => (labels.map(|label| (label + 1) % classes).collect(), Direction::Towards),
        };
        let epsilon = f64::from(self.epsilon) / 255.0;
        // Enough to cross the ball two and a half times, as is usual.
        let step_size = 2.5 * epsilon / self.steps as f64;
        let pgd = Pgd { epsilon, step_size, steps: self.steps, random_start: true };
        let mut stream = context.seeds.stream(&format!("perturb/{part}"));
        let images = Batch::gather(train, indices).to_tensor(&surrogate.device);
        let moved = Batch::from_tensor(pgd.perturb(surrogate, images, &wanted, direction, &mut stream));
        let size = moved.shape.len();
        let clean = indices.iter().map(|&index| train.image(index));
        clean.zip(moved.pixels.chunks_exact(size)).map(|(clean, moved)| self.round(clean, moved)).collect()
    }

    /// Whole pixel values that stay within the bound.
    fn round(&self, clean: &[u8], moved: &[f32]) -> Vec<u8> {
        let pixel = |(&clean, &moved): (&u8, &f32)| {
            let rounded = (moved * 255.0).round().clamp(0.0, 255.0) as u8;
            rounded.clamp(clean.saturating_sub(self.epsilon), clean.saturating_add(self.epsilon))
        };
        clean.iter().zip(moved).map(pixel).collect()
    }
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "adversarial-poison",
        Family::Manipulation,
        ThreatModel {
            knowledge: Knowledge::Architecture,
            capabilities: &[Capability::Inputs, Capability::Insert],
            goal: Goal::Untargeted,
            stage: Stage::Collect,
        },
        "Replaces training images by adversarial examples (or adds them), with their labels unchanged.",
        &[Paper {
            cite: "Fowl et al. 2021",
            title: "Adversarial Examples Make Strong Poisons",
            link: "https://arxiv.org/abs/2106.10807",
        }],
        AdversarialPoison::PARAMS,
    )
    .with_surrogate(),
    check,
};

fn check(values: &Values, _facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(AdversarialPoison::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::{Edit, Seeds, Shape};
    use theriac_nn::Normalisation;

    fn data() -> Dataset {
        let shape = Shape { channels: 1, height: 4, width: 4 };
        let classes: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let mut stream = Seeds::new(5).stream("test/data");
        let labels: Vec<Label> = (0..40).map(|index| index % 3).collect();
        let pixels: Vec<u8> = (0..40 * 16).map(|_| stream.below(256) as u8).collect();
        Dataset::new("toy", shape, classes, pixels, &labels).unwrap()
    }

    fn surrogate(data: &Dataset) -> Network {
        let facts = Facts { shape: data.shape(), classes: 3, train: 40, test: 0 };
        let device = theriac_nn::device::open("cpu").unwrap();
        let normalisation = Normalisation(vec![(0.5, 0.3)]);
        Network::named("mlp", &Values::new(), &facts, normalisation, &device, &Seeds::new(1)).unwrap()
    }

    fn poison(attack: &AdversarialPoison, data: &Dataset, seed: u64) -> ChangeSet {
        let surrogate = surrogate(data);
        let context = AttackContext { train: data, seeds: &Seeds::new(seed), surrogate: Some(&surrogate) };
        attack.poison(&context).unwrap()
    }

    #[test]
    fn the_budget_is_exact_and_labels_are_untouched() {
        let data = data();
        for (mode, objective) in [("replace", "class-targeted"), ("insert", "error-maximising")] {
            let attack =
                AdversarialPoison { rate: 0.5, mode: mode.into(), objective: objective.into(), epsilon: 20, steps: 5 };
            let changes = poison(&attack, &data, 1);
            assert_eq!(changes.touched().len(), 20);
            attack.budget(&data).enforce(&ENTRY.info.threat.unwrap(), &data, &changes).unwrap();
            assert!(changes.edits.iter().all(|edit| matches!(edit, Edit::Replace { .. } | Edit::Insert { .. })));
            assert_eq!(changes.apply(&data).unwrap().len(), if mode == "insert" { 60 } else { 40 });
            assert_eq!(changes.digest(), poison(&attack, &data, 1).digest());
            assert_ne!(changes.digest(), poison(&attack, &data, 2).digest());
        }
    }

    #[test]
    fn each_objective_moves_the_surrogate_its_own_way() {
        let data = data();
        let surrogate = surrogate(&data);
        let loss_towards = |data: &Dataset, shift: u16| {
            let labels: Vec<Label> = data.labels().iter().map(|label| (label + shift) % 3).collect();
            theriac_nn::losses(&surrogate.logits(data), &labels).iter().sum::<f64>()
        };
        let poisoned = |objective: &str| {
            let attack = AdversarialPoison { objective: objective.into(), epsilon: 40, ..AdversarialPoison::default() };
            poison(&attack, &data, 1).apply(&data).unwrap()
        };
        assert!(loss_towards(&poisoned("class-targeted"), 1) < loss_towards(&data, 1) * 0.9);
        assert!(loss_towards(&poisoned("error-maximising"), 0) > loss_towards(&data, 0) * 1.1);
    }

    #[test]
    fn without_a_surrogate_it_says_so() {
        let data = data();
        let context = AttackContext { train: &data, seeds: &Seeds::new(1), surrogate: None };
        let error = AdversarialPoison::default().poison(&context).unwrap_err().to_string();
        assert!(error.contains("surrogate"), "{error}");
    }
}
