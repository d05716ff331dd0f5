//! The two ways to a second derivative, mixed in weights and pixels: 25 images of 3 x 32 x 32, new networks, the direction is the gradient
//! of another image.
//!
//! `cargo bench -p theriac-nn` prints the median time of each over rounds that take turns, and for several distances of the difference how
//! far it is from the exact derivative: the relative error in single precision, and the share of the pixels that have the same sign.

use std::time::Instant;

use theriac_core::{Facts, Label, Seeds, Shape, Values};
use theriac_nn::{
    Batch, Network, Normalisation, cross_entropies, device, directional_gradient, gradient_difference,
    parameter_gradients,
};

const ROUNDS: usize = 15;
const IMAGES: usize = 25;
const SHAPE: Shape = Shape { channels: 3, height: 32, width: 32 };

#[global_allocator]
static ALLOCATOR: theriac_nn::allocator::Allocator = theriac_nn::allocator::ALLOCATOR;

fn main() {
    theriac_nn::allocator::hold_memory();
    let facts = Facts { shape: SHAPE, classes: 10, train: IMAGES, test: 1, sources: 1 };
    let device = device::open("cpu").expect("every build has it");
    let networks = [
        ("mlp", &[("hidden", 128u64)][..]),
        ("cnn", &[("width", 8)]),
        ("cnn", &[("width", 32)]),
        ("resnet", &[("width", 16)]),
    ];
    for (name, given) in networks {
        let values: Values = given.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
        let normalisation = Normalisation(vec![(0.5, 0.25); 3]);
        let network = Network::named(name, &values, &facts, normalisation, &device, &Seeds::new(1));
        let network = network.expect("the configs are valid");
        let mut stream = Seeds::new(1).stream("images");
        let mut images = |count: usize| {
            let pixels = (0..count * SHAPE.len()).map(|_| stream.uniform() as f32).collect();
            Batch { shape: SHAPE, pixels }.into_tensor(&device)
        };
        let (images, other) = (images(IMAGES), images(1));
        let (_, direction) = parameter_gradients(&network, other, |taps| cross_entropies(taps.logits, &[3]).mean());
        let labels: Vec<Label> = vec![3; IMAGES];
        let exact = || Batch::from_tensor(directional_gradient(&network, images.clone(), &labels, &direction).1).pixels;
        let near = |distance| {
            let difference = gradient_difference(&network, images.clone(), &labels, &direction, distance);
            Batch::from_tensor(difference).pixels
        };
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            times[0].push(milliseconds(exact));
            times[1].push(milliseconds(|| near(0.01)));
        }
        let [whole, half] = times.map(median);
        println!("{name} {given:?}: exact {whole:.1} ms, difference {half:.1} ms, {:.2} of it", half / whole);
        let exact = exact();
        for distance in [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001] {
            let near = near(distance);
            let apart: Vec<f32> = near.iter().zip(&exact).map(|(near, exact)| near - exact).collect();
            let same = near.iter().zip(&exact).filter(|(near, exact)| near.signum() == exact.signum()).count();
            let same = 100.0 * same as f64 / exact.len() as f64;
            println!("  distance {distance}: error {:.1e}, signs {same:.1} %", length(&apart) / length(&exact));
        }
    }
}

fn milliseconds<T>(work: impl FnOnce() -> T) -> f64 {
    let begin = Instant::now();
    std::hint::black_box(work());
    begin.elapsed().as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn length(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}
