//! Scaled dot-product attention with grouped keys and values, never a `T × T` matrix in memory.
//!
//! All operands are `[batch, time, head, key]`: what a linear layer's `[batch, time, head * key]` is
//! without a copy. Query head `h` reads key/value head `h / (heads / kv_heads)`.

mod autodiff;
#[cfg(feature = "gpu")]
mod cube;
mod decode;
mod flex;
mod reference;
mod seam;

pub use reference::attention_reference;
pub use seam::{AttentionOptions, attention};

#[cfg(test)]
mod tests;
