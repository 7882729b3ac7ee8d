//! Attention on tensor cores: f16 and bf16 on CUDA devices with `mma.sync.m16n8k16` (compute capability 8.0 on).
//!
//! The forward pass is FlashAttention-2 (Dao 2023, arXiv 2307.08691): a plane keeps whole rows of scores and of the
//! result in registers and walks over tiles of keys, whose copies to shared memory run while it computes. The
//! backward pass forms the weights again from the log-sum-exp, once for the gradients of keys and values and once
//! for those of queries, so that every sum has one owner and a fixed order.

#![allow(
    clippy::collapsible_if,
    reason = "the outer condition is known when a kernel is compiled, or guards a read"
)]

mod backward;
mod forward;
mod tile;

pub use backward::backward;
pub use forward::forward;

use super::Shape;
use crate::device::Limits;
use cubecl::client::Client;
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use tile::Half;

/// Elements of a head at most.
const WIDEST: usize = 256;

/// Whether the kernels of this module serve a device, shapes and an element type. Head sizes are multiples of 8 up
/// to 256, and the scale is positive.
pub fn supports(client: &Client, shape: &Shape, dtype: ElemType) -> bool {
    let Some(half) = half(dtype) else {
        return false;
    };
    let features = &client.properties().features;
    let config = MmaConfig {
        a_type: dtype,
        b_type: dtype,
        cd_type: ElemType::Float(FloatKind::F32),
        m: 16,
        n: 8,
        k: 16,
    };
    let size = |x: usize| (8..=WIDEST).contains(&x) && x.is_multiple_of(8);
    let limits = Limits::of(client);
    features.matmul.mma.contains(&config)
        && features.copy_async
        && limits.plane == 32
        && limits.units >= 128
        && size(shape.key)
        && size(shape.value)
        && shape.kv_heads > 0
        && shape.heads.is_multiple_of(shape.kv_heads)
        && shape.k_batch.is_multiple_of(8)
        && shape.v_batch.is_multiple_of(8)
        && shape.scale.is_finite()
        && shape.scale > 0.0
        && forward::fits(shape, Room::of(client), half)
        && backward::fits(shape, Room::of(client), half)
}

/// What forms are chosen by, of a device.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Bytes of shared memory of a cube at most, about those of a multiprocessor.
    shared: usize,
    /// Multiprocessors, 0 where unknown.
    processors: usize,
}

impl Room {
    fn of(client: &Client) -> Room {
        let hardware = &client.properties().hardware;
        Room {
            shared: hardware.max_shared_memory_size,
            processors: hardware.num_streaming_multiprocessors.unwrap_or(0) as usize,
        }
    }

    /// Whether blocks of 128 rows would leave multiprocessors or most of a block's rows idle.
    fn few(self, pairs: usize, rows: usize) -> bool {
        rows <= 64 || pairs * rows.div_ceil(128) < self.processors
    }

    /// Whether a multiprocessor holds two cubes with `shared` bytes each; 1 KiB of a cube is the device's own.
    fn holds_two(self, shared: usize) -> bool {
        2 * (shared + 1024) <= self.shared + 1024
    }
}

/// The 16-bit float of a type.
fn half(dtype: ElemType) -> Option<Half> {
    match dtype {
        ElemType::Float(FloatKind::F16) => Some(Half::F16),
        ElemType::Float(FloatKind::BF16) => Some(Half::Bf16),
        _ => None,
    }
}

/// Sizes that kernels get when they run.
#[derive(Clone, Copy, CubeType, CubeLaunch)]
pub(crate) struct Sizes {
    queries: u32,
    keys: u32,
    heads: u32,
    kv_heads: u32,
    offset: u32,
    k_batch: u32,
    v_batch: u32,
    scale: f32,
}

/// Cubes that work on one sequence and head, and how they are put in order.
#[derive(Clone, Copy, CubeType, CubeLaunch)]
pub(crate) struct Order {
    /// Pairs of a sequence and a head.
    pairs: u32,
    /// Blocks of rows of each.
    blocks: u32,
    /// Pairs that are worked on at a time, so that what they read stays in cache.
    chunk: u32,
}

/// Bytes of keys and values that are worked on at a time, of a cache of second level.
const IN_CACHE: usize = 16 << 20;

/// `shape` for a kernel.
fn sizes(shape: &Shape) -> SizesLaunch {
    SizesLaunch::new(
        shape.queries as u32,
        shape.keys as u32,
        shape.heads as u32,
        shape.kv_heads as u32,
        shape.shown() as u32,
        shape.k_batch as u32,
        shape.v_batch as u32,
        shape.scale,
    )
}

/// `blocks` for each of `pairs`, which are of heads of keys or of queries.
fn order(shape: &Shape, pairs: usize, blocks: usize) -> OrderLaunch {
    let bytes = 2 * shape.keys * (shape.key + shape.value) * shape.batch * shape.kv_heads;
    let chunk = pairs * IN_CACHE / bytes.max(1);
    OrderLaunch::new(
        pairs as u32,
        blocks as u32,
        chunk.clamp(1, pairs.max(1)) as u32,
    )
}

/// Block and pair of a cube, and whether there are so many: chunk by chunk, and block by block in a chunk.
#[cube]
fn place(order: &Order, cube: usize) -> (usize, usize, bool) {
    let (pairs, blocks) = (order.pairs as usize, order.blocks as usize);
    let chunk = order.chunk as usize;
    let before = cube / (chunk * blocks) * chunk;
    let within = cube % (chunk * blocks);
    let there = cube < pairs * blocks;
    let here = min(chunk, select(there, pairs - before, chunk));
    (within / here, before + within % here, there)
}
