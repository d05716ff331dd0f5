//! Trigger reversal: the smallest change, the same for all images, that turns them into one class.
//!
//! Bolun Wang, Yuanshun Yao, Shawn Shan, Huiying Li, Bimal Viswanath, Haitao Zheng, Ben Y. Zhao, "Neural Cleanse:
//! Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P 2019. Their section 4 is
//!
//! ```text
//! min over m, p of   mean over x of CE( f((1 - m) x + m p), target )  +  cost |m|_1
//! m = (tanh w + 1) / 2   [row, column], the same in every channel        p = (tanh v + 1) / 2   [channel, row, column]
//! ```
//!
//! and Adam walks over w and v. The settings that the paper leaves open are those of the authors' program, see [`Balance`].

use theriac_core::record::ReversedTrigger;
use theriac_core::seed::Stream;
use theriac_core::{Dataset, Label, Seeds, Session, Shape, Wish};
use theriac_nn::burn::optim::{AdamState, Optimizer};
use theriac_nn::burn::tensor::{Device, Tensor, TensorData};
use theriac_nn::{Adam, Batch, Network, cross_entropies, input_gradient_of};
use theriac_train::TrainError;

/// The authors' optimizer.
const ADAM: Adam = Adam { beta_1: 0.5, beta_2: 0.9, epsilon: 1e-8, weight_decay: 0.0, decoupled: false };
/// The authors' step size, in units of w and v.
const LEARNING_RATE: f64 = 0.1;
/// By how much the cost is raised; it is lowered by this to the power of 1.5.
const MULTIPLIER: f64 = 1.5;

/// How triggers are searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reversal {
    /// Most rounds of a search.
    pub rounds: usize,
    /// Steps of a round.
    pub steps: usize,
    /// Images of a step.
    pub batch: usize,
    /// The share of the images of a round that must reach the target.
    pub success: f64,
    /// The cost once a trigger is found.
    pub cost: f64,
    /// Rounds until the cost changes; five times as many without progress end the search.
    pub patience: usize,
}

impl Reversal {
    /// The smallest trigger found for `target`, from `images` of other classes. If none had enough success, the last one.
    ///
    /// # Errors
    /// When the session asks it to stop.
    pub fn search(
        &self,
        network: &Network,
        images: &Dataset,
        target: Label,
        seeds: &Seeds,
        session: &dyn Session,
    ) -> Result<ReversedTrigger, TrainError> {
        let mut sketch = Sketch::random(images.shape(), &network.device, &mut seeds.stream("start"));
        let mut deck = Deck { left: Vec::new(), images, stream: seeds.stream("order") };
        let mut balance = Balance::default();
        let mut smallest: Option<(f64, ReversedTrigger)> = None;
        for _ in 0..self.rounds {
            if session.wish() == Wish::Stop {
                return Err(TrainError::Stopped);
            }
            let (mut hits, mut norm) = (0, 0.0);
            for _ in 0..self.steps {
                let batch = deck.deal(self.batch).into_tensor(&network.device);
                let report = sketch.step(network, batch, target, balance.cost);
                hits += report.hits;
                norm += report.norm / self.steps as f64;
            }
            let reached = hits as f64 >= self.success * (self.steps * self.batch) as f64;
            let improved = reached && smallest.as_ref().is_none_or(|(least, _)| norm < *least);
            if improved {
                smallest = Some((norm, sketch.trigger()));
            }
            if balance.settle(self, reached, improved) {
                break;
            }
        }
        Ok(smallest.map_or_else(|| sketch.trigger(), |(_, trigger)| trigger))
    }
}

/// The L1 norm of a trigger's mask, in pixels.
pub(crate) fn norm(trigger: &ReversedTrigger) -> f64 {
    trigger.mask.iter().map(|&value| f64::from(value)).sum()
}

/// The image under the trigger, rounded to whole pixel values.
pub(crate) fn stamp(trigger: &ReversedTrigger, image: &[u8]) -> Vec<u8> {
    let mask = trigger.mask.iter().cycle(); // once a channel
    let pixels = image.iter().zip(mask).zip(&trigger.pattern);
    pixels.map(|((&x, &m), &p)| ((1.0 - m) * f32::from(x) + m * p * 255.0).round() as u8).collect()
}

/// The weight of the norm, and when to stop: nothing until there is a trigger, then more while there still is one and less while
/// there is none. The search ends when the cost has gone both ways and the norm has not become smaller for long.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Balance {
    pub cost: f64,
    /// Rounds in a row with enough success, and without.
    above: usize,
    below: usize,
    raised: bool,
    lowered: bool,
    /// Rounds since there was a smaller trigger.
    stale: usize,
}

