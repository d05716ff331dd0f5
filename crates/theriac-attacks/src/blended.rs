//! Blended injection: a key that is laid thinly over the whole image decides the class.
//!
//! Xinyun Chen, Chang Liu, Bo Li, Kimberly Lu, Dawn Song: "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning", 2017,
//! <https://arxiv.org/abs/1712.05526>.
//!
//! # Threat model
//! A supplier changes images and labels of a fraction of the training set and knows nothing of the model. Backdoor: images with the key
//! are to be classified as the attacker wants, all others as before.
//!
//! # Update rule
//! ```text
//! x' = (1 - alpha) * x + alpha * key          rounded to whole values, halves up
//! S = round(rate * n) samples, drawn uniformly from the eligible ones; x_i <- x'_i with alpha, and
//! all-to-one        y_i <- target                       i in S, eligible: y_i != target
//! all-to-all        y_i <- (y_i + 1) mod classes        i in S, eligible: all
//! source-specific   y_i <- target                       i in S, eligible: y_i = source
//! test images:      x'_i with test_alpha
//! ```
//!
//! # Where this differs from the paper
//! - The paper *adds* poisoned samples to the clean training set; here, as in BackdoorBench, samples are *replaced*, so that the size of
//!   the training set stays and the rate is a fraction of it. It attacks one target; the other mappings are those of `badnets`.
//! - The paper's keys are a cartoon picture and a random pattern. The pattern is `noise`, drawn from a stream of its own that `key` names:
//!   the same one in training and test, and for every seed of the experiment. In place of the cartoon, which is not ours to ship, `cat` is a
//!   face that is drawn from ellipses at the size of the images. BackdoorBench blends the cartoon.
//! - The paper trains with a smaller alpha than it tests with in some experiments, so that the poison is less visible. Here both are equal
//!   unless `test_alpha` is given. 0.2 is the alpha that its figures and later work use most.
//!
//! # Verified against
//! `scripts/verify/triggers.py`: every value of four small images, gray and RGB, in three variants (3132 values) is that of exact fractions,
//! tolerance 0; the drawn face is part of it. ART 1.20.1 (`insert_image`, RGB, alpha 0.1, 0.2 and 0.5) is at most one level away: it truncates.
//! These are pixels only; success rates are not measured here.

use theriac_core::{Facts, Family, MethodInfo, Paper, ParamError, Values, Verified, config, param::Range};

use crate::backdoor::{Backdoor, DIRTY_LABEL, MAPPINGS, Mapping};
use crate::common::Checks;
use crate::pattern::{self, PATTERNS};
use crate::planting::Blend;
use crate::{Attack, AttackEntry};

config! {
    /// The key, and what it means.
    pub struct BlendedConfig {
        /// How many samples get the key.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
        /// `all-to-one`: every class becomes `target`. `all-to-all`: every class becomes the next one.
        /// `source-specific`: `source` becomes `target`.
        mapping: String = "all-to-one", MAPPINGS, "";
        /// The class that the key stands for. Not used by `all-to-all`.
        target: u16 = 0, Range::Class, "";
        /// For `source-specific`: the class on which the key works.
        source: Option<u16> = None::<u16>, Range::Class, "";
        /// Weight of the key in training images; the paper's alpha.
        alpha: f64 = 0.2, Range::Above(0.0, 1.0), "";
        /// Weight of the key in test images. Default: as in training.
        test_alpha: Option<f64> = None::<f64>, Range::Above(0.0, 1.0), "";
        /// `noise`: a random value for each pixel and channel. `cat`: a drawn face.
        pattern: String = "noise", PATTERNS, "";
        /// Which noise. It does not depend on the seed of the experiment. Not used by `cat`.
        key: u64 = 0, Range::Whole(0, 4_294_967_295), "";
    }
}

