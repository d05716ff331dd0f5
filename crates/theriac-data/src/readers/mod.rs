//! Readers of the file formats: bytes in, images and labels out. A path is only taken for the messages.

pub mod cifar;
pub mod gzip;
pub mod idx;
pub mod png;

use theriac_core::{Label, Shape};

/// Images and their labels, as they stand in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Size of one image.
    pub shape: Shape,
    /// All pixels: `[sample, channel, row, column]`.
    pub pixels: Vec<u8>,
    /// One label a sample.
    pub labels: Vec<Label>,
}
