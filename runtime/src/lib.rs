//! Checkpoints, tokens, data, training, decoding and evaluation.

pub mod checkpoints;
pub mod data;
pub mod error;
pub mod images;
pub mod lessons;
pub mod tokens;

pub use error::{Error, Result};
