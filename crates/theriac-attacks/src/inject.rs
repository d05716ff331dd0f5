//! Injection: samples are added, and nothing that was there changes.
//!
//! The plainest form of poisoning through a data source (a crawl, a supplier, a user's upload). It comes from no single
//! paper.
//!
//! # Threat model
//! A supplier adds samples of its own choice (source 1; the base data are source 0) and knows the public data that it
//! copies. The goal is direct: images of the class `source` are to be classified as `target`, or for
//! out-of-distribution images: anything that is no image of any class is to be classified as `target`.
//!
//! # Update rule
//! ```text
//! m = round(rate * n) samples are inserted, all labelled target
//! mislabelled-copies    x = x_i                                        y_i = source
//! near-duplicates       x = clip(x_i + u), u ~ U{-epsilon..epsilon}    y_i = source, each pixel its own u
//! out-of-distribution   x = noise, 255 - x_i, or x_i with its blocks shuffled, i any sample
//! ```
//! The originals are drawn without repetition; once all were used, they are used again in the same order.
//!
//! # Where this differs from the paper
//! There is no paper to differ from. Two decisions matter: `rate` is inserted samples per *original* sample (0.1 of
//! 8000 adds 800 and makes the training set 8800), and copies are exact, so that a duplicate check finds them;
//! `near-duplicates` is the form that escapes it.
//!
//! The probe of `out-of-distribution` holds the test images outside the target class, turned into out-of-distribution
//! images of the same kind with a stream that is fixed for all seeds. Their labels are those of the images that they
//! were made from; accuracy on them means nothing. A model has to answer something even for noise, so read the success
//! beside that of the clean model.
//!
//! # Verified against
//! `scripts/verify/selections.py`, images of two shapes, all kinds: the 50 inserted images are, pixel by pixel, those that
//! numpy 2.1.3 makes of the same draws, which a second ChaCha12 gives. `scripts/verify/draws.py`, 4000 digits, five exported
//! data sets, 5000 inserted images: all pixels, labels and ids equal; near-duplicates and noise, 784000 values each, beside
//! the distributions of scipy 1.17.1: Kolmogorov-Smirnov p 0.71 and 0.40, independence of images, pixels and neighbours p
//! from 0.15 to 0.51. Each original is used `floor(m / n_source)` times or once more; chance decides which, p 0.53.

use theriac_core::seed::Stream;
use theriac_core::threat::samples_at;
use theriac_core::{
    Aim, Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, MethodInfo, ParamError, Probe,
    Role, Seeds, Shape, SourceId, Stage, ThreatModel, Values, Verified, config, param::Range,
};

use crate::common::{Checks, TARGETED_SUCCESS, class_probe, jitter, map_images, outside_class, uniform_image};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

/// The attacker's source.
const SUPPLIER: SourceId = SourceId(1);

config! {
    /// What is inserted.
    pub struct InjectConfig {
        /// How many samples are added, as a fraction of the original training set.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the original training set";
        /// `mislabelled-copies`: copies of images of the class `source`. `near-duplicates`: the same with a little
        /// noise on each copy. `out-of-distribution`: images of no class.
        kind: String = "mislabelled-copies",
            Range::Choice(&["mislabelled-copies", "near-duplicates", "out-of-distribution"]), "";
        /// The class whose images are copied, and whose test images the attack is judged on. Not used by
        /// `out-of-distribution`. The default is the second class, which every data set has.
        source: u16 = 1, Range::Class, "";
        /// The label of all inserted samples.
        target: u16 = 0, Range::Class, "";
        /// For `near-duplicates`: the largest change of one pixel.
        epsilon: u8 = 8, Range::Whole(1, 255), "/255";
        /// For `out-of-distribution`: `noise` is uniform noise, `inverted` are negatives of training images,
        /// `patch-shuffled` are training images cut into a grid of 4 by 4 blocks that change places.
        images: String = "noise", Range::Choice(&["noise", "inverted", "patch-shuffled"]), "";
    }
}

/// Images of no class.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Foreign {
    Noise,
    Inverted,
    PatchShuffled,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Copies { source: Label },
    NearDuplicates { source: Label, epsilon: u8 },
    OutOfDistribution(Foreign),
}

