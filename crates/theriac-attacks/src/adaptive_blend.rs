//! Adaptive-Blend and Adaptive-Patch: a trigger whose poisoned samples do not gather in one place of the feature space.
//!
//! Xiangyu Qi, Tinghao Xie, Yiming Li, Saeed Mahloujifar, Prateek Mittal: "Revisiting the Assumption of Latent Separability for Backdoor
//! Defenses", ICLR 2023, <https://openreview.net/forum?id=_wSHsgrVali>.
//!
//! # Threat model
//! A supplier changes images and labels of a small fraction of the training set and knows nothing of the model. Backdoor: images with the
//! trigger are to be classified as the target. Samples with the trigger and their *right* labels (cover) keep the model from tying the
//! trigger to the target too strongly, and each training image shows the trigger in part only: defenses that part poisoned from clean
//! features are to find nothing that stands apart.
//!
//! # Update rule
//! ```text
//! payload  round(rate * n) samples, drawn uniformly from the classes other than the target;  y <- target
//! cover    round(cover_rate * n) others of these;                                            y stays
//! blend    training: x' = (1 - alpha) x + alpha key in some pieces of a grid x grid raster, drawn for each sample; x elsewhere
//!          test:     x' = (1 - test_alpha) x + test_alpha key everywhere
//! patch    training: one of four patches, each in its corner, the next one for each sample: x' = (1 - o_j) x + o_j patch_j
//!          test:     all patches at once with their test opacities
//! ```
//!
//! # Where this differs from the paper
//! - Rates, opacities, pieces and their share are those of the authors' released configuration for CIFAR-10: 0.3 % payload and as much cover
//!   for Adaptive-Blend, twice as much for Adaptive-Patch; opacity 0.15 in training and 0.2 at test; 16 pieces, half of them hidden; patches
//!   of opacity 0.5, 0.2, 0.5 and 0.3, two of them, at full opacity, at test.
//! - The authors' key is a cartoon picture and their patches are small pictures. None of them is ours to ship: the key is one of those of
//!   `blended`, and the patches are a square, a checkerboard, a frame and a cross.
//! - The authors' program draws payload and cover from all classes. Here, as the paper says of the cover, both come from the other classes:
//!   in the target class cover would be payload.
//! - The samples are replaced; the authors do the same. Pieces are cut at `row * height / grid`, so that the size of the image need not be a
//!   multiple of the grid.
//! - Cover samples are part of the change set, and detection metrics count them as poisoned. A filter that leaves them in has not failed
//!   by that alone: read `tpr` here with the success after retraining.
//!
//! # Verified against
//! `scripts/verify/triggers.py`: every value of four small images, gray and RGB, with half of the pieces and with all patches (2088 values) is
//! that of exact fractions, tolerance 0. These are pixels only; neither success rates nor what latent separation finds are measured here.

use std::ops::Range as Span;

use theriac_core::{
    Budget, ChangeSet, Dataset, Facts, Family, Label, MethodInfo, Paper, ParamError, Probe, Role, SampleId, Seeds,
    Shape, Stage, Values, Verified, config, param::Range,
};

use crate::backdoor::{DIRTY_LABEL, Mapping, Trigger, planted, replace_if_changed};
use crate::common::{Checks, choose_exactly};
use crate::pattern::{self, PATTERNS};
use crate::planting::{Blend, rectangle};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// The trigger, and who carries it.
    pub struct AdaptiveBlendConfig {
        /// Payload: samples with the trigger and the target as their label.
        rate: f64 = 0.003, Range::Number(0.0, 1.0), "of the training set";
        /// Cover: samples with the trigger and their right label. Default: `rate`, with the trigger `patch` twice that.
        cover_rate: Option<f64> = None::<f64>, Range::Number(0.0, 1.0), "of the training set";
        /// The class that the trigger stands for.
        target: u16 = 0, Range::Class, "";
        /// `blend`: a key over the whole image, in training in pieces. `patch`: four patches in the corners, in training one by one.
        trigger: String = "blend", Range::Choice(&["blend", "patch"]), "";
        /// The key of `blend`. `noise`: a random value for each pixel and channel. `cat`: a drawn face.
        pattern: String = "noise", PATTERNS, "";
        /// Which noise. It does not depend on the seed of the experiment.
        key: u64 = 0, Range::Whole(0, 4_294_967_295), "";
        /// Weight of the key in training images.
        alpha: f64 = 0.15, Range::Above(0.0, 1.0), "";
        /// Weight of the key in test images.
        test_alpha: f64 = 0.2, Range::Above(0.0, 1.0), "";
        /// Rows, and columns, of pieces of the key.
        grid: usize = 4, Range::Whole(1, 64), "pieces";
        /// The share of the pieces that a training image does not show.
        masked: f64 = 0.5, Range::Number(0.0, 1.0), "of the pieces";
        /// Rows and columns of each patch of `patch`. They stand one pixel from the edges.
        size: usize = 6, Range::Whole(1, 512), "pixels";
        /// Opacities of the four patches in training images: top left, top right, bottom left, bottom right.
        opacities: Vec<f64> = [0.5, 0.2, 0.5, 0.3].to_vec(), Range::Numbers(0.0, 1.0), "";
        /// The same in test images. A patch of opacity 0 is not there.
        test_opacities: Vec<f64> = [1.0, 0.0, 1.0, 0.0].to_vec(), Range::Numbers(0.0, 1.0), "";
    }
}

