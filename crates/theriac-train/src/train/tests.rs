use super::*;
use theriac_core::{Aim, Facts, Shape, Values};
use theriac_nn::{Batch, Normalisation};

use crate::{Direction, Norm, Order, Pgd};

/// Three classes of 8 x 8 images: a bright bar at the top, in the middle or at the bottom, under noise.
fn bars(samples: usize, seed: u64) -> Dataset {
    let shape = Shape { channels: 1, height: 8, width: 8 };
    let mut stream = Seeds::new(seed).stream("test/bars");
    let labels: Vec<Label> = (0..samples).map(|_| stream.below(3) as Label).collect();
    let mut pixels = Vec::new();
    for &label in &labels {
        for row in 0..8 {
            for _ in 0..8 {
                let bright = row / 3 == usize::from(label);
                pixels.push((stream.below(90) + if bright { 130 } else { 0 }) as u8);
            }
        }
    }
    let classes: Vec<String> = ["top", "middle", "bottom"].map(String::from).into();
    Dataset::new("bars", shape, classes, pixels, &labels).unwrap()
}

fn network(name: &str, values: &str, data: &Dataset, seed: u64) -> Network {
    let facts = Facts { shape: data.shape(), classes: 3, train: data.len(), test: 0, sources: 1 };
    let values: Values = values
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(key, value)| (key.to_owned(), value.parse::<u64>().unwrap().into()))
        .collect();
    let normalisation = Normalisation(vec![(0.3, 0.2)]);
    let device = theriac_nn::device::open("cpu").unwrap();
    Network::named(name, &values, &facts, normalisation, &device, &Seeds::new(seed)).unwrap()
}

fn recipe(epochs: usize) -> Recipe {
    TrainConfig { epochs, batch: 20, ..TrainConfig::default() }.into()
}

fn run(name: &str, values: &str, epochs: usize, seed: u64) -> Trained {
    let (train_data, test) = (bars(240, 1), bars(120, 2));
    let set = TrainingSet { train: &train_data, test: &test, probe: None };
    train(network(name, values, &train_data, seed), set, &recipe(epochs), &Seeds::new(seed), &()).unwrap()
}

#[test]
fn every_architecture_learns_and_is_deterministic() {
    for (name, values) in [("mlp", "hidden=16"), ("cnn", "width=4 hidden=16"), ("resnet", "width=4 stages=2")] {
        let trained = run(name, values, 4, 7);
        let last = trained.curve.last().unwrap();
        assert!(last.test_accuracy > 0.9, "{name}: {last:?}");
        assert_eq!(trained.curve.len(), 4);
        assert_eq!(run(name, values, 4, 7).network.encode(), trained.network.encode(), "{name} is not deterministic");
        assert_ne!(
            run(name, values, 1, 8).network.encode(),
            run(name, values, 1, 7).network.encode(),
            "{name} ignores the seed"
        );
    }
}

#[test]
fn weights_do_not_depend_on_the_number_of_threads() {
    let at = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run("cnn", "width=8 hidden=32", 1, 3).network.encode())
    };
    assert_eq!(at(1), at(2));
}

#[test]
fn a_checkpoint_restores_the_same_predictions() {
    let test = bars(50, 4);
    let trained = run("resnet", "width=4 stages=2", 1, 5).network;
    let fresh = network("resnet", "width=4 stages=2", &test, 99);
    assert_ne!(fresh.logits(&test), trained.logits(&test));
    assert_eq!(fresh.decode(&trained.encode()).unwrap().logits(&test), trained.logits(&test));
    let other = network("mlp", "hidden=16", &test, 1);
    let error = other.decode(&trained.encode()).unwrap_err().to_string();
    assert!(error.contains("there is no tensor"), "{error}");
}

