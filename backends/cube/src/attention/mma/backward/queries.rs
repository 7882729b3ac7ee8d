//! The gradient of queries.

use cubecl::prelude::*;

use super::super::sizes::{Order, Sizes, place};
use super::super::tile::{
    add_by_columns, arrived, commit, exp2, fetch, fetch_numbers, nothing, rows_by_rows, store_row,
};
use super::Form;

/// The gradient of queries: a cube owns queries of one head, and walks over the keys that they see.
#[cube(launch)]
pub(super) fn attention_backward_queries<F: Float>(
    q: &[F],
    k: &[F],
    v: &[F],
    key_mask: ComptimeOption<&[u32]>,
    lse: &[f32],
    delta: &[f32],
    dout: &[F],
    dq: &mut [Vector<F, Const<2>>],
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
    let offset = sizes.offset as usize;
    let (batch, head) = (pair / heads, pair % heads);
    let kv_head = head / (heads / kv_heads);
    // Blocks are numbered from the last, which sees most keys.
    let first = (order.blocks as usize - 1 - block) * rows;
    let unit = UNIT_POS as usize;
    let lane = UNIT_POS_PLANE as usize;
    let (g, t) = (lane / 4, lane % 4);
    let own = unit / 32 * comptime!(form.bands * 16);

    let mut q_tile = Shared::<[F]>::new_aligned_slice(comptime!(form.own_key().len()), 16usize);
    let mut d_tile = Shared::<[F]>::new_aligned_slice(comptime!(form.own_value().len()), 16usize);
    let mut k_tile =
        Shared::<[F]>::new_aligned_slice(comptime!(2 * form.step_key().len()), 16usize);
    let mut v_tile =
        Shared::<[F]>::new_aligned_slice(comptime!(2 * form.step_value().len()), 16usize);
    let mut lse_tile = Shared::<[f32]>::new_slice(comptime!(form.rows()));
    let mut delta_tile = Shared::<[f32]>::new_slice(comptime!(form.rows()));
    let mut seen = Shared::<[f32]>::new_slice(comptime!(2 * form.step));

    let mut end = keys;
    if comptime!(form.causal) {
        end = min(keys, offset + min(first + rows, queries));
    }
    let steps = end.div_ceil(step);
    let row = (batch * queries + first) * heads + head;
    let k_from = batch * sizes.k_batch as usize + kv_head * key;
    let v_from = batch * sizes.v_batch as usize + kv_head * value;
    fetch::<F>(
        q,
        row * key,
        heads * key,
        queries - first,
        &mut q_tile,
        0usize,
        comptime!(form.own_key()),
    );
    fetch::<F>(
        dout,
        row * value,
        heads * value,
        queries - first,
        &mut d_tile,
        0usize,
        comptime!(form.own_value()),
    );
    fetch::<F>(
        k,
        k_from,
        kv_heads * key,
        keys,
        &mut k_tile,
        0usize,
        comptime!(form.step_key()),
    );
    fetch::<F>(
        v,
        v_from,
        kv_heads * value,
        keys,
        &mut v_tile,
        0usize,
        comptime!(form.step_value()),
    );
    let line = (batch * heads + head) * queries + first;
    fetch_numbers(
        lse,
        line,
        queries - first,
        &mut lse_tile,
        0usize,
        comptime!(form.rows()),
    );
    fetch_numbers(
        delta,
        line,
        queries - first,
        &mut delta_tile,
        0usize,
        comptime!(form.rows()),
    );
    commit();

    let log2_e = f32::new(core::f32::consts::LOG2_E);
    let scale = sizes.scale * log2_e;
    let mut sums = Array::<f32>::new(comptime!(form.along(form.key).sums()));
    #[unroll]
    for i in 0..comptime!(form.along(form.key).sums()) {
        sums[i] = 0.0f32;
    }

    for at in 0..steps {
        let from = at * step;
        let stage = at % 2;
        #[comptime]
        if let ComptimeOption::Some(key_mask) = &key_mask {
            if unit < step {
                let mut bias = nothing();
                if from + unit < keys {
                    if key_mask[batch * keys + from + unit] != 0 {
                        bias = 0.0f32;
                    }
                }
                seen[stage * step + unit] = bias;
            }
        }
        arrived();
        sync_cube();
        // The other stage was read before the barrier.
        if at + 1 < steps {
            let next = from + step;
            let to = 1 - stage;
            fetch::<F>(
                k,
                k_from + next * kv_heads * key,
                kv_heads * key,
                keys - next,
                &mut k_tile,
                to * comptime!(form.step_key().len()),
                comptime!(form.step_key()),
            );
            fetch::<F>(
                v,
                v_from + next * kv_heads * value,
                kv_heads * value,
                keys - next,
                &mut v_tile,
                to * comptime!(form.step_value().len()),
                comptime!(form.step_value()),
            );
            commit();
        }

        // Planes with early rows see nothing of the last steps.
        let mut any = true.runtime();
        if comptime!(form.causal) {
            any = from < offset + first + own + comptime!(form.bands * 16);
        }
        if any {
            let k_at = stage * comptime!(form.step_key().len());
            let v_at = stage * comptime!(form.step_value().len());
            let mut weights = rows_by_rows::<F>(
                &q_tile,
                own * key_pitch,
                &k_tile,
                k_at,
                key_pitch,
                comptime!(form.scores(form.key)),
            );
            let mut partly = from + step > keys;
            if comptime!(form.causal) {
                partly = partly || from + step > offset + first + own + 1;
            }
            if partly {
                #[unroll]
                for i in 0..comptime!(form.bands * form.step / 2) {
                    let (band, c, r, e) = comptime!((
                        i / (form.step / 2),
                        i % (form.step / 2) / 4,
                        i / 2 % 2,
                        i % 2
                    ));
                    let mut limit = keys;
                    if comptime!(form.causal) {
                        limit = min(keys, offset + first + own + band * 16 + r * 8 + g + 1);
                    }
                    if from + c * 8 + t * 2 + e >= limit {
                        weights[i] = nothing();
                    }
                }
            }
            #[comptime]
            if let ComptimeOption::Some(_) = &key_mask {
                #[unroll]
                for i in 0..comptime!(form.bands * form.step / 2) {
                    let (c, e) = comptime!((i % (form.step / 2) / 4, i % 2));
                    weights[i] += seen[stage * step + c * 8 + t * 2 + e];
                }
            }
            let grads = rows_by_rows::<F>(
                &d_tile,
                own * value_pitch,
                &v_tile,
                v_at,
                value_pitch,
                comptime!(form.scores(form.value)),
            );
            // From shared memory, for want of registers.
            #[unroll]
            for line in 0..comptime!(2 * form.bands) {
                let log = lse_tile[own + line * 8 + g] * log2_e;
                let mean = delta_tile[own + line * 8 + g];
                #[unroll]
                for n in 0..comptime!(form.step / 4) {
                    let i = comptime!(line / 2 * form.step / 2 + n / 2 * 4 + line % 2 * 2 + n % 2);
                    weights[i] = exp2(weights[i] * scale - log) * (grads[i] - mean);
                }
            }
            add_by_columns::<F>(
                &weights,
                &k_tile,
                k_at,
                key_pitch,
                &mut sums,
                comptime!(form.along(form.key)),
            );
        }
    }
    arrived();

    #[unroll]
    for i in 0..comptime!(2 * form.bands) {
        let row = first + own + i * 8 + g;
        if row < queries {
            store_row::<F>(
                &sums,
                comptime!(i / 2 * form.key.next_multiple_of(16) / 2 + i % 2 * 2),
                sizes.scale,
                dq,
                ((batch * queries + row) * heads + head) * comptime!(form.key / 2),
                key,
            );
        }
    }
}
