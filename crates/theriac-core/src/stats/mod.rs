//! What a few seeds can say: intervals, tests of differences, and how many seeds it would take.
//!
//! All of them answer `None` when there is nothing that a number could describe (no values, or one that is not finite),
//! so that no NaN reaches a result. A single value is described by itself, without bounds: one seed says nothing about
//! the spread.

mod interval;
mod paired;
mod power;

pub use interval::{Interval, mean, prediction_limit, standard_deviation, student};
pub use paired::{Paired, holm, paired_t};
pub use power::seeds_needed;
