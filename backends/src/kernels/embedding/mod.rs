//! Rows of a table by id, with a dense gradient summed in a fixed order.

mod autodiff;
#[cfg(feature = "gpu")]
mod cube;
mod flex;
mod reference;
mod seam;

pub use reference::embedding_reference;
pub use seam::{Ids, embedding};

#[cfg(test)]
mod tests;
