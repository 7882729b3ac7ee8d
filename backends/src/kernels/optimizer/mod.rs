//! AdamW over a flat list of tensors, in place, and the norm of all gradients.
//!
//! The rule is the one of `torch.optim.AdamW`: decay by `lr · decay` before the step, both moments
//! corrected for their start, epsilon outside the square root. State is plain tensors, so that a
//! checkpoint can save it.

#[cfg(feature = "gpu")]
mod cube;
mod flex;
mod reference;
mod seam;

pub use reference::adamw_step_reference;
pub use seam::{AdamW, Slot, adamw_step, clip_factor, global_norm};

#[cfg(test)]
mod tests;
