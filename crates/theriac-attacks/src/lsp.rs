//! `lsp`: linearly separable synthetic noise, which a network learns instead of the images.
//!
//! Da Yu, Huishuai Zhang, Wei Chen, Jian Yin, Tie-Yan Liu: "Availability Attacks Create Shortcuts", KDD 2022,
//! <https://arxiv.org/abs/2111.00898>.
//!
//! # Threat model
//! A supplier adds noise to images and knows nothing but their labels; there is no surrogate. Labels stay. Indirect: the
//! noise alone tells the class, so a model trained on it learns little else, and clean images tell it nothing.
//!
//! # Update rule
//! ```text
//! m = channels * ceil(height / patch) * ceil(width / patch)
//! v_k   = a corner of the cube [-separation, separation]^m, another one for each class k
//! A_k   = m x m numbers, uniform in [-1, 1]
//! u_i   = v_k + z_i A_k,  z_i standard normal, k = y_i             one point an image
//! n_i   = u_i with each number repeated over its patch of patch x patch pixels, cut off at the edges
//! l2:    n_i <- n_i * epsilon sqrt(d) / |n_i|_2                    d = channels * height * width
//! linf:  n_i <- n_i * epsilon / |n_i|_inf
//! x_i <- clip(x_i + n_i, 0, 255)                                   for round(rate * n) samples, drawn uniformly
//! ```
//!
//! # Where this differs from the paper
//! - The points follow the authors' program, which takes them from scikit-learn's `make_classification` with
//!   `class_sep = 10`, one cluster a class and no label noise: corners of a cube, and Gaussian clouds that a random matrix
//!   stretches. For CIFAR-10 and `patch = 8` that is 48 numbers an image.
//! - The strength is theirs too: an L2 norm of `epsilon sqrt(d)` with `epsilon = 6`, which is 1.30 for CIFAR-10 in units
//!   of full brightness. Single pixels change by more than `epsilon`; `norm = "linf"` bounds each of them instead, for
//!   comparisons with attacks that are bounded so.
//! - The authors add noise in floating point and cut the sum down to whole values, which darkens all images by half a
//!   value. Here the noise itself is rounded, so that it stays a patch of one value, and its norm stays within the bound.
//! - `rate` poisons a part of the data; the paper poisons all.
//!
//! # Verified against
//! `scripts/verify/shortcuts.py`: points and noise in both norms, 9 images of 5 by 7 pixels, agree with numpy 2.1.3 to 1e-9.
//! The tests below tell all images of ten classes apart by the nearest mean of their noise, which is a linear classifier
//! (300 images each of 3x32x32, 28x28 and 8x8), and hold every image to the bound.
//!
//! # When it fails
//! A grid of few patches has few corners: they can be near each other, and the clouds overlap. Compression blurs the patches' edges: its
//! effect on photographs, and that of `jpeg-gray`, is in `experiments/jpeg-gray`.

use theriac_core::seed::Stream;
use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, Goal, Knowledge, MethodInfo, Paper, ParamError, Probe, Role,
    Seeds, Shape, Stage, ThreatModel, Values, config, param::Range,
};

use theriac_train::Norm;

use crate::common::{Checks, add_clipped, choose_exactly, whole_within_l2};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// What the noise looks like.
    pub struct LspConfig {
        /// How many images get noise; the paper's is all.
        rate: f64 = 1.0, Range::Number(0.0, 1.0), "of the training set";
        /// Strength of the noise. With `norm = "l2"`, the root mean square over an image's values; with `norm = "linf"`,
        /// the largest change of a value.
        epsilon: u8 = 6u8, Range::Whole(1, 255), "of 255";
        /// What `epsilon` bounds.
        norm: String = "l2", Range::Choice(&["l2", "linf"]), "";
        /// Rows and columns of a patch of one value.
        patch: usize = 8, Range::Whole(1, 1024), "pixels";
        /// Half of the side of the cube whose corners are the classes; the paper's `class_sep`. Within a class a value has
        /// a standard deviation of `sqrt(patches / 3)`.
        separation: f64 = 10.0, Range::Above(0.0, 1e6), "";
    }
}

/// The checked config.
#[derive(Debug, PartialEq)]
struct Lsp {
    rate: f64,
    epsilon: u8,
    norm: Norm,
    grid: Grid,
    separation: f64,
}

