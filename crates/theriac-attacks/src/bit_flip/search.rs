//! The search for the bit whose flip lowers the loss most.

use rayon::prelude::*;
use theriac_core::{Label, Matrix};

use crate::dense::Dense;

/// One flip and what came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flip {
    /// 0 is the hidden layer, 1 the last one.
    pub layer: usize,
    /// Which input it reads; the bias is behind the last one.
    pub input: usize,
    pub output: usize,
    /// Counted from the lowest.
    pub bit: u32,
    /// Afterwards.
    pub loss: f64,
}

/// A linear layer whose bias is the weight of one more input, which is 1.
struct Layer {
    outputs: usize,
    weights: Vec<f32>,
    /// What it reads: `[rows, inputs]`, the last of which is 1.
    reads: Vec<Vec<f64>>,
}

impl Layer {
    fn new(dense: &Dense) -> Self {
        Self { outputs: dense.bias.len(), weights: [&dense.weight[..], &dense.bias].concat(), reads: Vec::new() }
    }

    fn row(&self, reads: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.outputs];
        for (value, weights) in reads.iter().zip(self.weights.chunks_exact(self.outputs)) {
            sums.iter_mut().zip(weights).for_each(|(sum, &weight)| *sum += value * f64::from(weight));
        }
        sums
    }

    /// What the rows of `slopes`, one an output, mean for each weight.
    fn gradient(&self, slopes: &[Vec<f64>]) -> Vec<f64> {
        let mut gradient = vec![0.0; self.weights.len()];
        for (reads, slopes) in self.reads.iter().zip(slopes) {
            for (value, sums) in reads.iter().zip(gradient.chunks_exact_mut(self.outputs)).filter(|(v, _)| **v != 0.0) {
                sums.iter_mut().zip(slopes).for_each(|(sum, slope)| *sum += value * slope);
            }
        }
        gradient
    }
}

/// Both last layers with all samples before them.
pub struct Search {
    hidden: Layer,
    head: Layer,
    wanted: Vec<Label>,
    /// What each row weighs in the loss.
    shares: Vec<f64>,
    before_relu: Vec<Vec<f64>>,
    logits: Vec<Vec<f64>>,
    loss: f64,
    /// What no flipped weight of each layer may exceed.
    limits: [f32; 2],
}

impl Search {
    /// For the last two layers and two sets of rows that the first of them reads, with their wanted classes. No weight becomes more than `largest`
    /// times as large as the largest that its layer has now.
    pub fn new(layers: &[Dense], both: [(&Matrix, Vec<Label>); 2], largest: f64) -> Self {
        let [mut hidden, head] = [&layers[0], &layers[1]].map(Layer::new);
        let limits = [&hidden, &head]
            .map(|layer| layer.weights.iter().fold(0.0f32, |most, weight| most.max(weight.abs())))
            .map(|most| (f64::from(most) * largest).min(f64::from(f32::MAX)) as f32);
        let (mut wanted, mut shares) = (Vec::new(), Vec::new());
        for (rows, labels) in both {
            hidden.reads.extend(rows.iter().map(|row| row.iter().copied().map(f64::from).chain([1.0]).collect()));
            shares.extend(vec![1.0 / labels.len() as f64; labels.len()]);
            wanted.extend(labels);
        }
        let (before_relu, logits, loss) = (Vec::new(), Vec::new(), f64::INFINITY);
        let mut search = Self { hidden, head, wanted, shares, before_relu, logits, loss, limits };
        search.forward();
        search
    }

    fn forward(&mut self) {
        self.before_relu = self.hidden.reads.par_iter().map(|row| self.hidden.row(row)).collect();
        let active = |row: &Vec<f64>| row.iter().map(|value| value.max(0.0)).chain([1.0]).collect();
        self.head.reads = self.before_relu.iter().map(active).collect();
        self.logits = self.head.reads.iter().map(|row| self.head.row(row)).collect();
        let losses = self.logits.iter().enumerate().map(|(row, logits)| self.shares[row] * self.loss_of(row, logits));
        self.loss = losses.sum();
    }

    fn loss_of(&self, row: usize, logits: &[f64]) -> f64 {
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        sum.ln() + largest - logits[usize::from(self.wanted[row])]
    }

