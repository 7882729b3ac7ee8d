//! Every word that a program may use for something that can be added to: the tables of the house,
//! together and as plain data.
//!
//! The command line makes them of the rooms' tables and hands them to the language, which imports
//! none of these rooms.

use serde::{Deserialize, Serialize};

use crate::signature::{FormatSignature, LessonsPart, TokenizerSignature};
use crate::{Error, Result, Signature, StrategySignature};

/// Signatures by what they are signatures of, each in the order in which help lists them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Words {
    /// Ways to make one model of several.
    pub strategies: Vec<StrategySignature>,
    /// What the records of a data set are.
    pub formats: Vec<FormatSignature>,
    /// Parts of drawing lessons.
    pub lessons: Vec<LessonsPart>,
    /// Tokenizers that a program can train.
    pub tokenizers: Vec<TokenizerSignature>,
    /// What is learned of each token.
    pub objectives: Vec<Signature>,
    /// How gradients change weights.
    pub optimizers: Vec<Signature>,
    /// Courses of the learning rate.
    pub schedules: Vec<Signature>,
    /// What is measured of a model.
    pub measures: Vec<Signature>,
}

impl Words {
    /// No words at all.
    pub const NONE: Words = Words {
        strategies: Vec::new(),
        formats: Vec::new(),
        lessons: Vec::new(),
        tokenizers: Vec::new(),
        objectives: Vec::new(),
        optimizers: Vec::new(),
        schedules: Vec::new(),
        measures: Vec::new(),
    };

    /// Words from the text that [`Words::written`] makes.
    ///
    /// # Errors
    /// When the text is none.
    pub fn read(text: &str) -> Result<Words> {
        ron::from_str(text).map_err(|error| Error::new(format!("these are no words: {error}")))
    }

    /// The words as text, for those who cannot have the tables themselves.
    ///
    /// # Errors
    /// Never, but for a mistake in this crate.
    pub fn written(&self) -> Result<String> {
        let layout = ron::ser::PrettyConfig::new().new_line("\n").depth_limit(4);
        ron::ser::to_string_pretty(self, layout)
            .map_err(|error| Error::new(format!("the words cannot be written: {error}")))
    }
}
