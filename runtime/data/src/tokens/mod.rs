//! Tokens: what text and pictures become before a model reads them, and back.

mod codec;
pub mod image;
mod runs;
pub mod text;

use std::fmt;

pub use codec::{Codec, Part, Piece, fitted};
pub use runs::{Run, runs};

use crate::Result;
use crate::images::Picture;

/// An image tokenizer at work: what a [`Codec`] needs to know of it, wherever it computes.
pub trait PictureTokenizer: fmt::Debug + Send + Sync {
    /// Entries of the codebook.
    fn codes(&self) -> usize;

    /// Side of a picture, in pixels.
    fn picture(&self) -> usize;

    /// Tokens of a picture: the square of its grid.
    fn tokens_per_picture(&self) -> usize;

    /// Whether it makes pictures of codes: a file may hold the encoder alone.
    fn decodes(&self) -> bool;

    /// The pictures as codes, row by row.
    ///
    /// # Errors
    /// When a picture is not a square of [`PictureTokenizer::picture`] pixels, or the device fails.
    fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>>;

    /// Codes as pictures; the way back from [`PictureTokenizer::encode`].
    ///
    /// # Errors
    /// When a list has too few or too many codes or holds one that the codebook has not, there is no decoder, or the
    /// device fails.
    fn decode(&self, pictures: &[&[u32]]) -> Result<Vec<Picture>>;
}