impl LspConfig {
    fn check(self, facts: &Facts) -> Result<Lsp, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, epsilon, norm, patch, separation } = self;
        let grid = Grid { shape: facts.shape, patch };
        let values = grid.len();
        let enough = values >= 64 || 1u64 << values >= facts.classes as u64;
        let message = format!(
            "patches of {patch} pixels leave {values} random values an image, which cannot tell {} classes apart",
            facts.classes
        );
        checks.require(enough, "patch", message);
        let norm = if norm == "linf" { Norm::LInf } else { Norm::L2 };
        checks.finish(Lsp { rate, epsilon, norm, grid, separation })
    }
}

/// Images cut into patches.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grid {
    shape: Shape,
    patch: usize,
}

impl Grid {
    /// Rows and columns of patches.
    fn sides(self) -> (usize, usize) {
        (self.shape.height.div_ceil(self.patch), self.shape.width.div_ceil(self.patch))
    }

    /// Number of patches, over all channels.
    fn len(self) -> usize {
        let (rows, columns) = self.sides();
        self.shape.channels * rows * columns
    }

    /// The patch of every pixel: `[channel, row, column]`.
    fn patches(self) -> Vec<usize> {
        let (rows, columns) = self.sides();
        let Shape { channels, height, width } = self.shape;
        let pixels =
            (0..channels).flat_map(|channel| (0..height * width).map(move |at| (channel, at / width, at % width)));
        pixels
            .map(|(channel, row, column)| (channel * rows + row / self.patch) * columns + column / self.patch)
            .collect()
    }

    /// How many pixels each patch has.
    fn counts(self) -> Vec<usize> {
        let mut counts = vec![0; self.len()];
        self.patches().into_iter().for_each(|patch| counts[patch] += 1);
        counts
    }
}

/// Where the points of one class lie.
struct Cloud {
    centre: Vec<f64>,
    /// Row-major, as many rows and columns as the centre has values.
    stretch: Vec<f64>,
}

impl Cloud {
    /// One cloud a class, each around a corner of its own.
    fn draw(classes: usize, values: usize, separation: f64, seeds: &Seeds) -> Vec<Self> {
        let mut corners: Vec<Vec<bool>> = Vec::with_capacity(classes);
        let mut stream = seeds.stream("corners");
        while corners.len() < classes {
            let corner = (0..values).map(|_| stream.below(2) == 1).collect();
            if !corners.contains(&corner) {
                corners.push(corner);
            }
        }
        let cloud = |(class, corner): (usize, Vec<bool>)| {
            let mut stream = seeds.stream(&format!("stretch/{class}"));
            Self {
                centre: corner.into_iter().map(|up| if up { separation } else { -separation }).collect(),
                stretch: (0..values * values).map(|_| 2.0 * stream.uniform() - 1.0).collect(),
            }
        };
        corners.into_iter().enumerate().map(cloud).collect()
    }

    /// The point that belongs to a standard normal one.
    fn point(&self, normal: &[f64]) -> Vec<f64> {
        let mut point = self.centre.clone();
        for (row, &factor) in self.stretch.chunks_exact(point.len()).zip(normal) {
            point.iter_mut().zip(row).for_each(|(value, stretch)| *value += factor * stretch);
        }
        point
    }

    /// Any point of the cloud.
    fn sample(&self, stream: &mut Stream) -> Vec<f64> {
        let normal: Vec<f64> = self.centre.iter().map(|_| stream.normal()).collect();
        self.point(&normal)
    }
}

impl Lsp {
    /// The L2 norm that the noise of an image has.
    fn length(&self) -> f64 {
        f64::from(self.epsilon) * (self.grid.shape.len() as f64).sqrt()
    }

    /// `point`, one value a patch, brought to the strength that the config asks for.
    fn scale(&self, point: &[f64], counts: &[usize]) -> Vec<f64> {
        let factor = match self.norm {
            Norm::LInf => f64::from(self.epsilon) / point.iter().fold(0.0, |most: f64, value| most.max(value.abs())),
            Norm::L2 => {
                let squares = point.iter().zip(counts).map(|(value, &count)| value * value * count as f64);
                self.length() / squares.sum::<f64>().sqrt()
            }
        };
        point.iter().map(|value| value * factor).collect()
    }

    /// The same in whole values.
    fn whole(&self, noise: &[f64], counts: &[usize]) -> Vec<i16> {
        match self.norm {
            Norm::LInf => noise.iter().map(|value| value.round() as i16).collect(),
            Norm::L2 => whole_within_l2(noise, counts, self.length()),
        }
    }
}

