//! Label flipping: a fraction of the training labels is wrong.
//!
//! - Angluin and Laird, "Learning From Noisy Examples", Machine Learning 2, 1988, <https://doi.org/10.1007/BF00116829>:
//!   random classification noise.
//! - Biggio, Nelson and Laskov, "Support Vector Machines Under Adversarial Label Noise", ACML 2011,
//!   <https://proceedings.mlr.press/v20/biggio11.html>: the same flips as an attack.
//! - Wei, Zhu, Cheng, Liu, Niu and Liu, "Learning with Noisy Labels Revisited", ICLR 2022,
//!   <https://arxiv.org/abs/2110.12088>: labels of CIFAR-10 that people gave, for the mode `file`.
//!
//! # Threat model
//! An annotator changes labels and never sees a model. Symmetric and matrix flips lower the accuracy as a whole
//! (indirect); pair and one-class flips push certain classes to certain others (direct). The goal that the registry
//! shows is that of the default mode, `symmetric`.
//!
//! # Update rule
//! ```text
//! S = round(rate * n) samples, drawn uniformly from the eligible ones
//! symmetric   y_i <- uniform over the classes except y_i             i in S, eligible: all
//! pair        y_i <- (y_i + 1) mod classes                           i in S, eligible: all
//!             y_i <- to                                              i in S, eligible: y_i = from, if both are given
//! one-class   y_i <- to, or uniform over the classes except from     i in S, eligible: y_i = from
//! matrix      P(y_i <- j) = matrix[y_i][j]                           all i
//! file        y_i <- the label in the table                          all i
//! ```
//!
//! # Where this differs from the paper
//! - Random classification noise flips each label by its own coin, so that the number of flips is random. Here it is
//!   exactly `round(rate * n)`, and every chosen label really changes. (Some tools draw from *all* classes: of their
//!   "20 %", a tenth stays right on ten classes.)
//! - The matrix gives exact counts too: the samples of class `y` go to class `j` in the number `matrix[y][j] * n_y`,
//!   rounded so that the row sums to `n_y` (largest remainder; the lower class on ties). Chance decides which samples,
//!   not how many.
//! - Biggio et al. also choose the flips by their effect on the victim; that takes a surrogate and is not this attack.
//!
//! # Verified against
//! `scripts/verify/selections.py`, 48 samples, all modes: the 66 flips are those that numpy 2.1.3 makes of the same draws,
//! which a second ChaCha12 gives; the matrix's counts by Hamilton's apportionment in fractions. `scripts/verify/draws.py`,
//! 4000 digits, six exported data sets, 7122 flips: all labels equal; which samples, classes and wrong labels, by chi-square
//! tests of scipy 1.17.1, p from 0.11 to 0.88. Under three noise matrices of cleanlab 2.9.0 each of the 270 counts of wrong
//! labels is within 1 of that of its `generate_noisy_labels`, and at most 0.63 from the expectation (cleanlab's: 1.00).

mod given;

use theriac_core::threat::samples_at;
use theriac_core::{
    Aim, Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, Label, MethodInfo, Paper, ParamError,
    Probe, Role, Seeds, Stage, ThreatModel, Values, Verified, config, param::Range,
};

use crate::common::{Checks, TARGETED_SUCCESS, choose_exactly, class_probe, next_class, other_class};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// What the flips look like.
    pub struct LabelFlipConfig {
        /// How many labels change, as a fraction of the whole training set. The modes `matrix` and `file` ignore it: there
        /// the matrix or the table says how many.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
        /// `symmetric`: to any other class, uniformly. `pair`: to the next class, or from the class `from` to the class
        /// `to` if they are given. `one-class`: only samples of `from`, to `to` or to any other class. `matrix`: by
        /// `matrix`. `file`: labels that people gave, from a table.
        mode: String = "symmetric", Range::Choice(&["symmetric", "pair", "one-class", "matrix", "file"]), "";
        /// The class whose labels change, for `pair` (with `to`) and `one-class`.
        from: Option<u16> = None::<u16>, Range::Class, "";
        /// The class that they get, for `pair` (with `from`) and `one-class`.
        to: Option<u16> = None::<u16>, Range::Class, "";
        /// For `matrix`: the probability of each label (column) for each true class (row).
        matrix: Option<Vec<Vec<f64>>> = None::<f64>, Range::Transition, "";
        /// For `file`: a CSV table with a header and a row for each sample of the whole training set, in their order. A
        /// relative path is looked for in the current directory.
        labels: Option<String> = None::<String>, Range::Text, "";
        /// For `file`: the column of the table with class indices.
        column: String = "label", Range::Text, "";
        /// For `file`: the BLAKE3 hash of the table, so that a study means the same labels everywhere.
        blake3: Option<String> = None::<String>, Range::Text, "";
    }
}

