//! Random noise: a fraction of the training images is hard to read, or no image at all.
//!
//! Random perturbations are the usual control of the indirect (availability) attacks, such as in Huang et al.,
//! "Unlearnable Examples: Making Personal Data Unexploitable", ICLR 2021, <https://arxiv.org/abs/2101.04898>, which
//! optimised noise has to beat.
//!
//! # Threat model
//! A supplier, or a broken sensor, damages images and knows nothing. Labels stay. The goal is a worse model (indirect).
//!
//! # Update rule
//! ```text
//! S = round(rate * n) samples, drawn uniformly; for i in S, with noise of its own for every sample:
//! gaussian          x_i <- clip(round(x_i + strength * N(0, 1)))                each value its own draw
//! uniform           x_i <- clip(x_i + U{-strength..strength})                   each value its own draw
//! salt-and-pepper   a fraction `strength` of the pixels <- black or white       all channels together
//! random-pixels     a fraction `strength` of the pixels <- U{0..255}            each channel its own draw
//! pure-noise        x_i <- U{0..255}                                            each value its own draw
//! ```
//!
//! # Where this differs from the paper
//! - Huang et al. bound the noise by 8/255 and poison all of the data; noise that small does no harm, which is their
//!   point. The defaults here are large on purpose: each lowers the accuracy when every image is poisoned (rate 1).
//!   With a few clean images left, random noise hurts little.
//! - Noise belongs to the sample, never to the class: its stream is named by the sample's id. "Sample-wise" noise that
//!   repeats within a class would be a feature that a model learns.
//! - A draw that happens to leave the image as it was is drawn again: a sample that counts as poisoned is changed.
//!
//! # Verified against
//! `scripts/verify/selections.py`, images of two shapes, all kinds: the 36 damaged images are, pixel by pixel, those that
//! numpy 2.1.3 makes of the same draws, which a second ChaCha12 and a second ziggurat give. `scripts/verify/draws.py`, 4000
//! digits of which 1000 are damaged, six exported data sets: all pixels equal. Beside the distributions of scipy 1.17.1, rounded
//! and cut off: `gaussian` 1 and 128, `uniform` 60 and `pure-noise`, 784000 values each, Kolmogorov-Smirnov p from 0.35 to
//! 0.89; the same pixel of different images, the pixels of one image, neighbours: p from 0.02 to 0.87 (12 tests);
//! `salt-and-pepper` and `random-pixels`, levels and places: p from 0.15 to 0.90.

use theriac_core::seed::Stream;
use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, MethodInfo, Paper, ParamError, Probe, Role,
    Seeds, Shape, Stage, ThreatModel, Values, Verified, config, param::Range,
};

use crate::common::{Checks, choose_exactly, jitter, uniform_image};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// How images are damaged.
    pub struct RandomNoiseConfig {
        /// How many images are damaged.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
        /// `gaussian` and `uniform` are added; `salt-and-pepper` and `random-pixels` take the place of some pixels;
        /// `pure-noise` of the whole image.
        kind: String = "random-pixels",
            Range::Choice(&["gaussian", "uniform", "salt-and-pepper", "random-pixels", "pure-noise"]), "";
        /// `gaussian`: the standard deviation, /255, at least 1, default 128. `uniform`: the largest change, a whole
        /// number /255, default 128. `salt-and-pepper` and `random-pixels`: the fraction of the pixels, at least one
        /// pixel, default 0.9. `pure-noise` takes none.
        strength: Option<f64> = None::<f64>, Range::Above(0.0, 255.0), "by kind";
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Noise {
    Gaussian { deviation: f64 },
    Uniform { amplitude: u8 },
    SaltAndPepper { fraction: f64 },
    RandomPixels { fraction: f64 },
    Pure,
}

/// The checked config.
#[derive(Debug, PartialEq)]
struct RandomNoise {
    rate: f64,
    noise: Noise,
}

impl RandomNoiseConfig {
    fn check(self, facts: &Facts) -> Result<RandomNoise, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, kind, strength } = self;
        let amplitude = strength.unwrap_or(128.0);
        let fraction = strength.unwrap_or(0.9);
        let noise = match kind.as_str() {
            "gaussian" => Noise::Gaussian { deviation: amplitude },
            "uniform" => Noise::Uniform { amplitude: amplitude as u8 },
            "salt-and-pepper" => Noise::SaltAndPepper { fraction },
            "random-pixels" => Noise::RandomPixels { fraction },
            _ => Noise::Pure,
        };
        match noise {
            Noise::Gaussian { deviation } => {
                let message = format!("expected at least 1 (of 255) for `{kind}`, found {deviation}");
                checks.require(deviation >= 1.0, "strength", message);
            }
            Noise::Uniform { .. } => {
                let message = format!("expected a whole number from 1 to 255 for `{kind}`, found {amplitude}");
                checks.require(amplitude.fract() == 0.0, "strength", message);
            }
            Noise::SaltAndPepper { .. } | Noise::RandomPixels { .. } => {
                let message = format!("expected a fraction of the pixels, at most 1, for `{kind}`, found {fraction}");
                checks.require(fraction <= 1.0, "strength", message);
                let pixels = facts.shape.height * facts.shape.width;
                let message = format!("{fraction} of {pixels} pixels is less than one pixel, so nothing would change");
                checks.require(count_of(fraction, pixels) > 0, "strength", message);
            }
            Noise::Pure => {
                checks.require(strength.is_none(), "strength", "`pure-noise` replaces the whole image and takes none");
            }
        }
        checks.finish(RandomNoise { rate, noise })
    }
}

