//! Scaled dot-product attention with grouped keys and values, never a `T × T` matrix in memory.
//!
//! All operands are `[batch, time, head, key]`: what a linear layer's `[batch, time, head * key]` is
//! without a copy. Query head `h` reads key/value head `h / (heads / kv_heads)`.

mod reference;

pub use reference::attention_reference;

use burn::tensor::{Bool, Tensor};

/// What an attention looks at, and how.
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    /// Whether query `i` sees only keys `j ≤ i + query_offset`.
    pub causal: bool,
    /// The factor of the scores; `None` is `1 / √key`.
    pub scale: Option<f64>,
    /// `[batch, key time]`, true where a key may be seen; `None` is everywhere. (Left padding.)
    pub key_mask: Option<Tensor<2, Bool>>,
    /// How many keys stand before the first query's own: with a cache, the number of cached steps.
    pub query_offset: usize,
}

impl AttentionOptions {
    /// Causal attention of a sequence over itself.
    pub fn causal() -> Self {
        Self {
            causal: true,
            ..Self::default()
        }
    }

    /// The factor of the scores for heads of `key` elements.
    pub fn scale_for(&self, key: usize) -> f64 {
        self.scale.unwrap_or_else(|| 1.0 / (key as f64).sqrt())
    }
}

/// `softmax(scale · q kᵀ + mask) v`: q `[batch, t, heads, key]`, k and v `[batch, s, kv_heads, key]`,
/// result `[batch, t, heads, key]`. Queries that may see no key at all get zeros.
///
/// For decoding, k and v may be slices of a preallocated cache: they are read in place.
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    options: &AttentionOptions,
) -> Tensor<4> {
    attention_reference(q, k, v, options)
}
