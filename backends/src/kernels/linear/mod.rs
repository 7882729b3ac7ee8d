//! The linear layer `x w + bias`: three matrix products, without copies of transposes.

mod autodiff;
#[cfg(feature = "gpu")]
mod cube;
mod flex;
mod reference;
mod seam;

pub(super) use flex::{Operand, add_pieces};
pub use reference::linear_reference;
pub use seam::linear;

#[cfg(test)]
mod tests;
