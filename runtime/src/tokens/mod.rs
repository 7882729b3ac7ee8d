//! Tokens: what text and pictures become before a model reads them, and back.

pub mod image;
pub mod text;
