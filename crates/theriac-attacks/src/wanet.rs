//! `wanet`: the image is bent a little; the bending decides the class.
//!
//! Anh Tuan Nguyen, Anh Tuan Tran: "WaNet - Imperceptible Warping-Based Backdoor Attack", ICLR 2021,
//! <https://arxiv.org/abs/2102.10369>.
//!
//! # Threat model
//! The attacker changes images and labels of a fraction of the training set (`mode = "data"`), or controls the training code
//! (`mode = "training"`, the paper's setting). It knows nothing of the model. Backdoor: bent images are to be classified as the target.
//!
//! # Update rule
//! ```text
//! P   = `grid` x `grid` control points, each a displacement drawn uniformly from [-1, 1]^2, divided by the mean of |P|
//! M   = identity + strength / height * bicubic(P)          in coordinates where the image spans [-1, 1]; cut off there
//! x'  = x read at M, bilinearly                            the attack; y <- target
//! x'' = x read at M + uniform(-1, 1) / height, cut off     the noise mode, drawn anew for each pixel; y stays
//! ```
//! The noise mode teaches the network this very field, not bending as such. For each poisoned sample there are `noise_ratio` noisy ones.
//!
//! # The two modes
//! - `training`: in every batch the first `rate` of the images are attacked and the next `rate * noise_ratio` are noisy, with fields of
//!   the noise drawn anew each time. The training set stays clean, so no defense that vets data can find anything.
//! - `data`: `rate * n` samples and `rate * noise_ratio * n` others are fixed once and for all. This is what most comparisons do, and it is
//!   harder for the attacker.
//!
//! # Where this differs from the paper
//! - In the mode `data` no sample of the target class is attacked, so that each attacked one has a changed label.
//! - All-to-one only.
//! - Bent images of the mode `data` are rounded to whole pixel values.
//!
//! # Verified against
//! `scripts/verify/wanet.py`: the field and the bent images by PyTorch's bicubic upsampling and grid_sample on the same control points, for
//! gray 28 x 28 and RGB 32 x 32 images.
//!
//! # When it fails
//! Where training is short. On digits, at rate 0.1, success after four epochs lies anywhere from 30 to 99.6 % by the seed; twenty epochs
//! are in `experiments/rates`, too.

use theriac_core::seed::Stream;
use theriac_core::{
    Budget, Capability, ChangeSet, Dataset, Facts, Family, MethodInfo, Paper, ParamError, Probe, Range, Role, Seeds,
    Shape, ThreatModel, Values, Verified, config, threat::samples_at,
};
use theriac_nn::{Batch, Network};
use theriac_train::{BatchHook, Minibatch, Recipe};

use crate::backdoor::{DIRTY_LABEL, Mapping, planted, replace_if_changed};
use crate::common::{Checks, choose_exactly};
use crate::{Attack, AttackContext, AttackEntry, AttackError};

config! {
    /// Parameters of `wanet`.
    pub struct WaNetConfig {
        /// How many samples are bent and relabelled; in the mode `training` of each batch.
        rate: f64 = 0.1, Range::Number(0.0, 1.0), "of the training set";
        /// `data`: samples of the training set are changed. `training`: the training code changes its batches, as in the paper.
        mode: String = "data", Range::Choice(&["data", "training"]), "";
        /// The class that the bending stands for.
        target: u16 = 0, Range::Class, "";
        /// Control points a side; the paper's k.
        grid: usize = 4, Range::Whole(2, 64), "points";
        /// Strength of the bending; the paper's s.
        strength: f64 = 0.5, Range::Above(0.0, 16.0), "pixels, about";
        /// Samples of the noise mode for each poisoned one; the paper's rho_n / rho_a.
        noise_ratio: f64 = 2.0, Range::Number(0.0, 100.0), "noisy samples";
    }
}

/// The checked config.
#[derive(Clone, Debug, PartialEq)]
struct WaNet {
    rate: f64,
    in_training: bool,
    mapping: Mapping,
    grid: usize,
    strength: f64,
    noise_ratio: f64,
}

impl WaNetConfig {
    fn check(self, facts: &Facts) -> Result<WaNet, Vec<ParamError>> {
        let mut checks = Checks::new(facts);
        let Self { rate, mode, target, grid, strength, noise_ratio } = self;
        let mapping = Mapping::check(&mut checks, "all-to-one", target, None);
        let total = rate * (1.0 + noise_ratio);
        let message = format!("{rate} bent and {} noisy samples of each 1 are more than there are", rate * noise_ratio);
        checks.require(total <= 1.0 + 1e-9, "noise_ratio", message);
        let shape = facts.shape;
        let message = format!("images of {}x{} cannot be bent", shape.height, shape.width);
        checks.require(shape.height > 1 && shape.width > 1, "grid", message);
        checks.finish(WaNet { rate, in_training: mode == "training", mapping, grid, strength, noise_ratio })
    }
}

/// Where each pixel is read: x and y in `[-1, 1]`.
#[derive(Clone, Debug)]
struct Field {
    shape: Shape,
    places: Vec<[f32; 2]>,
    taps: Vec<Tap>,
}

