//! The forward pass.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::super::{Forward, Shape};
use super::sizes::{Order, Room, Sizes, half, order, place, sizes};
use super::tile::{
    Half, Tile, arrived, commit, exp2, fetch, left, multiply, nothing, packed, quad_max, quad_sum,
    right_columns, right_rows,
};
use crate::device::cubes;

/// What is compiled into a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    key: usize,
    value: usize,
    planes: usize,
    /// Sixteens of rows of a plane.
    bands: usize,
    /// Keys of a step.
    step: usize,
    causal: bool,
    /// Whether the queries stay in registers.
    held: bool,
    half: Half,
}

impl Form {
    const fn units(self) -> usize {
        32 * self.planes
    }

    const fn rows(self) -> usize {
        16 * self.bands * self.planes
    }

    const fn tile(self, rows: usize, width: usize) -> Tile {
        Tile {
            rows,
            width,
            units: self.units(),
        }
    }

    const fn q(self) -> Tile {
        self.tile(self.rows(), self.key)
    }

    const fn k(self) -> Tile {
        self.tile(self.step, self.key)
    }

    const fn v(self) -> Tile {
        self.tile(self.step, self.value)
    }

    /// Bytes of shared memory.
    const fn shared(self) -> usize {
        2 * (self.q().len() + 2 * (self.k().len() + self.v().len())) + 2 * 4 * self.step
    }

    /// That for a shape on a device.
    fn of(shape: &Shape, room: Room, half: Half) -> Option<Form> {
        let widest = shape.key.max(shape.value);
        let few = room.few(shape.batch * shape.heads, shape.queries);
        // What fits in registers: sums of 16 rows take half as many as a value has elements, scores half a step.
        let (bands, step) = match widest {
            ..=64 => (2, 64),
            65..=128 => (2, 32),
            _ => (1, 32),
        };
        let full = Form {
            key: shape.key,
            value: shape.value,
            planes: if bands == 1 && !few { 8 } else { 4 },
            bands: if few { 1 } else { bands },
            step,
            causal: shape.causal,
            held: shape.key <= 64,
            half,
        };
        let four = Form { planes: 4, ..full };
        let short = Form {
            bands: 1,
            step: 16,
            ..four
        };
        [full, four, short, Form { planes: 2, ..short }]
            .into_iter()
            .find(|form| form.shared() <= room.shared)
    }
}

