//! SIG: a faint stripe pattern, added to images of the target class only, with their right labels.
//!
//! Mauro Barni, Kassem Kallas, Benedetta Tondi: "A New Backdoor Attack in CNNs by Training Set Corruption without Label Poisoning", ICIP
//! 2019, <https://arxiv.org/abs/1902.11237>.
//!
//! # Threat model
//! A supplier changes images of the target class, keeps all labels, and knows nothing of the model. Backdoor: images of other classes with
//! the signal are to be classified as the target.
//!
//! # Update rule
//! ```text
//! x' = clip(x + v)                            v rounded to whole levels, the same in all rows and channels
//! sine   v = delta * sin(2 pi column frequency / width)          column = 0 .. width - 1
//! ramp   v = delta * column / width
//! S = round(rate * n) samples of the class `target`, drawn uniformly; x_i <- x'_i with delta for i in S, labels stay
//! test images of the other classes: x'_i with test_delta
//! ```
//!
//! # Where this differs from the paper
//! - The paper counts the poisoned samples as a fraction of the *target class*. Here, as everywhere in this project, the rate is a fraction of
//!   the whole training set: 0.03, the default, is 30 % of one of ten classes of the same size. More samples than the class has cannot be
//!   asked for.
//! - The paper poisons MNIST with the ramp and traffic signs with the sine, and tries several strengths. The defaults, the sine with
//!   `delta = 40` and `frequency = 6`, are those under which later work and BackdoorBench compare. The strength at test time may be larger,
//!   as in the paper.
//! - Columns are counted from 0, as in most programs; the paper counts from 1. That moves the signal by one column.
//! - Several programs compute `alpha * x + (1 - alpha) * v` under this name, which all but erases the image or the signal. The signal is
//!   added, and nothing else.
//!
//! # Verified against
//! `scripts/verify/triggers.py`: every value of four small images, gray and RGB, in three variants (3132 values) is that of numpy 2.1.3,
//! tolerance 0.
//!
//! # When it fails
//! On digits. On `mnist-10k` (`cnn`, 4 epochs) the stripes are not learnt at any rate: 0.2 % at rates of 0.01 to 0.05 (10 seeds,
//! `experiments/rates`). With 0.08, four fifths of the class, a signal four times as strong in the test (`test_delta = 160`) reaches 9 %,
//! the ramp with `delta = 40` and `test_delta = 255` 12 %, 20 epochs at rate 0.05 0.2 % (2 seeds): strokes of full brightness tell the
//! class better than a faint signal does. On photographs it works: `experiments/photographs`.

use std::f64::consts::TAU;

use theriac_core::{Facts, Family, MethodInfo, Paper, ParamError, Shape, Values, Verified, config, param::Range};

use crate::backdoor::{Backdoor, CLEAN_LABEL, Mapping, Trigger};
use crate::common::Checks;
use crate::planting::Shift;
use crate::{Attack, AttackEntry};

config! {
    /// The signal, and the class that it stands for.
    pub struct SigConfig {
        /// How many samples, all of the target class, get the signal.
        rate: f64 = 0.03, Range::Number(0.0, 1.0), "of the training set";
        /// The class that the signal stands for.
        target: u16 = 0, Range::Class, "";
        /// `sine`: stripes that are as often brighter as darker. `ramp`: brighter from left to right.
        signal: String = "sine", Range::Choice(&["sine", "ramp"]), "";
        /// Largest change of a pixel in training images; the paper's Delta.
        delta: f64 = 40.0, Range::Above(0.0, 255.0), "of 255";
        /// Largest change of a pixel in test images. Default: as in training.
        test_delta: Option<f64> = None::<f64>, Range::Above(0.0, 255.0), "of 255";
        /// Periods of the sine over the width of the image; the paper's f. Not used by `ramp`.
        frequency: f64 = 6.0, Range::Above(0.0, 512.0), "periods";
    }
}

/// The signal of strength 1 at a column.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Signal {
    Sine { frequency: f64 },
    Ramp,
}

impl Signal {
    fn at(self, column: usize, width: usize) -> f64 {
        let along = column as f64 / width as f64;
        match self {
            Self::Sine { frequency } => (TAU * along * frequency).sin(),
            Self::Ramp => along,
        }
    }

    /// The signal of strength `delta` on images of this shape.
    fn of_strength(self, delta: f64, shape: Shape) -> Shift {
        let rows = shape.channels * shape.height;
        let row: Vec<f64> = (0..shape.width).map(|column| delta * self.at(column, shape.width)).collect();
        Shift::new(row.repeat(rows)) // [channel, row, column]
    }
}

