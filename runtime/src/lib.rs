//! Training, decoding, evaluation, model folders and pages; the steps of a program.
//!
//! The central type is [`steps::Workload`]: a program with every model it names. [`steps::Runner`]
//! carries its steps out in order; each kind of work has a module of its own that knows nothing of
//! programs, so that a command can call it by itself. Nothing here prints: see [`jam_weights::progress`].
//!
//! What needs no device lies below: checkpoints and weight plans in `jam_weights`, data sets, tokens and
//! batches in `jam_data`, the drawing lessons in `jam_lessons`.

pub mod decoding;
pub mod evaluation;
pub mod folders;
pub mod image_tokenizers;
mod memory_check;
pub mod pages;
pub mod results;
pub mod steps;
pub mod training;
pub mod vocabulary;

pub use jam_ir::error::{Error, ErrorKind, Result};
