//! The forward pass.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::super::{Forward, Shape};
use super::Sizes;
use super::tile::{
    Four, HELD, LEAST, OUT, Tile, axes, load, odd, over_row, place, products, share, store,
    weighted,
};
use crate::device::{Limits, cubes};

#[cube(launch)]
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel's arguments are its buffers and sizes"
)]
#[allow(
    clippy::collapsible_if,
    reason = "what is known when a kernel is compiled is an `if` of its own"
)]
fn attention_forward<F: Float, N: Size>(
    q: &[Vector<F, N>],
    k: &[Vector<F, N>],
    v: &[Vector<F, N>],
    key_mask: ComptimeOption<&[u32]>,
    out: &mut [Vector<F, N>],
    lse: &mut [f32],
    sizes: Sizes,
    unseen: f32,
    #[comptime] tile: Tile,
    #[define(F)] _dtype: ElemType,
) {
    let high = comptime!(tile.high);
    let across = comptime!(tile.across);
    let down = comptime!(tile.down);
    let wide = comptime!(tile.wide);
    let rows = comptime!(tile.rows());
    let cols = comptime!(tile.cols());
    let units = comptime!(tile.units());
    let parts = comptime!(tile.value_parts);
    let n = N::value();
    let queries = sizes.queries as usize;
    let keys = sizes.keys as usize;
    let heads = sizes.heads as usize;
    let key = sizes.key as usize;
    let value = sizes.value as usize;

    let blocks = queries.div_ceil(rows);
    let place = place(heads, sizes.batch as usize, parts);
    if place.block >= blocks {
        terminate!();
    }
    // The last blocks see most keys: they come first.
    let first = (blocks - 1 - place.block) * rows;
    let valid = queries - first;
    let kv_heads = sizes.kv_heads as usize;
    let kv_head = place.head / (heads / kv_heads);
    let q_at = ((place.batch * queries + first) * heads + place.head) * key / n;
    let q_row = heads * key / n;
    let k_at = (place.batch * sizes.k_batch as usize + kv_head * key) / n;
    let k_row = kv_heads * key / n;
    let column = place.part * comptime!(4 * tile.out());
    let v_at = (place.batch * sizes.v_batch as usize + kv_head * value + column) / n;
    let v_row = kv_heads * value / n;

    let q_stride = comptime!(odd(tile.key));
    let v_stride = comptime!(odd(tile.out()));
    let mut left = Shared::<[Four]>::new_slice(comptime!(rows * odd(tile.key)));
    let mut right = Shared::<[Four]>::new_slice(comptime!(tile.right(tile.key)));
    let mut weights = Shared::<[Four]>::new_slice(comptime!(rows * tile.weights()));
    let mut scratch =
        Shared::<[f32]>::new_slice(comptime!(if tile.plane { 1 } else { rows * across }));

    let x = UNIT_POS as usize % across;
    let y = UNIT_POS as usize / across;
    let mut sums = Array::<Four>::new(comptime!(high * wide));
    let mut scores = Array::<f32>::new(comptime!(high * 4));
    let mut top = Array::<f32>::new(high);
    let mut total = Array::<f32>::new(high);
    let mut visible = Array::<usize>::new(high);
    let mut largest = Array::<f32>::new(high);
    #[unroll]
    for i in 0..high {
        top[i] = f32::new(LEAST);
        total[i] = 0.0f32;
        visible[i] = min(keys, sizes.offset as usize + first + y + i * down + 1);
        #[unroll]
        for n in 0..wide {
            sums[i * wide + n] = Four::new(0.0f32);
        }
    }
    let end = min(keys, sizes.offset as usize + min(first + rows, queries));
    if comptime!(tile.key_parts == 1) {
        load(
            q,
            &mut left,
            q_at,
            q_row,
            valid,
            key,
            rows,
            comptime!(tile.key),
            units,
        );
    }
    for step in 0..end.div_ceil(cols) {
        let from = step * cols;
        #[unroll]
        for i in 0..comptime!(high * 4) {
            scores[i] = 0.0f32;
        }
        let key_parts = comptime!(tile.key_parts);
        for part in 0..key_parts {
            let at = part * comptime!(4 * tile.key);
            sync_cube();
            if comptime!(tile.key_parts > 1) {
                load(
                    q,
                    &mut left,
                    q_at + at / n,
                    q_row,
                    valid,
                    key - at,
                    rows,
                    comptime!(tile.key),
                    units,
                );
            }
            load(
                k,
                &mut right,
                k_at + from * k_row + at / n,
                k_row,
                end - from,
                key - at,
                cols,
                comptime!(tile.key),
                units,
            );
            sync_cube();
            products(
                &mut scores,
                &left,
                &right,
                comptime!(tile.key),
                q_stride,
                q_stride,
                tile,
            );
        }

        let mut spot = Array::<usize>::new(4usize);
        #[unroll]
        for j in 0..4usize {
            spot[j] = from + x + j * across;
            #[comptime]
            if let ComptimeOption::Some(key_mask) = &key_mask {
                let mut shown = 0u32;
                if spot[j] < keys {
                    shown = key_mask[place.batch * keys + spot[j]];
                }
                if shown == 0 {
                    // Beyond all keys: no row sees it.
                    spot[j] = keys;
                }
            }
        }
        #[unroll]
        for i in 0..high {
            largest[i] = f32::new(LEAST);
            #[unroll]
            for j in 0..4usize {
                let score = scores[i * 4 + j] * sizes.scale;
                scores[i * 4 + j] = score;
                if spot[j] < visible[i] {
                    largest[i] = max(largest[i], score);
                }
            }
        }
        over_row(&mut largest, &mut scratch, false, tile);
        #[unroll]
        for i in 0..high {
            let now = max(top[i], largest[i]);
            let shrink = (top[i] - now).exp();
            top[i] = now;
            let mut sum = total[i] * shrink;
            #[unroll]
            for j in 0..4usize {
                let mut weight = 0.0f32;
                if spot[j] < visible[i] {
                    weight = (scores[i * 4 + j] - now).exp();
                }
                scores[i * 4 + j] = weight;
                sum += weight;
            }
            total[i] = sum;
            #[unroll]
            for n in 0..wide {
                sums[i * wide + n] *= Four::new(shrink);
            }
        }
        share(&mut weights, &scores, tile);
        sync_cube();
        load(
            v,
            &mut right,
            v_at + from * v_row,
            v_row,
            end - from,
            value - column,
            cols,
            comptime!(tile.out()),
            units,
        );
        sync_cube();
        weighted(&mut sums, &weights, &right, v_stride, tile);
    }
    sync_cube();
    over_row(&mut total, &mut scratch, true, tile);
    #[unroll]
    for i in 0..high {
        let mut log = top[i] + total[i].ln();
        let mut factor = 1.0f32 / total[i];
        // Not `!=`, which is false of NaN in WGSL as drivers have it.
        if total[i] == 0.0f32 {
            log = unseen;
            factor = 0.0f32;
        }
        let row = y + i * down;
        if x == 0 && place.part == 0 && row < valid {
            lse[(place.batch * heads + place.head) * queries + first + row] = log;
        }
        total[i] = factor;
    }
    let out_at = (((place.batch * queries + first) * heads + place.head) * value + column) / n;
    store(
        out,
        &sums,
        &total,
        out_at,
        heads * value / n,
        valid,
        value - column,
        tile,
    );
}

fn forward_tile(shape: &Shape, limits: Limits) -> Tile {
    let (key, value) = axes(shape);
    let tile = Tile::of(key.max(value), limits);
    let held = key.min(HELD);
    let wide = value.min(OUT).div_ceil(tile.across);
    Tile {
        key: held,
        key_parts: key.div_ceil(held),
        value_parts: value.div_ceil(tile.across * wide),
        wide,
        ..tile
    }
}

/// `softmax(scale · q kᵀ) v`; all but mask and log-sum-exp have the type `dtype`.
pub fn forward(client: &Client, shape: &Shape, buffers: Forward, dtype: ElemType) {
    let tile = forward_tile(shape, Limits::of(client));
    let count = shape.queries.div_ceil(tile.rows()) * tile.value_parts * shape.batch * shape.heads;
    if count == 0 {
        return;
    }
    attention_forward::launch(
        client,
        cubes(count),
        CubeDim::new_1d(tile.units() as u32),
        shape.vector(),
        buffers.q,
        buffers.k,
        buffers.v,
        buffers.key_mask.into(),
        buffers.out,
        buffers.lse,
        shape.sizes(),
        f32::INFINITY,
        tile,
        dtype,
    );
}