impl Noise {
    fn damage(self, image: &[u8], shape: Shape, stream: &mut Stream) -> Vec<u8> {
        match self {
            Self::Gaussian { deviation } => {
                let mut noisy = |&pixel: &u8| f64::from(pixel) + deviation * stream.normal();
                image.iter().map(|pixel| noisy(pixel).round().clamp(0.0, 255.0) as u8).collect()
            }
            Self::Uniform { amplitude } => jitter(stream, image, amplitude),
            Self::SaltAndPepper { fraction } => replace_pixels(image, shape, fraction, stream, |stream, pixel| {
                pixel.fill(if stream.chance(0.5) { 255 } else { 0 });
            }),
            Self::RandomPixels { fraction } => replace_pixels(image, shape, fraction, stream, |stream, pixel| {
                pixel.fill_with(|| stream.below(256) as u8);
            }),
            Self::Pure => uniform_image(stream, image.len()),
        }
    }
}

/// How many pixels a fraction of them is.
fn count_of(fraction: f64, pixels: usize) -> usize {
    (fraction * pixels as f64).round() as usize
}

/// Draws exactly `round(fraction * pixels)` pixels and gives each new values, one a channel.
fn replace_pixels(
    image: &[u8],
    shape: Shape,
    fraction: f64,
    stream: &mut Stream,
    mut draw: impl FnMut(&mut Stream, &mut [u8]),
) -> Vec<u8> {
    let mut damaged = image.to_vec();
    let plane = shape.height * shape.width;
    let places: Vec<usize> = (0..plane).collect();
    let mut pixel = vec![0; shape.channels];
    for place in stream.choose(&places, count_of(fraction, plane)) {
        draw(stream, &mut pixel);
        pixel.iter().enumerate().for_each(|(channel, &value)| damaged[channel * plane + place] = value);
    }
    damaged
}

