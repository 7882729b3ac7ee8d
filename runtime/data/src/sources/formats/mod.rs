//! Formats of data: what the records of a set are, a file each.
//!
//! A format is a [`Format`](super::Format): its signature (the language and the reference know no more of it), which files
//! it reads, and what a record is. A new one is a file here and a line in [`FORMATS`].

mod choice;
mod image_text;
mod instruct;
mod interleaved;
mod text;

use jam_ir::Called;
use jam_ir::signature::{self, FormatSignature};

use super::format::Format;
use crate::Result;

/// Every format, in the order in which help lists them.
pub const FORMATS: [&dyn Format; 5] = [
    &text::Text,
    &image_text::ImageText,
    &interleaved::Interleaved,
    &instruct::Instruct,
    &choice::Choice,
];

/// Signatures of every format, for the language.
pub fn formats() -> Vec<FormatSignature> {
    FORMATS.iter().map(|format| format.signature()).collect()
}

/// The format that a data set is in.
///
/// # Errors
/// When there is none of this name; the language has checked it, a stored program may lie.
pub fn format_of(called: &Called) -> Result<&'static dyn Format> {
    signature::find(&FORMATS, "a format of data", &called.name, |format| {
        format.signature().signature.word
    })
}

/// A format as a program has it that says no more than its word.
#[cfg(test)]
pub(crate) fn plain(word: &str) -> Called {
    let formats = formats();
    let mut formats = formats.iter().map(|format| &format.signature);
    let found = formats.find(|format| format.word == word);
    found.unwrap().called([])
}