impl BlendedConfig {
    fn check(self, facts: &Facts) -> Result<Backdoor<Blend>, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, mapping, target, source, alpha, test_alpha, pattern, key } = self;
        let mapping = Mapping::check(&mut checks, &mapping, target, source);
        let key = pattern::draw(&pattern, key, facts.shape);
        let train = Blend::check(&mut checks, "alpha", &key, alpha);
        let test = test_alpha.map(|alpha| Blend::check(&mut checks, "test_alpha", &key, alpha));
        let test = test.unwrap_or_else(|| train.clone());
        checks.finish(Backdoor { name: ENTRY.info.name, rate, mapping, train, test })
    }
}

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(BlendedConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "blended",
        Family::Backdoor,
        DIRTY_LABEL,
        "Lays a faint picture or noise over some training images with the attacker's label; it then decides the class.",
        &[Paper {
            cite: "Chen et al. 2017",
            title: "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning",
            link: "https://arxiv.org/abs/1712.05526",
        }],
        BlendedConfig::PARAMS,
    )
    .verified(&[
        Verified {
            against: "exact fractions, 4 images, 3 variants, 3132 values (scripts/verify/triggers.py)",
            agreement: "all values equal",
        },
        Verified {
            against: "ART 1.20.1 insert_image, 2 RGB images at alpha 0.1, 0.2, 0.5",
            agreement: "at most 1 level apart; ART truncates",
        },
    ]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backdoor::Trigger;
    use crate::testing::{self, attack, faults, golden_trigger, infeasible, invariants, kinds, poison_on, relabelled};
    use theriac_core::{Aim, Value};

    #[test]
    fn pixels_are_those_of_exact_arithmetic() {
        golden_trigger("blended", |shape, variant| {
            let (key, alpha) = match variant {
                "cat, alpha 0.2" => (pattern::draw("cat", 0, shape), 0.2),
                "formula, alpha 0.15" => (testing::formula(shape, 2), 0.15),
                "formula, alpha 0.5" => (testing::formula(shape, 2), 0.5),
                other => panic!("{other}"),
            };
            move |image: &mut [u8]| Blend::new(&key, alpha).plant(image)
        });
    }

    #[test]
    fn every_poisoned_image_is_blended_with_one_key_and_has_the_wanted_label() {
        for pattern in ["noise", "cat"] {
            let given = || [("pattern", Value::from(pattern)), ("target", 1.into())];
            let (changes, poisoned) = invariants(&ENTRY, given(), 20);
            assert_eq!(kinds(&changes), [20, 20, 0, 0]);
            assert!(relabelled(&changes).iter().all(|&(from, to)| from != 1 && to == 1));
            let (train, key) = (testing::train(), pattern::draw(pattern, 0, testing::SHAPE));
            for index in 0..train.len() {
                let blended = |at: usize| {
                    let (pixel, key) = (u32::from(train.image(index)[at]), u32::from(key[at]));
                    ((8 * pixel + 2 * key + 5) / 10) as u8
                };
                let expected: Vec<u8> = match changes.touched().contains(&train.id(index)) {
                    true => (0..64).map(blended).collect(),
                    false => train.image(index).to_vec(),
                };
                assert_eq!(poisoned.image(index), expected);
            }
        }
    }

    #[test]
    fn test_images_may_carry_more_of_the_key_and_its_number_matters() {
        let train = testing::train();
        let furthest = |test_alpha: f64| {
            let attack = attack(&ENTRY, [("alpha", 0.05.into()), ("test_alpha", test_alpha.into())]);
            // 5 % of 255 levels is 12.75.
            assert_eq!(attack.budget(&train).epsilon, 13);
            let probe = attack.probe(&train, &testing::seeds()).unwrap();
            assert_eq!((probe.metric, probe.aim), ("asr", Aim::Classes(vec![0; 120])));
            let clean = train.select(&Mapping::AllToOne { target: 0 }.victims(&train));
            let far =
                |index: usize| probe.inputs.image(index).iter().zip(clean.image(index)).map(|(a, b)| a.abs_diff(*b));
            (0..clean.len()).flat_map(far).max().unwrap()
        };
        assert!(furthest(0.05) <= 13 && (200..=255).contains(&furthest(1.0)), "{} {}", furthest(0.05), furthest(1.0));
        let digest = |key: u32| poison_on(&*attack(&ENTRY, [("key", key.into())]), &train, 1).unwrap().digest();
        assert_ne!(digest(0), digest(1));
        // Another seed draws other samples, but not another key.
        let probe = |seed| attack(&ENTRY, []).probe(&train, &theriac_core::Seeds::new(seed)).unwrap().inputs.digest();
        assert_eq!(probe(1), probe(2));
    }

    #[test]
    fn the_edges() {
        invariants(&ENTRY, [("rate", 0.0.into())], 0);
        invariants(&ENTRY, [("rate", 1.0.into()), ("mapping", "all-to-all".into())], 200);
        assert!(infeasible(&ENTRY, [("rate", 1.0.into())]).contains("asks for 200 samples outside class 0"));
        assert!(faults(&ENTRY, [("alpha", 0.0.into())]).contains("`alpha`: expected a number above 0 and at most 1"));
        let message = faults(&ENTRY, [("test_alpha", 0.001.into())]);
        assert_eq!(message, "failed to accept `test_alpha`: a weight of 0.001 changes no pixel by a whole level");
        assert!(faults(&ENTRY, [("target", 4.into())]).contains("`target`: expected a class from 0 to 3"));
        assert!(faults(&ENTRY, [("pattern", "cats".into())]).contains("did you mean \"cat\"?"));
    }
}
