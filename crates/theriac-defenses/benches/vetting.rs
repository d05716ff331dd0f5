//! How fast the vetting defenses are: the side of `scripts/bench_vetting` that is Theriac's.
//!
//! `cargo bench -p theriac-defenses --bench vetting -- FOLDER` reads `features.f32` (`[samples, columns]`, little-endian),
//! `probabilities.f32` (`[samples, classes]`) and `labels.u16` from the folder and says `ready`. Then each line is an order:
//! `NAME KEY=VALUE ...` vets with that defense and answers with the seconds that it took and the number of samples touched, or with
//! `unavailable` and the reason. The end of the input ends it.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use theriac_core::{ChangeSet, Dataset, Facts, Label, Matrix, Role, Seeds, Shape, Stage, Values};
use theriac_defenses::VetContext;
use theriac_nn::{Network, Normalisation};
use theriac_train::TrainConfig;

#[global_allocator]
static ALLOCATOR: theriac_nn::allocator::Allocator = theriac_nn::allocator::ALLOCATOR;

fn main() {
    theriac_nn::allocator::hold_memory();
    // `cargo bench` without arguments of ours: nothing to do.
    let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else { return };
    let folder = Path::new(&folder);
    let labels: Vec<Label> = read(&folder.join("labels.u16")).chunks_exact(2).map(label).collect();
    let matrix = |name: &str| {
        let values: Vec<f32> = read(&folder.join(name)).chunks_exact(4).map(number).collect();
        Matrix::new(values.len() / labels.len(), values)
    };
    let (features, probabilities) = (matrix("features.f32"), matrix("probabilities.f32"));
    let shape = Shape { channels: 1, height: 1, width: 1 };
    let classes: Vec<String> = (0..probabilities.columns()).map(|class| class.to_string()).collect();
    let facts = Facts { shape, classes: classes.len(), train: labels.len(), test: 0, sources: 1 };
    let data = Dataset::new("bench", shape, classes, vec![0; labels.len()], &labels).expect("the sizes fit");
    let device = theriac_nn::device::open("cpu").expect("there is a processor");
    let seeds = Seeds::new(1);
    let normalisation = Normalisation(vec![(0.0, 1.0)]);
    let victim = Network::named("mlp", &Values::new(), &facts, normalisation, &device, &seeds).expect("valid defaults");
    let context = VetContext {
        data: &data,
        trusted: &data,
        features: &features,
        probabilities: &probabilities,
        seeds: &seeds,
        victim: &victim,
        recipe: &TrainConfig::default(),
        session: &(),
        past: None,
        truth: &ChangeSet::new("none", Role::Supplier, Stage::Collect),
        matched: None,
    };
    say("ready");
    for order in std::io::stdin().lock().lines() {
        say(&vet(&order.expect("orders are text"), &facts, &context));
    }
}

/// Seconds and samples touched, or why not.
fn vet(order: &str, facts: &Facts, context: &VetContext) -> String {
    let mut words = order.split_whitespace();
    let name = words.next().unwrap_or_default();
    let Some(entry) = theriac_defenses::find(name) else { return format!("unavailable there is no defense `{name}`") };
    let pairs = words.filter_map(|word| word.split_once('='));
    let values = pairs.map(|(key, value)| (key.to_owned(), value.parse().unwrap_or_else(|_| value.into()))).collect();
    let defense = match (entry.check)(&values, facts) {
        Ok(defense) => defense,
        Err(errors) => return format!("unavailable {}", errors[0]),
    };
    let begin = Instant::now();
    match defense.vet(context) {
        Ok(verdict) => format!("{} {}", begin.elapsed().as_secs_f64(), verdict.changes.touched().len()),
        Err(error) => format!("unavailable {error}"),
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("failed to read {}: {error}", path.display()))
}

fn label(bytes: &[u8]) -> Label {
    Label::from_le_bytes(bytes.try_into().expect("two bytes"))
}

fn number(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().expect("somebody listens");
}
