//! Training: the recipe, the loop, schedules, augmentation, checkpoints, and adversarial examples.

mod augment;
mod batches;
mod checkpoint;
mod in_turn;
pub mod pgd;
mod recipe;
mod rounds;
mod schedule;
mod train;

pub use augment::Placements;
pub use in_turn::in_turn;
pub use pgd::{Direction, Norm, Pgd};
pub use recipe::{
    Augment, BatchHook, INFO, Minibatch, Optimizer, Order, Penalty, Purifier, Recipe, Schedule, Start, TrainConfig,
};
pub use rounds::Rounds;
pub use train::{EpochReport, Learner, TrainError, Trained, TrainingSet, train};