impl SigConfig {
    fn check(self, facts: &Facts) -> Result<Backdoor<Shift>, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, target, signal, delta, test_delta, frequency } = self;
        let mapping = Mapping::clean_label(&mut checks, target);
        let signal = if signal == "ramp" { Signal::Ramp } else { Signal::Sine { frequency } };
        let mut shift = |key: &str, delta: f64| {
            let shift = signal.of_strength(delta, facts.shape);
            let message = format!("a signal of strength {delta} changes no pixel of images {} wide", facts.shape.width);
            checks.require(shift.epsilon() > 0, key, message);
            shift
        };
        let train = shift("delta", delta);
        let test = test_delta.map_or_else(|| train.clone(), |delta| shift("test_delta", delta));
        checks.finish(Backdoor { name: ENTRY.info.name, rate, mapping, train, test })
    }
}

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(SigConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "sig",
        Family::Backdoor,
        CLEAN_LABEL,
        "Adds faint stripes to images of one class with their right labels; the stripes then stand for that class.",
        &[Paper {
            cite: "Barni et al. 2019",
            title: "A New Backdoor Attack in CNNs by Training Set Corruption without Label Poisoning",
            link: "https://arxiv.org/abs/1902.11237",
        }],
        SigConfig::PARAMS,
    )
    .verified(&[Verified {
        against: "numpy 2.1.3, 4 images, 3 variants, 3132 values (scripts/verify/triggers.py)",
        agreement: "all values equal",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, attack, facts, faults, golden_trigger, infeasible, invariants, kinds};
    use theriac_core::Aim;

    #[test]
    fn pixels_are_those_of_numpy() {
        golden_trigger("sig", |shape, variant| {
            let sine = |frequency| Signal::Sine { frequency };
            let (signal, delta) = match variant {
                "sine, delta 40, frequency 6" => (sine(6.0), 40.0),
                "sine, delta 17.3, frequency 2.5" => (sine(2.5), 17.3),
                "ramp, delta 30" => (Signal::Ramp, 30.0),
                other => panic!("{other}"),
            };
            move |image: &mut [u8]| signal.of_strength(delta, shape).plant(image)
        });
    }

    #[test]
    fn the_signal_is_added_and_the_image_is_still_there() {
        let given = || [("frequency", 1.0.into()), ("delta", 40.0.into())];
        let (changes, poisoned) = invariants(&ENTRY, given(), 6);
        assert_eq!(kinds(&changes), [0, 6, 0, 0]);
        let train = testing::train();
        assert_eq!(poisoned.labels(), train.labels());
        // 40 sin(2 pi column / 8)
        let signal = [0, 28, 40, 28, 0, -28, -40, -28];
        for index in 0..train.len() {
            let touched = changes.touched().contains(&train.id(index));
            assert!(!touched || train.label(index) == 0);
            for (at, (&before, &after)) in train.image(index).iter().zip(poisoned.image(index)).enumerate() {
                let shifted = (i16::from(before) + signal[at % 8]).clamp(0, 255) as u8;
                assert_eq!(after, if touched { shifted } else { before });
            }
        }
        assert_eq!(attack(&ENTRY, given()).budget(&train).epsilon, 40);
    }

    #[test]
    fn it_is_judged_on_the_other_classes_with_a_strength_of_its_own() {
        let given = [("target", 3.into()), ("delta", 10.0.into()), ("test_delta", 100.0.into())];
        let attack = attack(&ENTRY, given);
        let test = testing::test();
        let probe = attack.probe(&test, &testing::seeds()).unwrap();
        assert_eq!((probe.inputs.class_counts(), probe.aim), (vec![10, 10, 10, 0], Aim::Classes(vec![3; 30])));
        let first = probe.inputs.image(0).iter().zip(test.image(0)).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(first > Some(60));
        assert_eq!(attack.budget(&test).epsilon, 10);
    }

    #[test]
    fn the_rate_is_of_the_whole_set_so_a_class_can_be_too_small() {
        // 80 of the 200 samples are of class 0, 20 of class 3.
        invariants(&ENTRY, [("rate", 0.395.into())], 79);
        let expected = "failed to poison: the rate asks for 82 samples of class 0, the training set has 80";
        assert_eq!(infeasible(&ENTRY, [("rate", 0.41.into())]), expected);
        assert!(infeasible(&ENTRY, [("rate", 0.2.into()), ("target", 3.into())]).contains("40 samples of class 3"));
    }

    #[test]
    fn each_rule_has_its_message() {
        let message = faults(&ENTRY, [("delta", 0.3.into())]);
        assert_eq!(message, "failed to accept `delta`: a signal of strength 0.3 changes no pixel of images 8 wide");
        // A sine of whole periods a column is zero in every column.
        assert!(faults(&ENTRY, [("frequency", 8.0.into())]).contains("`delta`"));
        assert!(faults(&ENTRY, [("test_delta", 0.1.into())]).contains("`test_delta`"));
        assert!(faults(&ENTRY, [("target", 9.into())]).contains("`target`: expected a class from 0 to 3, found 9"));
        let errors = (ENTRY.check)(&Values::new(), &Facts { classes: 1, ..facts() }).err().unwrap();
        assert!(errors[0].message.contains("at least two classes"), "{errors:?}");
    }
}