impl Attack for RandomNoise {
    fn budget(&self, train: &Dataset) -> Budget {
        let epsilon = if let Noise::Uniform { amplitude } = self.noise { amplitude } else { 255 };
        Budget { epsilon, ..Budget::rate(self.rate, train.len()) }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage);
        let train = context.train;
        let all: Vec<usize> = (0..train.len()).collect();
        let count = self.budget(train).samples;
        let seeds = context.seeds.child("noise");
        for index in choose_exactly(&mut context.seeds.stream("select"), &all, count, "samples")? {
            let mut stream = seeds.stream(&train.id(index).0.to_string());
            let image = train.image(index);
            // The config is checked to change something, so this ends.
            let damaged = loop {
                let damaged = self.noise.damage(image, train.shape(), &mut stream);
                if damaged != image {
                    break damaged;
                }
            };
            changes.replace(train, index, damaged);
        }
        Ok(changes)
    }

    fn probe(&self, _test: &Dataset, _seeds: &Seeds) -> Option<Probe> {
        None
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Nothing,
    capabilities: &[Capability::Inputs],
    goal: Goal::Untargeted,
    stage: Stage::Collect,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(RandomNoiseConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "random-noise",
        Family::Noise,
        THREAT,
        "Damages some training images with noise and leaves their labels: added, in place of pixels, or noise alone.",
        &[Paper {
            cite: "Huang et al. 2021",
            title: "Unlearnable Examples: Making Personal Data Unexploitable",
            link: "https://arxiv.org/abs/2101.04898",
        }],
        RandomNoiseConfig::PARAMS,
    )
    .verified(&[
        Verified {
            against: "numpy 2.1.3 on the same draws, all kinds: two shapes (scripts/verify/selections.py), 4000 digits (scripts/verify/draws.py)",
            agreement: "all pixels of 6036 images equal",
        },
        Verified {
            against: "scipy 1.17.1, noise of 6000 images: distribution, places, independence (scripts/verify/draws.py)",
            agreement: "20 tests, p from 0.02 to 0.90",
        },
    ])
    .at_version(2),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, SHAPE, attack, data_with, faults, golden_edits, invariants, kinds, poison_on};
    use theriac_core::{Seeds, Value};

    const KINDS: [&str; 5] = ["gaussian", "uniform", "salt-and-pepper", "random-pixels", "pure-noise"];

    fn kind(name: &str) -> (&'static str, Value) {
        ("kind", name.into())
    }

    fn damage(noise: Noise, image: &[u8], shape: Shape) -> Vec<u8> {
        noise.damage(image, shape, &mut Seeds::new(1).stream("noise"))
    }

    #[test]
    fn every_kind_touches_exactly_its_share_and_no_label() {
        for name in KINDS {
            let (changes, poisoned) = invariants(&ENTRY, [kind(name), ("rate", 0.3.into())], 60);
            assert_eq!(kinds(&changes), [0, 60, 0, 0]);
            let train = testing::train();
            assert_eq!(poisoned.labels(), train.labels());
            let changed = (0..train.len()).filter(|&index| train.image(index) != poisoned.image(index)).count();
            assert_eq!(changed, 60, "{name}");
            assert!(attack(&ENTRY, [kind(name)]).probe(&testing::test(), &testing::seeds()).is_none());
        }
    }

    #[test]
    fn the_weakest_noise_still_changes_every_sample() {
        // Black images: half of the draws of one black or white pixel leave them as they are.
        let classes: Vec<String> = (0..4).map(|class| class.to_string()).collect();
        let black = Dataset::new("black", SHAPE, classes, vec![0; 60 * 64], &[2; 60]).unwrap();
        for (name, strength) in
            [("gaussian", 1.0), ("uniform", 1.0), ("salt-and-pepper", 0.01), ("random-pixels", 0.01)]
        {
            let weakest = attack(&ENTRY, [kind(name), ("rate", 1.0.into()), ("strength", strength.into())]);
            let poisoned = poison_on(&*weakest, &black, 1).unwrap().apply(&black).unwrap();
            assert!((0..60).all(|index| poisoned.image(index) != black.image(index)), "{name}");
        }
    }

    #[test]
    fn each_sample_has_its_own_noise() {
        // All images equal, all of one class: any two damaged ones must differ.
        let classes: Vec<String> = (0..4).map(|class| class.to_string()).collect();
        let equal = Dataset::new("equal", SHAPE, classes, vec![100; 30 * 64], &[2; 30]).unwrap();
        for name in KINDS {
            let changes = poison_on(&*attack(&ENTRY, [kind(name), ("rate", 1.0.into())]), &equal, 1).unwrap();
            let poisoned = changes.apply(&equal).unwrap();
            let mut images: Vec<&[u8]> = (0..30).map(|index| poisoned.image(index)).collect();
            images.sort_unstable();
            images.dedup();
            assert_eq!(images.len(), 30, "{name}");
        }
    }

    #[test]
    fn a_sample_keeps_its_noise_whoever_else_is_chosen() {
        let train = testing::train();
        let few = poison_on(&*attack(&ENTRY, [("rate", 0.1.into())]), &train, 1).unwrap().apply(&train).unwrap();
        let all = poison_on(&*attack(&ENTRY, [("rate", 1.0.into())]), &train, 1).unwrap().apply(&train).unwrap();
        let damaged: Vec<usize> = (0..200).filter(|&index| few.image(index) != train.image(index)).collect();
        assert_eq!(damaged.len(), 20);
        assert!(damaged.iter().all(|&index| few.image(index) == all.image(index)));
    }

    #[test]
    fn the_noise_is_what_it_says() {
        let shape = Shape { channels: 1, height: 100, width: 100 };
        let image = vec![128; shape.len()];
        let moments = |pixels: &[u8]| {
            let mean = pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / pixels.len() as f64;
            let square = pixels.iter().map(|&pixel| (f64::from(pixel) - mean).powi(2)).sum::<f64>();
            (mean, (square / pixels.len() as f64).sqrt())
        };
        let (mean, deviation) = moments(&damage(Noise::Gaussian { deviation: 10.0 }, &image, shape));
        assert!((mean - 128.0).abs() < 0.5 && (deviation - 10.0).abs() < 0.5, "{mean} {deviation}");
        // Uniform on 2a + 1 numbers: variance ((2a + 1)^2 - 1) / 12.
        let uniform = damage(Noise::Uniform { amplitude: 10 }, &image, shape);
        let (mean, deviation) = moments(&uniform);
        assert!((mean - 128.0).abs() < 0.5 && (deviation - 6.055).abs() < 0.2, "{mean} {deviation}");
        assert_eq!((uniform.iter().min(), uniform.iter().max()), (Some(&118), Some(&138)));
        let (mean, deviation) = moments(&damage(Noise::Pure, &image, shape));
        assert!((mean - 127.5).abs() < 2.5 && (deviation - 73.9).abs() < 2.0, "{mean} {deviation}");
    }

    #[test]
    fn pixels_are_replaced_in_exact_number_and_in_all_channels() {
        let shape = Shape { channels: 3, height: 10, width: 10 };
        let image = vec![128; shape.len()];
        let pixel = |image: &[u8], place: usize| [0, 1, 2].map(|channel| image[channel * 100 + place]);
        let salted = damage(Noise::SaltAndPepper { fraction: 0.25 }, &image, shape);
        let count = |wanted: [u8; 3]| (0..100).filter(|&place| pixel(&salted, place) == wanted).count();
        let (white, black) = (count([255; 3]), count([0; 3]));
        assert_eq!((white + black, count([128; 3])), (25, 75));
        assert!(white > 4 && black > 4, "{white} {black}");
        let random = damage(Noise::RandomPixels { fraction: 0.25 }, &image, shape);
        let changed: Vec<_> = (0..100).map(|place| pixel(&random, place)).filter(|&found| found != [128; 3]).collect();
        assert_eq!(changed.len(), 25);
        assert!(changed.iter().any(|pixel| pixel[0] != pixel[1]), "each channel has its own draw");
    }

    #[test]
    fn the_edges_and_the_bound() {
        invariants(&ENTRY, [("rate", 0.0.into())], 0);
        invariants(&ENTRY, [("rate", 1.0.into())], 200);
        let gap = data_with("gap", SHAPE, &[10, 0, 10, 10]);
        assert_eq!(poison_on(&*attack(&ENTRY, []), &gap, 1).unwrap().edits.len(), 3);
        let epsilon = |given: [(&str, Value); 2]| attack(&ENTRY, given).budget(&gap).epsilon;
        assert_eq!(epsilon([kind("uniform"), ("strength", 8.into())]), 8);
        assert_eq!(epsilon([kind("gaussian"), ("strength", 8.into())]), 255);
        invariants(&ENTRY, [kind("uniform"), ("strength", 8.into())], 20);
    }

    #[test]
    fn each_rule_has_its_message() {
        let strength = |name: &str, strength: f64| faults(&ENTRY, [kind(name), ("strength", strength.into())]);
        assert!(strength("uniform", 8.5).contains("expected a whole number from 1 to 255 for `uniform`, found 8.5"));
        assert!(strength("random-pixels", 8.0).contains("a fraction of the pixels, at most 1, for `random-pixels`"));
        assert!(strength("salt-and-pepper", 1.5).contains("at most 1, for `salt-and-pepper`, found 1.5"));
        assert!(strength("gaussian", 0.1).contains("expected at least 1 (of 255) for `gaussian`, found 0.1"));
        for name in ["random-pixels", "salt-and-pepper"] {
            assert!(strength(name, 0.0005).contains("0.0005 of 64 pixels is less than one pixel"));
        }
        assert!(strength("pure-noise", 0.5).contains("takes none"));
        assert!(strength("gaussian", 0.0).contains("a number above 0 and at most 255"));
    }

    #[test]
    fn edits_are_those_that_numpy_makes_of_the_same_draws() {
        golden_edits(&ENTRY);
    }
}
