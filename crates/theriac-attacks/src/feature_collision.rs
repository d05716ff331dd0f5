//! `feature-collision`: images of one class whose features are those of a certain image of another class.
//!
//! Ali Shafahi, W. Ronny Huang, Mahyar Najibi, Octavian Suciu, Christoph Studer, Tudor Dumitras, Tom Goldstein: "Poison Frogs! Targeted
//! Clean-Label Poisoning Attacks on Neural Networks", NeurIPS 2018, <https://arxiv.org/abs/1804.00792>.
//!
//! # Threat model
//! A supplier adds images whose labels look right. It has a network of the victim's architecture, trained on the same data (the paper's
//! transfer learning: the victim's own features), and one image that the victim will meet later. Direct: that image is to be classified
//! as the class of the poisons, all others as before.
//!
//! # Update rule
//! ```text
//! t the image, f the features that the last layer sees, b a training image of the wanted class
//! b   <- opacity t + (1 - opacity) b                                                              a watermark of the image
//! x_0  = b
//! y    = x_i - lambda grad_x |f(x_i) - f(t)|^2                                                    forward
//! x_{i+1} = clip_[0,1]( (y + lambda beta b) / (1 + lambda beta) )                                 backward
//! beta = beta_0 (features / pixels)^2                                                             per pixel level of 255
//! ```
//! A linear layer that separates the poisons from the image's own class moves the image with them to their side.
//!
//! # Where this differs from the paper
//! - The paper writes `beta_0 2048^2 / pixels^2`, where 2048 is the number of features of its network; here it is that of the surrogate.
//!   Distances of pixels are in levels of 255, as in the authors' program; `learning_rate` is for pixels in `[0, 1]`.
//! - A step that raises `|f(x) - f(t)|^2 + beta/2 |x - b|^2` is taken back, and lambda is halved for that image: the paper names no rate
//!   that fits all networks, and the authors' program also halves it. The backward step is that of `beta/2`, so this is what it descends.
//! - The bases are training images of the wanted class, drawn without repetition; the paper takes them from its test set, which no poison
//!   may come from here. With `mode = "replace"` poisons take the place of their bases.
//! - The defaults are those of the paper's victims that are trained end to end (50 poisons with a watermark of 0.3); one poison without a
//!   watermark is its attack on the last layer. Its number of steps is not told; 200 is the default of the authors' program.
//! - Pixels are rounded to whole values.
//!
//! # Verified against
//! `scripts/verify/targeted.py`: PyTorch 2.15 in double precision with the same weights, steps and halvings; see the record.
//!
//! # Cost
//! For each step a forward and a backward pass of all poisons, and a forward pass of what became of them.

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, MethodInfo, Paper, ParamError, Probe,
    Range, Role, Seeds, SourceId, Stage, ThreatModel, Values, config,
};
use theriac_nn::burn::tensor::Tensor;
use theriac_nn::{Network, input_gradient_of};

use crate::backdoor::replace_if_changed;
use crate::common::Checks;
use crate::one_image::{OneImage, draw_bases, images, pixels};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// Parameters of `feature-collision`.
    pub struct FeatureCollisionConfig {
        /// How many poisons are made.
        poisons: usize = 50, Range::Whole(1, 1_000_000), "samples";
        /// The class that the image is to be taken for, and the poisons' label; drawn if absent.
        target: Option<u16> = None::<u16>, Range::Class, "";
        /// The class of the image; any other than `target` if absent.
        source: Option<u16> = None::<u16>, Range::Class, "";
        /// The image: its place in the test set, counted from 0; drawn if absent.
        image: Option<usize> = None::<usize>, Range::Whole(0, 1_000_000_000), "";
        /// Whether poisons are added, or take the place of the images that they are made from.
        mode: String = "insert", Range::Choice(&["insert", "replace"]), "";
        /// How much of the image is laid over the bases.
        opacity: f64 = 0.3, Range::Number(0.0, 1.0), "";
        /// How much a poison is to look like its base; the paper's beta_0.
        similarity: f64 = 0.25, Range::Number(0.0, 1_000_000.0), "";
        /// Length of the first step, for pixels in `[0, 1]`; halved as often as needed. The paper's lambda.
        learning_rate: f64 = 1.0, Range::Above(0.0, 1_000_000.0), "";
        /// Steps of forward-backward splitting.
        steps: usize = 200, Range::Whole(1, 100_000), "steps";
    }
}

