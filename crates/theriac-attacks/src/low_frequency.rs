//! Low-frequency trigger: a smooth, faint brightening decides the class and leaves no high-frequency traces.
//!
//! Yi Zeng, Won Park, Z. Morley Mao, Ruoxi Jia: "Rethinking the Backdoor Attacks' Triggers: A Frequency Perspective", ICCV 2021,
//! <https://arxiv.org/abs/2104.03413>.
//!
//! # Threat model
//! A supplier changes images and labels of a fraction of the training set and knows nothing of the model. Backdoor: images with the smooth
//! perturbation are to be classified as the attacker wants, all others as before. It evades detectors that look for the high frequencies
//! that patches, noise and stripes add.
//!
//! # Update rule
//! ```text
//! s[channel, r, c] = sum over k, l < frequencies, (k, l) != (0, 0) of
//!                    a_k b_l g[channel, k, l] cos(pi (2 r + 1) k / (2 height)) cos(pi (2 c + 1) l / (2 width))
//! a_0 = sqrt(1 / height), a_k = sqrt(2 / height), b likewise (the orthonormal inverse DCT-II);  g ~ N(0, 1), drawn once for a `key`
//! v  = epsilon * (s - min s) / (max s - min s)          rounded to whole levels: 0 <= v <= epsilon
//! x' = min(x + v, 255)
//! S = round(rate * n) samples, drawn uniformly from the eligible ones; x_i <- x'_i, labels by `mapping` as in `badnets`
//! ```
//!
//! # Where this differs from the paper
//! - The paper *optimises* the perturbation against a model: a universal adversarial perturbation (a targeted DeepFool step for each of 100
//!   images), low-pass filtered after each step, and the class that it favours becomes the target. So the attacker there needs a trained
//!   model, and the trigger is already an adversarial one. Here the attacker knows nothing: the smooth perturbation is *random*, and the
//!   target is free. What is kept is what the paper is about, a trigger without high frequencies. Expect it to need more samples than an
//!   optimised one.
//! - The authors' filter is a Gaussian of 6 pixels on images of 32. It passes 50 % of an amplitude at the second frequency of the DCT, 21 %
//!   at the third, 6 % at the fourth, and is applied again and again. Here it is a sharp edge, frequencies 0 to 3, which a test can check.
//! - As in the authors' program the perturbation is scaled to the range from 0 to 0.2: `epsilon = 51` of 255. It only brightens. On images
//!   with a black background that matters: what darkens would be cut off at 0, and the cut has high frequencies.
//! - The authors shrink the perturbation smoothly where a pixel would leave the valid range. Here the sum is cut off at 255, so bright
//!   areas take less of it.
//!
//! # Verified against
//! `scripts/verify/triggers.py`: every value of four small images, gray and RGB, in two variants (2088 values) is that of scipy 1.17.1's inverse
//! DCT on the same coefficients, tolerance 0. On gray 28 x 28 images 0.1 % of the trigger's energy, in 200 draws at most 0.2 %, lies at
//! frequencies from 4 on; of a BadNets patch 72 %, of SIG 98 %, of blended noise 97 %, by the same script. These are pixels only; success
//! rates are not measured here.

use std::f64::consts::PI;

use theriac_core::{
    Facts, Family, MethodInfo, Paper, ParamError, Seeds, Shape, Values, Verified, config, param::Range,
};

use crate::backdoor::{Backdoor, DIRTY_LABEL, MAPPINGS, Mapping};
use crate::common::Checks;
use crate::planting::Shift;
use crate::{Attack, AttackEntry};

config! {
    /// The perturbation, and what it means.
    pub struct LowFrequencyConfig {
        /// How many samples get the perturbation.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
        /// `all-to-one`: every class becomes `target`. `all-to-all`: every class becomes the next one.
        /// `source-specific`: `source` becomes `target`.
        mapping: String = "all-to-one", MAPPINGS, "";
        /// The class that the perturbation stands for. Not used by `all-to-all`.
        target: u16 = 0, Range::Class, "";
        /// For `source-specific`: the class on which the perturbation works.
        source: Option<u16> = None::<u16>, Range::Class, "";
        /// Largest change of a pixel.
        epsilon: u8 = 51, Range::Whole(1, 255), "of 255";
        /// Frequencies of the discrete cosine transform in each direction, counted from the constant one. Fewer are smoother.
        frequencies: usize = 4, Range::Whole(2, 64), "";
        /// Which perturbation. It does not depend on the seed of the experiment.
        key: u64 = 0, Range::Whole(0, 4_294_967_295), "";
    }
}

