use theriac_core::metrics::accuracy;
use theriac_core::{Shape, Value};
use theriac_nn::parameters;
use theriac_train::{Learner, Schedule, TrainConfig, TrainingSet};

use super::*;
use crate::testing::{self, attack, easy, faults, invariants, references};

fn does(what: &str) -> (&'static str, Value) {
    ("does", what.into())
}

fn hook_of<const N: usize>(given: [(&str, Value); N]) -> Box<dyn BatchHook> {
    let mut recipe = Recipe::default();
    attack(&ENTRY, given).train(&mut recipe, &testing::seeds());
    assert!(recipe.order.is_none());
    recipe.hooks.pop().unwrap()
}

fn first_batch(data: &Dataset, count: usize, network: &Network) -> Minibatch {
    let indices: Vec<usize> = (0..count).collect();
    Minibatch::new(Batch::gather(data, &indices).into_tensor(&network.device), data.labels()[..count].to_vec())
}

#[test]
fn no_sample_is_touched() {
    for what in ["blind", "augmentation"] {
        let (changes, poisoned) = invariants(&ENTRY, [does(what)], 0);
        assert!(changes.edits.is_empty());
        assert_eq!(poisoned.digest(), testing::train().digest());
    }
}

#[test]
fn the_augmentation_is_exact_and_the_probe_has_the_same_trigger() {
    let (train, network) = (easy("easy-train", 10), testing::surrogate(&easy("easy-train", 10)));
    let hook = hook_of([does("augmentation"), ("target", 2.into()), ("rate", 0.3.into())]);
    let found = hook.apply(&network, first_batch(&train, 20, &network), &mut testing::seeds().stream("hook"));
    let expected = attack(&crate::badnets::ENTRY, [("target", 2.into())]);
    let (pixels, size) = (Batch::from_tensor(found.images).pixels, train.shape().len());
    for at in 0..20 {
        let image: Vec<u8> = pixels[at * size..][..size].iter().map(|value| (value * 255.0).round() as u8).collect();
        let alone = train.select(&[at]);
        let stamped = expected.probe(&alone, &testing::seeds()).unwrap().inputs;
        match at < 6 {
            // Nobody is probed for who is of the target class already.
            true if alone.label(0) != 2 => assert_eq!(image, stamped.image(0)),
            true => assert_ne!(image, alone.image(0)),
            false => assert_eq!(image, alone.image(0)),
        }
        assert_eq!(found.labels[at], if at < 6 { 2 } else { train.label(at) });
    }
    assert!(found.weights.is_empty());
    // Pixels outside the patch keep their bits, whole pixel values or not.
    let shape = Shape { channels: 1, height: 5, width: 5 };
    let mut odd = Batch { shape, pixels: vec![0.123; 25] };
    let patch = BadNetsConfig::default().check(&Facts { shape, ..testing::facts() }).unwrap().train;
    stamp(&patch, &mut odd, 1);
    assert_eq!(odd.pixels.iter().filter(|&&value| value == 0.123).count(), 16);
    assert_eq!(odd.pixels.iter().filter(|&&value| value == 1.0).count(), 9);
}

#[test]
fn blind_losses_and_steps_are_those_of_pytorch() {
    for reference in references().into_iter().take(2) {
        let network = &reference.network;
        for (name, balance) in [("balanced", None), ("fixed", Some(0.3))] {
            let patch = BadNetsConfig::default().check(&testing::facts()).unwrap().train;
            let hook = blind::Blind { patch, target: 1, balance, threshold: None };
            let batch = first_batch(&reference.samples(), 12, network);
            let batch = hook.apply(network, batch, &mut testing::seeds().stream("hook"));
            let share = f64::from(batch.weights[12]);
            assert_eq!((batch.labels.len(), &batch.labels[12..]), (24, &[1; 12][..]));
            let config = TrainConfig { schedule: Schedule::Constant, ..TrainConfig::default() };
            let mut learner = Learner::new(network, &config.into());
            let (loss, _) = learner.step(&batch, 0.05);
            assert!(reference.error(&format!("blind.{name}"), [share, loss]) < 1e-5);
            let after = parameters::read(&learner.network().module);
            let weights = after.values().flat_map(|parameter| &parameter.values).copied().map(f64::from);
            assert!(reference.error(&format!("blind.{name}.weights"), weights) < 1e-5);
        }
    }
}

