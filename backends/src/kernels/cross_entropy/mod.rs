//! The last linear layer and its cross-entropy together, without a full matrix of logits.

mod autodiff;
#[cfg(feature = "gpu")]
mod cube;
mod flex;
mod reference;
mod seam;

pub use reference::linear_cross_entropy_reference;
pub use seam::{CrossEntropy, Head, HeadLayout, linear_cross_entropy};

#[cfg(test)]
mod tests;
