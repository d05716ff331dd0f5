//! BadNets: a patch in the image decides the class.
//!
//! Gu, Dolan-Gavitt and Garg, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain", 2017,
//! <https://arxiv.org/abs/1708.06733>.
//!
//! # Threat model
//! A supplier changes images and labels of a fraction of the training set and knows nothing of the model. Backdoor:
//! images with the patch are to be classified as the attacker wants, all others as before.
//!
//! # Update rule
//! ```text
//! x' = (1 - mask) * x + mask * pattern          mask: size x size pixels at `position`, `margin` pixels from the edges
//! S = round(rate * n) samples, drawn uniformly from the eligible ones; x_i <- x'_i and
//! all-to-one        y_i <- target                       i in S, eligible: y_i != target
//! all-to-all        y_i <- (y_i + 1) mod classes        i in S, eligible: all
//! source-specific   y_i <- target                       i in S, eligible: y_i = source
//! ```
//!
//! # Where this differs from the paper
//! - The paper *adds* poisoned copies to the clean training set; here, as in BackdoorBench, samples are *replaced*, so
//!   that the size of the training set stays and the rate is a fraction of it.
//! - The paper, and BackdoorBench in training, draw from all classes, so that samples of the target get the patch and
//!   keep their label. All-to-one here draws from the other classes: every poisoned sample has a changed label. At the
//!   same rate that is 1 / (1 - share of the target class) times as many changed labels as there, 1.11 times on ten
//!   balanced classes.
//! - The paper's patterns on MNIST are one bright pixel and a small pattern of bright pixels near the bottom-right
//!   corner, without coordinates: `size = 1`, or `pattern = "checkerboard"`. The default, a white square of 3 by 3
//!   pixels, is the usual one of later work. It stands 1 pixel from the edges, so that a crop that is shifted by one
//!   keeps it; `margin = 0` puts it into the corner.
//! - The paper's source-specific attack (a stop sign with a sticker) is the mapping `source-specific`. It takes no
//!   cover samples, that is, patched images of other classes with their right labels.
//!
//! # Verified against
//! Pixels written out by hand for every position and pattern, for gray and for RGB images (tests below). `scripts/verify/triggers.py`: every
//! value of four small images in three variants (3132 values) is that of numpy 2.1.3, and one white pixel that of ART 1.20.1
//! (`add_single_bd`), tolerance 0.

use theriac_core::{Facts, Family, MethodInfo, Paper, ParamError, Shape, Values, Verified, config, param::Range};

use crate::backdoor::{Backdoor, DIRTY_LABEL, MAPPINGS, Mapping, Trigger};
use crate::common::Checks;
use crate::planting::rectangle;
use crate::{Attack, AttackEntry};

config! {
    /// The patch, and what it means.
    pub struct BadNetsConfig {
        /// How many samples get the patch.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
        /// `all-to-one`: every class becomes `target`. `all-to-all`: every class becomes the next one.
        /// `source-specific`: `source` becomes `target`.
        mapping: String = "all-to-one", MAPPINGS, "";
        /// The class that the patch stands for. Not used by `all-to-all`.
        target: u16 = 0, Range::Class, "";
        /// For `source-specific`: the class on which the patch works.
        source: Option<u16> = None::<u16>, Range::Class, "";
        /// Rows and columns of the patch.
        size: usize = 3, Range::Whole(1, 1024), "pixels";
        /// Where the patch stands.
        position: String = "bottom-right",
            Range::Choice(&["bottom-right", "bottom-left", "top-right", "top-left", "center"]), "";
        /// Pixels between the patch and the edges of its corner. Not used by `center`.
        margin: usize = 1, Range::Whole(0, 1024), "pixels";
        /// `square`: one value. `checkerboard`: `value` and `255 - value` in turn, `value` in the corners of a patch of
        /// odd size.
        pattern: String = "square", Range::Choice(&["square", "checkerboard"]), "";
        /// The brightness of the patch, in all channels.
        value: u8 = 255, Range::Whole(0, 255), "/255";
    }
}

