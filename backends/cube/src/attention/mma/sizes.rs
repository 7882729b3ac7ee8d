//! What kernels on tensor cores are told when they run, and the order of their cubes.

use super::super::Shape;
use super::tile::Half;
use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

/// What forms are chosen by, of a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes of shared memory of a cube at most, about those of a multiprocessor.
    pub(super) shared: usize,
    /// Multiprocessors, 0 where unknown.
    pub(super) processors: usize,
}

impl Room {
    pub(super) fn of(client: &Client) -> Room {
        let hardware = &client.properties().hardware;
        Room {
            shared: hardware.max_shared_memory_size,
            processors: hardware.num_streaming_multiprocessors.unwrap_or(0) as usize,
        }
    }

    /// Whether blocks of 128 rows would leave multiprocessors or most of a block's rows idle.
    pub(super) fn few(self, pairs: usize, rows: usize) -> bool {
        rows <= 64 || pairs * rows.div_ceil(128) < self.processors
    }

    /// Whether a multiprocessor holds two cubes with `shared` bytes each; 1 KiB of a cube is the device's own.
    pub(super) fn holds_two(self, shared: usize) -> bool {
        2 * (shared + 1024) <= self.shared + 1024
    }
}

/// The 16-bit float of a type.
pub(super) fn half(dtype: ElemType) -> Option<Half> {
    match dtype {
        ElemType::Float(FloatKind::F16) => Some(Half::F16),
        ElemType::Float(FloatKind::BF16) => Some(Half::Bf16),
        _ => None,
    }
}

/// Sizes that kernels get when they run.
#[derive(Clone, Copy, CubeType, CubeLaunch)]
pub(crate) struct Sizes {
    pub(super) queries: u32,
    pub(super) keys: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) offset: u32,
    pub(super) k_batch: u32,
    pub(super) v_batch: u32,
    pub(super) scale: f32,
}

/// Cubes that work on one sequence and head, and how they are put in order.
#[derive(Clone, Copy, CubeType, CubeLaunch)]
pub(crate) struct Order {
    /// Pairs of a sequence and a head.
    pub(super) pairs: u32,
    /// Blocks of rows of each.
    pub(super) blocks: u32,
    /// Pairs that are worked on at a time, so that what they read stays in cache.
    pub(super) chunk: u32,
}

/// Bytes of keys and values that are worked on at a time, of a cache of second level.
const IN_CACHE: usize = 16 << 20;

/// `shape` for a kernel.
pub(super) fn sizes(shape: &Shape) -> SizesLaunch {
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
pub(super) fn order(shape: &Shape, pairs: usize, blocks: usize) -> OrderLaunch {
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
pub(super) fn place(order: &Order, cube: usize) -> (usize, usize, bool) {
    let (pairs, blocks) = (order.pairs as usize, order.blocks as usize);
    let chunk = order.chunk as usize;
    let before = cube / (chunk * blocks) * chunk;
    let within = cube % (chunk * blocks);
    let there = cube < pairs * blocks;
    let here = min(chunk, select(there, pairs - before, chunk));
    (within / here, before + within % here, there)
}