/// Pixels of an image: ranges of its bytes.
type Place = Vec<Span<usize>>;

/// How training images and test images get the trigger.
#[derive(Debug, PartialEq)]
enum Planting {
    /// The key: in training, so many of these pieces.
    Blend { train: Blend, test: Blend, pieces: Vec<Place>, numbers: Vec<usize>, shown: usize },
    /// The visible patches at their places: in training one of them, at test all.
    Patches { train: Vec<(Blend, Place)>, test: Vec<(Blend, Place)> },
}

/// The checked config.
#[derive(Debug, PartialEq)]
struct AdaptiveBlend {
    rate: f64,
    cover_rate: f64,
    target: Label,
    planting: Planting,
}

impl AdaptiveBlendConfig {
    fn check(self, facts: &Facts) -> Result<AdaptiveBlend, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, cover_rate, target, trigger, alpha, test_alpha, .. } = &self;
        checks.two_classes("target");
        checks.class("target", *target);
        let cover_rate = cover_rate.unwrap_or(if trigger == "patch" { (2.0 * rate).min(1.0) } else { *rate });
        let planting = if trigger == "patch" {
            self.patches(&mut checks, facts.shape)
        } else {
            let key = pattern::draw(&self.pattern, self.key, facts.shape);
            let train = Blend::check(&mut checks, "alpha", &key, *alpha);
            let test = Blend::check(&mut checks, "test_alpha", &key, *test_alpha);
            let (pieces, shown) = self.pieces(&mut checks, facts.shape);
            Planting::Blend { train, test, numbers: (0..pieces.len()).collect(), pieces, shown }
        };
        checks.finish(AdaptiveBlend { rate: *rate, cover_rate, target: *target, planting })
    }

    /// The pieces of the key, row by row, and how many of them a training image shows.
    fn pieces(&self, checks: &mut Checks, shape: Shape) -> (Vec<Place>, usize) {
        let Shape { height, width, .. } = shape;
        let message = format!("images of {height}x{width} cannot be cut into {0}x{0} pieces", self.grid);
        checks.require(self.grid <= height.min(width), "grid", message);
        let count = self.grid * self.grid;
        let shown = count - (self.masked * count as f64).round() as usize;
        let message = format!("a share of {} hides all of the {count} pieces", self.masked);
        checks.require(shown > 0, "masked", message);
        (raster(shape, self.grid), shown)
    }

    fn patches(&self, checks: &mut Checks, shape: Shape) -> Planting {
        let Shape { height, width, .. } = shape;
        let message = format!("four patches of {} do not fit images of {height}x{width}", self.size);
        checks.require(2 * (self.size + 1) <= height.min(width), "size", message);
        let (picture, places) = corner_patches(shape, self.size);
        let mut visible = |name: &str, opacities: &[f64]| -> Vec<(Blend, Place)> {
            let blends = opacities.iter().map(|&opacity| Blend::new(&picture, opacity)).zip(places.iter().cloned());
            let visible: Vec<_> = blends.filter(|(patch, _)| patch.epsilon() > 0).collect();
            checks.require(opacities.len() == 4, name, format!("expected 4 opacities, found {}", opacities.len()));
            checks.require(!visible.is_empty(), name, "no patch is visible");
            visible
        };
        let train = visible("opacities", &self.opacities);
        Planting::Patches { train, test: visible("test_opacities", &self.test_opacities) }
    }
}

/// The pieces of a raster of `grid` by `grid`, row by row.
fn raster(shape: Shape, grid: usize) -> Vec<Place> {
    let span = |at: usize, length: usize| at * length / grid..(at + 1) * length / grid;
    let piece = |at: usize| rectangle(shape, span(at / grid, shape.height), span(at % grid, shape.width));
    (0..grid * grid).map(piece).collect()
}

