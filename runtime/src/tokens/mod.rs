//! Tokens: what text and pictures become before a model reads them, and back.

mod codec;
pub mod image;
pub mod text;

pub use codec::{Codec, Part, fitted};
