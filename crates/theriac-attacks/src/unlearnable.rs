//! `unlearnable`: error-minimising noise, after which there is nothing left to learn.
//!
//! Hanxun Huang, Xingjun Ma, Sarah Monazam Erfani, James Bailey, Yisen Wang: "Unlearnable Examples: Making Personal Data Unexploitable",
//! ICLR 2021, <https://arxiv.org/abs/2101.04898>.
//!
//! # Threat model
//! The attacker changes images under an L-infinity bound and leaves the labels; it knows the data and the architecture and trains networks
//! of its own. Indirect: it wants a worse model.
//!
//! # Rule
//! ```text
//! min over theta  mean_i  min over |d_i|_inf <= epsilon  L(f_theta(x_i + d_i), y_i)
//!
//! repeat
//!     train theta for `train_steps` batches on x + d
//!     for each sample: d <- clip_epsilon(d - step_size sign(grad_x L(f_theta(x + d), y)))     `noise_steps` times
//! until f_theta classifies at least 1 - lambda of the x_i + d_i as y_i
//! ```
//! The noise makes the loss small before anything is learned of the images, so a victim learns the noise. In the mode `class-wise` all
//! samples of a class share one d. Batch by batch it becomes the mean of what it would become for each of the batch's samples of the
//! class, so that it moves many times a round.
//!
//! # Where this differs from the paper
//! - The paper trains a ResNet-18 by SGD with the learning rate 0.1; here the attacker's network has the victim's architecture, and is
//!   trained by the victim's optimizer, batch size and learning rate, which does not decay. The authors' batches have 512 samples.
//! - Where `x + d` leaves `[0, 1]`, d is cut off. The authors' program does so in each step, but neither after the last one nor when it
//!   trains.
//! - `max_rounds` bounds the cost. If the error is still above lambda after that, the noise is taken as it is.
//! - Perturbed pixels are rounded to whole values and stay within the bound, since a data set holds `u8`.
//! - With a rate below 1, noise is made for the drawn samples only, and the attacker trains on those only.
//!
//! Steps, their size and the bounds of the error are those of the authors' program.
//!
//! # Verified against
//! `scripts/verify/adversarial.py`: the whole alternation in PyTorch in double precision, with the same weights and draws; see the
//! record. The tests below hold the bound, one noise a sample or a class, and that a network reads the noise of images that have nothing
//! else in common. Its effect on photographs is in `experiments/jpeg-gray`.

use std::collections::BTreeMap;

use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, MethodInfo, Paper, ParamError,
    Probe, Range, Role, Seeds, Stage, ThreatModel, Values, Verified, config,
};
use theriac_nn::burn::tensor::{Tensor, TensorData};
use theriac_nn::{Batch, Network};
use theriac_train::{Direction, Learner, Minibatch, Norm, Pgd, TrainConfig};

use crate::common::{choose_exactly, round_within};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// Parameters of `unlearnable`.
    pub struct UnlearnableConfig {
        /// Poisoned samples; the paper poisons all.
        rate: f64 = 1.0, Range::Number(0.0, 1.0), "of the training set";
        /// A noise of its own for each sample, or one for each class.
        mode: String = "sample-wise", Range::Choice(&["sample-wise", "class-wise"]), "";
        /// Largest change of one pixel; the paper's epsilon.
        epsilon: u8 = 8u8, Range::Whole(1, 255), "of 255";
        /// Batches that the network is trained on in each round; the paper's M.
        train_steps: usize = 10, Range::Whole(1, 100_000), "batches";
        /// Steps of the noise in each round; the paper takes 20 sample-wise and 1 class-wise.
        noise_steps: Option<usize> = None::<usize>, Range::Whole(1, 1000), "steps";
        /// Fraction of the perturbed samples that may be misread in the end; the paper's lambda, 0.01 sample-wise and 0.1 class-wise.
        error: Option<f64> = None::<f64>, Range::Number(0.0, 1.0), "of the poisoned samples";
        /// Rounds after which the noise is taken as it is.
        max_rounds: usize = 30, Range::Whole(1, 100_000), "rounds";
    }
}

/// The checked config.
#[derive(Debug, PartialEq)]
struct Unlearnable {
    rate: f64,
    class_wise: bool,
    epsilon: u8,
    train_steps: usize,
    noise_steps: usize,
    error: f64,
    max_rounds: usize,
}

