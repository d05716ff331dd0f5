//! What several attacks need: checks against the facts of a data set, and draws of samples and classes.

use theriac_core::seed::Stream;
use theriac_core::{Aim, ChangeSet, Dataset, Facts, Label, ParamError, Probe, Role, Shape, Stage};
use theriac_nn::Network;
use theriac_train::{BatchHook, Recipe, TrainingSet};

use crate::{AttackContext, AttackError};

/// The name of the success metric of direct attacks on classes.
pub const TARGETED_SUCCESS: &str = "targeted_success";
/// The name of the success metric of backdoors.
pub const ATTACK_SUCCESS_RATE: &str = "asr";

/// Collects everything that is wrong with a config, so that a person sees all of it at once.
pub struct Checks<'a> {
    facts: &'a Facts,
    errors: Vec<ParamError>,
}

impl<'a> Checks<'a> {
    /// Nothing is wrong yet.
    pub fn new(facts: &'a Facts) -> Self {
        Self { facts, errors: Vec::new() }
    }

    /// Records `message` about `key` unless `holds`.
    pub fn require(&mut self, holds: bool, key: &str, message: impl Into<String>) {
        if !holds {
            self.errors.push(ParamError::new(key, message));
        }
    }

    /// `class` must be one of the data set's classes.
    pub fn class(&mut self, key: &str, class: Label) {
        let last = self.facts.classes.saturating_sub(1);
        let message = format!("expected a class from 0 to {last}, found {class}");
        self.require(usize::from(class) < self.facts.classes, key, message);
    }

    /// Like [`Checks::class`], where there may be none.
    pub fn optional_class(&mut self, key: &str, class: Option<Label>) {
        if let Some(class) = class {
            self.class(key, class);
        }
    }

    /// A wrong label exists only where there are two classes.
    pub fn two_classes(&mut self, key: &str) {
        let message = format!("expected a data set of at least two classes, found {}", self.facts.classes);
        self.require(self.facts.classes >= 2, key, message);
    }

    /// `checked`, unless something was wrong.
    pub fn finish<T>(self, checked: T) -> Result<T, Vec<ParamError>> {
        if self.errors.is_empty() { Ok(checked) } else { Err(self.errors) }
    }
}

/// Exactly `count` of `candidates`, drawn uniformly without repetition, ascending. `what` names the candidates for a
/// person.
pub fn choose_exactly(
    stream: &mut Stream,
    candidates: &[usize],
    count: usize,
    what: &str,
) -> Result<Vec<usize>, AttackError> {
    if candidates.len() < count {
        let found = candidates.len();
        return Err(AttackError::Infeasible(format!("the rate asks for {count} {what}, the training set has {found}")));
    }
    Ok(stream.choose(candidates, count))
}

/// A network of the surrogate's architecture with weights of its own, trained by the victim's recipe on `data`. `hooks`
/// change its batches; `name` names its streams.
pub fn train_anew(
    context: &AttackContext,
    surrogate: &Network,
    data: &Dataset,
    hooks: Vec<Box<dyn BatchHook>>,
    name: &str,
) -> Result<Network, AttackError> {
    let seeds = context.seeds.child(name);
    let config = context.recipe.unmeasured();
    let recipe = Recipe { hooks, ..config.into() };
    let set = TrainingSet { train: data, test: data, probe: None };
    let trained = theriac_train::train(surrogate.reinitialised(&seeds), set, &recipe, &seeds, &());
    let failed = |error| AttackError::Infeasible(format!("the attacker could not train its own network: {error}"));
    trained.map(|trained| trained.network).map_err(failed)
}

/// A class other than `label`, each with the same probability.
pub fn other_class(stream: &mut Stream, label: Label, classes: usize) -> Label {
    let draw = stream.below(classes - 1) as Label;
    if draw < label { draw } else { draw + 1 }
}

/// The class after `label`; the last one is followed by the first.
pub fn next_class(label: Label, classes: usize) -> Label {
    ((usize::from(label) + 1) % classes) as Label
}

/// The indices of all samples outside the class `label`, ascending.
pub fn outside_class(data: &Dataset, label: Label) -> Vec<usize> {
    (0..data.len()).filter(|&index| data.label(index) != label).collect()
}

