//! Activations, plain (`act(x)`) and gated (`act(a) · b`).

mod autodiff;
#[cfg(feature = "gpu")]
mod cube;
mod flex;
mod reference;
mod seam;

pub use reference::{activation_reference, gated_reference};
pub use seam::{activation, gated};

#[cfg(test)]
mod tests;
