//! Layer and RMS normalisation over the last axis, whole or in parts.

mod autodiff;
#[cfg(feature = "gpu")]
mod cube;
mod flex;
mod reference;
mod seam;

pub use reference::norm_reference;
pub use seam::{Norm, norm};

#[cfg(test)]
mod tests;
