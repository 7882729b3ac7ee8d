//! Tokenizers that a program trains, a file each.
//!
//! A tokenizer is a [`Trains`]: its signature (the language and the reference know no more of it), and how it
//! is trained on data of the program. A new one is a file here and a line in [`TOKENIZERS`].

mod bpe;
mod trains;
mod vq;

use jam_ir::Called;
use jam_ir::signature::{self, TokenizerSignature};

pub use trains::{Job, Trained, Trains};

use crate::Result;

/// Every tokenizer, in the order in which help lists them.
pub const TOKENIZERS: [&dyn Trains; 2] = [&bpe::Bpe, &vq::Vq];

/// Signatures of every tokenizer, for the language.
pub fn tokenizers() -> Vec<TokenizerSignature> {
    TOKENIZERS.iter().map(|of| of.signature()).collect()
}

/// The tokenizer that a program calls.
///
/// # Errors
/// When there is none of this name; the language has checked it, a stored program may lie.
pub fn tokenizer_of(called: &Called) -> Result<&'static dyn Trains> {
    signature::find(&TOKENIZERS, "a tokenizer", &called.name, |of| {
        of.signature().signature.word
    })
}
