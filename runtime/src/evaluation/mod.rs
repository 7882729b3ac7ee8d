//! Measures of models: perplexity by kind of token, multiple choice, things drawn right.

mod choice;
mod drawn;
mod perplexity;

pub use choice::{ChoiceRules, ChoiceScore, OptionIds, log_likelihoods, option_ids, score_choices};
pub use drawn::{AskedPicture, DrawnScore, score_drawn};
pub use perplexity::{LossSum, Losses, Reading, mean_loss};

/// What to do about numbers that are not finite.
pub(crate) const DIVERGED: &str =
    "the model has diverged, or its weights are damaged: train it again, with a lower `lr`";