#[test]
fn a_new_head_on_kept_features_learns_and_nothing_else_moves() {
    let (train_data, test) = (bars(240, 1), bars(120, 2));
    let set = TrainingSet { train: &train_data, test: &test, probe: None };
    for (name, values) in [("mlp", "hidden=16"), ("cnn", "width=4 hidden=16"), ("resnet", "width=4 stages=2")] {
        let published = run(name, values, 4, 7).network;
        let mut start = network(name, values, &train_data, 8);
        start.module = published.module.clone().with_head_of(start.module);
        let recipe = Recipe { head_only: true, ..recipe(4) };
        let trained = train(start.clone(), set, &recipe, &Seeds::new(8), &()).unwrap();
        assert!(trained.curve.last().unwrap().test_accuracy > 0.9, "{name}: {:?}", trained.curve);
        let [before, after, other] =
            [&start, &trained.network, &published].map(|network| theriac_nn::parameters::read(&network.module));
        for (name, parameter) in &after {
            let is_head = name.contains("head");
            assert_eq!(*parameter == before[name], !is_head, "{name}");
            assert_eq!(*parameter == other[name], !is_head, "{name}");
        }
    }
}

fn input_gradient(network: &Network, images: &Batch, labels: &[Label]) -> Batch {
    Batch::from_tensor(theriac_nn::input_gradient(network, images.to_tensor(&network.device), labels))
}

#[test]
fn a_network_with_loaded_weights_has_the_input_gradient_of_the_trained_one() {
    let test = bars(30, 4);
    let trained = run("resnet", "width=4 stages=2", 2, 5).network;
    let loaded = network("resnet", "width=4 stages=2", &test, 99).decode(&trained.encode()).unwrap();
    let indices: Vec<usize> = (0..30).collect();
    let (images, labels) = (Batch::gather(&test, &indices), test.labels());
    let expected = input_gradient(&trained, &images, &labels);
    // Twice: statistics that were overwritten would show.
    for _ in 0..2 {
        assert_eq!(input_gradient(&loaded, &images, &labels), expected);
    }
    assert_eq!(loaded.encode(), trained.encode());
    let fresh = network("resnet", "width=4 stages=2", &test, 99);
    let before = fresh.encode();
    input_gradient(&fresh, &images, &labels);
    assert_eq!(fresh.encode(), before);
}

#[test]
fn the_input_gradient_agrees_with_central_differences_and_leaves_the_network_alone() {
    let test = bars(3, 4);
    let trained = run("resnet", "width=4 stages=2", 1, 5).network;
    let before = trained.encode();
    let (images, labels) = (Batch::gather(&test, &[0, 1, 2]), test.labels());
    let gradient = input_gradient(&trained, &images, &labels);
    let loss = |images: &Batch| theriac_nn::losses(&trained.logits_of(images), &labels).iter().sum::<f64>();
    // A step small enough to stay between the kinks of ReLU, large enough for single precision.
    let step = 2e-3;
    let (mut error, mut scale) = (0.0f64, 0.0f64);
    for at in (0..images.pixels.len()).step_by(7) {
        let mut moved = images.clone();
        moved.pixels[at] += step;
        let up = loss(&moved);
        moved.pixels[at] -= 2.0 * step;
        let difference = (up - loss(&moved)) / (2.0 * f64::from(step));
        error += (difference - f64::from(gradient.pixels[at])).powi(2);
        scale += difference.powi(2);
    }
    assert!((error / scale).sqrt() < 0.05, "relative error {}", (error / scale).sqrt());
    assert_eq!(trained.encode(), before);
}

#[test]
fn gradients_of_parameters_agree_with_central_differences_and_leave_the_network_alone() {
    let data = bars(12, 3);
    let network = run("resnet", "width=3 blocks=1 stages=2", 1, 1).network;
    let before = network.encode();
    let indices: Vec<usize> = (0..12).collect();
    let images = Batch::gather(&data, &indices).to_tensor(&network.device);
    let labels = data.labels();
    let loss = |taps: theriac_nn::Taps| {
        theriac_nn::cross_entropies(taps.logits, &labels).mean() + taps.features.powi_scalar(2).mean()
    };
    let (value, gradients) = theriac_nn::parameter_gradients(&network, images.clone(), loss);
    assert_eq!(network.encode(), before);
    let parameters = theriac_nn::parameters::read(&network.module);
    // Running statistics have no gradient.
    assert_eq!(gradients.len(), parameters.keys().filter(|name| !name.contains("running")).count());
    let at = |change: f32, name: &str, place: usize| {
        let mut moved = parameters.clone();
        moved.get_mut(name).unwrap().values[place] += change;
        let module = theriac_nn::parameters::write(network.module.clone(), &moved).unwrap();
        let moved = Network { module, ..network.clone() };
        theriac_nn::input_gradient_of(&moved, images.clone(), loss).0
    };
    let first = parameters.keys().next().unwrap();
    assert_eq!(at(0.0, first, 0), value);
    for (name, gradient) in &gradients {
        assert_eq!(gradient.shape, parameters[name].shape);
        let place = gradient.values.len() / 2;
        let step = 2e-3;
        let expected = (at(step, name, place) - at(-step, name, place)) / f64::from(2.0 * step);
        let found = f64::from(gradient.values[place]);
        assert!((found - expected).abs() < 2e-3 + 0.03 * expected.abs(), "{name}: {found}, expected {expected}");
    }
}

