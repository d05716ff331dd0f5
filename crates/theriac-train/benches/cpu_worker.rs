//! One side of `scripts/bench_vs_pytorch`: trains a benchmark network on fixed random data, as many steps as it is told.
//!
//! `cpu_worker --net mnist-cnn|resnet-w16|preact-resnet18 --batch N --threads T --config NAME --winograd on|off` prints `ready`; then, for
//! each line `N` that it reads, the milliseconds of `N` steps; for the line `memory` its peak resident memory in MiB.

use std::io::BufRead;
use std::time::Instant;

use theriac_core::{Facts, Label, Seeds, Shape, Values};
use theriac_nn::{Batch, Network, Normalisation};
use theriac_train::{Learner, Minibatch, TrainConfig};

#[global_allocator]
static ALLOCATOR: theriac_nn::allocator::Allocator = theriac_nn::allocator::ALLOCATOR;

fn main() {
    theriac_nn::allocator::hold_memory();
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str());
    // `cargo bench` without arguments of ours: nothing to do.
    let Some(net) = option("--net") else { return };
    let number =
        |name: &str, default: usize| option(name).map_or(default, |text| text.parse().expect("a whole number"));
    theriac_nn::set_winograd(option("--winograd") != Some("off"));
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(number("--threads", 1)).build().expect("the system has threads");
    pool.install(|| serve(net, number("--batch", 128)));
}

fn serve(net: &str, batch: usize) {
    let width = |width: u64| Values::from([("width".to_owned(), width.into())]);
    let (model, values, side, channels) = match net {
        "mnist-cnn" => ("cnn", width(32), 28, 1),
        "resnet-w16" => ("resnet", width(16), 32, 3),
        "preact-resnet18" => ("preact-resnet18", Values::new(), 32, 3),
        other => panic!("there is no benchmark network `{other}`"),
    };
    let shape = Shape { channels, height: side, width: side };
    let facts = Facts { shape, classes: 10, train: batch, test: 0, sources: 1 };
    let device = theriac_nn::device::open("cpu").expect("there is a processor");
    let seeds = Seeds::new(1);
    let normalisation = Normalisation(vec![(0.5, 0.25); channels]);
    let network =
        Network::named(model, &values, &facts, normalisation, &device, &seeds).expect("the networks fit the data");
    let config = TrainConfig { lr: 0.05, momentum: 0.9, weight_decay: 0.0, ..TrainConfig::default() };
    let lr = config.lr;
    let mut learner = Learner::new(&network, &config.into());
    let mut stream = seeds.stream("bench");
    let images = Batch { shape, pixels: (0..batch * shape.len()).map(|_| stream.uniform() as f32).collect() };
    let labels: Vec<Label> = (0..batch).map(|_| stream.below(10) as Label).collect();
    let batch = Minibatch::new(images.to_tensor(&device), labels);
    let mut step = || {
        let begin = Instant::now();
        learner.step(&batch, lr);
        begin.elapsed().as_secs_f64() * 1e3
    };
    (0..3).for_each(|_| {
        step();
    });
    println!("ready");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.trim() {
            "memory" => println!("{:.1}", peak_memory_mib()),
            steps => {
                let steps: usize = steps.parse().expect("a number of steps, or `memory`");
                let times: Vec<String> = (0..steps).map(|_| format!("{:.3}", step())).collect();
                println!("{}", times.join(" "));
            }
        }
    }
}

fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
}