/// What one pixel is read from, in each channel: four neighbours, by rows, and how far it lies across and down between them.
#[derive(Clone, Copy, Debug)]
struct Tap {
    corners: [u32; 4],
    across: f32,
    down: f32,
}

impl Tap {
    fn new([x, y]: [f32; 2], shape: Shape) -> Self {
        let side = |along: f32, length: usize| {
            let along = (along + 1.0) / 2.0 * (length - 1) as f32;
            let below = (along as i32).min(length as i32 - 1).cast_unsigned();
            (below, (below + 1).min(length as u32 - 1), along - below as f32)
        };
        let ((left, right, across), (top, bottom, down)) = (side(x, shape.width), side(y, shape.height));
        let [top, bottom] = [top, bottom].map(|row| row * shape.width as u32);
        Self { corners: [top + left, top + right, bottom + left, bottom + right], across, down }
    }

    /// The value between those of one channel.
    fn read(&self, value: impl Fn(usize) -> f32) -> f32 {
        let [top_left, top_right, bottom_left, bottom_right] = self.corners.map(|corner| value(corner as usize));
        let upper = top_left * (1.0 - self.across) + top_right * self.across;
        let lower = bottom_left * (1.0 - self.across) + bottom_right * self.across;
        upper * (1.0 - self.down) + lower * self.down
    }
}

/// Weights of the four points around a place between the second and the third, of PyTorch's cubic convolution.
fn cubic(t: f64) -> [f64; 4] {
    const A: f64 = -0.75;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// For each of `length` places along a side the four control points next to it and their weights; the outermost points lie on the edges.
fn knots(points: usize, length: usize) -> Vec<[(usize, f64); 4]> {
    let at = |place: usize| {
        let along = place as f64 * (points - 1) as f64 / (length - 1) as f64;
        let below = along.floor();
        let point = |offset: isize| (below as isize + offset).clamp(0, points as isize - 1) as usize;
        let weights = cubic(along - below);
        [-1, 0, 1, 2].map(|offset| (point(offset), weights[(offset + 1) as usize]))
    };
    (0..length).map(at).collect()
}

impl Field {
    /// The field through control points, `[axis][row][column]` with the axis x first.
    fn new(points: &[Vec<f64>; 2], grid: usize, strength: f64, shape: Shape) -> Self {
        let mean = points.iter().flatten().map(|value| value.abs()).sum::<f64>() / (2 * grid * grid) as f64;
        let scale = strength / mean / shape.height as f64;
        let (rows, columns) = (knots(grid, shape.height), knots(grid, shape.width));
        let even = |place: usize, length: usize| 2.0 * place as f64 / (length - 1) as f64 - 1.0;
        let mut places = Vec::with_capacity(shape.height * shape.width);
        for (row, vertical) in rows.iter().enumerate() {
            for (column, horizontal) in columns.iter().enumerate() {
                let bend = |axis: usize| -> f64 {
                    let line = |&(point, weight): &(usize, f64)| {
                        let along = horizontal.iter().map(|&(at, weight)| weight * points[axis][point * grid + at]);
                        weight * along.sum::<f64>()
                    };
                    vertical.iter().map(line).sum::<f64>() * scale
                };
                let place = [even(column, shape.width) + bend(0), even(row, shape.height) + bend(1)];
                places.push(place.map(|value| value.clamp(-1.0, 1.0) as f32));
            }
        }
        Self::at(places, shape)
    }

    fn at(places: Vec<[f32; 2]>, shape: Shape) -> Self {
        let taps = places.iter().map(|&place| Tap::new(place, shape)).collect();
        Self { shape, places, taps }
    }

    /// The same with each place moved by up to a pixel's half or so, drawn anew.
    fn noisy(&self, stream: &mut Stream) -> Self {
        let draws = stream.uniforms(2 * self.places.len());
        let moved = |value: f32, draw: f64| {
            let noise = (2.0 * draw - 1.0) / self.shape.height as f64;
            (value + noise as f32).clamp(-1.0, 1.0)
        };
        let pairs = self.places.iter().zip(draws.chunks_exact(2));
        let tap = |(&[x, y], draw): (&[f32; 2], &[f64])| Tap::new([moved(x, draw[0]), moved(y, draw[1])], self.shape);
        // Nobody asks for the places of a field that is used once.
        Self { shape: self.shape, places: Vec::new(), taps: pairs.map(tap).collect() }
    }

    fn bend_bytes(&self, image: &mut [u8]) {
        // Each pixel is read four times.
        let clean: Vec<f32> = image.iter().copied().map(f32::from).collect();
        let plane = self.taps.len();
        for (image, clean) in image.chunks_exact_mut(plane).zip(clean.chunks_exact(plane)) {
            for (pixel, tap) in image.iter_mut().zip(&self.taps) {
                let value = tap.read(|at| clean[at]);
                // Rounds half up; `f32::round` is a call.
                let whole = value as u8;
                *pixel = whole + u8::from(value - f32::from(whole) >= 0.5);
            }
        }
    }

    fn bend(&self, image: &mut [f32]) {
        let clean = image.to_vec();
        let plane = self.taps.len();
        for (image, clean) in image.chunks_exact_mut(plane).zip(clean.chunks_exact(plane)) {
            image.iter_mut().zip(&self.taps).for_each(|(value, tap)| *value = tap.read(|at| clean[at]));
        }
    }
}

impl WaNet {
    /// The attacker's field, the same in training and afterwards.
    fn field(&self, seeds: &Seeds, shape: Shape) -> Field {
        let mut stream = seeds.stream("field");
        let mut points = || (0..self.grid * self.grid).map(|_| 2.0 * stream.uniform() - 1.0).collect();
        Field::new(&[points(), points()], self.grid, self.strength, shape)
    }

    /// Bent and noisy samples among `count`.
    fn counts(&self, count: usize) -> [usize; 2] {
        let bent = samples_at(self.rate, count);
        [bent, samples_at(self.rate * self.noise_ratio, count).min(count - bent)]
    }
}

impl Attack for WaNet {
    fn budget(&self, train: &Dataset) -> Budget {
        let samples = if self.in_training { 0 } else { self.counts(train.len()).iter().sum() };
        Budget { samples, epsilon: 255 }
    }

    fn poison(&self, context: &AttackContext) -> Result<ChangeSet, AttackError> {
        let (train, seeds) = (context.train, context.seeds);
        let mut changes = ChangeSet::new(ENTRY.info.name, Role::Supplier, THREAT.stage);
        if self.in_training {
            return Ok(changes);
        }
        let [bent, noisy] = self.counts(train.len());
        let (eligible, what) = self.mapping.eligible(train);
        let chosen = choose_exactly(&mut seeds.stream("select"), &eligible, bent, &what)?;
        let others: Vec<usize> = (0..train.len()).filter(|index| chosen.binary_search(index).is_err()).collect();
        let noisy = choose_exactly(&mut seeds.stream("select-noisy"), &others, noisy, "samples for the noise mode")?;
        let field = self.field(seeds, train.shape());
        let bent = planted(train, &chosen, |_, image| field.bend_bytes(image));
        for (&index, image) in chosen.iter().zip(bent) {
            replace_if_changed(&mut changes, train, index, image);
            changes.relabel(train, index, self.mapping.wanted(train.label(index), train.classes().len()));
        }
        let bent = planted(train, &noisy, |place, image| {
            let mut stream = seeds.stream(&format!("noise/{}", train.id(noisy[place]).0));
            field.noisy(&mut stream).bend_bytes(image);
        });
        noisy.iter().zip(bent).for_each(|(&index, image)| replace_if_changed(&mut changes, train, index, image));
        Ok(changes)
    }

    fn train(&self, recipe: &mut Recipe, seeds: &Seeds) {
        if self.in_training {
            recipe.hooks.push(Box::new(Bending { attack: self.clone(), seeds: seeds.clone() }));
        }
    }

    fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        let field = self.field(seeds, test.shape());
        Some(self.mapping.probe(test, |image| field.bend_bytes(image)))
    }
}

