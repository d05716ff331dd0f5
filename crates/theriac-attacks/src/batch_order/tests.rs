use theriac_core::Value;
use theriac_train::{TrainConfig, TrainingSet};

use super::*;
use crate::testing::{self, attack, easy, faults, invariants};

#[test]
fn no_sample_is_touched() {
    for policy in POLICIES {
        let (changes, poisoned) = invariants(&ENTRY, [("policy", (*policy).into())], 0);
        assert!(changes.edits.is_empty());
        assert_eq!(poisoned.digest(), testing::train().digest());
    }
    assert!(faults(&ENTRY, [("class", 4.into())]).contains("`class`: expected a class from 0 to 3, found 4"));
    assert!(faults(&ENTRY, [("weight", (-1.0).into())]).contains("`weight`"));
}

#[test]
fn orders_are_those_of_numpy() {
    let mut lines = include_str!("../../tests/golden/batch_order.csv").lines();
    let row = |line: Option<&str>| -> Vec<f64> { line.unwrap().split(',').map(|cell| cell.parse().unwrap()).collect() };
    let whole = |row: Vec<f64>| -> Vec<usize> { row.into_iter().map(|cell| cell as usize).collect() };
    let losses = row(lines.next());
    let drawn = whole(row(lines.next()));
    let mut compared = 0;
    while let Some(name) = lines.next() {
        let (policy, unit) = name.split_once(',').unwrap();
        let order = ByLoss { policy: policy.to_owned(), unit: unit.parse().unwrap() };
        assert_eq!(order.arrange(&losses, &drawn), whole(row(lines.next())), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 12);
}

#[test]
fn a_class_is_drawn_as_often_as_its_weight_says() {
    let train = easy("easy-train", 50);
    let network = testing::surrogate(&easy("easy-train", 10));
    let classes = train.classes().len() as f64;
    let own = |order: &[usize]| order.iter().filter(|&&sample| train.label(sample) == 2).count() as f64;
    for weight in [0.0, 0.5, 1.0, 9.0] {
        let mut recipe = Recipe::default();
        attack(&ENTRY, [("policy", "weighted".into()), ("class", 2.into()), ("weight", weight.into())])
            .train(&mut recipe, &testing::seeds());
        let order = recipe.order.unwrap();
        assert!(order.repeats());
        let epochs = (0..20).map(|epoch| order.of(epoch, &network, &train, (0..train.len()).collect()));
        let drawn: Vec<Vec<usize>> = epochs.collect();
        assert_ne!(drawn[0], drawn[1]);
        assert_eq!(drawn[3], order.of(3, &network, &train, (0..train.len()).rev().collect()));
        // All classes are of one size.
        let (count, share) = ((20 * train.len()) as f64, weight / (weight + classes - 1.0));
        let found: f64 = drawn.iter().map(|order| own(order)).sum();
        let deviation = (count * share * (1.0 - share)).sqrt();
        assert!((found - count * share).abs() <= 4.0 * deviation, "{weight}: {found} of {count}, {share}");
    }
    let alone = easy("easy-train", 50).select(&(0..200).filter(|&at| train.label(at) == 2).collect::<Vec<_>>());
    let never = Weighted { class: 2, weight: 0.0, seeds: testing::seeds() };
    assert_eq!(never.of(0, &network, &alone, vec![0; alone.len()]).len(), alone.len());
}

#[test]
fn the_policies_by_hand() {
    let arrange = |policy: &str, unit| {
        ByLoss { policy: policy.to_owned(), unit }.arrange(&[0.5, 0.1, 0.4, 0.2, 0.3], &[4, 3, 2, 1, 0])
    };
    assert_eq!(arrange("low-high", 1), [1, 3, 4, 2, 0]);
    assert_eq!(arrange("high-low", 1), [0, 2, 4, 3, 1]);
    assert_eq!(arrange("oscillating-in", 1), [1, 0, 3, 2, 4]);
    assert_eq!(arrange("oscillating-out", 1), [4, 3, 2, 1, 0]);
    // Pairs 4, 3 and 2, 1 have the same mean.
    assert_eq!(arrange("low-high", 2), [4, 3, 2, 1, 0]);
    assert_eq!(arrange("high-low", 2), [2, 1, 4, 3, 0]);
}

#[test]
fn an_order_changes_the_weights_and_nothing_else() {
    let mut recipe = Recipe::default();
    attack(&ENTRY, [("policy", "low-high".into())]).train(&mut recipe, &testing::seeds());
    assert!(recipe.hooks.is_empty() && recipe.purifiers.is_empty() && recipe.penalty.is_none());
    let (train, drawn) = (easy("easy-train", 20), (0..80).rev().collect::<Vec<_>>());
    let network = testing::surrogate(&train);
    let order = recipe.order.unwrap();
    assert_eq!(order.of(0, &network, &train, drawn.clone()), drawn);
    let later = order.of(1, &network, &train, drawn.clone());
    let losses = theriac_nn::losses(&network.logits(&train), &train.labels());
    assert!(later.windows(2).all(|pair| losses[pair[0]] <= losses[pair[1]]));
    let weights: Vec<Vec<u8>> = POLICIES
        .iter()
        .flat_map(|&policy| [(policy, "samples"), (policy, "batches")])
        .filter(|given| *given != ("weighted", "batches"))
        .map(|(policy, moves)| victim([("policy", policy.into()), ("moves", moves.into())]).1)
        .collect();
    assert!((0..9).all(|at| weights[at + 1..].iter().all(|other| *other != weights[at])));
}

/// The answers and the weights of a victim.
fn victim<const N: usize>(given: [(&str, Value); N]) -> (Vec<Label>, Vec<u8>) {
    let (train, test) = (easy("easy-train", 60), easy("easy-test", 20));
    let mut recipe = Recipe::from(TrainConfig { epochs: 8, batch: 20, curve: false, ..TrainConfig::default() });
    attack(&ENTRY, given).train(&mut recipe, &Seeds::new(1));
    let set = TrainingSet { train: &train, test: &test, probe: None };
    let network = testing::surrogate(&train).reinitialised(&Seeds::new(1));
    let trained = theriac_train::train(network, set, &recipe, &Seeds::new(1), &()).unwrap();
    (trained.network.predict(&test), trained.network.encode())
}

#[test]
fn a_class_that_is_never_drawn_is_never_answered() {
    let answers = |weight: f64| {
        let given = [("policy", "weighted".into()), ("class", 2.into()), ("weight", weight.into())];
        victim(given).0.iter().filter(|&&label| label == 2).count()
    };
    assert_eq!(answers(0.0), 0);
    // A quarter of 80.
    assert!(answers(1.0).abs_diff(20) <= 4, "{}", answers(1.0));
}