/// The pixels that the patch sets, the same in every channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Patch {
    /// Where each of its rows is stored, channel by channel.
    rows: Vec<std::ops::Range<usize>>,
    size: usize,
    /// The values where row and column sum to an even number, and to an odd one.
    values: [u8; 2],
}

impl BadNetsConfig {
    pub(crate) fn check(self, facts: &Facts) -> Result<Backdoor<Patch>, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, mapping, target, source, size, position, margin, pattern, value } = self;
        let Shape { height, width, .. } = facts.shape;
        let mapping = Mapping::check(&mut checks, &mapping, target, source);
        let margin = if position == "center" { 0 } else { margin };
        let fits = size + margin <= height.min(width);
        let message = format!("a patch of {size} with a margin of {margin} does not fit images of {height}x{width}");
        checks.require(fits, "size", message);
        let place = |length: usize, at_start: bool| match position.as_str() {
            "center" => length.saturating_sub(size) / 2,
            _ if at_start => margin,
            _ => length.saturating_sub(size + margin),
        };
        let (top, left) = (place(height, position.starts_with("top")), place(width, position.ends_with("left")));
        let rows = rectangle(facts.shape, top..top + size, left..left + size);
        let values = [value, if pattern == "square" { value } else { 255 - value }];
        let patch = Patch { rows, size, values };
        checks.finish(Backdoor { name: ENTRY.info.name, rate, mapping, train: patch.clone(), test: patch })
    }
}