impl Balance {
    /// Takes note of a round. Answers whether the search is over.
    pub fn settle(&mut self, rules: &Reversal, reached: bool, improved: bool) -> bool {
        self.stale = if improved { 0 } else { self.stale + 1 };
        (self.above, self.below) = if reached { (self.above + 1, 0) } else { (0, self.below + 1) };
        if self.above == rules.patience {
            self.above = 0;
            self.raised |= self.cost > 0.0;
            self.cost = if self.cost > 0.0 { self.cost * MULTIPLIER } else { rules.cost };
        } else if self.below == rules.patience {
            self.below = 0;
            self.lowered |= self.cost > 0.0;
            self.cost /= MULTIPLIER.powf(1.5);
        }
        self.raised && self.lowered && self.stale >= 5 * rules.patience
    }
}

/// All images in random order, again and again.
struct Deck<'a> {
    images: &'a Dataset,
    left: Vec<usize>,
    stream: Stream,
}

impl Deck<'_> {
    fn deal(&mut self, count: usize) -> Batch {
        let mut hand = Vec::with_capacity(count);
        while hand.len() < count {
            if self.left.is_empty() {
                self.left = (0..self.images.len()).collect();
                self.stream.shuffle(&mut self.left);
            }
            hand.extend(self.left.pop());
        }
        Batch::gather(self.images, &hand)
    }
}

/// A trigger in the making.
pub(crate) struct Sketch {
    mask: Bounded,    // [1, 1, height, width]
    pattern: Bounded, // [1, channels, height, width]
}

/// What a step saw, before it moved the trigger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StepReport {
    /// Mean cross-entropy against the target, in nats.
    pub loss: f64,
    /// Images that were taken for the target.
    pub hits: usize,
    /// The L1 norm of the mask.
    pub norm: f64,
}

impl Sketch {
    /// Masks and patterns are uniform at the start.
    fn random(shape: Shape, device: &Device, stream: &mut Stream) -> Self {
        let Shape { channels, height, width } = shape;
        let mut draw = |channels: usize| {
            let values = (0..channels * height * width).map(|_| stream.uniform() as f32).collect();
            Bounded::new(values, [1, channels, height, width], device)
        };
        Self { mask: draw(1), pattern: draw(channels) }
    }

    /// One step of Adam on a batch.
    ///
    /// # Shapes
    /// - images: `[batch, channels, height, width]` in `[0, 1]`, on the network's device
    pub fn step(&mut self, network: &Network, images: Tensor<4>, target: Label, cost: f64) -> StepReport {
        let (mask, pattern) = (self.mask.value(), self.pattern.value());
        let stamped = images.clone() * (-mask.clone() + 1.0) + mask.clone() * pattern.clone();
        let targets = vec![target; images.dims()[0]];
        let mut hits = 0;
        let (loss, slope) = input_gradient_of(network, stamped, |taps| {
            let hit = taps.logits.clone().inner().argmax(1).equal_elem(i64::from(target));
            hits = hit.int().sum().into_scalar::<i64>() as usize;
            cross_entropies(taps.logits, &targets).mean()
        });
        let of_mask = (slope.clone() * (pattern - images)).sum_dim(0).sum_dim(1) + cost;
        let of_pattern = slope.sum_dim(0) * mask.clone();
        self.mask.descend(of_mask);
        self.pattern.descend(of_pattern);
        StepReport { loss, hits, norm: f64::from(mask.sum().into_scalar::<f32>()) }
    }

    /// The trigger as it stands.
    pub fn trigger(&self) -> ReversedTrigger {
        let Batch { shape: Shape { channels, height, width }, pixels } = Batch::from_tensor(self.pattern.value());
        let mask = Batch::from_tensor(self.mask.value()).pixels;
        ReversedTrigger { shape: [channels, height, width], mask, pattern: pixels }
    }
}

/// Values between 0 and 1, (tanh free + 1) / 2, whose free part Adam moves.
struct Bounded {
    free: Tensor<4>,
    state: Option<AdamState<4>>,
}

impl Bounded {
    /// Values of 0 and 1 would lie at infinity; they begin a little beside.
    fn new(values: Vec<f32>, shape: [usize; 4], device: &Device) -> Self {
        let free = |value: f32| (f64::from(2.0 * value - 1.0) * (1.0 - 1e-7)).atanh() as f32;
        let free = values.into_iter().map(free).collect::<Vec<_>>();
        Self { free: Tensor::from_data(TensorData::new(free, shape), device), state: None }
    }

    fn value(&self) -> Tensor<4> {
        (self.free.clone().tanh() + 1.0) / 2.0
    }

    /// A step against the gradient with respect to the values.
    fn descend(&mut self, gradient: Tensor<4>) {
        let value = self.value();
        let slope = value.clone() * (-value + 1.0) * 2.0; // d value / d free
        let step = ADAM.step(LEARNING_RATE, self.free.clone(), gradient * slope, self.state.take());
        (self.free, self.state) = step;
    }
}

#[cfg(test)]
mod tests;