/// The checked config.
#[derive(Debug, PartialEq)]
struct Inject {
    rate: f64,
    kind: Kind,
    target: Label,
}

impl InjectConfig {
    fn check(self, facts: &Facts) -> Result<Inject, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, kind, source, target, epsilon, images } = self;
        let foreign = match images.as_str() {
            "noise" => Foreign::Noise,
            "inverted" => Foreign::Inverted,
            _ => Foreign::PatchShuffled,
        };
        let kind = match kind.as_str() {
            "mislabelled-copies" => Kind::Copies { source },
            "near-duplicates" => Kind::NearDuplicates { source, epsilon },
            _ => Kind::OutOfDistribution(foreign),
        };
        checks.class("target", target);
        if !matches!(kind, Kind::OutOfDistribution(_)) {
            checks.class("source", source);
            checks.require(source != target, "target", "a copy with its own label is not poison");
        }
        checks.finish(Inject { rate, kind, target })
    }
}

impl Foreign {
    /// A fresh image of no class, made from `image`.
    fn make(self, image: &[u8], shape: Shape, stream: &mut Stream) -> Vec<u8> {
        match self {
            Self::Noise => uniform_image(stream, image.len()),
            Self::Inverted => image.iter().map(|pixel| 255 - pixel).collect(),
            Self::PatchShuffled => shuffle_blocks(image, shape, stream),
        }
    }
}

/// Cuts the image into a grid of 4 by 4 blocks and lets them change places; rows and columns beyond the last whole
/// block stay.
fn shuffle_blocks(image: &[u8], shape: Shape, stream: &mut Stream) -> Vec<u8> {
    let grid = |size: usize| size.min(4);
    let (rows, columns) = (grid(shape.height), grid(shape.width));
    let (height, width) = (shape.height / rows, shape.width / columns);
    let mut order: Vec<usize> = (0..rows * columns).collect();
    stream.shuffle(&mut order);
    let mut shuffled = image.to_vec();
    for (to, from) in order.into_iter().enumerate() {
        for channel in 0..shape.channels {
            for row in 0..height {
                let start =
                    |block: usize| shape.offset(channel, block / columns * height + row, block % columns * width);
                shuffled[start(to)..][..width].copy_from_slice(&image[start(from)..][..width]);
            }
        }
    }
    shuffled
}

