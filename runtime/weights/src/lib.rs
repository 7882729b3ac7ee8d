//! Checkpoints of models, and weight plans carried out in bounded memory.
//!
//! [`checkpoints`] reads and writes safetensors under checksums, and what other software wrote; [`plans`]
//! computes the weights of a fused model from them, by runs of rows, in a bounded amount of memory
//! ([`memory`]). Every random number of the run time is drawn by [`random`]. A [`checkpoints::WeightSource`] is anything that has tensors by name. Nothing here knows a
//! device: numbers are on the host, and the crate builds without Burn.

pub mod checkpoints;
pub mod memory;
mod ordered;
pub mod plans;
pub mod progress;
pub mod random;

pub use jam_ir::error::{Error, ErrorKind, Result};
