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
pub mod inputs;
mod memory_check;
pub mod pages;
pub mod results;
pub mod steps;
pub mod tokenizers;
pub mod training;
pub mod vocabulary;

pub use jam_ir::error::{Error, ErrorKind, Result};

/// Every word that this room and those below it give to the language; strategies are another room's.
pub fn words() -> jam_ir::Words {
    jam_ir::Words {
        strategies: Vec::new(),
        formats: jam_data::sources::formats(),
        lessons: jam_lessons::parts(),
        tokenizers: tokenizers::tokenizers(),
        objectives: jam_data::batches::objectives(),
        optimizers: jam_backends::optimizers::optimizers(),
        schedules: training::schedules::schedules(),
        measures: evaluation::measures(),
    }
}
