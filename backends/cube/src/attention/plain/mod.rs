//! Attention without tensor cores: on every device, in every element type.
//!
//! FlashAttention-2 (Dao 2023): a cube holds a tile of queries and walks over tiles of the keys that some of its rows
//! sees, with a running maximum and sum; scores are never in global memory. Products are f32 multiply-adds: a unit
//! keeps `high × 4` scores and `high × 4·wide` elements of the result in registers, so that a word that it reads of
//! shared memory serves several. The backward pass forms the weights again from the log-sum-exp, once for the
//! queries' gradient and once for those of keys and values: every sum has one owner and a fixed order.

mod backward;
mod forward;
mod tile;

pub use backward::backward;
pub use forward::forward;

use super::Shape;
use crate::device::vectors;
use cubecl::prelude::*;

/// The sizes of a call.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub(crate) struct Sizes {
    batch: u32,
    queries: u32,
    keys: u32,
    heads: u32,
    kv_heads: u32,
    key: u32,
    value: u32,
    offset: u32,
    k_batch: u32,
    v_batch: u32,
    scale: f32,
}

impl Shape {
    /// Elements of a vector in global memory: four, where all rows divide by four.
    fn vector(&self) -> usize {
        match vectors(4, &[self.key, self.value, self.k_batch, self.v_batch]) {
            4 => 4,
            _ => 1,
        }
    }

    /// Those that a kernel gets.
    fn sizes(&self) -> SizesLaunch {
        SizesLaunch::new(
            self.batch as u32,
            self.queries as u32,
            self.keys as u32,
            self.heads as u32,
            self.kv_heads as u32,
            self.key as u32,
            self.value as u32,
            self.shown() as u32,
            self.k_batch as u32,
            self.v_batch as u32,
            self.scale,
        )
    }
}