#[test]
fn other_initial_weights_forget_the_training() {
    for (name, values) in [("resnet", "width=3 blocks=1 stages=2"), ("cnn", "width=2 hidden=5")] {
        let trained = run(name, values, 1, 1).network;
        let fresh = network(name, values, &bars(240, 1), 7);
        assert_eq!(trained.reinitialised(&Seeds::new(7)).encode(), fresh.encode());
        assert_ne!(trained.reinitialised(&Seeds::new(8)).encode(), fresh.encode());
    }
}

#[test]
fn adversarial_examples_stay_in_the_ball_and_raise_the_loss() {
    let test = bars(60, 4);
    let trained = run("mlp", "hidden=16", 4, 5).network;
    let indices: Vec<usize> = (0..60).collect();
    let (clean, labels) = (Batch::gather(&test, &indices), test.labels());
    let size = clean.shape.len();
    let mean = |batch: &Batch| theriac_nn::losses(&trained.logits_of(batch), &labels).iter().sum::<f64>() / 60.0;
    for (norm, epsilon) in [(Norm::LInf, 0.3), (Norm::L2, 0.3 * (size as f64).sqrt())] {
        let pgd = Pgd { norm, epsilon, step_size: epsilon / 6.0, steps: 15, random_start: true };
        let perturb = |pgd: Pgd, seed: u64| {
            let (images, mut stream) = (clean.to_tensor(&trained.device), Seeds::new(seed).stream("pgd"));
            Batch::from_tensor(pgd.perturb(&trained, images, &labels, Direction::Away, &mut stream))
        };
        let furthest = |moved: &Batch| {
            let changes = clean.pixels.iter().zip(&moved.pixels).map(|(a, b)| f64::from(a - b).abs());
            let changes: Vec<f64> = changes.collect();
            let length = |change: &[f64]| match norm {
                Norm::LInf => change.iter().copied().fold(0.0, f64::max),
                Norm::L2 => change.iter().map(|value| value * value).sum::<f64>().sqrt(),
            };
            changes.chunks_exact(size).map(length).fold(0.0, f64::max)
        };
        let (start, moved) = (perturb(Pgd { steps: 0, ..pgd }, 1), perturb(pgd, 1));
        assert!(start != perturb(Pgd { steps: 0, ..pgd }, 2) && start.pixels != clean.pixels);
        assert!(furthest(&start) > 0.5 * epsilon && furthest(&start) <= epsilon * 1.000_001);
        assert!(furthest(&moved) <= epsilon * 1.000_001, "{norm:?} {} {epsilon}", furthest(&moved));
        assert!(moved.pixels.iter().all(|value| (0.0..=1.0).contains(value)));
        assert!(mean(&moved) > mean(&clean) + 0.5, "{norm:?} {} {}", mean(&moved), mean(&clean));
        assert!(mean(&moved) > mean(&start) + 0.5, "{norm:?} {} {}", mean(&moved), mean(&start));
    }
}

