//! What attacks on one certain image share: which image of the test set, what it is to be taken for, the samples that may be poisoned, and
//! descent on their pixels.

use theriac_core::seed::Stream;
use theriac_core::{Aim, ChangeSet, Dataset, Facts, Label, Probe, Seeds};
use theriac_nn::burn::tensor::Tensor;
use theriac_nn::{Batch, Network};

use crate::backdoor::replace_if_changed;
use crate::common::{Checks, TARGETED_SUCCESS, choose_exactly, other_class, round_within, train_anew};
use crate::{AttackContext, AttackError};

/// Which image is to be misread, and as what. What is not given is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneImage {
    /// Its place in the test set.
    image: Option<usize>,
    /// Its class.
    source: Option<Label>,
    /// The class that it is to be taken for.
    target: Option<Label>,
}

/// The image that was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// Its place in the test set.
    pub image: usize,
    /// The class that it is to be taken for, which is that of the poisons.
    pub wanted: Label,
}

impl OneImage {
    /// From the keys `image`, `source` and `target` of a config.
    pub fn check(
        checks: &mut Checks,
        facts: &Facts,
        image: Option<usize>,
        source: Option<Label>,
        target: Option<Label>,
    ) -> Self {
        checks.two_classes("target");
        checks.optional_class("source", source);
        checks.optional_class("target", target);
        checks.require(source.is_none() || source != target, "target", "the source is already the target");
        checks.require(image.is_none() || source.is_none(), "source", "a certain image has the class that it has");
        if let Some(image) = image {
            let message = format!("the test set has {} images, found {image}, counted from 0", facts.test);
            checks.require(image < facts.test, "image", message);
        }
        Self { image, source, target }
    }

    /// The image, and what it is to be taken for. The draw depends on the test set and on `seeds` alone, so that poisons and probe agree.
    pub fn choose(&self, test: &Dataset, seeds: &Seeds) -> Result<Chosen, AttackError> {
        let fits = |&at: &usize| {
            let class = Some(test.label(at));
            self.image.is_none_or(|image| image == at)
                && (self.source.is_none() || self.source == class)
                && self.target != class
        };
        let candidates: Vec<usize> = (0..test.len()).filter(fits).collect();
        let mut stream = seeds.stream("image");
        if candidates.is_empty() {
            let message = "the test set has no image of the source that is not of the target".to_owned();
            return Err(AttackError::Infeasible(message));
        }
        let image = candidates[stream.below(candidates.len())];
        let wanted = self.target.unwrap_or_else(|| other_class(&mut stream, test.label(image), test.classes().len()));
        Ok(Chosen { image, wanted })
    }

    /// The image as it is, and what the attacker wants of it.
    pub fn probe(&self, test: &Dataset, seeds: &Seeds) -> Option<Probe> {
        let Chosen { image, wanted } = self.choose(test, seeds).ok()?;
        Some(Probe { metric: TARGETED_SUCCESS, inputs: test.select(&[image]), aim: Aim::Classes(vec![wanted]) })
    }
}

/// `count` training samples of the class `wanted`, drawn from the stream `select`, ascending.
pub fn draw_bases(context: &AttackContext, wanted: Label, count: usize) -> Result<Vec<usize>, AttackError> {
    let what = format!("samples of class {wanted}");
    let mut stream = context.seeds.stream("select");
    choose_exactly(&mut stream, &context.train.of_class(wanted), count, &what)
}

/// `count` networks of the attacker: the surrogate, and others of its architecture that are trained on the same data.
pub fn surrogates(context: &AttackContext, count: usize) -> Result<Vec<Network>, AttackError> {
    let given = context.surrogate.ok_or(AttackError::NoSurrogate)?;
    let other = |number| train_anew(context, given, context.train, Vec::new(), &format!("surrogate/{number}"));
    std::iter::once(Ok(given.clone())).chain((1..count).map(other)).collect()
}

/// The samples of `data` at `indices`: `[batch, channels, height, width]` in `[0, 1]`.
pub fn images(network: &Network, data: &Dataset, indices: &[usize]) -> Tensor<4> {
    Batch::gather(data, indices).into_tensor(&network.device)
}

/// The pixels of each image: `[image][channel, row, column]` in `[0, 1]`.
pub fn pixels(images: Tensor<4>) -> Vec<Vec<f32>> {
    let batch = Batch::from_tensor(images);
    batch.pixels.chunks_exact(batch.shape.len()).map(<[f32]>::to_vec).collect()
}

/// Images within `epsilon` of the `clean` ones, and within `[0, 1]`.
pub fn within(images: Tensor<4>, clean: Tensor<4>, epsilon: u8) -> Tensor<4> {
    let epsilon = f64::from(epsilon) / 255.0;
    (clean.clone() + (images - clean).clamp(-epsilon, epsilon)).clamp(0.0, 1.0)
}