/// The checked config.
#[derive(Debug, PartialEq)]
struct FeatureCollision {
    poisons: usize,
    aimed: OneImage,
    replaces: bool,
    opacity: f64,
    similarity: f64,
    learning_rate: f64,
    steps: usize,
}

impl FeatureCollisionConfig {
    fn check(self, facts: &Facts) -> Result<FeatureCollision, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { poisons, target, source, image, mode, opacity, similarity, learning_rate, steps } = self;
        let aimed = OneImage::check(&mut checks, facts, image, source, target);
        let replaces = mode == "replace";
        checks.finish(FeatureCollision { poisons, aimed, replaces, opacity, similarity, learning_rate, steps })
    }
}

impl FeatureCollision {
    /// The poisons made from `bases`, both `[poisons, channels, height, width]` in `[0, 1]`; `image` is one such.
    fn collide(&self, network: &Network, image: Tensor<4>, bases: Tensor<4>) -> Tensor<4> {
        let goal = network.forward(image.clone()).features; // [1, features]
        let [count, pixels] = [bases.dims()[0], bases.dims()[1..].iter().product()];
        let beta = 255.0 * 255.0 * self.similarity * (goal.dims()[1] as f64 / pixels as f64).powi(2);
        let bases = image * self.opacity + bases * (1.0 - self.opacity);
        // [poisons, 1, 1, 1]
        let objective = |poisons: &Tensor<4>| {
            let apart = distances(network.forward(poisons.clone()).features, goal.clone());
            let moved = (poisons.clone() - bases.clone()).powi_scalar(2).sum_dim(3).sum_dim(2).sum_dim(1);
            apart.reshape([count, 1, 1, 1]) + moved * (beta / 2.0)
        };
        let (mut poisons, mut lowest) = (bases.clone(), objective(&bases));
        let mut lambda = lowest.ones_like() * self.learning_rate;
        for _ in 0..self.steps {
            let apart = |taps: theriac_nn::Taps| distances(taps.features, Tensor::from_inner(goal.clone())).sum();
            let gradient = input_gradient_of(network, poisons.clone(), apart).1;
            let forward = poisons.clone() - gradient * lambda.clone();
            let pull = lambda.clone() * beta;
            let next = ((forward + bases.clone() * pull.clone()) / (pull + 1.0)).clamp(0.0, 1.0);
            let reached = objective(&next);
            let worse = lowest.clone().lower(reached.clone());
            poisons = next.mask_where(worse.clone().expand(poisons.dims()), poisons);
            lambda = lambda.clone().mask_where(worse.clone(), lambda * 0.5);
            lowest = reached.mask_where(worse, lowest);
        }
        poisons
    }
}

/// The squared distance of each row to the one row of `goal`: `[batch]`.
fn distances(features: Tensor<2>, goal: Tensor<2>) -> Tensor<1> {
    (features - goal).powi_scalar(2).sum_dim(1).squeeze_dim(1)
}

