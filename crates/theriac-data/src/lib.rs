//! Data sets: the registry, the readers, the two embedded sets, fetching with checksums, and export.
//!
//! A data set is asked for by name and arrives as images and labels:
//!
//! ```
//! use theriac_data::{Places, find};
//!
//! let values = [("train".to_owned(), 500.into())].into();
//! let loaded = (find("mnist-10k")?.load)(&values, &Places::default())?;
//! assert_eq!((loaded.train.len(), loaded.test.len()), (500, 2_004));
//! # Ok::<(), theriac_data::DataError>(())
//! ```
//!
//! `mnist-10k` and `fashion-12k` are part of the program. The others are read from a folder (see [`Places`]), into
//! which [`fetch()`] brings them. Whatever is read is compared with the published content first, so that a name means
//! the same images everywhere.

mod datasets;
mod error;
mod export;
mod fetch;
mod files;
mod places;
pub mod readers;
mod registry;
mod statistics;
mod subset;

pub use datasets::folder::FolderConfig;
pub use error::DataError;
pub use export::{Exported, export};
pub use fetch::{Progress, fetch};
pub use files::{Checksum, FileState, FileStatus, Part, RemoteFile, verify};
pub use places::Places;
pub use registry::{DATASETS, DatasetEntry, Loaded, find};
pub use statistics::statistics;
pub use subset::Subset;