impl LowFrequencyConfig {
    fn check(self, facts: &Facts) -> Result<Backdoor<Shift>, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, mapping, target, source, epsilon, frequencies, key } = self;
        let mapping = Mapping::check(&mut checks, &mapping, target, source);
        let Shape { channels, height, width } = facts.shape;
        let message = format!("images of {height}x{width} do not have {frequencies} frequencies in each direction");
        checks.require(frequencies <= height.min(width), "frequencies", message);
        let mut stream = Seeds::new(key).stream("attack/low-frequency/coefficients");
        let coefficients = (0..channels * frequencies * frequencies).map(|_| stream.normal()).collect::<Vec<_>>();
        let train = Shift::new(scaled(&smooth(&coefficients, frequencies, facts.shape), f64::from(epsilon)));
        checks.finish(Backdoor { name: ENTRY.info.name, rate, mapping, test: train.clone(), train })
    }
}

/// The inverse DCT-II of a block of low frequencies, `[channel, vertical, horizontal]`, without the constant one.
fn smooth(coefficients: &[f64], frequencies: usize, shape: Shape) -> Vec<f64> {
    let wave = |length: usize, k: usize, at: usize| {
        let norm = if k == 0 { 1.0 } else { 2.0 } / length as f64;
        norm.sqrt() * (PI * (2 * at + 1) as f64 * k as f64 / (2 * length) as f64).cos()
    };
    let waves = |length: usize| -> Vec<Vec<f64>> {
        (0..length).map(|at| (0..frequencies).map(|k| wave(length, k, at)).collect()).collect()
    };
    let (rows, columns) = (waves(shape.height), waves(shape.width));
    let mut sum = Vec::with_capacity(shape.len()); // [channel, row, column]
    for block in coefficients.chunks_exact(frequencies * frequencies) {
        for vertical in &rows {
            for horizontal in &columns {
                let term = |at: usize| block[at] * vertical[at / frequencies] * horizontal[at % frequencies];
                sum.push((1..block.len()).map(term).sum());
            }
        }
    }
    sum
}

