//! Gradients of keys and values.

use cubecl::prelude::*;

use super::super::sizes::{Order, Sizes, place};
use super::super::tile::{
    add_by_columns, arrived, commit, exp2, fetch, fetch_numbers, nothing, rows_by_rows, store_row,
};
use super::Form;

/// Gradients of keys and values: a cube owns keys of one head of them, and walks over the queries that see them, of
/// all heads of the group.
#[cube(launch)]
pub(super) fn attention_backward_keys<F: Float>(
    q: &[F],
    k: &[F],
    v: &[F],
    key_mask: ComptimeOption<&[u32]>,
    lse: &[f32],
    delta: &[f32],
    dout: &[F],
    dk: ComptimeOption<&mut [Vector<F, Const<2>>]>,
    dv: ComptimeOption<&mut [Vector<F, Const<2>>]>,
    sizes: Sizes,
    order: Order,
    #[comptime] form: Form,
    #[define(F)] _dtype: ElemType,
) {
    let (block, pair, there) = place(&order, CUBE_POS);
    if !there {
        terminate!();
    }
    let rows = comptime!(form.rows());
    let step = comptime!(form.step);
    let (key, value) = comptime!((form.key, form.value));
    let (key_pitch, value_pitch) = comptime!((form.own_key().pitch(), form.own_value().pitch()));

    let (queries, keys) = (sizes.queries as usize, sizes.keys as usize);
    let (heads, kv_heads) = (sizes.heads as usize, sizes.kv_heads as usize);
    let group = heads / kv_heads;
    let offset = sizes.offset as usize;
    let (batch, kv_head) = (pair / kv_heads, pair % kv_heads);
    // The first blocks are seen by most queries, and come first.
    let first = block * rows;
    let lane = UNIT_POS_PLANE as usize;
    let (g, t) = (lane / 4, lane % 4);
    let own = UNIT_POS as usize / 32 * comptime!(form.bands * 16);

    let mut k_tile = Shared::<[F]>::new_aligned_slice(comptime!(form.own_key().len()), 16usize);
    let mut v_tile = Shared::<[F]>::new_aligned_slice(
        comptime!(if form.keeps_keys() {
            form.own_value().len()
        } else {
            8
        }),
        16usize,
    );
    let mut q_tile =
        Shared::<[F]>::new_aligned_slice(comptime!(2 * form.step_key().len()), 16usize);
    let mut d_tile =
        Shared::<[F]>::new_aligned_slice(comptime!(2 * form.step_value().len()), 16usize);
    let mut lse_tile = Shared::<[f32]>::new_slice(comptime!(2 * form.step));
    let mut delta_tile = Shared::<[f32]>::new_slice(comptime!(2 * form.step));

    // The first step of queries that see a key of this block.
    let mut start = 0usize.runtime();
    if comptime!(form.causal) {
        if first > offset {
            start = (first - offset) / step * step;
        }
    }
    let mut steps = 0usize.runtime();
    if start < queries {
        steps = (queries - start).div_ceil(step) * group;
    }

    fetch::<F>(
        k,
        batch * sizes.k_batch as usize + (first * kv_heads + kv_head) * key,
        kv_heads * key,
        keys - first,
        &mut k_tile,
        0usize,
        comptime!(form.own_key()),
    );
    if comptime!(form.keeps_keys()) {
        fetch::<F>(
            v,
            batch * sizes.v_batch as usize + (first * kv_heads + kv_head) * value,
            kv_heads * value,
            keys - first,
            &mut v_tile,
            0usize,
            comptime!(form.own_value()),
        );
    }
    // The step that was fetched last.
    let mut next_query = start;
    let mut next_head = kv_head * group;
    if steps > 0 {
        fetch_queries::<F>(
            q,
            dout,
            lse,
            delta,
            batch,
            next_query,
            next_head,
            queries,
            heads,
            &mut q_tile,
            &mut d_tile,
            &mut lse_tile,
            &mut delta_tile,
            0usize,
            form,
        );
    }
    commit();

    // 0 of keys that may be seen, minus infinity of others.
    let mut bias = Array::<f32>::new(comptime!(2 * form.bands));
    #[comptime]
    if let ComptimeOption::Some(key_mask) = &key_mask {
        #[unroll]
        for i in 0..comptime!(2 * form.bands) {
            let row = first + own + i * 8 + g;
            let mut x = nothing();
            if row < keys {
                if key_mask[batch * keys + row] != 0 {
                    x = 0.0f32;
                }
            }
            bias[i] = x;
        }
    }

    let mut key_sums = Array::<f32>::new(comptime!(if form.keeps_keys() {
        form.along(form.key).sums()
    } else {
        1
    }));
    let mut value_sums = Array::<f32>::new(comptime!(if form.keeps_values() {
        form.along(form.value).sums()
    } else {
        1
    }));
    if comptime!(form.keeps_keys()) {
        #[unroll]
        for i in 0..comptime!(form.along(form.key).sums()) {
            key_sums[i] = 0.0f32;
        }
    }
    if comptime!(form.keeps_values()) {
        #[unroll]
        for i in 0..comptime!(form.along(form.value).sums()) {
            value_sums[i] = 0.0f32;
        }
    }
    let log2_e = f32::new(core::f32::consts::LOG2_E);
    let scale = sizes.scale * log2_e;

    for at in 0..steps {
        let stage = at % 2;
        // The last key that the first query of this step sees.
        let reach = offset + next_query;
        arrived();
        sync_cube();
        // The other stage was read before the barrier.
        if at + 1 < steps {
            next_query += step;
            if next_query >= queries {
                next_query = start;
                next_head += 1;
            }
            fetch_queries::<F>(
                q,
                dout,
                lse,
                delta,
                batch,
                next_query,
                next_head,
                queries,
                heads,
                &mut q_tile,
                &mut d_tile,
                &mut lse_tile,
                &mut delta_tile,
                1 - stage,
                form,
            );
            commit();
        }

        // Planes with late keys are not seen in the first steps.
        let mut any = true.runtime();
        if comptime!(form.causal) {
            any = first + own < reach + step;
        }
        if any {
            let q_at = stage * comptime!(form.step_key().len());
            let d_at = stage * comptime!(form.step_value().len());
            let mut weights = rows_by_rows::<F>(
                &k_tile,
                own * key_pitch,
                &q_tile,
                q_at,
                key_pitch,
                comptime!(form.scores(form.key)),
            );
            #[comptime]
            if let ComptimeOption::Some(_) = &key_mask {
                #[unroll]
                for i in 0..comptime!(form.bands * form.step / 2) {
                    weights[i] += bias[comptime!(i / (form.step / 2) * 2 + i / 2 % 2)];
                }
            }
            if comptime!(form.causal) {
                if first + own + comptime!(form.bands * 16) > reach + 1 {
                    #[unroll]
                    for i in 0..comptime!(form.bands * form.step / 2) {
                        let (band, c, r, e) = comptime!((
                            i / (form.step / 2),
                            i % (form.step / 2) / 4,
                            i / 2 % 2,
                            i % 2
                        ));
                        let row = first + own + band * 16 + r * 8 + g;
                        if row > reach + c * 8 + t * 2 + e {
                            weights[i] = nothing();
                        }
                    }
                }
            }
            #[unroll]
            for c in 0..comptime!(form.step / 8) {
                #[unroll]
                for e in 0..2usize {
                    let log = lse_tile[stage * step + c * 8 + t * 2 + e] * log2_e;
                    #[unroll]
                    for i in 0..comptime!(2 * form.bands) {
                        let at = comptime!(i / 2 * form.step / 2 + c * 4 + i % 2 * 2 + e);
                        weights[at] = exp2(weights[at] * scale - log);
                    }
                }
            }
            if comptime!(form.keeps_values()) {
                add_by_columns::<F>(
                    &weights,
                    &d_tile,
                    d_at,
                    value_pitch,
                    &mut value_sums,
                    comptime!(form.along(form.value)),
                );
            }
            if comptime!(form.keeps_keys()) {
                let grads = rows_by_rows::<F>(
                    &v_tile,
                    own * value_pitch,
                    &d_tile,
                    d_at,
                    value_pitch,
                    comptime!(form.scores(form.value)),
                );
                #[unroll]
                for c in 0..comptime!(form.step / 8) {
                    #[unroll]
                    for e in 0..2usize {
                        let mean = delta_tile[stage * step + c * 8 + t * 2 + e];
                        #[unroll]
                        for i in 0..comptime!(2 * form.bands) {
                            let at = comptime!(i / 2 * form.step / 2 + c * 4 + i % 2 * 2 + e);
                            weights[at] *= grads[at] - mean;
                        }
                    }
                }
                add_by_columns::<F>(
                    &weights,
                    &q_tile,
                    q_at,
                    key_pitch,
                    &mut key_sums,
                    comptime!(form.along(form.key)),
                );
            }
        }
    }
    arrived();

    #[comptime]
    if let ComptimeOption::Some(dk) = dk {
        #[unroll]
        for i in 0..comptime!(2 * form.bands) {
            let row = first + own + i * 8 + g;
            if row < keys {
                store_row::<F>(
                    &key_sums,
                    comptime!(i / 2 * form.key.next_multiple_of(16) / 2 + i % 2 * 2),
                    sizes.scale,
                    dk,
                    ((batch * keys + row) * kv_heads + kv_head) * comptime!(form.key / 2),
                    key,
                );
            }
        }
    }
    #[comptime]
    if let ComptimeOption::Some(dv) = dv {
        #[unroll]
        for i in 0..comptime!(2 * form.bands) {
            let row = first + own + i * 8 + g;
            if row < keys {
                store_row::<F>(
                    &value_sums,
                    comptime!(i / 2 * form.value.next_multiple_of(16) / 2 + i % 2 * 2),
                    1.0f32,
                    dv,
                    ((batch * keys + row) * kv_heads + kv_head) * comptime!(form.value / 2),
                    value,
                );
            }
        }
    }
}