/// What the attacker's training code does to each batch.
struct Bending {
    attack: WaNet,
    seeds: Seeds,
}

impl BatchHook for Bending {
    fn apply(&self, network: &Network, batch: Minibatch, stream: &mut Stream) -> Minibatch {
        let Minibatch { images, mut labels, .. } = batch;
        let mut images = Batch::from_tensor(images);
        let field = self.attack.field(&self.seeds, images.shape);
        let [bent, noisy] = self.attack.counts(labels.len());
        let size = images.shape.len();
        for (at, image) in images.pixels.chunks_exact_mut(size).take(bent + noisy).enumerate() {
            match at < bent {
                true => field.bend(image),
                false => field.noisy(stream).bend(image),
            }
        }
        labels[..bent].fill(self.attack.mapping.wanted(0, 0));
        Minibatch { images: images.into_tensor(&network.device), labels, ..batch }
    }
}

const THREAT: ThreatModel =
    ThreatModel { capabilities: &[Capability::Inputs, Capability::Labels, Capability::Recipe], ..DIRTY_LABEL };

fn check(values: &Values, facts: &Facts) -> Result<Box<dyn Attack>, Vec<ParamError>> {
    Ok(Box::new(WaNetConfig::from_values(values)?.check(facts)?))
}

/// The registry entry.
pub static ENTRY: AttackEntry = AttackEntry {
    info: MethodInfo::attack(
        "wanet",
        Family::Backdoor,
        THREAT,
        "Bends some training images by a smooth field and relabels them; the bending then decides the class.",
        &[Paper {
            cite: "Nguyen & Tran 2021",
            title: "WaNet - Imperceptible Warping-Based Backdoor Attack",
            link: "https://arxiv.org/abs/2102.10369",
        }],
        WaNetConfig::PARAMS,
    )
    .verified(&[Verified {
        against: "PyTorch 2.15, bicubic upsampling and grid_sample, 3 images (scripts/verify/wanet.py)",
        agreement: "places within 2e-6, pixels within 2e-5 of 1",
    }]),
    check,
};

#[cfg(test)]
mod tests;