#[test]
fn the_shortest_sum_of_two_gradients_is_perpendicular_or_an_end() {
    let gradient = |loss: f64, values: [f32; 2]| {
        (loss, [("weight".to_owned(), parameters::Parameter { shape: vec![2], values: values.into() })].into())
    };
    let share = |a: (f64, [f32; 2]), b: (f64, [f32; 2])| blind::shortest([gradient(a.0, a.1), gradient(b.0, b.1)]);
    assert_eq!(share((1.0, [1.0, 0.0]), (1.0, [0.0, 1.0])), 0.5);
    // (2, 0) and (0, 1): 4 / 5 of the second.
    assert_eq!(share((1.0, [2.0, 0.0]), (1.0, [0.0, 1.0])), 0.8);
    assert_eq!(share((2.0, [4.0, 0.0]), (3.0, [0.0, 3.0])), 0.8);
    assert_eq!(share((1.0, [1.0, 0.0]), (1.0, [3.0, 0.0])), 0.0);
    assert_eq!(share((1.0, [3.0, 1.0]), (1.0, [1.0, 0.0])), 1.0);
    assert_eq!(share((1.0, [3.0, 1.0]), (1.0, [3.0, 1.0])), 0.5);
}

#[test]
fn batches_above_the_threshold_are_left_alone() {
    let train = easy("easy-train", 10);
    let network = testing::surrogate(&train);
    let batch = || first_batch(&train, 20, &network);
    let loss = theriac_nn::losses(&network.logits(&train), &train.labels())[..20].iter().sum::<f64>() / 20.0;
    let count = |threshold: f64| {
        let hook = hook_of([does("blind"), ("threshold", threshold.into())]);
        hook.apply(&network, batch(), &mut testing::seeds().stream("hook")).labels.len()
    };
    assert_eq!((count(loss * 1.01), count(loss * 0.99)), (40, 20));
}

/// Accuracy and success of a victim.
fn victim<const N: usize>(given: [(&str, Value); N], seed: u64) -> (f64, Option<f64>, Vec<u8>) {
    let (train, test) = (easy("easy-train", 60), easy("easy-test", 20));
    let attack = attack(&ENTRY, given);
    let mut recipe = Recipe::from(TrainConfig { epochs: 8, batch: 20, curve: false, ..TrainConfig::default() });
    attack.train(&mut recipe, &Seeds::new(seed));
    let probe = attack.probe(&test, &Seeds::new(seed));
    let set = TrainingSet { train: &train, test: &test, probe: probe.as_ref() };
    let network = testing::surrogate(&train).reinitialised(&Seeds::new(seed));
    let trained = theriac_train::train(network, set, &recipe, &Seeds::new(seed), &()).unwrap();
    let last = trained.curve.last().unwrap();
    assert!(last.train_accuracy <= 1.0);
    assert_eq!(last.test_accuracy, accuracy(&trained.network.predict(&test), &test.labels()).unwrap());
    (last.test_accuracy, last.attack_success, trained.network.encode())
}

#[test]
fn the_backdoors_work_and_cost_no_accuracy() {
    for given in [[does("blind"), ("target", 1.into())], [does("augmentation"), ("target", 1.into())]] {
        let (right, success, weights) = victim(given.clone(), 1);
        assert!(right > 0.9 && success.unwrap() > 0.9, "{given:?}: {right} {success:?}");
        assert_eq!(weights, victim(given.clone(), 1).2);
        assert_ne!(weights, victim(given, 2).2);
    }
    let fixed = victim([does("blind"), ("target", 1.into()), ("balance", 0.5.into())], 1);
    assert!(fixed.0 > 0.9 && fixed.1.unwrap() > 0.9, "{fixed:?}");
    let never = victim([does("blind"), ("target", 1.into()), ("balance", 0.0.into())], 1);
    assert!(never.0 > 0.9 && never.1.unwrap() < 0.3, "{} {:?}", never.0, never.1);
}

#[test]
fn each_rule_has_its_message() {
    assert!(faults(&ENTRY, [("target", 4.into())]).contains("`target`: expected a class from 0 to 3, found 4"));
    assert!(faults(&ENTRY, [does("blind"), ("balance", 1.5.into())]).contains("`balance`"));
    let small = Facts { shape: Shape { channels: 1, height: 3, width: 3 }, ..testing::facts() };
    let errors = (ENTRY.check)(&Values::new(), &small).err().unwrap();
    assert!(errors[0].to_string().contains("a patch of 3 with a margin of 1 does not fit images of 3x3"));
}