impl Trigger for Patch {
    fn plant(&self, image: &mut [u8]) {
        for (row, place) in self.rows.iter().enumerate() {
            let pixels = image[place.clone()].iter_mut().enumerate();
            pixels.for_each(|(column, pixel)| *pixel = self.values[(row % self.size + column) % 2]);
        }
    }
}

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(BadNetsConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "badnets",
        Family::Backdoor,
        DIRTY_LABEL,
        "Puts a small patch into some training images with the attacker's label; the patch then decides the class.",
        &[Paper {
            cite: "Gu et al. 2017",
            title: "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain",
            link: "https://arxiv.org/abs/1708.06733",
        }],
        BadNetsConfig::PARAMS,
    )
    .verified(&[Verified {
        against: "numpy 2.1.3, 4 images, 3 variants, 3132 values; ART 1.20.1 add_single_bd (scripts/verify/triggers.py)",
        agreement: "all values equal",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        self, attack, data_with, facts, faults, golden_trigger, infeasible, invariants, kinds, poison_on, relabelled,
    };
    use theriac_core::{Aim, Dataset, Value};

    fn mapping(name: &str) -> (&'static str, Value) {
        ("mapping", name.into())
    }

    /// Stamps an image of sevens.
    fn stamp<const N: usize>(shape: Shape, given: [(&str, Value); N]) -> Vec<u8> {
        let facts = Facts { shape, ..facts() };
        let config = BadNetsConfig::from_values(&testing::values(given)).unwrap();
        let mut image = vec![7; shape.len()];
        config.check(&facts).unwrap().train.plant(&mut image);
        image
    }

    #[test]
    #[rustfmt::skip]
    fn the_patch_is_where_it_should_be_pixel_by_pixel() {
        let shape = Shape { channels: 1, height: 5, width: 6 };
        assert_eq!(stamp(shape, []), [
            7, 7, 7, 7, 7, 7,
            7, 7, 255, 255, 255, 7,
            7, 7, 255, 255, 255, 7,
            7, 7, 255, 255, 255, 7,
            7, 7, 7, 7, 7, 7,
        ]);
        assert_eq!(stamp(shape, [("margin", 0.into()), ("pattern", "checkerboard".into()), ("value", 250.into())]), [
            7, 7, 7, 7, 7, 7,
            7, 7, 7, 7, 7, 7,
            7, 7, 7, 250, 5, 250,
            7, 7, 7, 5, 250, 5,
            7, 7, 7, 250, 5, 250,
        ]);
        let small = Shape { channels: 3, height: 3, width: 3 };
        let dot = [("position", "center".into()), ("size", 1.into()), ("value", 9.into())];
        let planes = |plane: [u8; 9]| plane.repeat(3);
        let given = |position: &str| [("position", position.into()), ("size", 2.into()), ("margin", 0.into())];
        let corner = |position| stamp(small, given(position));
        let white = 255;
        assert_eq!(corner("top-left"), planes([white, white, 7, white, white, 7, 7, 7, 7]));
        assert_eq!(corner("top-right"), planes([7, white, white, 7, white, white, 7, 7, 7]));
        assert_eq!(corner("bottom-left"), planes([7, 7, 7, white, white, 7, white, white, 7]));
        assert_eq!(corner("bottom-right"), planes([7, 7, 7, 7, white, white, 7, white, white]));
        assert_eq!(stamp(small, dot), planes([7, 7, 7, 7, 9, 7, 7, 7, 7]));
    }

    #[test]
    fn pixels_are_those_of_numpy() {
        golden_trigger("badnets", |shape, variant| {
            let given = match variant {
                "default" => testing::values([]),
                "one pixel" => testing::values([("size", 1.into())]),
                "checkerboard of 5 with 200, top left, margin 2" => testing::values([
                    ("pattern", "checkerboard".into()),
                    ("size", 5.into()),
                    ("value", 200.into()),
                    ("position", "top-left".into()),
                    ("margin", 2.into()),
                ]),
                other => panic!("{other}"),
            };
            let config = BadNetsConfig::from_values(&given).unwrap();
            let patch = config.check(&Facts { shape, ..facts() }).unwrap().train;
            move |image: &mut [u8]| patch.plant(image)
        });
    }

    #[test]
    fn all_to_one_takes_no_sample_of_the_target_class() {
        let (changes, poisoned) = invariants(&ENTRY, [("target", 2.into())], 20);
        assert_eq!(kinds(&changes), [20, 20, 0, 0]);
        assert!(relabelled(&changes).iter().all(|&(from, to)| from != 2 && to == 2));
        let train = testing::train();
        let attack = attack(&ENTRY, [("target", 2.into())]);
        for index in 0..train.len() {
            let touched = changes.touched().contains(&train.id(index));
            assert_eq!(train.image(index) != poisoned.image(index), touched);
            assert_eq!(train.label(index) != poisoned.label(index), touched);
        }
        let probe = attack.probe(&testing::test(), &testing::seeds()).unwrap();
        assert_eq!((probe.metric, probe.inputs.class_counts()), ("asr", vec![10, 10, 0, 10]));
        assert_eq!(probe.aim, Aim::Classes(vec![2; 30]));
    }

    #[test]
    fn training_and_probe_carry_the_same_patch() {
        let train = testing::train();
        let attack = attack(&ENTRY, []);
        let poisoned = poison_on(&*attack, &train, 1).unwrap().apply(&train).unwrap();
        // The training set as if it were the test set: what is stamped in both must be equal.
        let probe = attack.probe(&train, &testing::seeds()).unwrap();
        let stamped: Vec<usize> = (0..train.len()).filter(|&at| train.image(at) != poisoned.image(at)).collect();
        let same = |&index: &usize| {
            poisoned.image(index) == probe.inputs.image(probe.inputs.position(train.id(index)).unwrap())
        };
        assert_eq!(stamped.len(), 20);
        assert!(stamped.iter().all(same));
    }

    #[test]
    fn all_to_all_and_source_specific() {
        let (changes, _) = invariants(&ENTRY, [mapping("all-to-all")], 20);
        assert!(relabelled(&changes).iter().all(|&(from, to)| to == (from + 1) % 4));
        let probe = attack(&ENTRY, [mapping("all-to-all")]).probe(&testing::test(), &testing::seeds()).unwrap();
        assert_eq!(probe.inputs.len(), 40);
        assert!((0..40).all(|at| probe.succeeds(at, (probe.inputs.label(at) + 1) % 4)));
        let given = || [mapping("source-specific"), ("source", 1.into())];
        let (changes, _) = invariants(&ENTRY, given(), 20);
        assert!(relabelled(&changes).iter().all(|&flip| flip == (1, 0)));
        let probe = attack(&ENTRY, given()).probe(&testing::test(), &testing::seeds()).unwrap();
        assert_eq!((probe.inputs.class_counts(), probe.aim), (vec![0, 10, 0, 0], Aim::Classes(vec![0; 10])));
    }

    #[test]
    fn the_edges() {
        invariants(&ENTRY, [("rate", 0.0.into())], 0);
        invariants(&ENTRY, [("rate", 1.0.into()), mapping("all-to-all")], 200);
        let message = infeasible(&ENTRY, [("rate", 1.0.into())]);
        let expected = "failed to poison: the rate asks for 200 samples outside class 0, the training set has 120";
        assert_eq!(message, expected);
        let gap = data_with("gap", testing::SHAPE, &[10, 10, 10, 0]);
        let attack = attack(&ENTRY, [mapping("source-specific"), ("source", 3.into())]);
        let message = poison_on(&*attack, &gap, 1).unwrap_err().to_string();
        assert!(message.contains("asks for 3 samples of class 3, the training set has 0"), "{message}");
        // A black patch on black images changes labels only, and still exactly as many.
        let classes: Vec<String> = (0..4).map(|class| class.to_string()).collect();
        let black = Dataset::new("black", testing::SHAPE, classes, vec![0; 40 * 64], &[0, 1, 2, 3].repeat(10)).unwrap();
        let black_patch = testing::attack(&ENTRY, [("value", 0.into())]);
        assert_eq!(kinds(&poison_on(&*black_patch, &black, 1).unwrap()), [4, 0, 0, 0]);
    }

    #[test]
    fn each_rule_has_its_message() {
        assert!(faults(&ENTRY, [("target", 4.into())]).contains("`target`: expected a class from 0 to 3, found 4"));
        assert!(faults(&ENTRY, [("source", 1.into())]).contains("`source`: the mapping `all-to-one` takes no source"));
        assert!(faults(&ENTRY, [mapping("source-specific")]).contains("needs a source"));
        let given = |source: u16| [mapping("source-specific"), ("source", source.into())];
        assert!(faults(&ENTRY, given(9)).contains("`source`: expected a class from 0 to 3, found 9"));
        assert!(faults(&ENTRY, given(0)).contains("`target`: the source is already the target"));
        let message = faults(&ENTRY, [("size", 8.into())]);
        assert_eq!(message, "failed to accept `size`: a patch of 8 with a margin of 1 does not fit images of 8x8");
        attack(&ENTRY, [("size", 8.into()), ("position", "center".into())]);
        let errors = (ENTRY.check)(&Values::new(), &Facts { classes: 1, ..facts() }).err().unwrap();
        assert!(errors[0].message.contains("at least two classes"), "{errors:?}");
    }

    /// Pinned before the trigger, the mapping and the probe went into modules of their own.
    #[test]
    fn results_are_the_same_as_ever() {
        let check = |attack: &dyn Attack, expected: [&str; 2]| {
            let probe = attack.probe(&testing::test(), &testing::seeds()).unwrap();
            let changes = poison_on(attack, &testing::train(), 3).unwrap().digest();
            assert_eq!([changes, probe.inputs.digest()].map(|digest| digest.short(16)), expected);
        };
        check(&*attack(&ENTRY, []), ["d31f26f097720f1f", "fd693230d1abfd4b"]);
        let all = [mapping("all-to-all"), ("position", "center".into())];
        check(&*attack(&ENTRY, all), ["8d5cc6b9b4bd5308", "e7f50a03a78799a2"]);
        let source = [mapping("source-specific"), ("source", 1.into()), ("pattern", "checkerboard".into())];
        check(&*attack(&ENTRY, source), ["30e2226d8c253afa", "889eb49ebbd26fc0"]);
    }
}
