//! How fast triggers are planted: images of 3 x 32 x 32 a second, on one thread and on all.
//!
//! `cargo bench -p theriac-attacks` prints, for each trigger, the median over rounds that take turns of
//!
//! - `trigger`: triggered test images, from the clean test set to the probe;
//! - `poison`: the whole poison step, from the clean training set to the change set: choice of samples, trigger, labels; for an attacker
//!   who controls training, what it does to batches of 128 images;
//! - `apply`: the change set is checked against the budget and applied.

use std::time::Instant;

use theriac_attacks::{Attack, AttackContext};
use theriac_core::{Dataset, Facts, Label, Seeds, Shape, Value, Values};
use theriac_nn::{Batch, Network, Normalisation};
use theriac_train::{Minibatch, Recipe, TrainConfig};

const ROUNDS: usize = 5;
const SHAPE: Shape = Shape { channels: 3, height: 32, width: 32 };
const TRAIN: usize = 50_000;
const TEST: usize = 10_000;
const BATCH: usize = 128;
const BATCHES: usize = 50;

#[global_allocator]
static ALLOCATOR: theriac_nn::allocator::Allocator = theriac_nn::allocator::ALLOCATOR;

/// A row of the table: attack, variant, parameters.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, Value)]);

fn main() {
    theriac_nn::allocator::hold_memory();
    let (train, test) = (random("train", TRAIN), random("test", TEST));
    let facts = Facts { shape: SHAPE, classes: 10, train: TRAIN, test: TEST, sources: 1 };
    let cases: [Case; 9] = [
        ("badnets", "badnets", &[("rate", 0.5.into())]),
        ("blended", "blended", &[("rate", 0.5.into())]),
        ("sig", "sig", &[("rate", 0.1.into())]),
        ("low-frequency", "low-frequency", &[("rate", 0.5.into())]),
        ("adaptive-blend", "adaptive-blend", &[("rate", 0.25.into())]),
        ("adaptive-blend, patch", "adaptive-blend", &[("rate", 0.2.into()), ("trigger", "patch".into())]),
        ("wanet", "wanet", &[("rate", (1.0 / 3.0).into())]),
        ("wanet, training", "wanet", &[("rate", (1.0 / 3.0).into()), ("mode", "training".into())]),
        ("random-noise, uniform", "random-noise", &[("rate", 0.5.into()), ("kind", "uniform".into())]),
    ];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pools = [1, cores].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build());
    let attacks = cases.map(|(_, name, given)| {
        let entry = theriac_attacks::find(name).expect("it is in the registry");
        let values: Values = given.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        (entry, (entry.check)(&values, &facts).expect("the configs are valid"))
    });
    let (device, normalisation) = (theriac_nn::device::open("cpu"), Normalisation(vec![(0.5, 0.3); SHAPE.channels]));
    let device = device.expect("a processor is there");
    let network = Network::named("mlp", &Values::new(), &facts, normalisation, &device, &Seeds::new(1));
    let network = network.expect("the config is valid");
    let none: [Vec<f64>; 3] = Default::default();
    let mut rates = vec![vec![none; pools.len()]; cases.len()];
    for _ in 0..ROUNDS {
        for (rates, (entry, attack)) in rates.iter_mut().zip(&attacks) {
            for (rates, pool) in rates.iter_mut().zip(&pools) {
                let pool = pool.as_ref().expect("the system has threads");
                let measured = pool.install(|| measure(&**attack, &entry.info, &train, &test, &network));
                rates.iter_mut().zip(measured).for_each(|(all, rate)| all.push(rate));
            }
        }
    }
    let columns = ["trigger", "poison", "apply"].map(|name| format!("{name:>9}")).join(" ");
    println!("{:<24} {columns} {columns}", "thousand images a second");
    println!("{:<24} {:>29} {:>29}", "", "1 thread", format!("{cores} threads"));
    for ((name, ..), rates) in cases.iter().zip(rates) {
        let medians: Vec<String> = rates.into_iter().flatten().map(|rates| format!("{:>9.0}", median(rates))).collect();
        println!("{name:<24} {}", medians.join(" "));
    }
}

/// Random images in ten classes.
fn random(name: &str, samples: usize) -> Dataset {
    let mut stream = Seeds::new(1).stream(name);
    let pixels: Vec<u8> = (0..samples * SHAPE.len() / 8).flat_map(|_| stream.bits().to_le_bytes()).collect();
    let labels: Vec<Label> = (0..samples).map(|index| (index % 10) as Label).collect();
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    Dataset::new(name, SHAPE, classes, pixels, &labels).expect("the sizes fit")
}

/// Thousands of images a second of each column. An attack without a probe has 0 in its column.
fn measure(
    attack: &dyn Attack,
    info: &theriac_core::MethodInfo,
    train: &Dataset,
    test: &Dataset,
    network: &Network,
) -> [f64; 3] {
    let (seeds, recipe) = (Seeds::new(1), TrainConfig::default());
    let context = AttackContext { train, test, seeds: &seeds, surrogate: None, recipe: &recipe };
    let rate = |images: usize, begin: Instant| images as f64 / begin.elapsed().as_secs_f64() / 1e3;
    let begin = Instant::now();
    let probed = attack.probe(test, &seeds).map_or(0, |probe| probe.inputs.len());
    let trigger = rate(probed, begin);
    let begin = Instant::now();
    let changes = attack.poison(&context).expect("the classes are large enough");
    let touched = attack.budget(train).samples;
    let mut poison = rate(touched, begin);
    let begin = Instant::now();
    let threat = info.threat.expect("an attack has a threat model");
    attack.budget(train).enforce(&threat, train, &changes).expect("attacks keep their budget");
    let poisoned = changes.apply(train).expect("the change set fits");
    let apply = rate(touched, begin);
    assert_eq!(poisoned.len(), train.len());
    let mut recipe = Recipe::from(recipe);
    attack.train(&mut recipe, &seeds);
    if let Some(hook) = recipe.hooks.first() {
        let batch = |number: usize| {
            let indices: Vec<usize> = (number * BATCH..(number + 1) * BATCH).collect();
            let labels = indices.iter().map(|&index| train.label(index)).collect();
            Minibatch::new(Batch::gather(train, &indices).into_tensor(&network.device), labels)
        };
        let batches: Vec<Minibatch> = (0..BATCHES).map(batch).collect();
        let mut stream = seeds.stream("batches");
        let begin = Instant::now();
        let poisoned: Vec<Minibatch> =
            batches.into_iter().map(|batch| hook.apply(network, batch, &mut stream)).collect();
        poison = rate(BATCH * poisoned.len(), begin);
    }
    [trigger, poison, apply]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
