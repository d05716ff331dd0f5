//! Probes: the inputs on which an attack is judged, and what it wants there.

use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Label};

/// What the attacker wants to happen to the probed inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aim {
    /// Each input is to be classified as this class, one per probed image.
    Classes(Vec<Label>),
    /// Each input is to be classified wrongly, no matter how.
    Misclassified,
}

/// Inputs made from the test set on which an attack's success is counted. The test set itself is never changed.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The name of the success metric: `asr` for backdoors, `targeted_success` for direct attacks on classes.
    pub metric: &'static str,
    /// The probed images with their **true** labels; ids are those of the test set.
    pub inputs: Dataset,
    /// What the attacker wants.
    pub aim: Aim,
}

impl Probe {
    /// Whether the prediction `class` for the probed image at `index` is what the attacker wants.
    pub fn succeeds(&self, index: usize, class: Label) -> bool {
        match &self.aim {
            Aim::Classes(wanted) => wanted[index] == class,
            Aim::Misclassified => class != self.inputs.label(index),
        }
    }

    /// The fraction of probed images on which the attacker succeeds; `None` without images.
    pub fn success(&self, predictions: &[Label]) -> Option<f64> {
        let hits = predictions.iter().enumerate().filter(|&(index, &class)| self.succeeds(index, class)).count();
        (!predictions.is_empty()).then(|| hits as f64 / predictions.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Shape;

    #[test]
    fn success_follows_the_aim() {
        let shape = Shape { channels: 1, height: 1, width: 1 };
        let classes: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let inputs = Dataset::new("toy", shape, classes, vec![0, 0], &[1, 2]).unwrap();
        let mut probe = Probe { metric: "asr", inputs, aim: Aim::Classes(vec![0, 0]) };
        assert_eq!(probe.success(&[0, 2]), Some(0.5));
        probe.aim = Aim::Misclassified;
        assert_eq!(probe.success(&[0, 2]), Some(0.5));
        assert_eq!(probe.success(&[0, 1]), Some(1.0));
        assert_eq!(probe.success(&[]), None);
    }
}