impl UnlearnableConfig {
    fn check(self) -> Unlearnable {
        let Self { rate, mode, epsilon, train_steps, noise_steps, error, max_rounds } = self;
        let class_wise = mode == "class-wise";
        let noise_steps = noise_steps.unwrap_or(if class_wise { 1 } else { 20 });
        let error = error.unwrap_or(if class_wise { 0.1 } else { 0.01 });
        Unlearnable { rate, class_wise, epsilon, train_steps, noise_steps, error, max_rounds }
    }
}

/// The noise of all poisoned samples, in units of pixel values in `[0, 1]`.
struct Noise {
    /// Which row belongs to each poisoned sample.
    row: Vec<usize>,
    /// `[row, channel, row of the image, column]`
    values: Vec<f32>,
}

/// What the attacker makes noise for.
struct Target<'a> {
    data: &'a Dataset,
    noise: Noise,
    epsilon: f32,
}

impl Target<'_> {
    fn size(&self) -> usize {
        self.data.shape().len()
    }

    /// Clean images and their noise.
    fn gather(&self, samples: &[usize]) -> (Batch, Vec<f32>) {
        let size = self.size();
        let rows = samples.iter().flat_map(|&sample| &self.noise.values[self.noise.row[sample] * size..][..size]);
        (Batch::gather(self.data, samples), rows.copied().collect())
    }

    /// Perturbed images: `[samples, channels, height, width]` in `[0, 1]`.
    fn perturbed(&self, samples: &[usize], network: &Network) -> [Tensor<4>; 2] {
        let (clean, noise) = self.gather(samples);
        let clean = clean.into_tensor(&network.device);
        let noise = Tensor::from_data(TensorData::new(noise, clean.dims()), &network.device);
        [clean.clone(), (clean + noise).clamp(0.0, 1.0)]
    }

    fn labels(&self, samples: &[usize]) -> Vec<Label> {
        samples.iter().map(|&sample| self.data.label(sample)).collect()
    }

    /// Moves the noise towards a smaller loss, one `batch` after another; answers with the fraction of samples that are misread then.
    fn minimise(&mut self, network: &Network, attack: &Unlearnable, batch: usize) -> f64 {
        let epsilon = f64::from(self.epsilon);
        let pgd = Pgd {
            norm: Norm::LInf,
            epsilon,
            step_size: epsilon / 10.0,
            steps: attack.noise_steps,
            random_start: false,
        };
        let (size, samples) = (self.size(), (0..self.data.len()).collect::<Vec<_>>());
        for part in samples.chunks(batch) {
            let [clean, start] = self.perturbed(part, network);
            let moved = pgd.walk(network, clean.clone(), start, &self.labels(part), Direction::Towards);
            let moved = Batch::from_tensor(moved - clean).pixels;
            let mut means: BTreeMap<usize, (usize, Vec<f64>)> = BTreeMap::new();
            for (&sample, moved) in part.iter().zip(moved.chunks_exact(size)) {
                let (count, sum) = means.entry(self.noise.row[sample]).or_insert_with(|| (0, vec![0.0; size]));
                *count += 1;
                sum.iter_mut().zip(moved).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            for (row, (count, sum)) in means {
                let noise = &mut self.noise.values[row * size..][..size];
                noise.iter_mut().zip(sum).for_each(|(noise, sum)| *noise = (sum / count as f64) as f32);
            }
        }
        let wrong = samples.chunks(batch).map(|part| {
            let [_, perturbed] = self.perturbed(part, network);
            let predicted = network.logits_of(&Batch::from_tensor(perturbed)).argmax();
            predicted.iter().zip(self.labels(part)).filter(|(predicted, label)| **predicted != *label).count()
        });
        wrong.sum::<usize>() as f64 / samples.len() as f64
    }
}

