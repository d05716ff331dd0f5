//! Image shortcut squeezing: Zhuoran Liu, Zhengyu Zhao, Martha Larson, "Image Shortcut Squeezing: Countering
//! Perturbative Availability Poisons with Compression", ICML 2023, <https://arxiv.org/abs/2301.13838>.
//!
//! # Assumptions
//!
//! The defender controls training and needs neither clean data nor a model. The poison is a perturbation that a person hardly
//! sees, so that a coarser image keeps the motif and loses the perturbation: JPEG drops what varies from pixel to
//! pixel, the conversion to gray what is smooth but colourful. A visible patch or a wrong label outlasts both.
//!
//! # Rule
//!
//! ```text
//! each training image, once, before augmentation:
//! grayscale:  r, g, b := 0.299 r + 0.587 g + 0.114 b
//! quality q:  x := what is left of x in a JPEG file of quality q
//! ```
//! Gray comes first if both are on. Test images, and all that the trained model answers later, stay as they are.
//!
//! # Where this differs from the paper
//!
//! - The paper tries either compression by itself, and finds that the better one depends on the attack: on CIFAR-10, gray
//!   restores more under error-minimising noise (93.0 % against 81.5 %), and nothing under error-maximising noise (9.1 %
//!   against 83.9 %). JPEG at quality 10 helps against each of its twelve attacks, so it is the default, alone. `grayscale = true` and
//!   `quality = 0` are the paper's other setting; both may be on, as the authors' program allows.
//! - Gray images of data sets with one channel are refused, for they would stay as they are.
//! - The codec gives the results of Pillow, which the authors use, with its defaults: baseline, colour at half the
//!   resolution in both directions.
//! - Code of an attacker who controls training (`wanet` with noise in training) works on batches, hence behind the compression.
//!
//! # Cost and limits
//!
//! Compression is paid for in accuracy on clean data: the paper reports 94.7 % without, 92.4 % with gray and 85.4 % with JPEG-10
//! (CIFAR-10, ResNet-18). It is no defense against an attacker who knows of it and perturbs within what JPEG keeps.
//!
//! # Verified against
//!
//! `scripts/verify/jpeg.py`: 406 images of 14 sizes, in colour and gray, at 9 qualities and converted to gray, are bit-equal to those
//! of Pillow 13.0.0 (libjpeg-turbo 3.2.0).

use rayon::prelude::*;
use theriac_core::{Dataset, Facts, Hook, MethodInfo, Paper, ParamError, Range, Values, Verified, config};
use theriac_train::Recipe;

use crate::jpeg::{compressed, gray};
use crate::{Checked, Defense, DefenseEntry, DefenseError};

config! {
    /// Parameters of `jpeg-gray`.
    pub struct JpegGray {
        /// Quality of the JPEG compression, from 1 to 100; 0 leaves it out.
        quality: u8 = 10, Range::Whole(0, 100), "of 100";
        /// Whether colour is taken away: all channels become the brightness.
        grayscale: bool = false, Range::Switch, "";
    }
}

impl JpegGray {
    fn check(self, facts: &Facts) -> Result<Self, Vec<ParamError>> {
        let channels = facts.shape.channels;
        let mut errors = Vec::new();
        if self.grayscale && channels != 3 {
            let message = format!("images of {channels} channel(s) have no colour to take away");
            errors.push(ParamError::new("grayscale", message));
        }
        if self.quality > 0 && channels != 1 && channels != 3 {
            errors.push(ParamError::new("quality", format!("a JPEG image has 1 or 3 channels, not {channels}")));
        }
        if self.quality == 0 && !self.grayscale {
            errors.push(ParamError::new("quality", "with 0 and without `grayscale`, images stay as they are"));
        }
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }

    /// The same samples with compressed images.
    fn purified(&self, data: &Dataset) -> Dataset {
        let shape = data.shape();
        let mut pixels = vec![0; data.len() * shape.len()];
        pixels.par_chunks_exact_mut(shape.len()).enumerate().for_each(|(index, to)| {
            to.copy_from_slice(data.image(index));
            if self.grayscale {
                let gray = gray(to);
                to.chunks_exact_mut(gray.len()).for_each(|channel| channel.copy_from_slice(&gray));
            }
            if self.quality > 0 {
                let coarse = compressed(to, shape, self.quality);
                to.copy_from_slice(&coarse);
            }
        });
        data.with_pixels(pixels)
    }
}

impl Defense for JpegGray {
    fn train(&self, recipe: &mut Recipe) -> Result<(), DefenseError> {
        let defense = self.clone();
        recipe.purifiers.push(Box::new(move |data| defense.purified(data)));
        Ok(())
    }
}

/// The registry entry.
pub static ENTRY: DefenseEntry = DefenseEntry {
    info: MethodInfo::defense(
        "jpeg-gray",
        &[Hook::Train],
        "Trains on images that JPEG compression or the loss of colour made coarser.",
        &[Paper {
            cite: "Liu et al. 2023",
            title: "Image Shortcut Squeezing: Countering Perturbative Availability Poisons with Compression",
            link: "https://arxiv.org/abs/2301.13838",
        }],
        JpegGray::PARAMS,
    )
    .verified(&[Verified {
        against: "Pillow 13.0.0 with libjpeg-turbo 3.2.0, 406 images of 14 sizes at 9 qualities and in gray (scripts/verify/jpeg.py)",
        agreement: "bit-equal",
    }]),
    check,
};

