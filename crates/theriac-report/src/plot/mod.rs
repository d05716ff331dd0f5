//! Plots: a display list that is drawn as SVG, and on it line charts, grids of numbers and intervals side by side.

mod axis;
mod chart;
mod grid;
mod paint;
pub mod sheet;
mod whiskers;

pub use axis::Axis;
pub use chart::{Chart, Curve, Panel, Point};
pub use grid::{Grid, GridCell, Grids, Ramp};
pub use paint::{DARK_MODE, Dash, Marker, Paint, Style};
pub use sheet::{PlotError, Sheet, escape, stand_alone};
pub use whiskers::{Whisker, WhiskerPanel, Whiskers};
