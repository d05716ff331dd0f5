//! What a step is expected to cost, from the arithmetic of its network.

use theriac_core::Facts;
use theriac_core::record::MethodRecord;
use theriac_lab::{Step, StepKind};

/// Multiply-adds a second that one thread reaches over whole training steps on an ordinary laptop core.
const SPEED: f64 = 5e10;
/// Seconds of one training step that do not depend on the size of the network.
const STEP_OVERHEAD: f64 = 0.0003;

/// Seconds on one thread.
pub(super) fn seconds(step: &Step, facts: &Facts) -> f64 {
    let forward = step.model.as_ref().map_or(0.0, |model| cost(model, facts)) / SPEED;
    let number = |record: &Option<MethodRecord>, name: &str| {
        let value = record.as_ref().and_then(|record| record.params.get(name));
        value.and_then(serde_json::Value::as_f64)
    };
    let (epochs, batch) = (number(&step.train, "epochs").unwrap_or(1.0), number(&step.train, "batch").unwrap_or(128.0));
    let trained = |epochs: f64, samples: f64| {
        epochs * (3.0 * samples * forward + samples / batch * STEP_OVERHEAD + facts.test as f64 * forward)
    };
    match step.kind {
        StepKind::Train => {
            // Adversarial training takes one more forward and backward pass for each of its own steps.
            let passes = 1.0 + number(&step.defense, "steps").unwrap_or(0.0);
            trained(epochs, facts.train as f64) * passes
        }
        StepKind::Repair => {
            let samples = facts.train as f64 * number(&step.defense, "trusted").unwrap_or(0.05);
            trained(number(&step.defense, "epochs").unwrap_or(10.0), samples)
        }
        StepKind::Vet => facts.train as f64 * forward + 0.1,
        StepKind::Evaluate => {
            let overlays = number(&step.defense, "overlays").unwrap_or(0.0);
            2.0 * facts.test as f64 * forward * (1.0 + overlays)
        }
        StepKind::Poison => {
            let steps =
                if step.inputs.contains_key("surrogate") { number(&step.attack, "steps").unwrap_or(0.0) } else { 0.0 };
            let rate = number(&step.attack, "rate").unwrap_or(1.0);
            0.02 + 3.0 * facts.train as f64 * rate * steps * forward
        }
    }
}

fn cost(model: &MethodRecord, facts: &Facts) -> f64 {
    theriac_nn::models::find(&model.name).map_or(0.0, |entry| (entry.cost)(&model.params, facts))
}
