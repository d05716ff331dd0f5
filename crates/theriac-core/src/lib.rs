//! The vocabulary of Theriac: data sets, edits, threat models, seed streams, metrics and statistics.
//!
//! Everything that happens to data is an [`Edit`]. An attack answers with a [`ChangeSet`], a
//! defense that cleans data answers with another one, and detection is scored by comparing the two.
//!
//! This crate knows nothing of Burn or of a command line; of files only how to write one as a whole.

pub mod dataset;
pub mod digest;
pub mod edit;
pub mod files;
pub mod matrix;
pub mod method;
pub mod metrics;
pub mod organisation;
pub mod param;
pub mod probe;
pub mod record;
pub mod seed;
pub mod session;
pub mod stats;
pub mod threat;
pub mod trail;

pub use dataset::{Dataset, Facts, Label, SampleId, Shape, SourceId};
pub use digest::Digest;
pub use edit::{ChangeSet, Edit, EditError, Role};
pub use matrix::Matrix;
pub use method::{Family, Hook, Kind, MethodInfo, Paper, Surrogate, Unit, Verified};
pub use param::{Param, ParamError, Range, Value, Values};
pub use probe::{Aim, Probe};
pub use seed::Seeds;
pub use session::{Session, Wish};
pub use threat::{Budget, Capability, Goal, Knowledge, Stage, ThreatModel};
pub use trail::Trail;
