//! The batches of a training, made by a thread of their own while the network learns from the one before.

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use theriac_core::{Dataset, Label, Seeds};
use theriac_nn::Batch;

use crate::augment::augment;
use crate::recipe::{Augment, TrainConfig};

/// Batches that lie ready.
const AHEAD: usize = 1;

/// What one step learns from.
pub(crate) struct Lesson {
    pub images: Batch,
    pub labels: Vec<Label>,
}

/// The batches of all epochs, as they are made.
pub(crate) struct Lessons {
    /// Batches of an epoch.
    pub batches: usize,
    ready: Receiver<Lesson>,
    orders: Sender<Vec<usize>>,
}

impl Lessons {
    /// The next one.
    pub fn next(&self) -> Option<Lesson> {
        self.ready.recv().ok()
    }

    /// Says in which order the next epoch goes through the data, where orders are not drawn.
    pub fn begin(&self, order: Vec<usize>) {
        // Who makes the batches may have ended before, with all of them made.
        let _ = self.orders.send(order);
    }
}

/// The order of an epoch as it is drawn.
pub(crate) fn drawn(samples: usize, seeds: &Seeds, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..samples).collect();
    seeds.stream(&format!("train/order/{epoch}")).shuffle(&mut order);
    order
}

/// Calls `learn` with all batches of all epochs from `first` on (an epoch and a batch), in order. If the data are `ordered`, each epoch begins
/// when it is told its order.
///
/// Order and augmentation are drawn from streams of their own, so that it makes no difference who draws them and when.
pub(crate) fn with_lessons<T>(
    data: &Dataset,
    config: &TrainConfig,
    seeds: &Seeds,
    first: (usize, usize),
    ordered: bool,
    learn: impl FnOnce(Lessons) -> T,
) -> T {
    let ranges = ranges(data.len(), config.batch);
    let batches = ranges.len();
    let (give, ready) = sync_channel(AHEAD);
    let (orders, told) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for epoch in first.0..config.epochs {
                let order = if ordered { told.recv().ok() } else { Some(drawn(data.len(), seeds, epoch)) };
                let Some(order) = order else { return };
                let mut augmenting = seeds.stream(&format!("train/augment/{epoch}"));
                for (index, range) in ranges.iter().enumerate() {
                    let is_past = (epoch, index) < first;
                    // Nothing was drawn for it that a later one would miss.
                    if is_past && config.augment == Augment::None {
                        continue;
                    }
                    let chosen = &order[range.clone()];
                    let labels = chosen.iter().map(|&sample| data.label(sample)).collect();
                    let mut images = Batch::gather(data, chosen);
                    if config.augment != Augment::None {
                        augment(&mut images, config.augment, config.padding, &mut augmenting);
                    }
                    if is_past {
                        continue;
                    }
                    if give.send(Lesson { images, labels }).is_err() {
                        return; // The training has ended early.
                    }
                }
            }
        });
        learn(Lessons { batches, ready, orders })
    })
}

/// Consecutive ranges of `batch` samples. A last single sample joins the range before it: alone it would be a whole step, and its
/// statistics would weigh as much in batch normalisation as those of a full batch.
pub(crate) fn ranges(samples: usize, batch: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<_> = (0..samples).step_by(batch).map(|start| start..(start + batch).min(samples)).collect();
    if batch > 1 && samples > 1 && samples % batch == 1 {
        ranges.pop();
        ranges.last_mut().expect("there are more samples than one").end = samples;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_in_one_batch_and_none_is_alone() {
        assert_eq!(ranges(7, 3), [0..3, 3..7]);
        assert_eq!(ranges(8, 3), [0..3, 3..6, 6..8]);
        let one = |samples: usize, batch: usize| ranges(samples, batch) == std::slice::from_ref(&(0..samples));
        assert!(one(3, 2) && one(1, 3) && one(2, 3));
        assert_eq!(ranges(3, 1), [0..1, 1..2, 2..3]);
    }
}
