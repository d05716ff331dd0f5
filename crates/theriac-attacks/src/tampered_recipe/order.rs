//! A harmful order or choice of samples.

use theriac_core::{Dataset, Label, Seeds};
use theriac_nn::Network;
use theriac_train::Order;

/// How units that are sorted by their losses are taken.
pub const POLICIES: &[&str] = &["low-high", "high-low", "oscillating-in", "oscillating-out"];

/// Orders samples by their losses.
pub struct ByLoss {
    pub policy: String,
    /// Samples that stay together.
    pub unit: usize,
}

impl Order for ByLoss {
    fn of(&self, epoch: usize, network: &Network, data: &Dataset, drawn: Vec<usize>) -> Vec<usize> {
        match epoch {
            0 => drawn,
            _ => self.arrange(&theriac_nn::losses(&network.logits(data), &data.labels()), &drawn),
        }
    }
}

impl ByLoss {
    /// `drawn` in the order of the policy. Equal losses stay as drawn; a last part that is no whole unit stays where it is.
    pub fn arrange(&self, losses: &[f64], drawn: &[usize]) -> Vec<usize> {
        let mut units: Vec<&[usize]> = drawn.chunks_exact(self.unit).collect();
        let mean = |unit: &[usize]| unit.iter().map(|&sample| losses[sample]).sum::<f64>() / unit.len() as f64;
        units.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
        match self.policy.as_str() {
            "low-high" => {}
            "high-low" => units.reverse(),
            "oscillating-in" => units = from_both_ends(units),
            _ => {
                let half = units.len() / 2;
                units.rotate_left(half);
                units = from_both_ends(units);
            }
        }
        let rest = drawn.len() / self.unit * self.unit;
        units.into_iter().flatten().chain(&drawn[rest..]).copied().collect()
    }
}

/// Draws samples of one class more rarely or more often than others.
pub struct Weighted {
    pub class: Label,
    pub weight: f64,
    pub seeds: Seeds,
}

impl Order for Weighted {
    /// A class is chosen first, then one of its samples; where there is nothing else, the class alone.
    fn of(&self, epoch: usize, _network: &Network, data: &Dataset, drawn: Vec<usize>) -> Vec<usize> {
        let mut stream = self.seeds.stream(&format!("epoch/{epoch}"));
        let (own, others): (Vec<usize>, Vec<usize>) =
            (0..data.len()).partition(|&sample| data.label(sample) == self.class);
        let weight = self.weight * own.len() as f64;
        let share = if others.is_empty() { 1.0 } else { weight / (weight + others.len() as f64) };
        let mut draw = |_| {
            let from = if stream.chance(share) { &own } else { &others };
            from[stream.below(from.len())]
        };
        drawn.into_iter().map(&mut draw).collect()
    }

    fn repeats(&self) -> bool {
        true
    }
}

/// The first, the last, the second, the last but one, and so on.
fn from_both_ends<T: Copy>(items: Vec<T>) -> Vec<T> {
    let count = items.len();
    (0..count).map(|at| if at % 2 == 0 { items[at / 2] } else { items[count - 1 - at / 2] }).collect()
}