/// The test images of `class`, unchanged; the attacker wants them classified as `wanted`, or just wrongly.
pub fn class_probe(test: &Dataset, class: Label, wanted: Option<Label>) -> Probe {
    let inputs = test.select(&test.of_class(class));
    let aim = wanted.map_or(Aim::Misclassified, |wanted| Aim::Classes(vec![wanted; inputs.len()]));
    Probe { metric: TARGETED_SUCCESS, inputs, aim }
}

/// `data` with each image turned into another one. Ids, labels and the order stay.
pub fn map_images(data: &Dataset, mut turn: impl FnMut(&[u8]) -> Vec<u8>) -> Dataset {
    let images = (0..data.len()).map(|index| turn(data.image(index))).collect();
    with_images(data, images)
}

/// `data` with other images, one a sample. Ids, labels and the order stay.
pub fn with_images(data: &Dataset, images: Vec<Vec<u8>>) -> Dataset {
    let mut changes = ChangeSet::new("probe", Role::Supplier, Stage::Deploy);
    images.into_iter().enumerate().for_each(|(index, image)| changes.replace(data, index, image));
    changes.apply(data).expect("images of the same size fit their own data set")
}

/// A corner of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corner {
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}

impl Corner {
    /// All four.
    pub const ALL: [Self; 4] = [Self::TopLeft, Self::TopRight, Self::BottomLeft, Self::BottomRight];

    /// Whether it is on the left.
    pub fn is_left(self) -> bool {
        matches!(self, Self::TopLeft | Self::BottomLeft)
    }

    /// The pixels of a square of `size` in this corner, in all channels: row and column in the square, and the place in
    /// the image.
    pub fn pixels(self, shape: Shape, size: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let top = if matches!(self, Self::TopLeft | Self::TopRight) { 0 } else { shape.height - size };
        let left = if self.is_left() { 0 } else { shape.width - size };
        let square = move |channel| (0..size * size).map(move |at| (channel, at / size, at % size));
        let place = move |(channel, row, column)| (row, column, shape.offset(channel, top + row, left + column));
        (0..shape.channels).flat_map(square).map(place)
    }
}

/// `image` with a whole number from `-amplitude` to `amplitude` added to each value, all equally likely, and then cut
/// off at 0 and 255.
pub fn jitter(stream: &mut Stream, image: &[u8], amplitude: u8) -> Vec<u8> {
    let amplitude = i16::from(amplitude);
    let outcomes = 2 * amplitude as usize + 1;
    let moved = |&pixel: &u8| (i16::from(pixel) + stream.below(outcomes) as i16 - amplitude).clamp(0, 255) as u8;
    image.iter().map(moved).collect()
}

/// The nearest whole pixel values to `moved`, which are in `[0, 1]`, that differ from `clean` by at most `epsilon` each.
pub fn round_within(clean: &[u8], moved: &[f32], epsilon: u8) -> Vec<u8> {
    let pixel = |(&clean, &moved): (&u8, &f32)| {
        let rounded = (moved * 255.0).round().clamp(0.0, 255.0) as u8;
        rounded.clamp(clean.saturating_sub(epsilon), clean.saturating_add(epsilon))
    };
    clean.iter().zip(moved).map(pixel).collect()
}

/// The nearest whole numbers whose L2 norm does not exceed `bound`, where value `i` counts `counts[i]` times. If rounding
/// exceeds it, those values that were lengthened most are shortened instead, as many as it takes.
pub fn whole_within_l2(values: &[f64], counts: &[usize], bound: f64) -> Vec<i16> {
    // A hair is added, so that whole values of exactly this norm stay.
    let bound = bound * bound * (1.0 + 1e-9);
    let square = |whole: f64, at: usize| whole * whole * counts[at] as f64;
    let mut whole: Vec<f64> = values.iter().map(|value| value.round()).collect();
    let mut sum: f64 = whole.iter().enumerate().map(|(at, &whole)| square(whole, at)).sum();
    if sum > bound {
        let mut order: Vec<usize> = (0..values.len()).collect();
        let lengthened: Vec<f64> = whole.iter().zip(values).map(|(whole, value)| whole.abs() - value.abs()).collect();
        order.sort_by(|&a, &b| lengthened[b].total_cmp(&lengthened[a]));
        for at in order {
            if sum <= bound {
                break;
            }
            let shorter = values[at].trunc();
            sum += square(shorter, at) - square(whole[at], at);
            whole[at] = shorter;
        }
    }
    whole.into_iter().map(|whole| whole as i16).collect()
}