#[cube(launch)]
fn attention_forward<F: Float>(
    q: &[F],
    k: &[F],
    v: &[F],
    key_mask: ComptimeOption<&[u32]>,
    out: &mut [Vector<F, Const<2>>],
    lse: &mut [f32],
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
    let bands = comptime!(form.bands);
    let step = comptime!(form.step);
    let key = comptime!(form.key);
    let value = comptime!(form.value);
    let key_steps = comptime!(form.k().padded() / 16);
    let value_steps = comptime!(form.v().padded() / 16);
    let column_steps = comptime!(form.step / 16);
    let (q_pitch, k_pitch, v_pitch) =
        comptime!((form.q().pitch(), form.k().pitch(), form.v().pitch()));

    let (queries, keys) = (sizes.queries as usize, sizes.keys as usize);
    let (heads, kv_heads) = (sizes.heads as usize, sizes.kv_heads as usize);
    let offset = sizes.offset as usize;
    let (batch, head) = (pair / heads, pair % heads);
    let kv_head = head / (heads / kv_heads);
    // Blocks are numbered from the last, which sees most keys.
    let first = (order.blocks as usize - 1 - block) * rows;
    let unit = UNIT_POS as usize;
    let plane = unit / 32;
    let lane = unit % 32;
    let (g, t) = (lane / 4, lane % 4);
    // The first row of this plane.
    let own = plane * comptime!(form.bands * 16);

    let mut q_tile = Shared::<[F]>::new_aligned_slice(comptime!(form.q().len()), 16usize);
    let mut k_tile = Shared::<[F]>::new_aligned_slice(comptime!(2 * form.k().len()), 16usize);
    let mut v_tile = Shared::<[F]>::new_aligned_slice(comptime!(2 * form.v().len()), 16usize);
    let mut seen = Shared::<[f32]>::new_slice(comptime!(2 * form.step));

    let mut end = keys;
    if comptime!(form.causal) {
        end = min(keys, offset + min(first + rows, queries));
    }
    let steps = end.div_ceil(step);
    let q_from = ((batch * queries + first) * heads + head) * key;
    let k_from = batch * sizes.k_batch as usize + kv_head * key;
    let v_from = batch * sizes.v_batch as usize + kv_head * value;

    fetch::<F>(
        q,
        q_from,
        heads * key,
        queries - first,
        &mut q_tile,
        0usize,
        comptime!(form.q()),
    );
    fetch::<F>(
        k,
        k_from,
        kv_heads * key,
        keys,
        &mut k_tile,
        0usize,
        comptime!(form.k()),
    );
    fetch::<F>(
        v,
        v_from,
        kv_heads * value,
        keys,
        &mut v_tile,
        0usize,
        comptime!(form.v()),
    );
    commit();

    let mut held = Array::<Vector<u32, Const<4>>>::new(comptime!(if form.held {
        form.bands * form.k().padded() / 16
    } else {
        1
    }));
    if comptime!(form.held) {
        arrived();
        sync_cube();
        #[unroll]
        for band in 0..bands {
            #[unroll]
            for x in 0..key_steps {
                held[band * key_steps + x] =
                    left::<F>(&q_tile, (own + band * 16) * q_pitch + x * 16, q_pitch);
            }
        }
    }

    let mut sums = Array::<f32>::new(comptime!(form.bands * form.v().padded() / 2));
    #[unroll]
    for i in 0..comptime!(form.bands * form.v().padded() / 2) {
        sums[i] = 0.0f32;
    }
    // Of rows g and g + 8 of every band: the largest score, and this lane's part of the sum.
    let mut top = Array::<f32>::new(comptime!(2 * form.bands));
    let mut total = Array::<f32>::new(comptime!(2 * form.bands));
    #[unroll]
    for i in 0..comptime!(2 * form.bands) {
        top[i] = nothing();
        total[i] = 0.0f32;
    }
    let scale = sizes.scale * f32::new(core::f32::consts::LOG2_E);

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
                to * comptime!(form.k().len()),
                comptime!(form.k()),
            );
            fetch::<F>(
                v,
                v_from + next * kv_heads * value,
                kv_heads * value,
                keys - next,
                &mut v_tile,
                to * comptime!(form.v().len()),
                comptime!(form.v()),
            );
            commit();
        }

        // Planes with early rows see nothing of the last steps.
        let mut any = true.runtime();
        if comptime!(form.causal) {
            any = from < offset + first + own + comptime!(form.bands * 16);
        }
        if any {
            let mut scores = Array::<f32>::new(comptime!(form.bands * form.step / 2));
            #[unroll]
            for i in 0..comptime!(form.bands * form.step / 2) {
                scores[i] = 0.0f32;
            }
            let k_at = stage * comptime!(form.k().len());
            #[unroll]
            for x in 0..key_steps {
                let mut a = Array::<Vector<u32, Const<4>>>::new(bands);
                #[unroll]
                for band in 0..bands {
                    if comptime!(form.held) {
                        a[band] = held[band * key_steps + x];
                    } else {
                        a[band] = left::<F>(&q_tile, (own + band * 16) * q_pitch + x * 16, q_pitch);
                    }
                }
                #[unroll]
                for c in 0..column_steps {
                    let b = right_rows::<F>(&k_tile, k_at + c * 16 * k_pitch + x * 16, k_pitch);
                    #[unroll]
                    for band in 0..bands {
                        let to = comptime!(band * form.step / 2 + c * 8);
                        multiply(
                            a[band],
                            b.extract(0usize),
                            b.extract(1usize),
                            &mut scores,
                            to,
                            form.half,
                        );
                        multiply(
                            a[band],
                            b.extract(2usize),
                            b.extract(3usize),
                            &mut scores,
                            comptime!(to + 4),
                            form.half,
                        );
                    }
                }
            }

            // What may not be seen.
            let mut partly = from + step > keys;
            if comptime!(form.causal) {
                partly = partly || from + step > offset + first + own + 1;
            }
            if partly {
                #[unroll]
                for band in 0..bands {
                    #[unroll]
                    for r in 0..2usize {
                        let mut limit = keys;
                        if comptime!(form.causal) {
                            limit = min(keys, offset + first + own + band * 16 + r * 8 + g + 1);
                        }
                        #[unroll]
                        for c in 0..comptime!(form.step / 8) {
                            #[unroll]
                            for e in 0..2usize {
                                let i = comptime!(band * form.step / 2 + c * 4 + r * 2 + e);
                                if from + c * 8 + t * 2 + e >= limit {
                                    scores[i] = nothing();
                                }
                            }
                        }
                    }
                }
            }
            #[comptime]
            if let ComptimeOption::Some(_) = &key_mask {
                #[unroll]
                for c in 0..comptime!(form.step / 8) {
                    #[unroll]
                    for e in 0..2usize {
                        let bias = seen[stage * step + c * 8 + t * 2 + e];
                        #[unroll]
                        for band in 0..bands {
                            #[unroll]
                            for r in 0..2usize {
                                scores[comptime!(band * form.step / 2 + c * 4 + r * 2 + e)] += bias;
                            }
                        }
                    }
                }
            }

            let mut shrinks = Array::<f32>::new(comptime!(2 * form.bands));
            let mut rises = false.runtime();
            #[unroll]
            for band in 0..bands {
                #[unroll]
                for r in 0..2usize {
                    let row = comptime!(band * 2 + r);
                    let mut largest = scores[comptime!(band * form.step / 2 + r * 2)];
                    #[unroll]
                    for c in 0..comptime!(form.step / 8) {
                        let i = comptime!(band * form.step / 2 + c * 4 + r * 2);
                        largest = max(largest, max(scores[i], scores[i + 1]));
                    }
                    let old = top[row];
                    let new = max(old, quad_max(largest));
                    // So that scores of minus infinity give 0, not NaN, while nothing was seen.
                    let origin = select(new == nothing(), 0.0f32, new) * scale;
                    let shrink = exp2(old * scale - origin);
                    rises = rises || new > old;
                    top[row] = new;
                    shrinks[row] = shrink;
                    let mut part = 0.0f32;
                    #[unroll]
                    for c in 0..comptime!(form.step / 8) {
                        #[unroll]
                        for e in 0..2usize {
                            let i = comptime!(band * form.step / 2 + c * 4 + r * 2 + e);
                            let p = exp2(scores[i] * scale - origin);
                            scores[i] = p;
                            part += p;
                        }
                    }
                    total[row] = total[row] * shrink + part;
                }
            }
            // Where no row has a new maximum, the factors are 1.
            if plane_any(rises) {
                #[unroll]
                for band in 0..bands {
                    #[unroll]
                    for i in 0..comptime!(form.v().padded() / 2) {
                        sums[comptime!(band * form.v().padded() / 2 + i)] *=
                            shrinks[comptime!(band * 2 + i / 2 % 2)];
                    }
                }
            }

            let v_at = stage * comptime!(form.v().len());
            #[unroll]
            for c in 0..column_steps {
                let mut a = Array::<Vector<u32, Const<4>>>::new(bands);
                #[unroll]
                for band in 0..bands {
                    a[band] = packed(&scores, comptime!(band * form.step / 2 + c * 8), form.half);
                }
                #[unroll]
                for x in 0..value_steps {
                    let b = right_columns::<F>(&v_tile, v_at + c * 16 * v_pitch + x * 16, v_pitch);
                    #[unroll]
                    for band in 0..bands {
                        let to = comptime!(band * form.v().padded() / 2 + x * 8);
                        multiply(
                            a[band],
                            b.extract(0usize),
                            b.extract(1usize),
                            &mut sums,
                            to,
                            form.half,
                        );
                        multiply(
                            a[band],
                            b.extract(2usize),
                            b.extract(3usize),
                            &mut sums,
                            comptime!(to + 4),
                            form.half,
                        );
                    }
                }
            }
        }
    }
    arrived();

    #[unroll]
    for band in 0..bands {
        #[unroll]
        for r in 0..2usize {
            let line = comptime!(band * 2 + r);
            let sum = quad_sum(total[line]);
            let row = first + own + band * 16 + r * 8 + g;
            if row < queries {
                let mut factor = 0.0f32;
                let mut log = -nothing();
                if sum != 0.0f32 {
                    factor = 1.0f32 / sum;
                    log = top[line] * sizes.scale + sum.ln();
                }
                let to = (((batch * queries + row) * heads + head) * value) / 2 + t;
                #[unroll]
                for n in 0..comptime!(form.value / 8) {
                    let i = comptime!(band * form.v().padded() / 2 + n * 4 + r * 2);
                    let mut pair = Vector::<f32, Const<2>>::new(0.0f32);
                    pair.insert(0usize, sums[i] * factor);
                    pair.insert(1usize, sums[i + 1] * factor);
                    out[to + n * 4] = Vector::cast_from(pair);
                }
                if t == 0 {
                    lse[(batch * heads + head) * queries + row] = log;
                }
            }
        }
    }
}

/// Whether a form fits in shared memory.
pub(super) fn fits(shape: &Shape, room: Room, half: Half) -> bool {
    Form::of(shape, room, half).is_some()
}

/// As [`super::forward`].
pub(super) fn launch(client: &Client, shape: &Shape, buffers: Forward, dtype: ElemType) {
    if shape.batch * shape.queries * shape.heads == 0 {
        return;
    }
    let half = half(dtype).expect("a 16-bit float");
    let form = Form::of(shape, Room::of(client), half).expect("a form that fits");
    let blocks = shape.queries.div_ceil(form.rows());
    let pairs = shape.batch * shape.heads;
    attention_forward::launch(
        client,
        cubes(blocks * pairs),
        CubeDim::new_1d(form.units() as u32),
        buffers.q,
        buffers.k,
        buffers.v,
        buffers.key_mask.into(),
        buffers.out,
        buffers.lse,
        sizes(shape),
        order(shape, pairs, blocks),
        form,
        dtype,
    );
}