impl Attack for Lsp {
    /// In the L2 norm, all of the noise could be in the smallest patch.
    fn budget(&self, train: &Dataset) -> Budget {
        let epsilon = match (self.norm, self.grid.counts().into_iter().min()) {
            (Norm::L2, Some(smallest)) => (self.length() / (smallest as f64).sqrt() + 1e-6).min(255.0) as u8,
            _ => self.epsilon,
        };
        Budget { epsilon, ..Budget::rate(self.rate, train.len()) }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let (train, seeds) = (context.train, context.seeds);
        let everything: Vec<usize> = (0..train.len()).collect();
        let count = self.budget(train).samples;
        let clouds = Cloud::draw(train.classes().len(), self.grid.len(), self.separation, seeds);
        let (patches, counts) = (self.grid.patches(), self.grid.counts());
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage);
        for index in choose_exactly(&mut seeds.stream("select"), &everything, count, "samples")? {
            // A stream of its own, so that an image's noise does not depend on which others are chosen.
            let mut stream = seeds.stream(&format!("noise/{}", train.id(index).0));
            let point = clouds[usize::from(train.label(index))].sample(&mut stream);
            let noise = self.whole(&self.scale(&point, &counts), &counts);
            let image = add_clipped(train.image(index), patches.iter().map(|&patch| noise[patch]));
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
    knowledge: Knowledge::Nothing,
    capabilities: &[Capability::Inputs],
    goal: Goal::Untargeted,
    stage: Stage::Collect,
};

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(LspConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "lsp",
        Family::Manipulation,
        THREAT,
        "Adds noise to training images that alone tells their class, so that nothing else is learnt; labels stay.",
        &[Paper {
            cite: "Yu et al. 2022",
            title: "Availability Attacks Create Shortcuts",
            link: "https://arxiv.org/abs/2111.00898",
        }],
        LspConfig::PARAMS,
    )
    .verified(&[theriac_core::Verified {
        against: "numpy, points and noise of 9 images in both norms (scripts/verify/shortcuts.py)",
        agreement: "to 1e-9; a nearest-mean classifier reads ten classes from the noise alone without a fault, 300 images in each of 3 shapes",
    }]),
    check,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        self, accuracy_after, attack, easy, facts, faults, golden, invariants, kinds, poison_on, values,
    };
    use theriac_core::Value;

    const COLOUR: Shape = Shape { channels: 3, height: 32, width: 32 };
    const GRAY: Shape = Shape { channels: 1, height: 28, width: 28 };

    fn lsp<const N: usize>(shape: Shape, classes: usize, given: [(&str, Value); N]) -> Lsp {
        let facts = Facts { shape, classes, ..facts() };
        LspConfig::from_values(&values(given)).unwrap().check(&facts).unwrap()
    }

    /// What the attack adds to gray images, which cut nothing off, and their labels.
    fn noise(lsp: &Lsp, classes: usize, each: usize) -> (Vec<Vec<f64>>, Vec<u16>) {
        let shape = lsp.grid.shape;
        let labels: Vec<u16> = (0..classes * each).map(|at| (at % classes) as u16).collect();
        let names: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
        let gray = Dataset::new("gray", shape, names, vec![128; shape.len() * labels.len()], &labels).unwrap();
        let changes = poison_on(lsp, &gray, 1).unwrap();
        lsp.budget(&gray).enforce(&THREAT, &gray, &changes).unwrap();
        let poisoned = changes.apply(&gray).unwrap();
        let noise = |at: usize| poisoned.image(at).iter().map(|&value| f64::from(value) - 128.0).collect();
        ((0..labels.len()).map(noise).collect(), labels)
    }

    #[test]
    fn images_change_labels_do_not() {
        for norm in ["l2", "linf"] {
            let given = |rate: f64| [("patch", 2.into()), ("norm", norm.into()), ("rate", rate.into())];
            let (changes, some) = invariants(&ENTRY, given(0.3), 60);
            let (_, all) = invariants(&ENTRY, given(1.0), 200);
            assert_eq!((kinds(&changes), some.labels()), ([0, 60, 0, 0], testing::train().labels()));
            // An image's noise does not depend on which others get some.
            let touched = changes.touched();
            assert!((0..200).filter(|&at| touched.contains(&some.id(at))).all(|at| some.image(at) == all.image(at)));
        }
        assert!(attack(&ENTRY, [("patch", 2.into())]).probe(&testing::test(), &testing::seeds()).is_none());
    }

    #[test]
    fn the_norm_is_a_bound_that_is_nearly_reached_and_patches_have_one_value() {
        for shape in [COLOUR, GRAY] {
            let (l2, linf) = (lsp(shape, 10, []), lsp(shape, 10, [("norm", "linf".into()), ("epsilon", 8.into())]));
            let (long, _) = noise(&l2, 10, 4);
            let (high, _) = noise(&linf, 10, 4);
            let bound = 36.0 * shape.len() as f64;
            for change in &long {
                let square: f64 = change.iter().map(|value| value * value).sum();
                assert!((0.9 * bound..=bound).contains(&square), "{square} {bound}");
            }
            let most = |change: &Vec<f64>| change.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            assert!(high.iter().map(most).all(|most| most == 8.0));
            for change in long.iter().chain(&high) {
                let mut values = vec![None; l2.grid.len()];
                let patches = l2.grid.patches().into_iter().zip(change);
                patches.for_each(|(patch, value)| assert_eq!(values[patch].get_or_insert(*value), value));
            }
        }
    }

    #[test]
    fn images_of_one_class_differ_and_a_linear_classifier_tells_all_classes_apart() {
        for (shape, patch) in [(COLOUR, 8), (GRAY, 8), (testing::SHAPE, 2)] {
            let (changes, labels) = noise(&lsp(shape, 10, [("patch", patch.into())]), 10, 30);
            for (at, change) in changes.iter().enumerate() {
                assert!(changes[..at].iter().all(|other| other != change), "image {at}");
            }
            // The nearest mean of a class: its boundaries are planes.
            let mut means = vec![vec![0.0; shape.len()]; 10];
            for (change, &label) in changes.iter().zip(&labels) {
                means[usize::from(label)].iter_mut().zip(change).for_each(|(mean, value)| *mean += value / 30.0);
            }
            for (change, &label) in changes.iter().zip(&labels) {
                let away =
                    |mean: &[f64]| change.iter().zip(mean).map(|(value, mean)| (value - mean).powi(2)).sum::<f64>();
                let nearest = (0..10).min_by(|&a, &b| away(&means[a]).total_cmp(&away(&means[b]))).unwrap();
                assert_eq!(nearest, usize::from(label));
            }
        }
    }

    #[test]
    fn what_is_learnt_from_poisoned_images_is_of_no_use_for_clean_ones() {
        let (train, test) = (easy("train", 60), easy("test", 30));
        let strong = attack(&ENTRY, [("patch", 2.into()), ("epsilon", 40.into())]);
        let poisoned = poison_on(&*strong, &train, 1).unwrap().apply(&train).unwrap();
        let (clean, after) = (accuracy_after(&train, &test), accuracy_after(&poisoned, &test));
        assert!(clean > 0.9 && after < 0.6, "{clean} {after}");
        assert!(accuracy_after(&poisoned, &poisoned) > 0.95);
    }

    #[test]
    fn points_and_noise_are_those_of_numpy() {
        let clouds = golden(include_str!("../tests/golden/lsp_clouds.csv"));
        let clouds: Vec<Cloud> =
            clouds.chunks_exact(7).map(|rows| Cloud { centre: rows[0].clone(), stretch: rows[1..].concat() }).collect();
        let shape = Shape { channels: 1, height: 5, width: 7 };
        let given = |norm: &str| lsp(shape, 3, [("patch", 3.into()), ("norm", norm.into())]);
        let (l2, linf) = (given("l2"), given("linf"));
        let counts = l2.grid.counts();
        assert_eq!(counts, [9, 9, 3, 6, 6, 2]);
        for row in golden(include_str!("../tests/golden/lsp_noise.csv")) {
            let (class, normal) = (row[0] as usize, &row[1..7]);
            let point = clouds[class].point(normal);
            let spread = l2.grid.patches().into_iter().map(|patch| l2.scale(&point, &counts)[patch]);
            let found: Vec<f64> = linf.scale(&point, &counts).into_iter().chain(spread).collect();
            assert_eq!(found.len(), row[7..].len());
            assert!(found.iter().zip(&row[7..]).all(|(found, expected)| (found - expected).abs() < 1e-9));
        }
    }

    #[test]
    fn too_few_patches_are_refused() {
        let message = faults(&ENTRY, [("patch", 8.into())]);
        let expected = "patches of 8 pixels leave 1 random values an image, which cannot tell 4 classes apart";
        assert_eq!(message, format!("failed to accept `patch`: {expected}"));
        attack(&ENTRY, [("patch", 4.into())]);
        assert!(faults(&ENTRY, [("epsilon", 0.into())]).contains("`epsilon`: expected a whole number from 1 to 255"));
    }
}