#[test]
fn a_vanishing_gradient_still_has_a_direction() {
    let data = bars(10, 1);
    let confident = run("mlp", "hidden=16", 4, 5).network;
    // Logits of which the two largest are 60 apart, so that the gradient is about exp(-60).
    let mut sorted: Vec<f32> = confident.logits(&data.select(&[0])).row(0).to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut parameters = theriac_nn::parameters::read(&confident.module);
    for (_, parameter) in parameters.iter_mut().filter(|(name, _)| name.contains("head")) {
        parameter.values.iter_mut().for_each(|value| *value *= 60.0 / (sorted[0] - sorted[1]));
    }
    let module = theriac_nn::parameters::write(confident.module.clone(), &parameters).unwrap();
    let confident = Network { module, ..confident };
    let labels = confident.predict(&data);
    let indices: Vec<usize> = (0..10).collect();
    let images = Batch::gather(&data, &indices).to_tensor(&confident.device);
    let gradient = Batch::from_tensor(theriac_nn::input_gradient(&confident, images.clone(), &labels));
    let pgd = Pgd { random_start: false, ..Pgd::within(Norm::L2, 100.0, 3) };
    let moved = pgd.perturb(&confident, images.clone(), &labels, Direction::Away, &mut Seeds::new(1).stream("pgd"));
    let (clean, moved) = (Batch::from_tensor(images), Batch::from_tensor(moved));
    let size = clean.shape.len();
    for at in 0..10 {
        let pixels = at * size..(at + 1) * size;
        let steepest = gradient.pixels[pixels.clone()].iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let unmoved = clean.pixels[pixels.clone()] == moved.pixels[pixels];
        assert_eq!(unmoved, steepest == 0.0);
        assert!(at > 0 || (steepest > 0.0 && steepest < 1e-20), "{steepest}");
    }
}

#[test]
fn the_curve_follows_the_probe_and_divergence_is_an_error() {
    let (data, test) = (bars(120, 1), bars(60, 2));
    let probe = Probe { metric: "asr", inputs: test.clone(), aim: Aim::Misclassified };
    let set = TrainingSet { train: &data, test: &test, probe: Some(&probe) };
    let trained = train(network("mlp", "hidden=8", &data, 1), set, &recipe(2), &Seeds::new(1), &()).unwrap();
    for epoch in trained.curve {
        assert!((epoch.attack_success.unwrap() - (1.0 - epoch.test_accuracy)).abs() < 1e-12);
    }
    let wild = TrainConfig { lr: 100.0, momentum: 0.999, batch: 2, epochs: 50, ..TrainConfig::default() };
    let result = train(network("resnet", "width=4 stages=2", &data, 1), set, &wild.into(), &Seeds::new(1), &());
    assert!(matches!(result, Err(TrainError::Diverged { .. })), "{result:?}");
    let empty = TrainingSet { train: &data.select(&[]), ..set };
    let result = train(network("mlp", "hidden=8", &data, 1), empty, &recipe(1), &Seeds::new(1), &());
    assert!(matches!(result, Err(TrainError::Empty)));
    let untested = TrainingSet { test: &data.select(&[]), ..set };
    let result = train(network("mlp", "hidden=8", &data, 1), untested, &recipe(1), &Seeds::new(1), &());
    assert!(matches!(result, Err(TrainError::Untested)));
}

#[test]
fn a_validation_set_is_kept_out_and_is_as_poisoned_as_the_rest() {
    let (data, test) = (bars(200, 1), bars(60, 2));
    let (kept, fitted) = split(&data, 0.25, &Seeds::new(1));
    let mut ids: Vec<u64> = [&kept, &fitted].iter().flat_map(|part| (0..part.len()).map(|at| part.id(at).0)).collect();
    ids.sort_unstable();
    assert_eq!((kept.len(), ids), (50, (0..200).collect()));
    // All labels move by one: what the victim kept agrees with what it learnt, the test set does not.
    let classes = data.classes().len() as Label;
    let labels: Vec<Label> = data.labels().iter().map(|label| (label + 1) % classes).collect();
    let pixels: Vec<u8> = (0..data.len()).flat_map(|index| data.image(index)).copied().collect();
    let wrong = Dataset::new("wrong", data.shape(), data.classes().to_vec(), pixels, &labels).unwrap();
    let set = TrainingSet { train: &wrong, test: &test, probe: None };
    let last = |validation| {
        let config = TrainConfig { validation, epochs: 8, batch: 20, ..TrainConfig::default() };
        let network = network("mlp", "hidden=16", &data, 1);
        *train(network, set, &config.into(), &Seeds::new(1), &()).unwrap().curve.last().unwrap()
    };
    let found = last(0.25);
    assert!(found.validation_accuracy.unwrap() > 0.9 && found.test_accuracy < 0.1, "{found:?}");
    assert_eq!(last(0.0).validation_accuracy, None);
}

