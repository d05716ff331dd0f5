//! `augmentation`: strong data augmentation against poison.
//!
//! Eitan Borgnia, Valeriia Cherepanova, Liam Fowl, Amin Ghiasi, Jonas Geiping, Micah Goldblum, Tom Goldstein, Arjun Gupta:
//! "Strong Data Augmentation Sanitizes Poisoning and Backdoor Attacks Without an Accuracy Tradeoff", ICASSP 2021,
//! <https://arxiv.org/abs/2011.09527>. The three augmentations are those of Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David
//! Lopez-Paz: "mixup: Beyond Empirical Risk Minimization", ICLR 2018, <https://arxiv.org/abs/1710.09412>; Sangdoo Yun, Dongyoon Han,
//! Seong Joon Oh, Sanghyuk Chun, Junsuk Choe, Youngjoon Yoo: "CutMix: Regularization Strategy to Train Strong Classifiers with
//! Localizable Features", ICCV 2019, <https://arxiv.org/abs/1905.04899>; Terrance DeVries, Graham W. Taylor: "Improved Regularization of
//! Convolutional Neural Networks with Cutout", 2017, <https://arxiv.org/abs/1708.04552>.
//!
//! # Assumptions
//! The defender controls training and knows nothing of the attack. A trigger or a perturbation that is cut out, covered or averaged with
//! another image no longer goes along with one label.
//!
//! # Rule
//! For each batch x, y, with a random order p of the batch and l drawn from Beta(alpha, alpha):
//! ```text
//! mixup    x'_i = l x_i + (1 - l) x_p(i)                                        target  l y_i + (1 - l) y_p(i)
//! cutmix   x'_i = x_i outside a box, x_p(i) inside; the box has the sides        target  (1 - b) y_i + b y_p(i)
//!          sqrt(1 - l) height and sqrt(1 - l) width around a random pixel        b = the part of the image that the box covers
//! cutout   x'_i = x_i outside a square of `size` times the shorter side          target  y_i
//!          around a random pixel, one for each image; the mean colour inside
//! ```
//! Boxes are cut off at the edges.
//!
//! # Where this differs from the papers
//! - Borgnia et al. mix four images at a time where they report "mixup"; here there are two, as in the original.
//! - One l and one box serve a whole batch, as in the programs of both mixing papers.
//! - Cutout's square was 16 pixels on CIFAR-10, half of a side: `size = 0.5`. Its colour is zero after normalisation, hence the mean
//!   colour of the training set.
//! - CutMix and mixup are applied to every batch; CutMix's authors take half of the batches on CIFAR: `probability = 0.5`.
//!
//! # Verified against
//! Images and targets computed by hand for given draws; the area of boxes against the expectation over draws (tests below).
//! No effect on an attack is measured here yet.

use theriac_core::seed::Stream;
use theriac_core::{Facts, Hook, Label, MethodInfo, Paper, ParamError, Range, Values, Verified, config};
use theriac_nn::{Batch, Network};
use theriac_train::{BatchHook, Minibatch, Recipe};

use crate::{Defense, DefenseEntry, DefenseError};

config! {
    /// Parameters of `augmentation`.
    pub struct Augmentation {
        /// What is done to the images.
        mode: String = "cutmix", Range::Choice(&["mixup", "cutmix", "cutout"]), "";
        /// For `mixup` and `cutmix`: both parameters of the beta distribution; 1 is uniform.
        alpha: f64 = 1.0, Range::Above(0.0, 100.0), "";
        /// For `cutout`: the side of the square.
        size: f64 = 0.5, Range::Above(0.0, 1.0), "of the shorter side";
        /// How many batches are augmented.
        probability: f64 = 1.0, Range::Above(0.0, 1.0), "of the batches";
    }
}

/// Rows and columns of a rectangle, as half-open ranges.
#[derive(Clone, Debug, PartialEq)]
struct Rectangle {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Rectangle {
    /// The rectangle of this height and width around a random pixel, cut off at the edges of the image.
    fn draw([height, width]: [usize; 2], [tall, wide]: [usize; 2], stream: &mut Stream) -> Self {
        let side = |length: usize, side: usize, centre: usize| {
            let begin = centre as isize - (side / 2) as isize;
            begin.max(0) as usize..(begin + side as isize).clamp(0, length as isize) as usize
        };
        let (row, column) = (stream.below(height), stream.below(width));
        Self { rows: side(height, tall, row), columns: side(width, wide, column) }
    }

    /// The places in a channel of `width` columns.
    fn places(&self, width: usize) -> impl Iterator<Item = usize> {
        self.rows.clone().flat_map(move |row| self.columns.clone().map(move |column| row * width + column))
    }

    fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

/// `weight x_i + (1 - weight) x_partner(i)`
fn mixup(images: &mut Batch, partners: &[usize], weight: f32) {
    let size = images.shape.len();
    let clean = images.pixels.clone();
    for (image, &partner) in images.pixels.chunks_exact_mut(size).zip(partners) {
        for (pixel, other) in image.iter_mut().zip(&clean[partner * size..][..size]) {
            *pixel = weight * *pixel + (1.0 - weight) * other;
        }
    }
}

/// The rectangle of each image is that of its partner.
fn cutmix(images: &mut Batch, partners: &[usize], cut: &Rectangle) {
    let (size, plane, width) = (images.shape.len(), images.shape.height * images.shape.width, images.shape.width);
    let clean = images.pixels.clone();
    for (image, &partner) in images.pixels.chunks_exact_mut(size).zip(partners) {
        for (channel, place) in
            (0..images.shape.channels).flat_map(|channel| cut.places(width).map(move |at| (channel, at)))
        {
            image[channel * plane + place] = clean[partner * size + channel * plane + place];
        }
    }
}

/// One rectangle of one image gets one colour.
fn cutout(image: &mut [f32], width: usize, colour: &[f32], cut: &Rectangle) {
    let plane = image.len() / colour.len();
    for (channel, &value) in image.chunks_exact_mut(plane).zip(colour) {
        cut.places(width).for_each(|place| channel[place] = value);
    }
}

impl BatchHook for Augmentation {
    fn apply(&self, network: &Network, batch: Minibatch, stream: &mut Stream) -> Minibatch {
        if !stream.chance(self.probability) {
            return batch;
        }
        let Minibatch { images, labels, mut mixed, faded, weights } = batch;
        let mut images = Batch::from_tensor(images);
        let (height, width) = (images.shape.height, images.shape.width);
        let mut partners: Vec<usize> = (0..labels.len()).collect();
        let mix = |weight: f32, partners: &[usize]| -> Vec<(Label, f32)> {
            partners.iter().map(|&partner| (labels[partner], weight)).collect()
        };
        match self.mode.as_str() {
            "mixup" => {
                let weight = stream.beta(self.alpha) as f32;
                stream.shuffle(&mut partners);
                mixup(&mut images, &partners, weight);
                mixed = mix(1.0 - weight, &partners);
            }
            "cutmix" => {
                let side = (1.0 - stream.beta(self.alpha)).sqrt();
                stream.shuffle(&mut partners);
                let sides = [height, width].map(|length| (length as f64 * side) as usize);
                let cut = Rectangle::draw([height, width], sides, stream);
                cutmix(&mut images, &partners, &cut);
                mixed = mix(cut.area() as f32 / (height * width) as f32, &partners);
            }
            _ => {
                let side = (self.size * height.min(width) as f64).round() as usize;
                let colour: Vec<f32> = network.normalisation.0.iter().map(|channel| channel.0).collect();
                let size = images.shape.len();
                for image in images.pixels.chunks_exact_mut(size) {
                    let cut = Rectangle::draw([height, width], [side, side], stream);
                    cutout(image, width, &colour, &cut);
                }
            }
        }
        Minibatch { images: images.into_tensor(&network.device), labels, mixed, faded, weights }
    }
}

impl Defense for Augmentation {
    fn train(&self, recipe: &mut Recipe) -> Result<(), DefenseError> {
        recipe.hooks.push(Box::new(self.clone()));
        Ok(())
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "augmentation",
        &[Hook::Train],
        "Mixes training images with each other, or cuts pieces out of them.",
        &[
            Paper {
                cite: "Borgnia et al. 2021",
                title: "Strong Data Augmentation Sanitizes Poisoning and Backdoor Attacks Without an Accuracy Tradeoff",
                link: "https://arxiv.org/abs/2011.09527",
            },
            Paper {
                cite: "Zhang et al. 2018",
                title: "mixup: Beyond Empirical Risk Minimization",
                link: "https://arxiv.org/abs/1710.09412",
            },
            Paper {
                cite: "Yun et al. 2019",
                title: "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
                link: "https://arxiv.org/abs/1905.04899",
            },
            Paper {
                cite: "DeVries & Taylor 2017",
                title: "Improved Regularization of Convolutional Neural Networks with Cutout",
                link: "https://arxiv.org/abs/1708.04552",
            },
        ],
        Augmentation::PARAMS,
    )
    .verified(&[Verified {
        against: "images and targets computed by hand for given draws, tests of augmentation.rs",
        agreement: "equal",
    }]),
    check,
};

fn check(values: &Values, _facts: &Facts) -> Result<Box<dyn Defense>, Vec<ParamError>> {
    Ok(Box::new(Augmentation::from_values(values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{stripes, toy_network};
    use theriac_core::{Dataset, Seeds, Shape};
    use theriac_train::{TrainConfig, TrainingSet, train};

    fn augmentation(mode: &str) -> Augmentation {
        Augmentation { mode: mode.to_owned(), ..Augmentation::default() }
    }

    fn rectangle(rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> Rectangle {
        Rectangle { rows, columns }
    }

    /// Two images of two channels and 2 x 3 pixels: 0 to 11, and 100 to 111.
    fn pair() -> Batch {
        let shape = Shape { channels: 2, height: 2, width: 3 };
        Batch { shape, pixels: (0..12).chain(100..112).map(|value| value as f32).collect() }
    }

    #[test]
    fn mixing_is_as_computed_by_hand() {
        let mut images = pair();
        mixup(&mut images, &[1, 1], 0.75);
        assert_eq!(images.pixels[..3], [25.0, 26.0, 27.0]);
        assert_eq!(images.pixels[12..15], [100.0, 101.0, 102.0]);
        let mut images = pair();
        cutmix(&mut images, &[1, 0], &rectangle(1..2, 0..2));
        assert_eq!(images.pixels[..12], [0.0, 1.0, 2.0, 103.0, 104.0, 5.0, 6.0, 7.0, 8.0, 109.0, 110.0, 11.0]);
        assert_eq!(images.pixels[12..18], [100.0, 101.0, 102.0, 3.0, 4.0, 105.0]);
        let mut images = pair();
        cutout(&mut images.pixels[..12], 3, &[-1.0, -2.0], &rectangle(0..1, 1..3));
        assert_eq!(images.pixels[..12], [0.0, -1.0, -1.0, 3.0, 4.0, 5.0, 6.0, -2.0, -2.0, 9.0, 10.0, 11.0]);
    }

    #[test]
    fn rectangles_lie_around_their_pixel_and_end_at_the_edges() {
        let mut stream = Seeds::new(1).stream("cut");
        let mut area = 0.0;
        for _ in 0..4000 {
            let cut = Rectangle::draw([8, 6], [4, 4], &mut stream);
            assert!(cut.rows.end <= 8 && cut.columns.end <= 6 && (2..=4).contains(&cut.rows.len()), "{cut:?}");
            area += cut.area() as f64 / 4000.0;
        }
        // Rows: 2, 3, four times 4 or more, 4, 3 of 8 places; columns: 2, 3, 4, 4, 4, 3 of 6.
        let expected = (2.0 + 3.0 + 5.0 * 4.0 + 3.0) / 8.0 * (2.0 + 3.0 + 3.0 * 4.0 + 3.0) / 6.0;
        assert!((area - expected).abs() < 0.15, "{area}, expected {expected}");
    }

    #[test]
    fn targets_follow_what_is_seen_of_each_image() {
        let data = stripes(30, 1);
        let network = toy_network(&data);
        let indices: Vec<usize> = (0..30).collect();
        let clean = Batch::gather(&data, &indices);
        for mode in ["mixup", "cutmix", "cutout"] {
            let mut stream = Seeds::new(3).stream(mode);
            let batch = Minibatch::new(clean.to_tensor(&network.device), data.labels());
            let batch = augmentation(mode).apply(&network, batch, &mut stream);
            assert_eq!(batch.labels, data.labels());
            assert!(Batch::from_tensor(batch.images).pixels != clean.pixels, "{mode}");
            assert_eq!(batch.mixed.len(), if mode == "cutout" { 0 } else { 30 });
            assert!(batch.mixed.iter().all(|mixed| mixed.1 == batch.mixed[0].1 && (0.0..=1.0).contains(&mixed.1)));
            let mut other: Vec<Label> = batch.mixed.iter().map(|mixed| mixed.0).collect();
            let mut all = if mode == "cutout" { Vec::new() } else { data.labels() };
            other.sort_unstable();
            all.sort_unstable();
            assert_eq!(other, all);
        }
        let never = Augmentation { probability: 1e-12, ..augmentation("mixup") };
        let batch = Minibatch::new(clean.to_tensor(&network.device), data.labels());
        let batch = never.apply(&network, batch, &mut Seeds::new(3).stream("never"));
        assert_eq!((Batch::from_tensor(batch.images), batch.mixed.len()), (clean, 0));
    }

    fn trained(mode: &str, data: &Dataset) -> Network {
        let mut recipe = Recipe::from(TrainConfig { epochs: 12, batch: 32, ..TrainConfig::default() });
        augmentation(mode).train(&mut recipe).unwrap();
        let set = TrainingSet { train: data, test: data, probe: None };
        train(toy_network(data), set, &recipe, &Seeds::new(1), &()).unwrap().network
    }

    #[test]
    fn clean_data_are_learned_and_two_runs_agree() {
        let (data, test) = (stripes(300, 1), stripes(150, 2));
        for mode in ["mixup", "cutmix", "cutout"] {
            let network = trained(mode, &data);
            let accuracy = theriac_core::metrics::accuracy(&network.predict(&test), &test.labels()).unwrap();
            assert!(accuracy > 0.85, "{mode}: {accuracy}");
            assert_eq!(network.encode(), trained(mode, &data).encode());
        }
    }
}