/// The checked config.
#[derive(Debug, PartialEq)]
enum LabelFlip {
    Symmetric { rate: f64 },
    NextClass { rate: f64 },
    OneClass { rate: f64, from: Label, to: Option<Label> },
    Matrix(Vec<Vec<f64>>),
    Given(Vec<Label>),
}

impl LabelFlipConfig {
    fn check(self, facts: &Facts) -> Result<LabelFlip, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, mode, from, to, matrix, labels, column, blake3 } = self;
        checks.two_classes("mode");
        checks.optional_class("from", from);
        checks.optional_class("to", to);
        checks.require(from.is_none() || from != to, "to", "a flip from a class to itself changes nothing");
        let takes_classes = matches!(mode.as_str(), "pair" | "one-class");
        checks.require(takes_classes || from.is_none(), "from", format!("the mode `{mode}` takes no class"));
        checks.require(takes_classes || to.is_none(), "to", format!("the mode `{mode}` takes no class"));
        let both = from.is_some() == to.is_some();
        checks.require(mode != "pair" || both, "mode", "`pair` takes both `from` and `to`, or neither");
        checks.require(mode != "one-class" || from.is_some(), "from", "the mode `one-class` needs the class to flip");
        checks.require(mode == "matrix" || matrix.is_none(), "matrix", format!("the mode `{mode}` takes no matrix"));
        checks.require(mode != "matrix" || matrix.is_some(), "matrix", "the mode `matrix` needs a matrix");
        if let Some(matrix) = &matrix {
            let message = format!("expected {} rows, one a class, found {}", facts.classes, matrix.len());
            checks.require(matrix.len() == facts.classes, "matrix", message);
        }
        checks.require(mode == "file" || labels.is_none(), "labels", format!("the mode `{mode}` takes no table"));
        checks.require(mode != "file" || labels.is_some(), "labels", "the mode `file` needs a table of labels");
        let table = labels.map(|path| given::read(&path, &column, blake3.as_deref(), facts));
        if let Some(Err((key, message))) = &table {
            checks.require(false, key, message);
        }
        let flip = match (matrix, from) {
            _ if mode == "file" => LabelFlip::Given(table.and_then(Result::ok).unwrap_or_default()),
            (Some(matrix), _) => LabelFlip::Matrix(matrix),
            (None, Some(from)) => LabelFlip::OneClass { rate, from, to },
            (None, None) if mode == "pair" => LabelFlip::NextClass { rate },
            (None, None) => LabelFlip::Symmetric { rate },
        };
        checks.finish(flip)
    }
}

impl LabelFlip {
    /// The samples of one class that the matrix sends to each class.
    fn quotas(row: &[f64], samples: usize) -> Vec<usize> {
        // Rows are accepted with a small error in their sum; here they must not give more samples than there are.
        let sum: f64 = row.iter().sum();
        let expected: Vec<f64> = row.iter().map(|share| share / sum * samples as f64).collect();
        // A hair is added so that 0.3 * 10 is 3 and not 2.
        let mut counts: Vec<usize> = expected.iter().map(|share| (share + 1e-9).floor() as usize).collect();
        let mut order: Vec<usize> = (0..row.len()).collect();
        let remainder = |class: usize| expected[class] - counts[class] as f64;
        order.sort_by(|&a, &b| remainder(b).total_cmp(&remainder(a)));
        let missing = samples.saturating_sub(counts.iter().sum());
        order.into_iter().take(missing).for_each(|class| counts[class] += 1);
        counts
    }