#[test]
fn outputs_that_are_no_numbers_are_an_error_and_not_class_0() {
    assert_eq!(predictions(&Matrix::new(2, vec![0.0, 1.0]), 3).unwrap(), [1]);
    for wrong in [f32::NAN, f32::INFINITY] {
        let error = predictions(&Matrix::new(2, vec![0.0, 1.0, 0.5, wrong]), 3).unwrap_err();
        assert_eq!(error, TrainError::NotFinite { epoch: 3 });
    }
}

#[test]
fn every_optimizer_learns_and_smoothing_changes_the_loss() {
    let (train_data, test) = (bars(240, 1), bars(120, 2));
    let set = TrainingSet { train: &train_data, test: &test, probe: None };
    let last = |config: TrainConfig| {
        let network = network("mlp", "hidden=16", &train_data, 7);
        *train(network, set, &config.into(), &Seeds::new(7), &()).unwrap().curve.last().unwrap()
    };
    let base = TrainConfig { epochs: 4, batch: 20, ..TrainConfig::default() };
    for optimizer in [Optimizer::Adam, Optimizer::AdamW] {
        let report = last(TrainConfig { optimizer, lr: 0.01, ..base.clone() });
        assert!(report.test_accuracy > 0.9, "{optimizer:?}: {report:?}");
    }
    let (plain, smooth) = (last(base.clone()), last(TrainConfig { label_smoothing: 0.3, ..base }));
    assert!(smooth.test_accuracy > 0.9, "{smooth:?}");
    // The least possible loss is the entropy of the targets: 0.8, 0.1 and 0.1.
    let least = -(0.8 * 0.8f64.ln() + 0.2 * 0.1f64.ln());
    assert!(
        plain.train_loss < 0.3 && smooth.train_loss > least && smooth.train_loss < least + 0.3,
        "{plain:?} {smooth:?}"
    );
}

#[test]
fn smoothed_targets_are_probabilities() {
    let device = theriac_nn::device::open("cpu").unwrap();
    let mut batch = Minibatch::new(Tensor::zeros([2, 1, 1, 1], &device), vec![1, 0]);
    let values = |batch: &Minibatch| to_matrix(targets(batch, 4, 0.2, &device)).values().to_vec();
    assert_eq!(values(&batch), [0.05, 0.85, 0.05, 0.05, 0.85, 0.05, 0.05, 0.05]);
    // A quarter of the first label goes to class 3; the second image is mixed with its own class.
    batch.mixed = vec![(3, 0.25), (0, 0.5)];
    for (found, expected) in values(&batch).into_iter().zip([0.05, 0.65, 0.05, 0.25, 0.85, 0.05, 0.05, 0.05]) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

#[test]
fn below_the_bound_a_step_climbs() {
    let data = bars(40, 1);
    let loss_after = |ascend_below: Option<f64>| {
        let network = network("mlp", "hidden=16", &data, 1);
        let recipe =
            Recipe { ascend_below, ..Recipe::from(TrainConfig { weight_decay: 0.0, ..TrainConfig::default() }) };
        let mut learner = Learner::new(&network, &recipe);
        let indices: Vec<usize> = (0..40).collect();
        let images = Batch::gather(&data, &indices).to_tensor(&network.device);
        let batch = Minibatch::new(images, data.labels());
        let (before, _) = learner.step(&batch, 0.05);
        learner.step(&batch, 0.05).0 - before
    };
    let (down, up) = (loss_after(None), loss_after(Some(f64::INFINITY)));
    assert!(down < 0.0 && up > 0.0, "{down} {up}");
    assert_eq!(loss_after(Some(0.1)), down);
}

#[test]
fn purifiers_map_the_training_images_once_and_nothing_else() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (data, test) = (bars(240, 1), bars(120, 2));
    let inverted = |data: &Dataset| {
        let pixels: Vec<u8> = (0..data.len()).flat_map(|index| data.image(index)).map(|pixel| 255 - pixel).collect();
        data.with_pixels(pixels)
    };
    let trained = |data: &Dataset, purifiers| {
        let set = TrainingSet { train: data, test: &test, probe: None };
        let recipe = Recipe { purifiers, ..recipe(3) };
        train(network("mlp", "hidden=16", data, 7), set, &recipe, &Seeds::new(7), &()).unwrap()
    };
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let purifier: crate::Purifier = Box::new(move |data| {
        counted.fetch_add(1, Ordering::Relaxed);
        inverted(data)
    });
    let purified = trained(&data, vec![purifier]);
    let expected = trained(&inverted(&data), Vec::new());
    assert_eq!(purified.network.encode(), expected.network.encode());
    assert_eq!((purified.curve, calls.load(Ordering::Relaxed)), (expected.curve, 1));
    // Twice inverted is as before: they act in order, each on what the one before it left.
    let twice = trained(&data, vec![Box::new(inverted), Box::new(inverted)]);
    assert_eq!(twice.network.encode(), trained(&data, Vec::new()).network.encode());
}

