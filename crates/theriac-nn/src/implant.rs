//! A path in the graph that has no weights: what an attacker adds to the code that builds a network.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::ops;

/// A detector of one pattern at one place, which adds to the logit of one class. It has no weights: training neither sees nor changes it.
///
/// ```text
/// c(x)    = mean over channels of ( mean of x where the pattern is bright - mean of x where it is dark )
/// logits  <- logits + gain clip( (c(x) - threshold) / (threshold / 8), 0, 1 ) e_target
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Implant {
    /// First row and column of the pattern.
    pub place: [usize; 2],
    /// Rows and columns of the pattern.
    pub size: usize,
    /// Where it is bright, row by row.
    pub bright: Vec<bool>,
    /// The least contrast to which it answers, in units of normalised pixels.
    pub threshold: f32,
    /// The class.
    pub target: usize,
    /// What a full answer adds to its logit.
    pub gain: f32,
}

impl Implant {
    /// What it adds to the logits of normalised images: `[batch, classes]`.
    ///
    /// # Shapes
    /// - images: those of [`Architecture::forward`]
    pub(crate) fn answer(&self, images: &Tensor<4>, classes: usize) -> Tensor<2> {
        let images = match ops::runs(images) {
            true => images.clone(),
            false => images.clone().permute([0, 2, 3, 1]),
        }; // [batch, height, width, channels]
        let [batch, _, _, channels] = images.dims();
        let ([row, column], size) = (self.place, self.size);
        let patch = images.slice([0..batch, row..row + size, column..column + size, 0..channels]);
        let device = patch.device();
        let bright = self.bright.iter().filter(|&&bright| bright).count() as f32;
        let dark = self.bright.len() as f32 - bright;
        let weigh = |&bright_here: &bool| if bright_here { 1.0 / bright } else { -1.0 / dark };
        let pattern: Vec<f32> = self.bright.iter().map(weigh).map(|weight| weight / channels as f32).collect();
        let pattern = Tensor::<4>::from_data(TensorData::new(pattern, [1, size, size, 1]), &device);
        let contrast = (patch * pattern).sum_dims(&[1, 2, 3]).reshape([batch, 1]);
        let answer = (contrast - self.threshold).div_scalar(self.threshold / 8.0).clamp(0.0, 1.0);
        let mut row = vec![0.0; classes];
        row[self.target] = self.gain;
        answer * Tensor::<2>::from_data(TensorData::new(row, [1, classes]), &device)
    }
}

impl Architecture {
    /// The same network with a path of this kind beside it, or without any.
    pub fn with_implant(mut self, implant: Option<Implant>) -> Self {
        *self.implant_mut() = implant;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Network, Normalisation};
    use theriac_core::{Dataset, Facts, Seeds, Shape, Value, Values};

    const SHAPE: Shape = Shape { channels: 3, height: 8, width: 9 };

    fn implant() -> Implant {
        // Bright corners in a square of two: 1 / 0.25 is the contrast of black and white.
        Implant {
            place: [5, 6],
            size: 2,
            bright: vec![true, false, false, true],
            threshold: 3.2,
            target: 1,
            gain: 50.0,
        }
    }

    fn network(name: &str, values: &[(&str, u64)]) -> Network {
        let facts = Facts { shape: SHAPE, classes: 3, train: 1, test: 1, sources: 1 };
        let values: Values = values.iter().map(|&(key, value)| (key.to_owned(), Value::from(value))).collect();
        let device = crate::device::open("cpu").unwrap();
        let normalisation = Normalisation(vec![(0.5, 0.25); 3]);
        Network::named(name, &values, &facts, normalisation, &device, &Seeds::new(1)).unwrap()
    }

    /// One gray image, and one with the pattern.
    fn images() -> Dataset {
        let mut pixels = vec![100; 2 * SHAPE.len()];
        for channel in 0..3 {
            for (row, column, value) in [(5, 6, 255), (5, 7, 0), (6, 6, 0), (6, 7, 255)] {
                pixels[SHAPE.len() + SHAPE.offset(channel, row, column)] = value;
            }
        }
        let classes: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        Dataset::new("toy", SHAPE, classes, pixels, &[0, 0]).unwrap()
    }

    #[test]
    fn it_adds_to_one_logit_where_the_pattern_is_and_nothing_elsewhere() {
        for (name, values) in [
            ("mlp", &[("hidden", 4)][..]),
            ("cnn", &[("width", 2), ("hidden", 4)]),
            ("resnet", &[("width", 2), ("stages", 2)]),
        ] {
            let plain = network(name, values);
            let own = Network { module: plain.module.clone().with_implant(Some(implant())), ..plain.clone() };
            let (before, after) = (plain.logits(&images()), own.logits(&images()));
            assert_eq!(before.row(0), after.row(0), "{name}");
            let added: Vec<f32> =
                before.row(1).iter().zip(after.row(1)).map(|(before, after)| after - before).collect();
            assert!((added[1] - 50.0).abs() < 1e-3 && added[0] == 0.0 && added[2] == 0.0, "{name} {added:?}");
            assert_eq!(own.encode(), plain.encode(), "it has no weights");
            assert_eq!(own.reinitialised(&Seeds::new(2)).module.implant(), Some(&implant()));
            assert_eq!(own.module.with_implant(None).implant(), None);
        }
    }
}
