//! Rotary positions: pairs of elements of every head turned by an angle that grows with the position.

mod autodiff;
#[cfg(feature = "gpu")]
mod cube;
mod flex;
mod reference;
mod seam;
mod table;

pub use reference::rotary_reference;
pub use seam::{RotaryLayout, rotary};
pub use table::{RotaryTable, inverse_frequencies};

#[cfg(test)]
mod tests;