    /// The gradients of the loss with respect to the weights of both layers.
    fn gradients(&self) -> [Vec<f64>; 2] {
        let slopes: Vec<Vec<f64>> = self
            .logits
            .iter()
            .enumerate()
            .map(|(row, logits)| {
                let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let powers: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
                let sum: f64 = powers.iter().sum();
                let right = |class: usize| f64::from(u8::from(class == usize::from(self.wanted[row])));
                powers.iter().enumerate().map(|(class, p)| self.shares[row] * (p / sum - right(class))).collect()
            })
            .collect();
        let back = |(slopes, before): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
            let neurons = before.iter().zip(self.head.weights.chunks_exact(self.head.outputs));
            let slope = |weights: &[f32]| weights.iter().zip(slopes).map(|(&w, slope)| f64::from(w) * slope).sum();
            neurons.map(|(&before, weights)| if before > 0.0 { slope(weights) } else { 0.0 }).collect()
        };
        let earlier: Vec<Vec<f64>> = slopes.iter().zip(&self.before_relu).map(back).collect();
        [self.hidden.gradient(&earlier), self.head.gradient(&slopes)]
    }

    /// The loss if the weight at `place` of a layer had another value; infinity as soon as it is more than it is now.
    fn loss_with(&self, layer: usize, place: usize, value: f32) -> f64 {
        let layers = [&self.hidden, &self.head];
        let (input, output) = (place / layers[layer].outputs, place % layers[layer].outputs);
        let change = f64::from(value) - f64::from(layers[layer].weights[place]);
        let classes = self.head.outputs;
        let mut loss = 0.0;
        for (row, logits) in self.logits.iter().enumerate() {
            let mut logits = logits.clone();
            match layer {
                0 => {
                    let before = self.before_relu[row][output] + change * self.hidden.reads[row][input];
                    let moved = before.max(0.0) - self.head.reads[row][output];
                    let weights = &self.head.weights[output * classes..][..classes];
                    logits.iter_mut().zip(weights).for_each(|(logit, &weight)| *logit += moved * f64::from(weight));
                }
                _ => logits[output] += change * self.head.reads[row][input],
            }
            loss += self.shares[row] * self.loss_of(row, &logits);
            // Rows add nothing below zero.
            if loss > self.loss {
                return f64::INFINITY;
            }
        }
        loss
    }

    /// Flips the bit after which the loss is least; `None` if none makes it smaller. Of equal ones the first, by layer, gradient and bit.
    pub fn flip(&mut self, considered: usize) -> Option<Flip> {
        let mut tried = Vec::new();
        for (layer, gradient) in self.gradients().into_iter().enumerate() {
            let mut order: Vec<usize> = (0..gradient.len()).collect();
            order.sort_by(|&a, &b| gradient[b].abs().total_cmp(&gradient[a].abs()));
            tried.extend(order.into_iter().take(considered).flat_map(|at| (0..32).map(move |bit| (layer, at, bit))));
        }
        let flipped = |&(layer, place, bit): &(usize, usize, u32)| {
            let weights = if layer == 0 { &self.hidden.weights } else { &self.head.weights };
            f32::from_bits(weights[place].to_bits() ^ (1 << bit))
        };
        let loss = |tried: &(usize, usize, u32)| match flipped(tried) {
            value if value.abs() <= self.limits[tried.0] => self.loss_with(tried.0, tried.1, value),
            _ => f64::INFINITY,
        };
        let losses: Vec<f64> = tried.par_iter().map(loss).collect();
        let best = (0..tried.len()).reduce(|best, at| if losses[at] < losses[best] { at } else { best })?;
        if losses[best].is_nan() || losses[best] >= self.loss {
            return None;
        }
        let (value, (layer, place, bit)) = (flipped(&tried[best]), tried[best]);
        let changed = if layer == 0 { &mut self.hidden } else { &mut self.head };
        changed.weights[place] = value;
        let (input, output) = (place / changed.outputs, place % changed.outputs);
        self.forward();
        Some(Flip { layer, input, output, bit, loss: self.loss })
    }

    /// Writes the weights back.
    pub fn write(&self, layers: &mut [Dense]) {
        for (dense, layer) in layers.iter_mut().zip([&self.hidden, &self.head]) {
            let (weight, bias) = layer.weights.split_at(dense.weight.len());
            dense.weight.copy_from_slice(weight);
            dense.bias.copy_from_slice(bias);
        }
    }
}