impl Attack for FeatureCollision {
    fn budget(&self, _train: &Dataset) -> Budget {
        Budget { samples: self.poisons, epsilon: 255 }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let network = context.surrogate.ok_or(AttackError::NoSurrogate)?;
        let (train, test) = (context.train, context.test);
        let chosen = self.aimed.choose(test, context.seeds)?;
        let bases = draw_bases(context, chosen.wanted, self.poisons)?;
        let image = images(network, test, &[chosen.image]);
        let poisons = pixels(self.collide(network, image, images(network, train, &bases)));
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage);
        for (&base, poison) in bases.iter().zip(poisons) {
            let poison = poison.into_iter().map(|pixel| (255.0 * pixel).round() as u8).collect();
            match self.replaces {
                true => replace_if_changed(&mut changes, train, base, poison),
                false => changes.insert(train, chosen.wanted, SourceId(1), poison),
            }
        }
        Ok(changes)
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        self.aimed.probe(test, seeds)
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Architecture,
    capabilities: &[Capability::Insert, Capability::Inputs],
    goal: Goal::Targeted,
    stage: Stage::Collect,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(FeatureCollisionConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "feature-collision",
        Family::Injection,
        THREAT,
        "Adds images of one class whose features are those of a certain image of another class.",
        &[Paper {
            cite: "Shafahi et al. 2018",
            title: "Poison Frogs! Targeted Clean-Label Poisoning Attacks on Neural Networks",
            link: "https://arxiv.org/abs/1804.00792",
        }],
        FeatureCollisionConfig::PARAMS,
    )
    .with_surrogate()
    .verified(&[theriac_core::Verified {
        against: "PyTorch in double precision, mlp, cnn and resnet, 4 poisons (scripts/verify/targeted.py)",
        agreement: "features to 2.1e-7, poisons after 10 steps to 3.7e-7 of their largest value",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        self, attack, easy, except, faults, infeasible, invariants_of_one_image, poison, references, successes, values,
    };
    use theriac_core::{Edit, Value};

    /// Cheap settings.
    fn given<const N: usize>(others: [(&'static str, Value); N]) -> [(&'static str, Value); 6] {
        let usual = [
            ("poisons", 12.into()),
            ("steps", 10.into()),
            ("mode", "insert".into()),
            ("target", 1.into()),
            ("opacity", 0.3.into()),
            ("similarity", 0.25.into()),
        ];
        except(usual, others)
    }

    #[test]
    fn poisons_have_the_wanted_label_and_nothing_else_changes() {
        invariants_of_one_image(&ENTRY, given([]), 12, true);
        invariants_of_one_image(&ENTRY, given([("mode", "replace".into())]), 12, false);
    }

    #[test]
    fn with_a_full_watermark_and_no_steps_left_to_gain_they_are_the_image() {
        // The image has its own features already, so every step is taken back or goes nowhere.
        let changes = poison(&ENTRY, given([("opacity", 1.0.into())])).unwrap();
        let probe = attack(&ENTRY, given([])).probe(&testing::test(), &testing::seeds()).unwrap();
        for edit in &changes.edits {
            let Edit::Insert { image, .. } = edit else { panic!("{edit:?}") };
            assert_eq!(image, probe.inputs.image(0));
        }
    }

    #[test]
    fn poisons_are_those_of_pytorch() {
        for reference in references() {
            let config = FeatureCollisionConfig::from_values(&values([
                ("similarity", 0.001.into()),
                ("steps", 10.into()),
                ("opacity", 0.3.into()),
            ]));
            let attack = config.unwrap().check(&testing::facts()).unwrap();
            let collided = attack.collide(&reference.network, reference.image.clone(), reference.poisons.clone());
            assert!(reference.error_of("collided", collided * 255.0) < 1e-3);
            let both = Tensor::cat(vec![reference.image.clone(), reference.poisons.clone()], 0);
            assert!(reference.error_of("features", reference.network.forward(both).features) < 1e-5);
        }
    }

    #[test]
    fn a_victim_takes_the_image_for_the_wanted_class() {
        let (train, test) = (easy("train", 50), easy("test", 10));
        // Here are more features than pixels, so the paper's beta would leave the bases where they are.
        let more = [("poisons", 40.into()), ("steps", 60.into()), ("similarity", 1e-4.into())];
        let attack = attack(&ENTRY, given(more));
        let [hits, clean] = successes(&*attack, &train, &test, 6);
        assert!(hits >= 4 && clean <= 1, "{hits} {clean}");
    }

    #[test]
    fn each_rule_has_its_message() {
        assert!(faults(&ENTRY, [("source", 1.into()), ("target", 1.into())]).contains("already the target"));
        let message = infeasible(&ENTRY, given([("poisons", 61.into())]));
        assert_eq!(message, "failed to poison: the rate asks for 61 samples of class 1, the training set has 60");
    }
}