/// Puts the `poisons`, `[poisons, channels, height, width]` in `[0, 1]`, in place of the samples of `data` at `indices`, as whole pixel
/// values within `epsilon` of them.
pub fn replace_within(changes: &mut ChangeSet, data: &Dataset, indices: &[usize], poisons: Tensor<4>, epsilon: u8) {
    for (&index, poison) in indices.iter().zip(pixels(poisons)) {
        replace_if_changed(changes, data, index, round_within(data.image(index), &poison, epsilon));
    }
}

/// Noise in the shape of `clean`, uniform within `epsilon`.
pub fn noise(clean: &Tensor<4>, epsilon: u8, stream: &mut Stream) -> Tensor<4> {
    let mut batch = Batch::from_tensor(clean.clone());
    let epsilon = f64::from(epsilon) / 255.0;
    batch.pixels.iter_mut().for_each(|pixel| *pixel = ((2.0 * stream.uniform() - 1.0) * epsilon) as f32);
    batch.into_tensor(&clean.device())
}

/// Adam on pixels, with the decay rates of its paper (Kingma and Ba 2015, <https://arxiv.org/abs/1412.6980>).
pub struct PixelAdam {
    mean: Tensor<4>,
    square: Tensor<4>,
    steps: i32,
}

impl PixelAdam {
    const DECAY: [f64; 2] = [0.9, 0.999];

    /// For images in this shape.
    pub fn new(images: &Tensor<4>) -> Self {
        Self { mean: images.zeros_like(), square: images.zeros_like(), steps: 0 }
    }

    /// The images after a step down the gradient.
    pub fn step(&mut self, images: Tensor<4>, gradient: Tensor<4>, step_size: f64) -> Tensor<4> {
        let [first, second] = Self::DECAY;
        self.steps += 1;
        self.mean = self.mean.clone() * first + gradient.clone() * (1.0 - first);
        self.square = self.square.clone() * second + gradient.clone() * gradient * (1.0 - second);
        let correction = |decay: f64| 1.0 - decay.powi(self.steps);
        let spread = (self.square.clone() / correction(second)).sqrt() + 1e-8;
        images - self.mean.clone() / spread * (step_size / correction(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{facts, seeds, test};

    fn chosen(image: Option<usize>, source: Option<Label>, target: Option<Label>, seed: u64) -> Option<Chosen> {
        OneImage { image, source, target }.choose(&test(), &Seeds::new(seed)).ok()
    }

    #[test]
    fn what_is_not_given_is_drawn_and_the_rest_is_kept() {
        let test = test();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let free = chosen(None, None, None, seed).unwrap();
            assert_ne!(test.label(free.image), free.wanted);
            seen.insert((test.label(free.image), free.wanted));
            let from = chosen(None, Some(2), Some(1), seed).unwrap();
            assert_eq!((test.label(from.image), from.wanted), (2, 1));
            let to = chosen(None, None, Some(3), seed).unwrap();
            assert!(to.wanted == 3 && test.label(to.image) != 3);
            assert_eq!(chosen(Some(7), None, None, seed).unwrap().image, 7);
        }
        assert_eq!(seen.len(), 12, "each pair of different classes comes up");
        let class = test.label(7);
        assert_eq!(chosen(Some(7), None, Some(class), 0), None);
        assert_eq!(chosen(None, Some(2), None, 5), chosen(None, Some(2), None, 5));
    }

    #[test]
    fn the_probe_is_the_image_itself() {
        let (test, aimed) = (test(), OneImage { image: None, source: Some(0), target: Some(2) });
        let (probe, chosen) = (aimed.probe(&test, &seeds()).unwrap(), aimed.choose(&test, &seeds()).unwrap());
        assert_eq!((probe.metric, probe.inputs.len(), probe.aim), (TARGETED_SUCCESS, 1, Aim::Classes(vec![2])));
        assert_eq!((probe.inputs.image(0), probe.inputs.label(0)), (test.image(chosen.image), 0));
    }

    #[test]
    fn each_rule_has_its_message() {
        let message = |image, source, target| {
            let facts = facts();
            let mut checks = Checks::new(&facts);
            OneImage::check(&mut checks, &facts, image, source, target);
            checks.finish(()).err().map(|errors| errors[0].to_string())
        };
        assert_eq!(message(Some(39), None, None), None);
        let beyond = "failed to accept `image`: the test set has 40 images, found 40, counted from 0";
        assert_eq!(message(Some(40), None, None).as_deref(), Some(beyond));
        assert!(message(None, Some(1), Some(1)).unwrap().contains("already the target"));
        assert!(message(Some(1), Some(1), None).unwrap().contains("the class that it has"));
        assert!(message(None, Some(4), None).unwrap().contains("from 0 to 3"));
    }
}