/// A picture with the four patches in its corners, black and white in all channels, and their places.
fn corner_patches(shape: Shape, size: usize) -> (Vec<u8>, [Place; 4]) {
    let Shape { height, width, .. } = shape;
    let (last, mut picture) = (size - 1, vec![0; shape.len()]);
    let white = |patch: usize, row: usize, column: usize| match patch {
        0 => true,                                                     // a square
        1 => (row + column).is_multiple_of(2),                         // a checkerboard
        2 => row == 0 || column == 0 || row == last || column == last, // a frame
        _ => row == column || row + column == last,                    // a cross
    };
    let places = [0, 1, 2, 3].map(|patch| {
        let start = |at_end: bool, length: usize| if at_end { length.saturating_sub(1 + size) } else { 1 };
        let (top, left) = (start(patch >= 2, height), start(patch % 2 == 1, width));
        let place = rectangle(shape, top..top + size, left..left + size);
        for (row, pixels) in place.iter().enumerate() {
            // A patch that does not fit is refused; its picture is not needed.
            let Some(pixels) = picture.get_mut(pixels.clone()) else { continue };
            for (column, pixel) in pixels.iter_mut().enumerate() {
                *pixel = if white(patch, row % size, column) { 255 } else { 0 };
            }
        }
        place
    });
    (picture, places)
}

impl Planting {
    /// Plants the trigger as the training image in this place of its list shows it.
    fn plant_for_training(&self, image: &mut [u8], place: usize, id: SampleId, seeds: &Seeds) {
        match self {
            Self::Blend { train, pieces, numbers, shown, .. } => {
                let shown = seeds.stream(&id.0.to_string()).choose(numbers, *shown);
                shown.into_iter().for_each(|piece| train.plant_within(image, &pieces[piece]));
            }
            Self::Patches { train, .. } => {
                let (patch, at) = &train[place % train.len()];
                patch.plant_within(image, at);
            }
        }
    }

    fn plant_for_test(&self, image: &mut [u8]) {
        match self {
            Self::Blend { test, .. } => test.plant(image),
            Self::Patches { test, .. } => test.iter().for_each(|(patch, at)| patch.plant_within(image, at)),
        }
    }

    /// The largest change of a pixel of a training image.
    fn epsilon(&self) -> u8 {
        match self {
            Self::Blend { train, .. } => train.epsilon(),
            Self::Patches { train, .. } => train.iter().map(|(patch, _)| patch.epsilon()).max().unwrap_or(0),
        }
    }
}

impl AdaptiveBlend {
    fn mapping(&self) -> Mapping {
        Mapping::AllToOne { target: self.target }
    }

    /// How many samples are payload, and how many cover.
    fn counts(&self, train: &Dataset) -> [usize; 2] {
        [self.rate, self.cover_rate].map(|rate| Budget::rate(rate, train.len()).samples)
    }
}

impl Attack for AdaptiveBlend {
    fn budget(&self, train: &Dataset) -> Budget {
        Budget { samples: self.counts(train).iter().sum(), epsilon: self.planting.epsilon() }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Supplier, Stage::Collect);
        let (train, [payload, cover]) = (context.train, self.counts(context.train));
        let (eligible, what) = self.mapping().eligible(train);
        let payload = choose_exactly(&mut context.seeds.stream("select"), &eligible, payload, &what)?;
        let others: Vec<usize> = eligible.into_iter().filter(|index| payload.binary_search(index).is_err()).collect();
        let cover = choose_exactly(&mut context.seeds.stream("cover"), &others, cover, &format!("further {what}"))?;
        let seeds = context.seeds.child("pieces");
        for (chosen, label) in [(&payload, Some(self.target)), (&cover, None)] {
            let images = planted(train, chosen, |place, image| {
                self.planting.plant_for_training(image, place, train.id(chosen[place]), &seeds);
            });
            for (&index, image) in chosen.iter().zip(images) {
                replace_if_changed(&mut changes, train, index, image);
                changes.relabel(train, index, label.unwrap_or(train.label(index)));
            }
        }
        Ok(changes)
    }

    fn probe(&self, test: &Dataset, _seeds: &Seeds) -> Option<Probe> {
        Some(self.mapping().probe(test, |image| self.planting.plant_for_test(image)))
    }
}

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(AdaptiveBlendConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "adaptive-blend",
        Family::Backdoor,
        DIRTY_LABEL,
        "A trigger in pieces, on poisoned samples and on cover samples with right labels, which hides from latent separation.",
        &[Paper {
            cite: "Qi et al. 2023",
            title: "Revisiting the Assumption of Latent Separability for Backdoor Defenses",
            link: "https://openreview.net/forum?id=_wSHsgrVali",
        }],
        AdaptiveBlendConfig::PARAMS,
    )
    .verified(&[Verified {
        against: "exact fractions, 4 images, pieces and patches, 2088 values (scripts/verify/triggers.py)",
        agreement: "all values equal",
    }]),
    check,
};

#[cfg(test)]
mod tests;