/// The mean of all activations.
struct Brightness(f64);

impl Penalty for Brightness {
    fn of(&self, _: Tensor<4>, maps: Vec<Tensor<4>>) -> Tensor<1> {
        let count = maps.len() as f64;
        maps.into_iter().map(Tensor::mean).reduce(|sum, mean| sum + mean).unwrap() * self.0 / count
    }
}

#[test]
fn a_penalty_is_felt_by_all_stages_in_every_architecture_that_has_some() {
    let data = bars(40, 1);
    let indices: Vec<usize> = (0..40).collect();
    for (name, values, stages) in [("cnn", "width=4 hidden=8", 2), ("resnet", "width=3 blocks=2 stages=3", 3)] {
        let network = network(name, values, &data, 1);
        let images = Batch::gather(&data, &indices).to_tensor(&network.device);
        let maps =
            |network: &Network| theriac_nn::forward_maps(&network.module, &network.normalisation, images.clone()).1;
        let shapes: Vec<[usize; 4]> = maps(&network).iter().map(Tensor::dims).collect();
        let sizes: &[usize] = if name == "cnn" { &[4, 2] } else { &[8, 4, 2] };
        let channels: &[usize] = if name == "cnn" { &[4, 8] } else { &[3, 6, 12] };
        let expected: Vec<_> =
            sizes.iter().zip(channels).map(|(&size, &channels)| [40, size, size, channels]).collect();
        assert_eq!((shapes.len(), &shapes), (stages, &expected));
        let bright = |network: &Network| maps(network).into_iter().map(|map| map.mean().into_scalar::<f32>()).collect();
        let before: Vec<f32> = bright(&network);
        let penalty: Option<std::sync::Arc<dyn Penalty>> = Some(std::sync::Arc::new(Brightness(100.0)));
        let mut learner = Learner::new(&network, &Recipe { penalty, ..recipe(1) });
        for _ in 0..5 {
            learner.step(&Minibatch::new(images.clone(), data.labels()), 2e-3);
        }
        let after: Vec<f32> = bright(&learner.network());
        assert!(after.iter().zip(&before).all(|(after, before)| after < before), "{name}: {before:?} {after:?}");
    }
}

#[test]
fn what_is_pruned_stays_pruned_and_the_rest_learns() {
    let data = bars(240, 1);
    let fresh = network("cnn", "width=4 hidden=16", &data, 1);
    let parameters = theriac_nn::parameters::read(&fresh.module);
    let (name, weights) = parameters.iter().find(|(name, _)| name.ends_with("hidden.weight")).unwrap();
    let mut factors = Parameter { values: vec![1.0; weights.values.len()], ..weights.clone() };
    factors.values[..40].fill(0.0);
    let recipe = Recipe { keep: [(name.clone(), factors)].into(), ..recipe(2) };
    let set = TrainingSet { train: &data, test: &data, probe: None };
    let trained = train(fresh.clone(), set, &recipe, &Seeds::new(1), &()).unwrap();
    let found = &theriac_nn::parameters::read(&trained.network.module)[name].values;
    assert!(found[..40].iter().all(|&weight| weight == 0.0));
    assert!(found[40..].iter().zip(&weights.values[40..]).all(|(after, before)| after != before));
    assert!(trained.curve.last().unwrap().test_accuracy > 0.9);
}

#[test]
fn weighted_images_count_as_often_as_they_weigh() {
    let data = bars(6, 1);
    let network = network("mlp", "hidden=16", &data, 1);
    let step = |indices: &[usize], weights: Vec<f32>| {
        let images = Batch::gather(&data, indices).to_tensor(&network.device);
        let labels = indices.iter().map(|&index| data.label(index)).collect();
        let mut learner = Learner::new(&network, &recipe(1));
        let (loss, _) = learner.step(&Minibatch { weights, ..Minibatch::new(images, labels) }, 0.05);
        (loss, theriac_nn::parameters::read(&learner.network().module))
    };
    let (loss, weighted) = step(&[0, 1, 2], vec![1.5, 0.0, 0.5]);
    let (expected, repeated) = step(&[0, 0, 0, 2], Vec::new());
    assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    for (name, parameter) in &weighted {
        let pairs = parameter.values.iter().zip(&repeated[name].values);
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-6), "{name}");
    }
}

