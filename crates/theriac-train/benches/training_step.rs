//! The hot path: one training step of each network on the embedded digits, on one thread and on all.
//!
//! `cargo bench -p theriac-train` prints milliseconds a step, the median over rounds that take turns.

use std::time::Instant;

use theriac_core::{Facts, Seeds, Values};
use theriac_nn::{Network, Normalisation};
use theriac_train::{TrainConfig, TrainingSet, train};

const ROUNDS: usize = 5;
const STEPS: usize = 8;
const BATCH: usize = 128;

fn main() {
    let values: Values = [("train".to_owned(), (STEPS * BATCH).into()), ("test".to_owned(), 1.into())].into();
    let entry = theriac_data::find("mnist-10k").expect("it is embedded");
    let data = (entry.load)(&values, &theriac_data::Places::new(None)).expect("it is embedded");
    let facts = Facts { shape: data.train.shape(), classes: 10, train: data.train.len(), test: 1, sources: 1 };
    let device = theriac_nn::device::open("cpu").expect("there is a processor");
    let width = |width: u64| Values::from([("width".to_owned(), width.into())]);
    let nets = [("mlp", Values::new()), ("cnn", width(8)), ("cnn", width(32)), ("resnet", width(16))];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pools = [1, cores].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build());
    let mut times = vec![vec![Vec::new(); pools.len()]; nets.len()];
    for _ in 0..ROUNDS {
        for (net, (name, values)) in nets.iter().enumerate() {
            for (at, pool) in pools.iter().enumerate() {
                let step = || {
                    let seeds = Seeds::new(1);
                    let normalisation = Normalisation(theriac_data::statistics(&data.train));
                    let network = Network::named(name, values, &facts, normalisation, &device, &seeds);
                    let config = TrainConfig { epochs: 1, batch: BATCH, curve: false, ..TrainConfig::default() };
                    let set = TrainingSet { train: &data.train, test: &data.test, probe: None };
                    let network = network.expect("the networks fit the data");
                    let begin = Instant::now();
                    train(network, set, &config.into(), &seeds, &()).expect("the data are sound");
                    begin.elapsed().as_secs_f64() * 1e3 / STEPS as f64
                };
                times[net][at].push(pool.as_ref().expect("the system has threads").install(step));
            }
        }
    }
    println!("{:<28} {:>10} {:>10}", format!("ms a step, batch {BATCH}"), "1 thread", format!("{cores} threads"));
    for ((name, values), times) in nets.iter().zip(times) {
        let median = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let label =
            format!("{name} {}", values.iter().map(|(key, value)| format!("{key}={value}")).collect::<String>());
        let [one, all] = [times[0].clone(), times[1].clone()].map(median);
        println!("{label:<28} {one:>10.2} {all:>10.2}");
    }
}
