//! Checkpoints, tokens, data, training, decoding and evaluation.
//!
//! The central type is [`steps::Workload`]: a program with every model it names. [`steps::Runner`]
//! carries its steps out in order; each kind of work has a module of its own that knows nothing of
//! programs, so that a command can call it by itself. Nothing here prints: see [`progress`].

pub mod batches;
pub mod checkpoints;
pub mod data;
pub mod decoding;
pub mod error;
pub mod evaluation;
pub mod folders;
pub mod images;
pub mod lessons;
pub mod memory;
mod ordered;
pub mod pages;
pub mod plans;
pub mod progress;
mod room;
pub mod steps;
pub mod tokens;
pub mod training;

pub use error::{Error, Result};
