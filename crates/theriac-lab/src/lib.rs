//! The experiment engine: config, plan, store, journal, run. It knows no method and no Burn; see [`mod@bench`].
//!
//! A TOML file becomes a checked [`Config`], the config a [`Plan`] (cells over a graph of shared steps), and [`run()`] carries the plan
//! out: every step's files go into a content-addressed [`Store`], so that a killed run continues and equal steps run once.

pub mod bench;
pub mod config;
pub mod journal;
pub mod plan;
pub mod run;
pub mod store;
pub mod throughput;
#[cfg(any(test, feature = "toy"))]
#[doc(hidden)]
pub mod toy;

pub use bench::{Bench, Cost, DatasetCard, Files, Halt, Job, Step, StepKind};
pub use config::{Config, ConfigError};
pub use plan::{Plan, Summary};
pub use run::{Event, Observer, Options, Outcome, RunError, Totals, run};
pub use store::Store;
pub use theriac_core::files;
pub use throughput::Throughput;
