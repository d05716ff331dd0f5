//! What a step is expected to cost, from the arithmetic of its network.

use theriac_core::Facts;
use theriac_core::record::MethodRecord;
use theriac_lab::{Cost, Step, StepKind};

/// Multiply-adds a second that one thread reaches over whole training steps on an ordinary laptop core.
const SPEED: f64 = 5e10;
/// Seconds of one training step that do not depend on the size of the network.
const STEP_OVERHEAD: f64 = 0.0003;

/// Copies of what the layers give out that a training step holds: values for the backward pass, gradients, working space.
const TRAINING: f64 = 1.3;
/// The same where a network is only asked: two layers are alive at a time.
const ASKING: f64 = 0.5;
/// Images that are measured at a time.
const MEASURED: f64 = 250.0;
const MIB: f64 = (1 << 20) as f64;

/// Seconds on one thread, and memory.
pub(super) fn cost(step: &Step, facts: &Facts) -> Cost {
    Cost { seconds: seconds(step, facts), memory_mib: memory(step, facts) }
}

/// The numbers of a batch, and of training data that are a copy for this step.
fn memory(step: &Step, facts: &Facts) -> f64 {
    let model = step.model.as_ref().and_then(|model| Some((theriac_nn::models::find(&model.name)?, &model.params)));
    let outputs = model.map_or(0.0, |(entry, params)| (entry.outputs)(params, facts));
    let batch = step.train.as_ref().and_then(|train| train.params.get("batch")?.as_f64());
    let alive = batch.map_or(ASKING * MEASURED, |batch| TRAINING * batch);
    let (data, number) = ((facts.train * facts.shape.len()) as f64, size_of::<f32>() as f64);
    (data + number * outputs * alive) / MIB
}

fn seconds(step: &Step, facts: &Facts) -> f64 {
    let forward = step.model.as_ref().map_or(0.0, |model| arithmetic(model, facts)) / SPEED;
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
            // In rounds: `rounds` trainings on `window` parts of the data.
            let share = number(&step.train, "window").unwrap_or(1.0);
            trained(epochs, facts.train as f64) * passes * share
        }
        StepKind::Monitor => 0.1 + 3.0 * facts.train as f64 * forward,
        StepKind::Repair => {
            let samples = facts.train as f64 * number(&step.defense, "trusted").unwrap_or(0.05);
            trained(number(&step.defense, "epochs").unwrap_or(10.0), samples)
        }
        StepKind::Features => facts.train as f64 * forward,
        // Cross-validation trains a model a fold.
        StepKind::Vet => {
            0.1 + number(&step.defense, "folds").map_or(0.0, |folds| folds * trained(epochs, facts.train as f64))
        }
        StepKind::Inspect => {
            let (steps, classes) = (number(&step.defense, "steps").unwrap_or(0.0), facts.classes as f64);
            0.1 + 3.0 * classes * steps * batch * forward
        }
        StepKind::Certify => {
            let own = |name: &str, given: f64| number(&step.defense, name).unwrap_or(given);
            let (partitions, samples) = (own("partitions", 1.0), facts.train as f64);
            let steps = samples / own("batch", batch) + partitions;
            let answers = 2.0 * partitions * facts.test as f64 * forward;
            own("epochs", epochs) * (3.0 * samples * forward + steps * STEP_OVERHEAD) + answers
        }
        StepKind::Evaluate => {
            let overlays = number(&step.defense, "overlays").unwrap_or(0.0);
            2.0 * facts.test as f64 * forward * (1.0 + overlays)
        }
        StepKind::Poison => {
            let steps =
                if step.inputs.contains_key("surrogate") { number(&step.attack, "steps").unwrap_or(0.0) } else { 0.0 };
            let steps = steps * number(&step.attack, "restarts").unwrap_or(1.0);
            let rate = number(&step.attack, "rate").unwrap_or(1.0);
            let poisons = number(&step.attack, "poisons").unwrap_or(rate * facts.train as f64);
            0.02 + 3.0 * poisons * steps * forward
        }
    }
}

fn arithmetic(model: &MethodRecord, facts: &Facts) -> f64 {
    theriac_nn::models::find(&model.name).map_or(0.0, |entry| (entry.cost)(&model.params, facts))
}