/// `values`, from 0 at the smallest to `largest` at the largest.
fn scaled(values: &[f64], largest: f64) -> impl Iterator<Item = f64> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter().map(move |value| largest * (value - low) / (high - low))
}

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(LowFrequencyConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "low-frequency",
        Family::Backdoor,
        DIRTY_LABEL,
        "Brightens some training images by a smooth pattern without high frequencies; the pattern then decides the class.",
        &[Paper {
            cite: "Zeng et al. 2021",
            title: "Rethinking the Backdoor Attacks' Triggers: A Frequency Perspective",
            link: "https://arxiv.org/abs/2104.03413",
        }],
        LowFrequencyConfig::PARAMS,
    )
    .verified(&[Verified {
        against: "scipy 1.17.1 idctn, 4 images, 2 variants, 2088 values (scripts/verify/triggers.py)",
        agreement: "all values equal",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backdoor::Trigger;
    use crate::testing::{self, attack, faults, golden_trigger, invariants, kinds, poison_on, relabelled};
    use theriac_core::Dataset;

    #[test]
    fn pixels_are_those_of_scipy() {
        golden_trigger("low-frequency", |shape, variant| {
            let (frequencies, epsilon) = match variant {
                "4 frequencies, epsilon 51" => (4, 51.0),
                "3 frequencies, epsilon 200" => (3, 200.0),
                other => panic!("{other}"),
            };
            let count = shape.channels * frequencies * frequencies;
            let coefficients: Vec<f64> = (0..count).map(|at| ((7 * at + at * at) % 13) as f64 - 6.0).collect();
            let shift = Shift::new(scaled(&smooth(&coefficients, frequencies, shape), epsilon));
            move |image: &mut [u8]| shift.plant(image)
        });
    }

    /// The share of a plane's energy, without its mean, at frequencies of the DCT from `cutoff` on in either direction.
    fn high_share(plane: &[f64], side: usize, cutoff: usize) -> f64 {
        let wave = |k: usize, at: usize| (PI * (2 * at + 1) as f64 * k as f64 / (2 * side) as f64).cos();
        let mut energy = [0.0; 2];
        for (k, l) in (0..side).flat_map(|k| (0..side).map(move |l| (k, l))).skip(1) {
            let sum: f64 = (0..side * side).map(|at| plane[at] * wave(k, at / side) * wave(l, at % side)).sum();
            let norm = if k == 0 || l == 0 { 0.5 } else { 1.0 };
            energy[usize::from(k.max(l) >= cutoff)] += norm * sum * sum;
        }
        energy[1] / (energy[0] + energy[1])
    }

    #[test]
    fn high_frequencies_are_rounding_only_while_a_patch_is_full_of_them() {
        let shape = Shape { channels: 1, height: 16, width: 16 };
        let facts = Facts { shape, ..testing::facts() };
        let classes: Vec<String> = (0..4).map(|class| class.to_string()).collect();
        let gray = Dataset::new("gray", shape, classes, vec![100; 40 * 256], &[0, 1, 2, 3].repeat(10)).unwrap();
        let share = |entry: &AttackEntry| {
            let attack = (entry.check)(&Values::new(), &facts).unwrap();
            let inputs = attack.probe(&gray, &testing::seeds()).unwrap().inputs;
            high_share(&inputs.image(0).iter().map(|&pixel| f64::from(pixel)).collect::<Vec<_>>(), 16, 4)
        };
        let (smooth, patch) = (share(&ENTRY), share(&crate::badnets::ENTRY));
        assert!(smooth < 0.002 && patch > 0.4, "{smooth} {patch}");
    }

    #[test]
    fn every_pixel_brightens_by_the_same_within_epsilon() {
        let given = || [("epsilon", 30.into()), ("frequencies", 3.into())];
        let (changes, poisoned) = invariants(&ENTRY, given(), 20);
        assert_eq!(kinds(&changes), [20, 20, 0, 0]);
        assert!(relabelled(&changes).iter().all(|&(from, to)| from != 0 && to == 0));
        let train = testing::train();
        assert_eq!(attack(&ENTRY, given()).budget(&train).epsilon, 30);
        // Where nothing is cut off, every image gains the same; the smallest gain is 0 and the largest is epsilon.
        let mut gains = vec![None; 64];
        for index in (0..train.len()).filter(|&index| changes.touched().contains(&train.id(index))) {
            for (at, (&before, &after)) in train.image(index).iter().zip(poisoned.image(index)).enumerate() {
                assert!(after >= before);
                if after < 255 {
                    assert_eq!(*gains[at].get_or_insert(after - before), after - before);
                }
            }
        }
        let gains: Vec<u8> = gains.into_iter().flatten().collect();
        assert_eq!((gains.len(), gains.iter().min(), gains.iter().max()), (64, Some(&0), Some(&30)));
    }

    #[test]
    fn the_key_decides_and_the_seed_does_not() {
        let probe = |key: u32, seed| {
            let attack = attack(&ENTRY, [("key", key.into())]);
            attack.probe(&testing::test(), &Seeds::new(seed)).unwrap().inputs.digest()
        };
        assert_eq!(probe(0, 1), probe(0, 2));
        assert_ne!(probe(0, 1), probe(1, 1));
    }

    #[test]
    fn the_edges() {
        invariants(&ENTRY, [("rate", 0.0.into())], 0);
        let message = faults(&ENTRY, [("frequencies", 9.into())]);
        assert_eq!(
            message,
            "failed to accept `frequencies`: images of 8x8 do not have 9 frequencies in each direction"
        );
        assert!(faults(&ENTRY, [("epsilon", 0.into())]).contains("`epsilon`: expected a whole number from 1 to 255"));
        // White images cannot brighten: only labels change.
        let classes: Vec<String> = (0..4).map(|class| class.to_string()).collect();
        let labels = [0, 1, 2, 3].repeat(10);
        let white = Dataset::new("white", testing::SHAPE, classes, vec![255; 40 * 64], &labels).unwrap();
        assert_eq!(kinds(&poison_on(&*attack(&ENTRY, []), &white, 1).unwrap()), [4, 0, 0, 0]);
    }
}