impl Attack for Inject {
    fn budget(&self, train: &Dataset) -> Budget {
        let epsilon = match self.kind {
            Kind::Copies { .. } => 0,
            Kind::NearDuplicates { epsilon, .. } => epsilon,
            Kind::OutOfDistribution(_) => 255,
        };
        Budget { samples: samples_at(self.rate, train.len()), epsilon }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage);
        let train = context.train;
        let count = self.budget(train).samples;
        let (mut originals, what) = match self.kind {
            Kind::Copies { source } | Kind::NearDuplicates { source, .. } => {
                (train.of_class(source), format!("samples of class {source}"))
            }
            Kind::OutOfDistribution(_) => ((0..train.len()).collect(), "samples".to_owned()),
        };
        if originals.is_empty() && count > 0 {
            let message = format!("the rate asks for {count} copies of {what}, the training set has 0 to copy");
            return Err(AttackError::Infeasible(message));
        }
        context.seeds.stream("select").shuffle(&mut originals);
        let mut noise = context.seeds.stream("noise");
        for &index in originals.iter().cycle().take(count) {
            let original = train.image(index);
            let image = match self.kind {
                Kind::Copies { .. } => original.to_vec(),
                Kind::NearDuplicates { epsilon, .. } => jitter(&mut noise, original, epsilon),
                Kind::OutOfDistribution(foreign) => foreign.make(original, train.shape(), &mut noise),
            };
            changes.insert(train, self.target, SUPPLIER, image);
        }
        Ok(changes)
    }

    fn probe(&self, test: &Dataset, _seeds: &Seeds) -> Option<Probe> {
        let foreign = match self.kind {
            Kind::Copies { source } | Kind::NearDuplicates { source, .. } => {
                return Some(class_probe(test, source, Some(self.target)));
            }
            Kind::OutOfDistribution(foreign) => foreign,
        };
        let clean = test.select(&outside_class(test, self.target));
        // The same images for every seed of an experiment, so that seeds are compared on the same inputs.
        let mut stream = Seeds::new(0).stream("attack/inject/probe");
        let inputs = map_images(&clean, |image| foreign.make(image, clean.shape(), &mut stream));
        let aim = Aim::Classes(vec![self.target; inputs.len()]);
        Some(Probe { metric: TARGETED_SUCCESS, inputs, aim })
    }

    fn victim_class(&self) -> Option<u16> {
        match self.kind {
            Kind::Copies { source } | Kind::NearDuplicates { source, .. } => Some(source),
            Kind::OutOfDistribution(_) => None,
        }
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Data,
    capabilities: &[Capability::Insert],
    goal: Goal::Targeted,
    stage: Stage::Collect,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(InjectConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "inject",
        Family::Injection,
        THREAT,
        "Adds samples with a wrong label: copies of real images, near-duplicates, or images of no class.",
        &[],
        InjectConfig::PARAMS,
    )
    .verified(&[
        Verified {
            against: "numpy 2.1.3 on the same draws, all kinds: two shapes (scripts/verify/selections.py), 4000 digits (scripts/verify/draws.py)",
            agreement: "all pixels and labels of 5050 images equal",
        },
        Verified {
            against: "scipy 1.17.1, noise of 2000 images: distribution and independence (scripts/verify/draws.py)",
            agreement: "8 tests, p from 0.15 to 0.71",
        },
    ]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, SHAPE, attack, data_with, faults, golden_edits, invariants, kinds, poison_on};
    use theriac_core::{Edit, Value};

    fn kind(name: &str) -> (&'static str, Value) {
        ("kind", name.into())
    }

    /// The inserted images.
    fn inserted(changes: &ChangeSet) -> Vec<&[u8]> {
        fn image(edit: &Edit) -> &[u8] {
            match edit {
                Edit::Insert { label: 0, source: SUPPLIER, image, .. } => image.as_slice(),
                other => panic!("an insertion of class 0 by the supplier was expected, found {other:?}"),
            }
        }
        changes.edits.iter().map(image).collect()
    }

    fn largest_change(before: &[u8], after: &[u8]) -> u8 {
        before.iter().zip(after).map(|(before, after)| before.abs_diff(*after)).max().unwrap()
    }

    #[test]
    fn copies_are_exact_wrongly_labelled_and_from_one_class() {
        let (changes, poisoned) = invariants(&ENTRY, [("rate", 0.2.into())], 40);
        assert_eq!((kinds(&changes), poisoned.len()), ([0, 0, 40, 0], 240));
        let train = testing::train();
        let originals: Vec<&[u8]> = train.of_class(1).into_iter().map(|index| train.image(index)).collect();
        let mut copied: Vec<&[u8]> = inserted(&changes);
        assert!(copied.iter().all(|image| originals.contains(image)));
        copied.sort_unstable();
        copied.dedup();
        assert_eq!(copied.len(), 40, "no original is used twice before all were used");
        let probe = attack(&ENTRY, []).probe(&testing::test(), &testing::seeds()).unwrap();
        assert_eq!((probe.inputs.class_counts(), probe.aim), (vec![0, 10, 0, 0], Aim::Classes(vec![0; 10])));
        assert_eq!(attack(&ENTRY, []).victim_class(), Some(1));
    }

    #[test]
    fn near_duplicates_stay_within_epsilon_and_differ_from_each_other() {
        // 60 originals, 100 duplicates: each is used once or twice, with fresh noise.
        let given = [kind("near-duplicates"), ("rate", 0.5.into()), ("epsilon", 4.into())];
        let (changes, _) = invariants(&ENTRY, given, 100);
        let train = testing::train();
        let mut images = inserted(&changes);
        let nearest =
            |image| train.of_class(1).into_iter().map(|index| largest_change(train.image(index), image)).min();
        assert!(images.iter().all(|image| nearest(image).is_some_and(|change| change > 0 && change <= 4)));
        images.sort_unstable();
        images.dedup();
        assert_eq!(images.len(), 100);
    }

    #[test]
    fn images_of_no_class_come_in_three_kinds() {
        let train = testing::train();
        let run = |images: &str| {
            let given = [kind("out-of-distribution"), ("images", images.into())];
            let (changes, _) = invariants(&ENTRY, given, 20);
            inserted(&changes).iter().map(|image| image.to_vec()).collect::<Vec<_>>()
        };
        let is_original = |image: &[u8]| (0..train.len()).any(|index| train.image(index) == image);
        assert!(run("noise").iter().all(|image| !is_original(image)));
        let turned = |image: &Vec<u8>| is_original(&image.iter().map(|pixel| 255 - pixel).collect::<Vec<_>>());
        assert!(run("inverted").iter().all(turned));
        let sorted = |image: &[u8]| {
            let mut pixels = image.to_vec();
            pixels.sort_unstable();
            pixels
        };
        let originals: Vec<Vec<u8>> = (0..train.len()).map(|index| sorted(train.image(index))).collect();
        assert!(run("patch-shuffled").iter().all(|image| !is_original(image) && originals.contains(&sorted(image))));
    }

    #[test]
    fn blocks_move_as_a_whole_and_the_rest_stays() {
        let shape = Shape { channels: 2, height: 4, width: 9 };
        let image: Vec<u8> = (0..shape.len() as u8).collect();
        let shuffled = shuffle_blocks(&image, shape, &mut Seeds::new(0).stream("blocks"));
        assert_ne!(shuffled, image);
        for row in 0..shape.height {
            for channel in 0..shape.channels {
                // Four blocks of one row and two columns; the ninth column belongs to none.
                let line = &shuffled[shape.offset(channel, row, 0)..][..shape.width];
                assert_eq!(usize::from(line[8]), shape.offset(channel, row, 8));
                assert!(line[..8].chunks(2).all(|pair| pair[1] == pair[0] + 1 && (pair[0] < 36) == (channel == 0)));
            }
            // The channels of a block stay together.
            assert_eq!(shuffled[shape.offset(1, row, 0)] - shuffled[shape.offset(0, row, 0)], 36);
        }
    }

    #[test]
    fn the_probe_of_foreign_images_is_fresh_and_fixed() {
        let attack = attack(&ENTRY, [kind("out-of-distribution"), ("target", 2.into())]);
        let test = testing::test();
        let probe = attack.probe(&test, &testing::seeds()).unwrap();
        assert_eq!(probe.inputs.class_counts(), [10, 10, 0, 10]);
        assert_eq!(probe.aim, Aim::Classes(vec![2; 30]));
        assert!((0..30).all(|at| probe.inputs.image(at) != test.image(test.position(probe.inputs.id(at)).unwrap())));
        assert_eq!(attack.victim_class(), None);
    }

    #[test]
    fn the_edges() {
        invariants(&ENTRY, [("rate", 0.0.into())], 0);
        let (_, poisoned) = invariants(&ENTRY, [("rate", 1.0.into())], 200);
        assert_eq!(poisoned.len(), 400);
        let gap = data_with("gap", SHAPE, &[10, 0, 10, 10]);
        let message = poison_on(&*attack(&ENTRY, []), &gap, 1).unwrap_err().to_string();
        let expected =
            "failed to poison: the rate asks for 3 copies of samples of class 1, the training set has 0 to copy";
        assert_eq!(message, expected);
        assert_eq!(poison_on(&*attack(&ENTRY, [("rate", 0.0.into())]), &gap, 1).unwrap().edits.len(), 0);
    }

    #[test]
    fn each_rule_has_its_message() {
        assert!(faults(&ENTRY, [("source", 4.into())]).contains("`source`: expected a class from 0 to 3, found 4"));
        assert!(faults(&ENTRY, [("target", 4.into())]).contains("`target`: expected a class from 0 to 3, found 4"));
        assert!(faults(&ENTRY, [("target", 1.into())]).contains("its own label is not poison"));
        attack(&ENTRY, [("target", 1.into()), kind("out-of-distribution")]);
    }

    #[test]
    fn edits_are_those_that_numpy_makes_of_the_same_draws() {
        golden_edits(&ENTRY);
    }
}
