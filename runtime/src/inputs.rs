//! What measures and tokenizers read of a program: data sets in the forms in which they are used.
//!
//! The steps of a program implement it, so that a new measure or tokenizer needs to know nothing of them.

use jam_data::batches::EncodedSet;
use jam_data::images::Picture;
use jam_data::sources::{ChoiceItem, Document};
use jam_data::tokens::Codec;
use jam_ir::recipe::{DataRef, DecodeRecipe};

use crate::Result;

/// Data of a program, and its ways of sampling.
pub trait Inputs {
    /// Every document of a split.
    ///
    /// # Errors
    /// When there is no such split, it has no documents, or a file is damaged; so for all below.
    fn documents(&self, data: &DataRef) -> Result<Vec<Document>>;

    /// A split as token ids.
    ///
    /// # Errors
    /// As [`Inputs::documents`], and when the vocabulary cannot write them.
    fn encoded(&self, data: &DataRef, codec: &Codec) -> Result<EncodedSet>;

    /// Every text of a split, questions and captions too.
    ///
    /// # Errors
    /// As [`Inputs::documents`].
    fn texts(&self, data: &DataRef) -> Result<Vec<String>>;

    /// Every picture of a split, cropped to a square of `side` pixels; at most `limit`, 0 for all.
    ///
    /// # Errors
    /// As [`Inputs::documents`], and when a picture is damaged.
    fn pictures(&self, data: &DataRef, side: usize, limit: usize) -> Result<Vec<Picture>>;

    /// Multiple-choice items; the first `limit`, 0 for all.
    ///
    /// # Errors
    /// As [`Inputs::documents`], and when the split holds none.
    fn choices(&self, data: &DataRef, limit: u64) -> Result<Vec<ChoiceItem>>;

    /// A way of sampling.
    ///
    /// # Errors
    /// When the program has none of this name.
    fn decoding(&self, name: &str) -> Result<&DecodeRecipe>;
}
