//! The arithmetic of training on a processor: convolution, batch normalisation, pooling, the optimizer's step.
//!
//! Pure functions on slices, without Burn; `theriac-nn` makes them differentiable operations of the framework. Activations are
//! `[batch, height, width, channels]` ("NHWC"), so that the channels of a pixel are one run of memory; a convolution's weights are
//! `[outputs, inputs, kernel rows, kernel columns]`, as in every checkpoint.
//!
//! The instruction set is chosen when the program starts (AVX-512, AVX2 with FMA, NEON, or portable code). On one kind of processor
//! the results are the same bits for any number of threads: every sum is taken in an order that only the shapes determine.

pub mod conv;
pub mod cpu;
pub mod images;
pub mod memory;
pub mod norm;
pub mod optimizer;
mod pool;
mod tile;

pub use conv::{Algorithm, Conv};
pub use cpu::Cpu;
