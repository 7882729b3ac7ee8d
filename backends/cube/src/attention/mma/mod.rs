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
mod sizes;
mod tile;

use super::{Backward, Forward, Shape};
use crate::device::Limits;
use cubecl::client::Client;
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use sizes::{Room, half};

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

/// Attention of a shape that [`supports`].
///
/// # Panics
/// Where that is not so.
pub fn forward(client: &Client, shape: &Shape, buffers: Forward, dtype: ElemType) {
    assert!(
        supports(client, shape, dtype),
        "attention: {shape:?} in {dtype:?} has no kernel here"
    );
    forward::launch(client, shape, buffers, dtype);
}

/// Gradients of [`forward`].
///
/// # Panics
/// Where [`supports`] says no.
pub fn backward(client: &Client, shape: &Shape, buffers: Backward, dtype: ElemType) {
    assert!(
        supports(client, shape, dtype),
        "attention: {shape:?} in {dtype:?} has no kernel here"
    );
    backward::launch(client, shape, buffers, dtype);
}
