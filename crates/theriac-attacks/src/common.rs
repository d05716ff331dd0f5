//! What several attacks need: checks against the facts of a data set, and draws of samples and classes.

use theriac_core::seed::Stream;
use theriac_core::{Aim, ChangeSet, Dataset, Facts, Label, ParamError, Probe, Role, Stage};

use crate::AttackError;

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
    let mut changes = ChangeSet::new("probe", Role::Supplier, Stage::Deploy);
    (0..data.len()).for_each(|index| changes.replace(data, index, turn(data.image(index))));
    changes.apply(data).expect("images of the same size fit their own data set")
}

/// `image` with a whole number from `-amplitude` to `amplitude` added to each value, all equally likely, and then cut
/// off at 0 and 255.
pub fn jitter(stream: &mut Stream, image: &[u8], amplitude: u8) -> Vec<u8> {
    let amplitude = i16::from(amplitude);
    let outcomes = 2 * amplitude as usize + 1;
    let moved = |&pixel: &u8| (i16::from(pixel) + stream.below(outcomes) as i16 - amplitude).clamp(0, 255) as u8;
    image.iter().map(moved).collect()
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
    fn jitter_reaches_its_amplitude_and_never_goes_beyond() {
        let mut stream = Seeds::new(0).stream("jitter");
        let jittered = jitter(&mut stream, &[100; 500], 3);
        assert_eq!((jittered.iter().min(), jittered.iter().max()), (Some(&97), Some(&103)));
        let jittered = jitter(&mut stream, &[0, 255].repeat(200), 255);
        assert!(jittered.chunks(2).any(|pair| pair[0] > 200) && jittered.chunks(2).any(|pair| pair[1] < 55));
    }
}