impl Unlearnable {
    /// The alternation of the rule. `data` are the samples that get noise.
    fn noise<'a>(&self, data: &'a Dataset, network: &Network, recipe: &TrainConfig, seeds: &Seeds) -> Target<'a> {
        let rows = if self.class_wise { data.classes().len() } else { data.len() };
        let row = (0..data.len()).map(|at| if self.class_wise { usize::from(data.label(at)) } else { at }).collect();
        let values = vec![0.0; rows * data.shape().len()];
        let mut target = Target { data, noise: Noise { row, values }, epsilon: f32::from(self.epsilon) / 255.0 };
        let mut learner = Learner::new(network, &recipe.clone().into());
        let mut order: Vec<usize> = (0..data.len()).collect();
        let mut due = Vec::new();
        for round in 0..self.max_rounds {
            let mut stream = seeds.stream(&format!("order/{round}"));
            for _ in 0..self.train_steps {
                if due.is_empty() {
                    stream.shuffle(&mut order);
                    due = order.chunks(recipe.batch).map(<[usize]>::to_vec).collect();
                }
                let samples = due.pop().expect("there are samples");
                let [_, images] = target.perturbed(&samples, network);
                learner.step(&Minibatch::new(images, target.labels(&samples)), recipe.lr);
            }
            if target.minimise(&learner.network(), self, recipe.batch) <= self.error {
                break;
            }
        }
        target
    }
}

impl Attack for Unlearnable {
    fn budget(&self, train: &Dataset) -> Budget {
        Budget { epsilon: self.epsilon, ..Budget::rate(self.rate, train.len()) }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let network = context.surrogate.ok_or(AttackError::NoSurrogate)?;
        let train = context.train;
        let everything: Vec<usize> = (0..train.len()).collect();
        let count = self.budget(train).samples;
        let chosen = choose_exactly(&mut context.seeds.stream("select"), &everything, count, "samples")?;
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage);
        if chosen.is_empty() {
            return Ok(changes);
        }
        let data = train.select(&chosen);
        let Noise { row, values } = self.noise(&data, network, context.recipe, context.seeds).noise;
        let size = train.shape().len();
        for (&index, row) in chosen.iter().zip(row) {
            let clean = train.image(index);
            let noise = &values[row * size..][..size];
            let moved: Vec<f32> =
                clean.iter().zip(noise).map(|(&pixel, noise)| f32::from(pixel) / 255.0 + noise).collect();
            let image = round_within(clean, &moved, self.epsilon);
            if image != train.image(index) {
                changes.replace(train, index, image);
            }
        }
        Ok(changes)
    }

    fn probe(&self, _test: &Dataset, _seeds: &Seeds) -> Option<Probe> {
        None
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Architecture,
    capabilities: &[Capability::Inputs],
    goal: Goal::Untargeted,
    stage: Stage::Collect,
};