/// Starts copying a step of queries and of what belongs to them to a stage.
#[cube]
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel's arguments are its buffers and sizes"
)]
fn fetch_queries<F: Float>(
    q: &[F],
    dout: &[F],
    lse: &[f32],
    delta: &[f32],
    batch: usize,
    query: usize,
    head: usize,
    queries: usize,
    heads: usize,
    q_tile: &mut [F],
    d_tile: &mut [F],
    lse_tile: &mut [f32],
    delta_tile: &mut [f32],
    stage: usize,
    #[comptime] form: Form,
) {
    let (key, value) = comptime!((form.key, form.value));
    let step = comptime!(form.step);
    let left = queries - query;
    let row = (batch * queries + query) * heads + head;
    let to = stage * comptime!(form.step_key().len());
    fetch::<F>(
        q,
        row * key,
        heads * key,
        left,
        q_tile,
        to,
        comptime!(form.step_key()),
    );
    let to = stage * comptime!(form.step_value().len());
    fetch::<F>(
        dout,
        row * value,
        heads * value,
        left,
        d_tile,
        to,
        comptime!(form.step_value()),
    );
    let from = (batch * heads + head) * queries + query;
    fetch_numbers(lse, from, left, lse_tile, stage * step, step);
    fetch_numbers(delta, from, left, delta_tile, stage * step, step);
}