fn check(values: &Values, facts: &Facts) -> Checked {
    Ok(Box::new(JpegGray::from_values(values)?.check(facts)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::toy_network;
    use theriac_core::{Label, Seeds, Shape};
    use theriac_train::{TrainConfig, TrainingSet, train};

    fn checked(given: &[(&str, theriac_core::Value)], channels: usize) -> Result<(), Vec<String>> {
        let facts = Facts { shape: Shape { channels, height: 8, width: 8 }, classes: 2, train: 2, test: 2, sources: 1 };
        let values = given.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let keys = |errors: Vec<ParamError>| errors.into_iter().map(|error| error.key).collect();
        check(&values, &facts).map(drop).map_err(keys)
    }

    #[test]
    fn what_would_change_nothing_is_refused() {
        assert_eq!(checked(&[], 1), Ok(()));
        assert_eq!(checked(&[("quality", 0u64.into()), ("grayscale", true.into())], 3), Ok(()));
        assert_eq!(checked(&[("quality", 0u64.into())], 3), Err(vec!["quality".to_owned()]));
        assert_eq!(checked(&[("grayscale", true.into())], 1), Err(vec!["grayscale".to_owned()]));
        assert_eq!(checked(&[], 4), Err(vec!["quality".to_owned()]));
    }

    #[test]
    fn gray_comes_before_compression_and_labels_stay() {
        let shape = Shape { channels: 3, height: 9, width: 10 };
        let mut stream = Seeds::new(4).stream("pixels");
        let pixels: Vec<u8> = (0..2 * shape.len()).map(|_| stream.below(256) as u8).collect();
        let classes: Vec<String> = vec!["a".to_owned(), "b".to_owned()];
        let data = Dataset::new("colour", shape, classes, pixels, &[1, 0]).unwrap();
        let gray_only = JpegGray { quality: 0, grayscale: true }.purified(&data);
        let both = JpegGray { quality: 30, grayscale: true }.purified(&data);
        let jpeg = JpegGray { quality: 30, grayscale: false };
        for index in 0..2 {
            let brightness = gray(data.image(index));
            assert_eq!(gray_only.image(index), [&brightness[..]; 3].concat());
            assert_eq!(both.image(index), jpeg.purified(&gray_only).image(index));
            assert_ne!(both.image(index), jpeg.purified(&data).image(index));
            // Without colour, the quarter of it that a file keeps is none: still gray.
            assert_eq!(both.image(index)[..90], both.image(index)[90..180]);
        }
        assert_eq!((both.labels(), both.id(1)), (data.labels(), data.id(1)));
    }

    /// Three classes of 16 x 16 images: a band at the top, in the middle or at the bottom is a little brighter, under noise.
    fn bands(samples: usize, seed: u64) -> Dataset {
        let mut stream = Seeds::new(seed).stream("bands");
        let labels: Vec<Label> = (0..samples).map(|index| (index % 3) as Label).collect();
        let mut pixel =
            |label: Label, at: usize| 60 + stream.below(40) + if at / 86 == usize::from(label) { 20 } else { 0 };
        let image = |&label: &Label| (0..256).map(|at| pixel(label, at) as u8).collect::<Vec<_>>();
        let pixels: Vec<u8> = labels.iter().flat_map(image).collect();
        let names: Vec<String> = ["top", "middle", "bottom"].map(String::from).into();
        Dataset::new("bands", Shape { channels: 1, height: 16, width: 16 }, names, pixels, &labels).unwrap()
    }

    /// Each image with a pattern that changes from pixel to pixel: that of the class `next` places after its own.
    fn perturbed(data: &Dataset, next: Label, strength: i32) -> Dataset {
        let is_up = |pattern: Label, at: usize| {
            let steps = match pattern % 3 {
                0 => at,
                1 => at / 16,
                _ => at + at / 16,
            };
            steps.is_multiple_of(2)
        };
        let pixels = (0..data.len()).flat_map(|index| {
            let change = |at| if is_up(data.label(index) + next, at) { strength } else { -strength };
            let pixels = data.image(index).iter().enumerate();
            pixels.map(|(at, &pixel)| (i32::from(pixel) + change(at)) as u8).collect::<Vec<_>>()
        });
        data.with_pixels(pixels.collect::<Vec<u8>>())
    }

    fn trained(defended: bool, data: &Dataset) -> theriac_nn::Network {
        let mut recipe = Recipe::from(TrainConfig { epochs: 8, batch: 32, lr: 0.02, ..TrainConfig::default() });
        if defended {
            JpegGray::default().train(&mut recipe).unwrap();
        }
        let set = TrainingSet { train: data, test: data, probe: None };
        train(toy_network(data), set, &recipe, &Seeds::new(1), &()).unwrap().network
    }

    #[test]
    fn a_fine_pattern_is_not_learned_and_the_motif_is() {
        let (clean, test) = (bands(300, 1), bands(150, 2));
        let poisoned = perturbed(&clean, 0, 8);
        // The pattern of another class, so strong that a network which knows it goes astray.
        let misleading = perturbed(&test, 1, 24);
        let accuracy = |network: &theriac_nn::Network, data: &Dataset| {
            theriac_core::metrics::accuracy(&network.predict(data), &data.labels()).unwrap()
        };
        let (undefended, defended) = (trained(false, &poisoned), trained(true, &poisoned));
        let misled = [&undefended, &defended].map(|network| accuracy(network, &misleading));
        assert!(misled[0] < 0.3 && misled[1] > 0.8, "{misled:?}");
        assert!(accuracy(&trained(true, &clean), &test) > 0.95);
        assert_eq!(trained(true, &poisoned).encode(), defended.encode());
    }
}
