//! Measures of models: perplexity by kind of token, multiple choice, things drawn right.

mod choice;
mod drawn;
mod perplexity;

pub use choice::{ChoiceScore, score_choices};
pub use drawn::{AskedPicture, DrawnScore, score_drawn};
pub use perplexity::{LossSum, Losses, mean_loss};