/// The nearest whole pixel values to `moved`, which are in `[0, 1]`, that keep the change of the image within an L2 norm
/// of `epsilon`.
pub fn round_within_l2(clean: &[u8], moved: &[f32], epsilon: f64) -> Vec<u8> {
    let change = |(&clean, &moved): (&u8, &f32)| f64::from(moved) * 255.0 - f64::from(clean);
    let changes: Vec<f64> = clean.iter().zip(moved).map(change).collect();
    add_clipped(clean, whole_within_l2(&changes, &vec![1; clean.len()], epsilon))
}

/// `image` with `change` added to it, cut off at 0 and 255.
pub fn add_clipped(image: &[u8], change: impl IntoIterator<Item = i16>) -> Vec<u8> {
    image.iter().zip(change).map(|(&pixel, change)| (i16::from(pixel) + change).clamp(0, 255) as u8).collect()
}

/// `length` values from 0 to 255, all equally likely.
pub fn uniform_image(stream: &mut Stream, length: usize) -> Vec<u8> {
    (0..length).map(|_| stream.below(256) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use theriac_core::Seeds;

    #[test]
    fn a_draw_that_cannot_be_exact_names_both_counts() {
        let mut stream = Seeds::new(0).stream("choose");
        assert_eq!(choose_exactly(&mut stream, &[3, 5], 2, "samples").unwrap(), [3, 5]);
        let error = choose_exactly(&mut stream, &[3, 5], 3, "samples of class 7").unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to poison: the rate asks for 3 samples of class 7, the training set has 2"
        );
    }

    #[test]
    fn another_class_is_never_the_same_and_all_others_come_up() {
        let mut stream = Seeds::new(0).stream("other");
        let mut seen = [0; 4];
        (0..300).for_each(|_| seen[usize::from(other_class(&mut stream, 2, 4))] += 1);
        assert_eq!(seen[2], 0);
        assert!([0, 1, 3].iter().all(|&class| seen[class] > 70), "{seen:?}");
        assert_eq!((next_class(2, 4), next_class(3, 4)), (3, 0));
    }

    #[test]
    fn whole_numbers_stay_within_the_norm_and_near_the_values() {
        let mut stream = Seeds::new(0).stream("whole");
        let mut shortened = 0;
        for _ in 0..200 {
            let values: Vec<f64> = (0..12).map(|_| 3.0 * stream.normal()).collect();
            let counts: Vec<usize> = (0..12).map(|_| 1 + stream.below(9)).collect();
            let squares = |values: &mut dyn Iterator<Item = f64>| {
                values.zip(&counts).map(|(value, &count)| value * value * count as f64).sum::<f64>()
            };
            let bound = squares(&mut values.iter().copied()).sqrt();
            let whole = whole_within_l2(&values, &counts, bound);
            assert!(squares(&mut whole.iter().map(|&whole| f64::from(whole))) <= bound * bound);
            assert!(whole.iter().zip(&values).all(|(&whole, value)| (f64::from(whole) - value).abs() < 1.0));
            shortened +=
                usize::from(whole.iter().zip(&values).any(|(&whole, value)| f64::from(whole) != value.round()));
        }
        assert!((40..=160).contains(&shortened), "{shortened}");
        assert_eq!(whole_within_l2(&[6.0, -6.0], &[7, 3], 6.0 * 10.0f64.sqrt()), [6, -6]);
        assert_eq!(whole_within_l2(&[0.6, 1.7], &[1, 1], (0.36f64 + 2.89).sqrt()), [0, 1]);
        assert_eq!(round_within(&[0, 9, 250, 100], &[0.02, 0.0, 1.1, 0.4], 4), [4, 5, 254, 102]);
        assert_eq!(add_clipped(&[3, 250, 7], [-5, 9, 1]), [0, 255, 8]);
    }

    #[test]
    fn jitter_reaches_its_amplitude_and_never_goes_beyond() {
        let mut stream = Seeds::new(0).stream("jitter");
        let jittered = jitter(&mut stream, &[100; 500], 3);
        assert_eq!((jittered.iter().min(), jittered.iter().max()), (Some(&97), Some(&103)));
        let jittered = jitter(&mut stream, &[0, 255].repeat(200), 255);
        assert!(jittered.chunks(2).any(|pair| pair[0] > 200) && jittered.chunks(2).any(|pair| pair[1] < 55));
    }
}
