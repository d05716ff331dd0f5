use super::*;
use crate::repairing::testing::{
    Backdoored, assert_near, assert_weights, golden_data, golden_networks, network, steps,
};
use crate::testing::{Golden, stripes};
use theriac_core::Value;
use theriac_train::TrainConfig;

fn config() -> FinePruning {
    FinePruning { trusted: 0.3, drop: 0.04, epochs: 20, lr: 0.05, weight_decay: 5e-4 }
}

#[test]
fn it_repairs_a_backdoored_network_and_is_deterministic() {
    Backdoored::new("cnn", "width=4 hidden=16", 45).is_repaired_by(&config(), 0.3);
}

#[test]
fn it_keeps_a_clean_network() {
    Backdoored::new("cnn", "width=4 hidden=16", 0).keeps_a_clean_model(&config());
    Backdoored::new("mlp", "hidden=24", 0).keeps_a_clean_model(&config());
}

#[test]
fn activity_is_the_mean_of_what_the_last_layer_gives_out() {
    let data = stripes(7, 1);
    let model = network("mlp", "hidden=6", &data);
    let (features, _) = model.taps(&data);
    let means: Vec<f64> = (0..6).map(|at| features.iter().map(|row| f64::from(row[at])).sum::<f64>() / 7.0).collect();
    assert_near(&activity(&model, &data), &means, 1e-6, "activity");
}

#[test]
fn a_silent_channel_is_not_heard() {
    let data = stripes(20, 1);
    for (name, values, features) in [("mlp", "hidden=6", 6), ("cnn", "width=3 hidden=5", 6)] {
        let model = network(name, values, &data);
        let factors = silence(&model, &[1, 4], features);
        let (_, mask) = factors.iter().next().unwrap();
        // Images of 6 x 6 pixels are a single place after two poolings.
        let expected: Vec<f32> =
            (0..features).flat_map(|row| vec![if row % 3 == 1 { 0.0 } else { 1.0 }; mask.shape[1]]).collect();
        assert_eq!(mask.values, expected);
        let silent = Network { module: parameters::scale(model.module.clone(), &factors), ..model.clone() };
        assert_ne!(silent.logits(&data), model.logits(&data));
        let all: Vec<usize> = (0..features).collect();
        let deaf =
            Network { module: parameters::scale(model.module.clone(), &silence(&model, &all, features)), ..model };
        let logits = deaf.logits(&data);
        assert!(logits.iter().all(|row| row == logits.row(0)));
    }
}

#[test]
fn pruning_stops_before_it_costs_more_than_it_may() {
    let case = Backdoored::new("cnn", "width=4 hidden=16", 0);
    let trusted = case.clean.select(&(0..90).collect::<Vec<_>>());
    let first = repairing::share_correct(&case.model, &trusted);
    let count = |drop: f64| {
        let (pruned, factors) = FinePruning { drop, ..config() }.prune(&case.model, &trusted);
        assert!(repairing::share_correct(&pruned, &trusted) >= first - drop);
        factors.values().flat_map(|factor| &factor.values).filter(|&&factor| factor == 0.0).count()
    };
    // Eight channels, each read by sixteen neurons; one is always left.
    let counts = [0.0, 0.04, 0.3, 1.0].map(count);
    assert!(counts.is_sorted() && counts[0] < counts[3] && counts[3] == 7 * 16, "{counts:?}");
}

#[test]
fn bad_values_are_refused() {
    let values: Values =
        [("drop", Value::from(1.5)), ("lr", 0.into())].map(|(key, value)| (key.to_owned(), value)).into();
    let keys: Vec<String> = FinePruning::from_values(&values).unwrap_err().into_iter().map(|error| error.key).collect();
    assert_eq!(keys, ["drop", "lr"]);
}

#[test]
fn activity_and_training_after_pruning_agree_with_pytorch() {
    let data = golden_data();
    let tables = [
        include_str!("../../tests/golden/fine_pruning_cnn.csv"),
        include_str!("../../tests/golden/fine_pruning_resnet.csv"),
    ];
    for ([model, _], table) in golden_networks().iter().zip(tables) {
        let table = Golden::table(table);
        let found = activity(model, &data);
        assert_near(&found, &table[0], 1e-5, "activity");
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by(|&a, &b| found[a].total_cmp(&found[b]));
        let keep = silence(model, &order[..2], found.len());
        let pruned = Network { module: parameters::scale(model.module.clone(), &keep), ..model.clone() };
        let recipe = Recipe { keep, ..TrainConfig::default().into() };
        assert_weights(&steps(&pruned, recipe, &data, 5, 0.02).0, &table[1..]);
    }
}
