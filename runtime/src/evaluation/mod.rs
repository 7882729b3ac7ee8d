//! Measures of models, a file each: perplexity by kind of token, multiple choice, things drawn right.
//!
//! A measure is a [`Measure`]: its signature (the language and the reference know no more of it), what it
//! finds, and how a table shows that. A new one is a file here and a line in [`MEASURES`].

mod choice;
mod drawn;
mod measure;
mod perplexity;

use jam_ir::{Signature, signature};

pub use choice::{ChoiceRules, ChoiceScore, OptionIds, log_likelihoods, option_ids, score_choices};
pub use drawn::{AskedPicture, DrawnScore, asked_pictures, score_drawn};
pub(crate) use measure::DIVERGED;
pub use measure::{Cell, Measure, Subject};
pub use perplexity::{LossSum, Losses, Reading, mean_loss};

use crate::Result;

/// Every measure, in the order in which help lists them.
pub const MEASURES: [&dyn Measure; 3] = [&perplexity::Perplexity, &choice::Choice, &drawn::Drawn];

/// Signatures of every measure, for the language.
pub fn measures() -> Vec<Signature> {
    MEASURES.iter().map(|measure| measure.signature()).collect()
}

/// The measure of this name.
///
/// # Errors
/// When there is none; the language has checked it, a stored program or report may lie.
pub fn measure_of(name: &str) -> Result<&'static dyn Measure> {
    signature::find(&MEASURES, "a measure", name, |measure| {
        measure.signature().word
    })
}
