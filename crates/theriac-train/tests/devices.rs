//! One training step on other devices against the same step on the CPU.
//!
//! A device that this build or this machine does not have is skipped with a message.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use theriac_core::{Dataset, Facts, Label, Seeds, Shape, Values};
use theriac_nn::{Batch, Network, Normalisation, directional_gradient, parameters};
use theriac_train::{Schedule, TrainConfig, TrainingSet, train};

fn data() -> Dataset {
    let shape = Shape { channels: 1, height: 12, width: 12 };
    let mut stream = Seeds::new(3).stream("devices");
    let labels: Vec<Label> = (0..32).map(|index| index % 4).collect();
    let pixels: Vec<u8> = (0..32 * 144).map(|_| stream.below(256) as u8).collect();
    let classes: Vec<String> = (0..4).map(|class| class.to_string()).collect();
    Dataset::new("noise", shape, classes, pixels, &labels).unwrap()
}

fn network(device: &str, model: &str, values: &Values) -> Option<Network> {
    let device = match theriac_nn::device::open(device) {
        Ok(device) => device,
        Err(error) => {
            println!("skipped: {error}");
            return None;
        }
    };
    let facts = Facts { shape: data().shape(), classes: 4, train: 32, test: 0, sources: 1 };
    let normalisation = Normalisation(vec![(0.5, 0.3)]);
    Some(Network::named(model, values, &facts, normalisation, &device, &Seeds::new(1)).unwrap())
}

/// Weights before and after one step of SGD on one batch.
fn step(device: &str, model: &str, values: &Values) -> Option<[Vec<f32>; 2]> {
    let (data, network) = (data(), network(device, model, values)?);
    let flat =
        |network: &Network| parameters::read(&network.module).into_values().flat_map(|part| part.values).collect();
    let before = flat(&network);
    let config =
        TrainConfig { epochs: 1, batch: 32, schedule: Schedule::Constant, curve: false, ..TrainConfig::default() };
    let set = TrainingSet { train: &data, test: &data, probe: None };
    let trained = train(network, set, &config.into(), &Seeds::new(1), &()).unwrap();
    Some([before, flat(&trained.network)])
}

/// How the loss along a direction of the weights changes with the pixels.
fn mixed_derivative(device: &str, model: &str, values: &Values) -> Option<Vec<f32>> {
    let (data, network) = (data(), network(device, model, values)?);
    let images = Batch::gather(&data, &[0, 1, 2, 3]).into_tensor(&network.device);
    let direction = parameters::read(&network.reinitialised(&Seeds::new(2)).module);
    Some(Batch::from_tensor(directional_gradient(&network, images, &[0, 1, 2, 3], &direction).1).pixels)
}

/// The relative error of the step, as a vector, against the CPU's.
fn step_error(device: &str, model: &str, values: &Values) -> Option<f64> {
    let [before, after] = step(device, model, values)?;
    let [cpu_before, cpu_after] = step("cpu", model, values)?;
    assert_eq!(before, cpu_before, "initial weights differ between devices");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let pairs = || after.iter().zip(&cpu_after).zip(&cpu_before);
    let error = norm(&mut pairs().map(|((a, b), _)| f64::from(a - b)));
    Some(error / norm(&mut pairs().map(|((_, b), before)| f64::from(b - before))))
}

fn agrees(device: &str) {
    let small: Values = [("width".to_owned(), 4u64.into())].into();
    for (model, values) in [("mlp", &Values::new()), ("cnn", &small), ("resnet", &small)] {
        let Some(error) = step_error(device, model, values) else { return };
        println!("{device} {model}: relative error of the step {error:.2e}");
        assert!(error < 1e-3, "{device} {model}: {error}");
        let [found, expected] = [device, "cpu"].map(|device| mixed_derivative(device, model, values).unwrap());
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let furthest = found.iter().zip(&expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(furthest < 1e-3 * largest, "{device} {model}: {furthest} of {largest}");
    }
}

#[test]
fn a_training_step_on_the_gpu_agrees_with_the_cpu() {
    agrees("gpu");
}

#[test]
fn a_training_step_on_ndarray_agrees_with_the_cpu() {
    agrees("ndarray");
}