    fn flip_by_matrix(matrix: &[Vec<f64>], context: &AttackContext, changes: &mut ChangeSet) {
        let train = context.train;
        let mut stream = context.seeds.stream("select");
        for (class, row) in matrix.iter().enumerate() {
            let mut samples = train.of_class(class as Label);
            stream.shuffle(&mut samples);
            let quotas = Self::quotas(row, samples.len());
            let labels = quotas.iter().enumerate().flat_map(|(to, &count)| std::iter::repeat_n(to as Label, count));
            samples.iter().zip(labels).for_each(|(&index, to)| changes.relabel(train, index, to));
        }
    }
}

impl Attack for LabelFlip {
    fn budget(&self, train: &Dataset) -> Budget {
        let samples = match self {
            Self::Symmetric { rate } | Self::NextClass { rate } | Self::OneClass { rate, .. } => {
                samples_at(*rate, train.len())
            }
            Self::Matrix(matrix) => {
                let changed = |(class, (row, &samples)): (usize, (&Vec<f64>, &usize))| {
                    samples - Self::quotas(row, samples)[class]
                };
                matrix.iter().zip(&train.class_counts()).enumerate().map(changed).sum()
            }
            Self::Given(labels) => labels.iter().zip(train.labels()).filter(|&(&given, old)| given != old).count(),
        };
        Budget { samples, epsilon: 0 }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Annotator, THREAT.stage);
        let train = context.train;
        let classes = train.classes().len();
        let (eligible, what) = match self {
            Self::Matrix(matrix) => {
                Self::flip_by_matrix(matrix, context, &mut changes);
                return Ok(changes);
            }
            Self::Given(labels) => {
                let wrong = labels.iter().enumerate().filter(|&(index, &label)| label != train.label(index));
                wrong.for_each(|(index, &label)| changes.relabel(train, index, label));
                return Ok(changes);
            }
            Self::OneClass { from, .. } => (train.of_class(*from), format!("samples of class {from}")),
            _ => ((0..train.len()).collect(), "samples".to_owned()),
        };
        let count = self.budget(train).samples;
        let mut labels = context.seeds.stream("labels");
        for index in choose_exactly(&mut context.seeds.stream("select"), &eligible, count, &what)? {
            let label = train.label(index);
            let wrong = match self {
                Self::NextClass { .. } => next_class(label, classes),
                Self::OneClass { to: Some(to), .. } => *to,
                _ => other_class(&mut labels, label, classes),
            };
            changes.relabel(train, index, wrong);
        }
        Ok(changes)
    }

    /// `pair`: every test image, aimed at the next class. With a class `from`: its test images, aimed at `to` or at any
    /// other class.
    fn probe(&self, test: &Dataset, _seeds: &Seeds) -> Option<Probe> {
        match self {
            Self::Symmetric { .. } | Self::Matrix(_) | Self::Given(_) => None,
            Self::NextClass { .. } => {
                let wanted = test.labels().into_iter().map(|label| next_class(label, test.classes().len())).collect();
                Some(Probe { metric: TARGETED_SUCCESS, inputs: test.clone(), aim: Aim::Classes(wanted) })
            }
            Self::OneClass { from, to, .. } => Some(class_probe(test, *from, *to)),
        }
    }

    fn victim_class(&self) -> Option<u16> {
        match self {
            Self::OneClass { from, .. } => Some(*from),
            _ => None,
        }
    }
}

