//! The backward pass: one kernel, of the queries' rows or of the keys'.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::super::{Backward, Shape, delta};
use super::Sizes;
use super::tile::{
    Four, HELD, OUT, Tile, axes, load, odd, place, products, share, store, weighted,
};
use crate::device::{Limits, again, cubes};

/// Which gradients a launch makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    /// Rows are queries (and columns keys); otherwise the other way round.
    of_queries: bool,
    /// That of q or k.
    of_key: bool,
    /// That of v.
    of_value: bool,
    /// Cubes that share the columns of a gradient.
    parts: usize,
}

/// Gradients of the rows of a tile: queries, over all the keys that they see, or keys, over all queries that see
/// them. `rows_key` and `cols_key` are q and k or k and q, `rows_value` and `cols_value` dout and v or v and dout.
#[cube(launch)]
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel's arguments are its buffers and sizes"
)]
#[allow(
    clippy::collapsible_if,
    reason = "what is known when a kernel is compiled is an `if` of its own"
)]
fn attention_backward<F: Float, N: Size>(
    rows_key: &[Vector<F, N>],
    rows_value: &[Vector<F, N>],
    cols_key: &[Vector<F, N>],
    cols_value: &[Vector<F, N>],
    key_mask: ComptimeOption<&[u32]>,
    lse: &[f32],
    delta: &[f32],
    d_key: &mut [Vector<F, N>],
    d_value: &mut [Vector<F, N>],
    sizes: Sizes,
    #[comptime] form: Form,
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
    let of_queries = comptime!(form.of_queries);
    let vector = N::value();
    let queries = sizes.queries as usize;
    let keys = sizes.keys as usize;
    let heads = sizes.heads as usize;
    let kv_heads = sizes.kv_heads as usize;
    let key = sizes.key as usize;
    let value = sizes.value as usize;
    let offset = sizes.offset as usize;
    let group = heads / kv_heads;

    // The rows' side and the columns': how many, heads, and elements from a batch to the next.
    let mut all_rows = keys;
    let mut all_cols = queries;
    let mut row_heads = kv_heads;
    let mut col_heads = heads;
    let mut row_key_batch = sizes.k_batch as usize;
    let mut row_value_batch = sizes.v_batch as usize;
    let mut col_key_batch = queries * heads * key;
    let mut col_value_batch = queries * heads * value;
    if comptime!(of_queries) {
        all_rows = queries;
        all_cols = keys;
        row_heads = heads;
        col_heads = kv_heads;
        row_key_batch = queries * heads * key;
        row_value_batch = queries * heads * value;
        col_key_batch = sizes.k_batch as usize;
        col_value_batch = sizes.v_batch as usize;
    }
    let blocks = all_rows.div_ceil(rows);
    let place = place(row_heads, sizes.batch as usize, comptime!(form.parts));
    if place.block >= blocks {
        terminate!();
    }
    // What sees, or is seen by, most comes first.
    let mut block = place.block;
    if comptime!(of_queries) {
        block = blocks - 1 - place.block;
    }
    let first = block * rows;
    let valid = all_rows - first;
    let column = place.part * comptime!(4 * tile.out());

    let row_key_row = row_heads * key / vector;
    let row_value_row = row_heads * value / vector;
    let col_key_row = col_heads * key / vector;
    let col_value_row = col_heads * value / vector;
    let row_key_at =
        (place.batch * row_key_batch + (first * row_heads + place.head) * key) / vector;
    let row_value_at =
        (place.batch * row_value_batch + (first * row_heads + place.head) * value) / vector;

    let key_stride = comptime!(odd(tile.key));
    let value_stride = comptime!(odd(tile.value));
    let out_stride = comptime!(odd(tile.out()));
    let longest = comptime!(if tile.key > tile.value {
        tile.key
    } else {
        tile.value
    });
    let mut left = Shared::<[Four]>::new_slice(comptime!(rows * odd(longest)));
    let mut right = Shared::<[Four]>::new_slice(comptime!(tile.right(longest)));
    let mut weights = Shared::<[Four]>::new_slice(comptime!(rows * tile.weights()));

    let x = UNIT_POS as usize % across;
    let y = UNIT_POS as usize / across;
    let of_sums = comptime!(high * wide);
    let mut key_sums = Array::<Four>::new(comptime!(if form.of_key { of_sums } else { 1 }));
    let mut value_sums = Array::<Four>::new(comptime!(if form.of_value { of_sums } else { 1 }));
    #[unroll]
    for i in 0..of_sums {
        if comptime!(form.of_key) {
            key_sums[i] = Four::new(0.0f32);
        }
        if comptime!(form.of_value) {
            value_sums[i] = Four::new(0.0f32);
        }
    }
    // Of the queries: where they are the rows these are known before the loop.
    let of_query = comptime!(if of_queries { high } else { 4 });
    let mut log = Array::<f32>::new(of_query);
    let mut mean = Array::<f32>::new(of_query);
    // Rows that are keys: whether they are seen at all.
    let mut shown = Array::<bool>::new(high);
    #[unroll]
    for i in 0..high {
        let row = first + y + i * down;
        shown[i] = row < all_rows;
        if comptime!(of_queries) {
            log[i] = 0.0f32;
            mean[i] = 0.0f32;
            if row < all_rows {
                let at = (place.batch * heads + place.head) * queries + row;
                log[i] = lse[at];
                mean[i] = delta[at];
            }
        } else {
            #[comptime]
            if let ComptimeOption::Some(key_mask) = &key_mask {
                if row < all_rows {
                    shown[i] = key_mask[place.batch * keys + row] != 0;
                }
            }
        }
    }

    // Columns of which something is needed.
    let mut start = 0usize.runtime();
    let mut end = all_cols;
    if comptime!(of_queries) {
        end = min(keys, offset + min(first + rows, queries));
    } else if first > offset {
        start = min((first - offset) / cols * cols, queries);
    }
    let mut scores = Array::<f32>::new(comptime!(high * 4));
    let mut slopes = Array::<f32>::new(comptime!(if form.of_key { high * 4 } else { 1 }));
    // A key head has the queries of its whole group, a query head one key head.
    let mut of_group = group;
    if comptime!(of_queries) {
        of_group = 1usize;
    }
    for member in 0..of_group {
        let mut col_head = place.head * group + member;
        if comptime!(of_queries) {
            col_head = place.head / group;
        }
        let col_key = (place.batch * col_key_batch + col_head * key) / vector;
        let col_value = (place.batch * col_value_batch + col_head * value) / vector;
        for step in 0..(end - start).div_ceil(cols) {
            let from = start + step * cols;
            let key_at = col_key + from * col_key_row;
            let value_at = col_value + from * col_value_row;
            #[unroll]
            for i in 0..comptime!(high * 4) {
                scores[i] = 0.0f32;
                if comptime!(form.of_key) {
                    slopes[i] = 0.0f32;
                }
            }
            let key_parts = comptime!(tile.key_parts);
            for part in 0..key_parts {
                let at = part * comptime!(4 * tile.key);
                sync_cube();
                load(
                    rows_key,
                    &mut left,
                    row_key_at + at / vector,
                    row_key_row,
                    valid,
                    key - at,
                    rows,
                    comptime!(tile.key),
                    units,
                );
                load(
                    cols_key,
                    &mut right,
                    key_at + at / vector,
                    col_key_row,
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
                    key_stride,
                    key_stride,
                    tile,
                );
            }
            if comptime!(form.of_key) {
                let value_parts = comptime!(tile.value_parts);
                for part in 0..value_parts {
                    let at = part * comptime!(4 * tile.value);
                    sync_cube();
                    load(
                        rows_value,
                        &mut left,
                        row_value_at + at / vector,
                        row_value_row,
                        valid,
                        value - at,
                        rows,
                        comptime!(tile.value),
                        units,
                    );
                    load(
                        cols_value,
                        &mut right,
                        value_at + at / vector,
                        col_value_row,
                        end - from,
                        value - at,
                        cols,
                        comptime!(tile.value),
                        units,
                    );
                    sync_cube();
                    products(
                        &mut slopes,
                        &left,
                        &right,
                        comptime!(tile.value),
                        value_stride,
                        value_stride,
                        tile,
                    );
                }
            }

            #[unroll]
            for j in 0..4usize {
                let col = from + x + j * across;
                let mut here = col < end;
                if comptime!(of_queries) {
                    #[comptime]
                    if let ComptimeOption::Some(key_mask) = &key_mask {
                        if here {
                            here = key_mask[place.batch * keys + col] != 0;
                        }
                    }
                } else {
                    log[j] = 0.0f32;
                    mean[j] = 0.0f32;
                    if here {
                        let at = (place.batch * heads + col_head) * queries + col;
                        log[j] = lse[at];
                        mean[j] = delta[at];
                    }
                }
                #[unroll]
                for i in 0..high {
                    let row = first + y + i * down;
                    let mut seen = here && shown[i];
                    if comptime!(of_queries) {
                        seen = seen && col <= offset + row;
                    } else {
                        seen = seen && row <= offset + col;
                    }
                    let which = comptime!(if of_queries { i } else { j });
                    let mut weight = 0.0f32;
                    if seen {
                        weight = (scores[i * 4 + j] * sizes.scale - log[which]).exp();
                    }
                    scores[i * 4 + j] = weight;
                    if comptime!(form.of_key) {
                        let mut slope = 0.0f32;
                        if seen {
                            slope = weight * (slopes[i * 4 + j] - mean[which]);
                        }
                        slopes[i * 4 + j] = slope;
                    }
                }
            }
            if comptime!(form.of_value) {
                share(&mut weights, &scores, tile);
                sync_cube();
                load(
                    cols_value,
                    &mut right,
                    value_at + column / vector,
                    col_value_row,
                    end - from,
                    value - column,
                    cols,
                    comptime!(tile.out()),
                    units,
                );
                sync_cube();
                weighted(&mut value_sums, &weights, &right, out_stride, tile);
                if comptime!(form.of_key) {
                    sync_cube();
                }
            }
            if comptime!(form.of_key) {
                share(&mut weights, &slopes, tile);
                sync_cube();
                load(
                    cols_key,
                    &mut right,
                    key_at + column / vector,
                    col_key_row,
                    end - from,
                    key - column,
                    cols,
                    comptime!(tile.out()),
                    units,
                );
                sync_cube();
                weighted(&mut key_sums, &weights, &right, out_stride, tile);
            }
        }
    }

    let at = (place.batch * all_rows + first) * row_heads + place.head;
    let mut factors = Array::<f32>::new(high);
    if comptime!(form.of_key) {
        #[unroll]
        for i in 0..high {
            factors[i] = sizes.scale;
        }
        store(
            d_key,
            &key_sums,
            &factors,
            (at * key + column) / vector,
            row_key_row,
            valid,
            key - column,
            tile,
        );
    }
    if comptime!(form.of_value) {
        #[unroll]
        for i in 0..high {
            factors[i] = 1.0f32;
        }
        store(
            d_value,
            &value_sums,
            &factors,
            (at * value + column) / vector,
            row_value_row,
            valid,
            value - column,
            tile,
        );
    }
}