/// Backwards in all epochs but the first, or something in which a sample comes twice.
struct Backwards {
    broken: bool,
    repeats: bool,
}

impl Order for Backwards {
    fn of(&self, epoch: usize, _: &Network, data: &Dataset, mut drawn: Vec<usize>) -> Vec<usize> {
        assert_eq!(drawn.len(), data.len());
        if epoch > 0 {
            drawn.reverse();
        }
        if self.broken && epoch == 2 {
            drawn[3] = drawn[4];
        }
        drawn
    }

    fn repeats(&self) -> bool {
        self.repeats
    }
}

#[test]
fn an_order_goes_through_every_sample_once_and_decides() {
    let (train_data, test) = (bars(240, 1), bars(120, 2));
    let set = TrainingSet { train: &train_data, test: &test, probe: None };
    let trained = |order: Option<Box<dyn Order>>, epochs| {
        let recipe = Recipe { order, ..recipe(epochs) };
        train(network("mlp", "hidden=16", &train_data, 7), set, &recipe, &Seeds::new(7), &())
    };
    let ordered = |broken| Some(Box::new(Backwards { broken, repeats: false }) as Box<dyn Order>);
    // The schedule looks ahead, so that one epoch is compared with one epoch.
    let encode = |trained: Result<Trained, TrainError>| trained.unwrap().network.encode();
    assert_eq!(encode(trained(ordered(false), 1)), encode(trained(None, 1)));
    assert_ne!(encode(trained(ordered(false), 2)), encode(trained(None, 2)));
    assert!(trained(ordered(true), 2).is_ok());
    assert_eq!(trained(ordered(true), 3).unwrap_err(), TrainError::Order { epoch: 3 });
    // A sampler may draw a sample twice.
    assert!(trained(Some(Box::new(Backwards { broken: true, repeats: true })), 3).is_ok());
}

/// Keeps a checkpoint of every step and stops after one of them.
#[derive(Default)]
struct Stopping {
    kept: std::cell::RefCell<Option<Vec<u8>>>,
    left: std::cell::Cell<Option<usize>>,
}

impl Session for Stopping {
    fn progress(&self, _: f64) {}

    fn resume(&self) -> Option<Vec<u8>> {
        self.kept.borrow().clone()
    }

    fn wish(&self) -> Wish {
        let left = self.left.get();
        self.left.set(left.map(|left| left.saturating_sub(1)));
        if left == Some(1) { Wish::Stop } else { Wish::GoOn }
    }

    fn save(&self, state: &[u8]) {
        self.kept.replace(Some(state.to_vec()));
    }
}

/// By what the network says of the samples.
struct ByLogit;

impl Order for ByLogit {
    fn of(&self, _: usize, network: &Network, data: &Dataset, mut drawn: Vec<usize>) -> Vec<usize> {
        let logits = network.logits(data);
        drawn.sort_by(|&a, &b| logits.row(a)[0].total_cmp(&logits.row(b)[0]));
        drawn
    }
}

#[test]
fn an_ordered_training_goes_on_to_the_same_bits() {
    let (train_data, test) = (bars(100, 1), bars(40, 2));
    let set = TrainingSet { train: &train_data, test: &test, probe: None };
    let run = |session: &dyn Session| {
        let recipe = Recipe { order: Some(Box::new(ByLogit)), ..recipe(3) };
        train(network("mlp", "hidden=8", &train_data, 7), set, &recipe, &Seeds::new(7), session)
    };
    let whole = run(&()).unwrap().network.encode();
    for stop in [2, 5, 7] {
        let session = Stopping { left: Some(stop).into(), ..Stopping::default() };
        assert_eq!(run(&session).unwrap_err(), TrainError::Stopped);
        assert_eq!(run(&session).unwrap().network.encode(), whole, "stopped after {stop} steps");
    }
}