const THREAT: ThreatModel = ThreatModel {
    knowledge: Knowledge::Nothing,
    capabilities: &[Capability::Labels],
    goal: Goal::Untargeted,
    stage: Stage::Label,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(LabelFlipConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "label-flip",
        Family::Mislabeling,
        THREAT,
        "Gives a fraction of the training samples a wrong label: any, the next class, one class only, by a matrix, or by a table.",
        &[
            Paper {
                cite: "Angluin & Laird 1988",
                title: "Learning From Noisy Examples",
                link: "https://doi.org/10.1007/BF00116829",
            },
            Paper {
                cite: "Biggio et al. 2011",
                title: "Support Vector Machines Under Adversarial Label Noise",
                link: "https://proceedings.mlr.press/v20/biggio11.html",
            },
            Paper {
                cite: "Wei et al. 2022",
                title: "Learning with Noisy Labels Revisited: A Study Using Real-World Human Annotations",
                link: "https://arxiv.org/abs/2110.12088",
            },
        ],
        LabelFlipConfig::PARAMS,
    )
    .verified(&[
        Verified {
            against: "numpy 2.1.3 on the same draws, all modes: 48 samples (scripts/verify/selections.py), 4000 digits (scripts/verify/draws.py)",
            agreement: "all 7188 flips equal",
        },
        Verified {
            against: "cleanlab 2.9.0, three noise matrices, 4000 digits (scripts/verify/draws.py)",
            agreement: "270 counts of wrong labels differ by at most 1",
        },
        Verified {
            against: "scipy 1.17.1, 4000 digits: which samples, classes and labels (scripts/verify/draws.py)",
            agreement: "8 chi-square tests, p from 0.11 to 0.88",
        },
    ]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        self, attack, data_with, faults, golden_edits, infeasible, invariants, kinds, poison_on, relabelled,
    };
    use theriac_core::Value;

    /// Half of class 0 stays, a quarter each goes to 1 and 2; class 1 stays; class 2 all goes to 3; a third of class 3
    /// goes to 0.
    fn matrix() -> Value {
        let third = 1.0 / 3.0;
        let rows = [[0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [third, 0.0, 0.0, 1.0 - third]];
        Value::from(rows.map(|row| row.to_vec()).to_vec())
    }

    #[test]
    fn symmetric_flips_are_exact_wrong_and_spread_evenly() {
        let (changes, poisoned) = invariants(&ENTRY, [("rate", 0.25.into())], 50);
        assert_eq!(kinds(&changes), [50, 0, 0, 0]);
        let train = testing::train();
        let changed = (0..train.len()).filter(|&index| train.label(index) != poisoned.label(index)).count();
        assert_eq!(changed, 50);
        assert!((0..train.len()).all(|index| train.image(index) == poisoned.image(index)));
        // At rate 1 nothing keeps its label, and each wrong label takes about a third of its class.
        let (changes, _) = invariants(&ENTRY, [("rate", 1.0.into())], 200);
        let from_0_to = |class| relabelled(&changes).iter().filter(|&&flip| flip == (0, class)).count();
        assert!([1, 2, 3].map(from_0_to).iter().all(|count| (17..=37).contains(count)));
        assert!(attack(&ENTRY, []).probe(&testing::test(), &testing::seeds()).is_none());
    }

    #[test]
    fn pair_flips_go_to_the_next_class_or_between_two() {
        let (changes, _) = invariants(&ENTRY, [("mode", "pair".into())], 20);
        assert!(relabelled(&changes).iter().all(|&(from, to)| to == (from + 1) % 4));
        let probe = attack(&ENTRY, [("mode", "pair".into())]).probe(&testing::test(), &testing::seeds()).unwrap();
        assert!((0..40).all(|at| probe.succeeds(at, (probe.inputs.label(at) + 1) % 4)));
        assert_eq!((probe.metric, probe.inputs.len()), ("targeted_success", 40));
        let given = || [("mode", "pair".into()), ("from", 2.into()), ("to", 0.into())];
        let (changes, _) = invariants(&ENTRY, given(), 20);
        assert!(relabelled(&changes).iter().all(|&flip| flip == (2, 0)));
        let probe = attack(&ENTRY, given()).probe(&testing::test(), &testing::seeds()).unwrap();
        assert_eq!((probe.inputs.class_counts(), probe.aim), (vec![0, 0, 10, 0], Aim::Classes(vec![0; 10])));
        assert_eq!(attack(&ENTRY, given()).victim_class(), Some(2));
    }

    #[test]
    fn one_class_flips_leave_the_others_alone() {
        let given = || [("mode", "one-class".into()), ("from", 1.into())];
        let (changes, _) = invariants(&ENTRY, given(), 20);
        assert!(relabelled(&changes).iter().all(|&(from, to)| from == 1 && to != 1));
        let probe = attack(&ENTRY, given()).probe(&testing::test(), &testing::seeds()).unwrap();
        assert_eq!((probe.inputs.class_counts(), probe.aim), (vec![0, 10, 0, 0], Aim::Misclassified));
    }

    #[test]
    fn a_matrix_gives_the_expected_counts_exactly() {
        // Of 80, 60, 40 and 20: 20 + 20, none, 40, and 20 / 3 = 6.67, of which 7.
        let given = [("mode", "matrix".into()), ("matrix", matrix())];
        let (changes, _) = invariants(&ENTRY, given, 87);
        let count = |flip| relabelled(&changes).iter().filter(|&&found| found == flip).count();
        assert_eq!([(0, 1), (0, 2), (2, 3), (3, 0)].map(count), [20, 20, 40, 7]);
        assert_eq!(LabelFlip::quotas(&[0.3, 0.7], 10), [3, 7]);
        assert_eq!(LabelFlip::quotas(&[0.5, 0.5], 3), [2, 1]);
        assert_eq!(LabelFlip::quotas(&[0.5, 0.5], 0), [0, 0]);
    }

    #[test]
    fn the_edges() {
        invariants(&ENTRY, [("rate", 0.0.into())], 0);
        let given = [("rate", 0.5.into()), ("mode", "one-class".into()), ("from", 3.into())];
        let message = infeasible(&ENTRY, given);
        assert_eq!(message, "failed to poison: the rate asks for 100 samples of class 3, the training set has 20");
        // A class without samples is no error for the modes that take any sample.
        let gap = data_with("gap", testing::SHAPE, &[10, 0, 10, 10]);
        assert_eq!(poison_on(&*attack(&ENTRY, []), &gap, 1).unwrap().edits.len(), 3);
        let matrix = attack(&ENTRY, [("mode", "matrix".into()), ("matrix", matrix())]);
        assert_eq!(poison_on(&*matrix, &gap, 1).unwrap().edits.len(), matrix.budget(&gap).samples);
    }

    #[test]
    fn each_rule_has_its_message() {
        let refused = |given: [(&str, Value); 2]| faults(&ENTRY, given);
        assert_eq!(
            refused([("mode", "one-class".into()), ("from", 4.into())]),
            "failed to accept `from`: expected a class from 0 to 3, found 4"
        );
        assert!(refused([("mode", "symmetric".into()), ("from", 1.into())]).contains("takes no class"));
        assert!(refused([("mode", "symmetric".into()), ("to", 1.into())]).contains("takes no class"));
        assert!(refused([("mode", "symmetric".into()), ("matrix", matrix())]).contains("takes no matrix"));
        assert!(refused([("mode", "pair".into()), ("from", 1.into())]).contains("both `from` and `to`"));
        assert!(refused([("mode", "one-class".into()), ("to", 1.into())]).contains("needs the class to flip"));
        assert!(faults(&ENTRY, [("mode", "matrix".into())]).contains("needs a matrix"));
        let small = Value::from(vec![vec![1.0, 0.0], vec![0.0, 1.0]]);
        assert!(refused([("mode", "matrix".into()), ("matrix", small)]).contains("expected 4 rows"));
        let same = [("mode", "pair".into()), ("from", 1.into()), ("to", 1.into())];
        assert!(faults(&ENTRY, same).contains("to itself"));
        let lonely = Facts { classes: 1, ..testing::facts() };
        let errors = (ENTRY.check)(&Values::new(), &lonely).err().unwrap();
        assert!(errors[0].message.contains("at least two classes"), "{errors:?}");
    }

    #[test]
    fn edits_are_those_that_numpy_makes_of_the_same_draws() {
        golden_edits(&ENTRY);
    }
}