fn backward_tile(shape: &Shape, limits: Limits) -> Tile {
    let (key, value) = axes(shape);
    let tile = Tile::of(key.max(value), limits);
    Tile {
        key: key.min(HELD),
        value: value.min(HELD),
        key_parts: key.div_ceil(HELD),
        value_parts: value.div_ceil(HELD),
        wide: key.max(value).min(OUT).div_ceil(tile.across),
        ..tile
    }
}

/// Gradients of [`super::forward`]: `P = exp(scale · q kᵀ - lse)`, `dV = Pᵀ dO`, `dS = P ∘ (dO Vᵀ - delta)`,
/// `dQ = scale · dS K`, `dK = scale · dSᵀ Q` (Dao 2023, algorithm 2).
pub fn backward(client: &Client, shape: &Shape, buffers: Backward, dtype: ElemType) {
    let limits = Limits::of(client);
    delta(
        client,
        shape,
        buffers.out,
        again(&buffers.dout),
        again(&buffers.delta),
        dtype,
    );
    let launch = |form: Form,
                  tile: Tile,
                  rows: usize,
                  heads: usize,
                  d_key: BufferArg,
                  d_value: BufferArg| {
        let (rows_key, rows_value, cols_key, cols_value) = match form.of_queries {
            true => (&buffers.q, &buffers.dout, &buffers.k, &buffers.v),
            false => (&buffers.k, &buffers.v, &buffers.q, &buffers.dout),
        };
        let count = rows.div_ceil(tile.rows()) * form.parts * shape.batch * heads;
        if count == 0 {
            return;
        }
        attention_backward::launch(
            client,
            cubes(count),
            CubeDim::new_1d(tile.units() as u32),
            shape.vector(),
            again(rows_key),
            again(rows_value),
            again(cols_key),
            again(cols_value),
            buffers.key_mask.as_ref().map(again).into(),
            again(&buffers.lse),
            again(&buffers.delta),
            d_key,
            d_value,
            shape.sizes(),
            form,
            tile,
            dtype,
        );
    };
    let nothing = || {
        let handle = client.empty(4 * size_of::<f32>());
        // SAFETY: as long as it says; never written.
        unsafe { BufferArg::from_raw_parts(handle, 4) }
    };
    let of = |of_queries, of_key, of_value, parts| Form {
        of_queries,
        of_key,
        of_value,
        parts,
    };
    let tile = backward_tile(shape, limits);
    let (key_parts, value_parts) = tile.parts_of_result(shape);
    let (rows, heads) = (shape.queries, shape.heads);
    launch(
        of(true, true, false, key_parts),
        tile,
        rows,
        heads,
        buffers.dq,
        nothing(),
    );
    let (rows, heads) = (shape.keys, shape.kv_heads);
    if key_parts == 1 && value_parts == 1 {
        // Two gradients in registers: half the rows where rows are long.
        let high = if tile.wide > 1 {
            tile.high / 2
        } else {
            tile.high
        };
        let tile = Tile { high, ..tile };
        launch(
            of(false, true, true, 1),
            tile,
            rows,
            heads,
            buffers.dk,
            buffers.dv,
        );
    } else {
        launch(
            of(false, true, false, key_parts),
            tile,
            rows,
            heads,
            buffers.dk,
            nothing(),
        );
        launch(
            of(false, false, true, value_parts),
            tile,
            rows,
            heads,
            nothing(),
            buffers.dv,
        );
    }
}
