use super::*;
use crate::repairing::testing::{Backdoored, assert_near, golden_data, golden_networks, network};
use crate::testing::{Golden, stripes};
use theriac_core::Value;

fn config() -> Anp {
    Anp { trusted: 0.3, iterations: 200, ..Anp::default() }
}

#[test]
fn it_repairs_a_backdoored_network_and_is_deterministic() {
    Backdoored::new("resnet", "width=6 blocks=1 stages=2", 45).is_repaired_by(&config(), 0.5);
}

#[test]
fn it_keeps_clean_networks() {
    Backdoored::new("resnet", "width=6 blocks=1 stages=2", 0).keeps_a_clean_model(&config());
    Backdoored::new("cnn", "width=4 hidden=16", 0).keeps_a_clean_model(&config());
}

#[test]
fn neurons_are_normalisations_or_whatever_is_not_the_head() {
    let data = stripes(3, 1);
    let counts = |name: &str, values: &str| {
        let layers = layers(&network(name, values, &data));
        layers.iter().map(|layer| (layer.neurons, layer.run, layer.bias.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(counts("mlp", "hidden=5"), [(5, 1, true)]);
    assert_eq!(counts("cnn", "width=3 hidden=5"), [(3, 9, true), (6, 27, true), (5, 1, true)]);
    assert_eq!(counts("resnet", "width=3 stages=2"), [(3, 1, true), (3, 1, true), (3, 1, true), (6, 1, true)]);
}

#[test]
fn a_factor_reaches_all_weights_of_its_neuron_and_no_other() {
    let data = stripes(3, 1);
    for (name, values) in [("mlp", "hidden=5"), ("cnn", "width=3 hidden=5")] {
        let model = network(name, values, &data);
        let masks = Masks::new(&model);
        let count = masks.masks.len();
        let (weights, biases) = ((0..count).map(|at| at as f64).collect::<Vec<_>>(), vec![0.5; count]);
        let (before, after) =
            (parameters::read(&model.module), parameters::read(&masks.scaled(&weights, &biases).module));
        let places: Vec<_> = masks.placed().collect();
        for (first, layer) in &places {
            let bias = layer.bias.as_ref().unwrap();
            let expected: Vec<f32> = before[bias].values.iter().map(|value| value * 0.5).collect();
            assert_eq!(after[bias].values, expected);
            let shape = &before[&layer.weight].shape;
            for place in 0..before[&layer.weight].values.len() {
                let neuron =
                    if shape.len() == 2 { place % shape[1] } else { place / shape[1..].iter().product::<usize>() };
                let expected = before[&layer.weight].values[place] * (first + neuron) as f32;
                assert_eq!(after[&layer.weight].values[place], expected, "{}", layer.weight);
            }
        }
        let head = |name: &&String| name.contains("head.");
        assert!(
            before.keys().filter(head).count() == 2
                && before.keys().filter(head).all(|name| before[name] == after[name])
        );
    }
}

#[test]
fn gradients_of_factors_agree_with_central_differences() {
    let data = golden_data();
    let (batch, labels) = (Batch::gather(&data, &(0..12).collect::<Vec<_>>()), data.labels());
    for [model, _] in golden_networks() {
        let masks = Masks::new(&model);
        let ones = vec![1.0; masks.masks.len()];
        let loss = |weights: &[f64], biases: &[f64]| {
            let losses = theriac_nn::losses(&masks.scaled(weights, biases).logits(&data), &labels);
            losses.iter().sum::<f64>() / losses.len() as f64
        };
        let (of_weights, of_biases) = masks.gradients(&batch, &labels, &ones, &ones);
        let step = 1e-3;
        for at in 0..ones.len() {
            let moved = |by: f64| {
                ones.iter()
                    .enumerate()
                    .map(|(other, one)| if other == at { one + by } else { *one })
                    .collect::<Vec<_>>()
            };
            let (up, down) = (moved(step), moved(-step));
            let expected = [loss(&up, &ones) - loss(&down, &ones), loss(&ones, &up) - loss(&ones, &down)];
            for (found, expected) in
                [of_weights[at], of_biases[at]].into_iter().zip(expected.map(|gap| gap / (2.0 * step)))
            {
                assert!((found - expected).abs() < 3e-3 + 0.05 * expected.abs(), "{found}, expected {expected}");
            }
        }
    }
}

#[test]
fn masks_stay_between_zero_and_one_and_pruning_keeps_its_bound() {
    let case = Backdoored::new("cnn", "width=4 hidden=16", 45);
    let trusted = case.clean.select(&(0..60).collect::<Vec<_>>());
    let (batch, labels) = (Batch::gather(&trusted, &(0..60).collect::<Vec<_>>()), trusted.labels());
    let mut masks = Masks::new(&case.model);
    for _ in 0..20 {
        masks.step(&config(), &batch, &labels);
        assert!(masks.masks.iter().all(|mask| (0.0..=1.0).contains(mask)));
    }
    let first = repairing::share_correct(&case.model, &trusted);
    for drop in [0.0, 0.04, 0.5] {
        let pruned = masks.prune(&Anp { threshold: 1.0, drop, ..config() }, &trusted);
        assert!(repairing::share_correct(&pruned, &trusted) >= first - drop);
    }
}

#[test]
fn bad_values_are_refused() {
    let values = [("alpha", Value::from(2)), ("threshold", Value::from(-0.1)), ("lr", 0.into())];
    let values: Values = values.map(|(key, value)| (key.to_owned(), value)).into();
    let keys: Vec<String> = Anp::from_values(&values).unwrap_err().into_iter().map(|error| error.key).collect();
    assert_eq!(keys, ["alpha", "lr", "threshold"]);
}

#[test]
fn masks_agree_with_pytorch() {
    let data = golden_data();
    let (batch, labels) = (Batch::gather(&data, &(0..12).collect::<Vec<_>>()), data.labels());
    let tables = [include_str!("../../tests/golden/anp_cnn.csv"), include_str!("../../tests/golden/anp_resnet.csv")];
    for ([model, _], table) in golden_networks().iter().zip(tables) {
        let mut masks = Masks::new(model);
        (0..6).for_each(|_| masks.step(&Anp { lr: 0.05, ..Anp::default() }, &batch, &labels));
        assert_near(&masks.masks, &Golden::table(table)[0], 1e-4, "masks");
    }
}