fn check(values: &Values, _facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(UnlearnableConfig::from_values(values)?.check()))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "unlearnable",
        Family::Manipulation,
        THREAT,
        "Adds noise that makes the training loss small, so that nothing is learned of the images.",
        &[Paper {
            cite: "Huang et al. 2021",
            title: "Unlearnable Examples: Making Personal Data Unexploitable",
            link: "https://arxiv.org/abs/2101.04898",
        }],
        UnlearnableConfig::PARAMS,
    )
    .with_architecture()
    .at_version(2)
    .verified(&[Verified {
        against: "PyTorch 2.15 in double precision, both modes on a tiny `cnn` and a tiny `resnet`, 12 images \
                  (scripts/verify/adversarial.py)",
        agreement: "noise after three rounds to 1.8e-6 of its largest value, all 3072 pixels of the poisons, and the round of the stop",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, attack, facts, invariants, kinds, references, values};
    use theriac_core::Value;

    fn mode(name: &str) -> (&'static str, Value) {
        ("mode", name.into())
    }

    /// What was added to each image.
    fn noise(poisoned: &Dataset, at: usize) -> Vec<i16> {
        let train = testing::train();
        let clean = train.image(at).iter().map(|&pixel| i16::from(pixel));
        poisoned.image(at).iter().zip(clean).map(|(&pixel, clean)| i16::from(pixel) - clean).collect()
    }

    #[test]
    fn only_images_change_within_the_bound() {
        // Random images have little in common, so what is the best for a class is small.
        for (name, least) in [("sample-wise", 8), ("class-wise", 1)] {
            let given = [mode(name), ("rate", 0.5.into()), ("epsilon", 12.into()), ("max_rounds", 3.into())];
            let (changes, poisoned) = invariants(&ENTRY, given, 100);
            assert_eq!(kinds(&changes), [0, 100, 0, 0]);
            let largest = (0..200).flat_map(|at| noise(&poisoned, at)).map(i16::abs).max();
            assert!((least..=12).contains(&largest.unwrap()), "{name}: {largest:?}");
        }
    }

    #[test]
    fn samples_of_a_class_share_their_noise_only_in_the_class_wise_mode() {
        // In the middle of the range nothing is cut off; these pixels are.
        let inner = |at: usize, pixel: usize| (9..=246).contains(&testing::train().image(at)[pixel]);
        let train = testing::train();
        for (name, shared) in [("sample-wise", false), ("class-wise", true)] {
            let (_, poisoned) = invariants(&ENTRY, [mode(name), ("max_rounds", 3.into())], 200);
            let members = train.of_class(1);
            let (first, second) = (noise(&poisoned, members[0]), noise(&poisoned, members[1]));
            let both = (0..64).filter(|&pixel| inner(members[0], pixel) && inner(members[1], pixel));
            assert_eq!(both.clone().all(|pixel| first[pixel] == second[pixel]), shared, "{name}");
            let other = noise(&poisoned, train.of_class(2)[0]);
            assert!(first != other);
        }
    }

    #[test]
    fn the_noise_alone_is_what_a_network_reads() {
        // Random images have nothing in common, so all that a network can learn of new ones is the noise of their class.
        let (_, poisoned) = invariants(&ENTRY, [mode("class-wise"), ("epsilon", 40.into())], 200);
        let network = testing::surrogate(&poisoned);
        let accuracy =
            |data: &Dataset| theriac_core::metrics::accuracy(&network.predict(data), &data.labels()).unwrap();
        let clean = testing::test();
        assert!(accuracy(&poisoned) > accuracy(&clean) + 0.3, "{} {}", accuracy(&poisoned), accuracy(&clean));
    }

    #[test]
    fn the_alternation_is_that_of_pytorch() {
        for reference in &references()[1..] {
            for (name, steps) in [("sample-wise", 4), ("class-wise", 1)] {
                let given = |error: f64, rounds: u64| -> [(&str, Value); 6] {
                    [
                        mode(name),
                        ("epsilon", 16.into()),
                        ("noise_steps", steps.into()),
                        ("train_steps", 2.into()),
                        ("error", error.into()),
                        ("max_rounds", rounds.into()),
                    ]
                };
                let attack = UnlearnableConfig::from_values(&values(given(0.0, 3))).unwrap().check();
                let (data, recipe) = (reference.samples(), reference.recipe());
                let noise = attack.noise(&data, &reference.network, &recipe, &testing::seeds()).noise.values;
                let noise = noise.into_iter().map(|value| f64::from(value) * 255.0);
                assert!(reference.error(name, noise) < 1e-4);
                assert_eq!(reference.error(&format!("{name}.rounded"), reference.poisoned(&ENTRY, given(0.0, 3))), 0.0);
                // It ends after the round in which no more than lambda are misread.
                let misread = reference.numbers(&format!("{name}.errors"))[0];
                let once = reference.poisoned(&ENTRY, given(0.0, 1));
                assert_eq!(reference.poisoned(&ENTRY, given(misread + 1e-6, 3)), once);
                assert_ne!(reference.poisoned(&ENTRY, given(misread - 1e-6, 3)), once);
            }
        }
    }

    #[test]
    fn the_modes_have_the_defaults_of_the_paper() {
        let checked = |given| UnlearnableConfig::from_values(&values(given)).unwrap().check();
        let (sample, class) = (checked([mode("sample-wise")]), checked([mode("class-wise")]));
        assert_eq!((sample.noise_steps, sample.error), (20, 0.01));
        assert_eq!((class.noise_steps, class.error), (1, 0.1));
        assert_eq!(checked([("noise_steps", 5.into())]).noise_steps, 5);
        let errors = (ENTRY.check)(&values([("epsilon", 0.into()), ("error", 2.0.into())]), &facts()).err().unwrap();
        assert_eq!(errors.len(), 2);
        assert!(attack(&ENTRY, []).probe(&testing::test(), &testing::seeds()).is_none());
    }
}
