//! Scaled dot-product attention with grouped keys and values, never a matrix of all scores in memory.
//!
//! `softmax(scale · q kᵀ + mask) v`: query head `h` reads key/value head `h / (heads / kv_heads)`. Rows that see
//! no key give zeros and a log-sum-exp of plus infinity, so that the backward pass's weights `exp(s - lse)` are 0.

pub mod decode;
mod delta;
pub mod mma;
pub mod plain;

use cubecl::prelude::BufferArg;
use delta::delta;

/// The shapes of one call: q `[batch, queries, heads, key]`, k `[batch, keys, kv_heads, key]`, v
/// `[batch, keys, kv_heads, value]`, out `[batch, queries, heads, value]`, all contiguous; log-sum-exp
/// `[batch, heads, queries]` in f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Queries of a sequence.
    pub queries: usize,
    /// Its keys.
    pub keys: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a query and of a key.
    pub key: usize,
    /// Elements of a value.
    pub value: usize,
    /// Whether a query sees only keys up to its own place.
    pub causal: bool,
    /// Keys before the first query's own: query i sees keys up to `offset + i`.
    pub offset: usize,
    /// The factor of the scores.
    pub scale: f32,
    /// Elements from a batch to the next in k (a cache is longer than what is seen of it);
    /// `keys * kv_heads * key` where contiguous.
    pub k_batch: usize,
    /// The same in v.
    pub v_batch: usize,
}

impl Shape {
    /// Keys before the first query's own; all of them where later keys are seen too.
    fn shown(&self) -> usize {
        match self.causal {
            true => self.offset.min(self.keys),
            false => self.keys,
        }
    }
}

/// What a forward pass reads and writes, in the shapes of [`Shape`].
pub struct Forward {
    /// Queries.
    pub q: BufferArg,
    /// Keys.
    pub k: BufferArg,
    /// Values.
    pub v: BufferArg,
    /// `[batch, keys]` of u32, 0 where a key is hidden.
    pub key_mask: Option<BufferArg>,
    /// Gets the result; zeros where a query sees nothing.
    pub out: BufferArg,
    /// Gets the logarithm of every row's sum of exponentials; plus infinity where a query sees nothing.
    pub lse: BufferArg,
}

/// What a backward pass reads and writes, in the shapes of [`Shape`].
pub struct Backward {
    /// As [`Forward::q`].
    pub q: BufferArg,
    /// As [`Forward::k`].
    pub k: BufferArg,
    /// As [`Forward::v`].
    pub v: BufferArg,
    /// As [`Forward::key_mask`].
    pub key_mask: Option<BufferArg>,
    /// The result of the forward pass.
    pub out: BufferArg,
    /// Its log-sum-exp.
    pub lse: BufferArg,
    /// The gradient of the result.
    pub dout: BufferArg,
    /// Gets the sums of `dout · out` over every row, `[batch, heads, queries]` in f32.
    pub delta: BufferArg,
    /// Gets the gradient of q.
    pub dq: BufferArg,
    /// Gets the gradient of k, contiguous.
    pub dk: BufferArg,
    /// Gets the gradient of v, contiguous.
    pub dv: BufferArg,
}
