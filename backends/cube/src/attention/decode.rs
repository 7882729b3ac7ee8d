//! Attention of few queries against a long cache, read once and in its order.
//!
//! The keys are cut into parts ("flash decoding", Dao et al. 2023): a cube takes one part of one key head's cache, for
//! all the query heads that read it, and writes every row's maximum, sum of exponentials and weighted values; a second
//! kernel joins the parts in order. A row is a query of one head.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::Shape;
use crate::device::{Limits, again, cubes, vectors};

/// Rows that one cube serves at most; the cache is read again for more.
const ROWS: usize = 8;

/// Parts of one sequence at most.
const PARTS: usize = 256;

/// The least finite number: the maximum of nothing.
const LEAST: f32 = f32::MIN;

/// What is compiled into a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    units: usize,
    /// Rows of a cube.
    rows: usize,
    /// Cubes that share the rows of one key head.
    blocks: usize,
    /// Vectors of a key.
    key: usize,
    /// Vectors of a value.
    value: usize,
    /// Units that share a key, a power of two.
    team: usize,
    /// Keys that a team has at a time.
    keys: usize,
    /// Units of a plane, or 0 where shared memory has to do (with teams of one).
    plane: usize,
}

impl Form {
    fn of(shape: &Shape, limits: Limits, vector: usize) -> Form {
        let all = shape.queries * (shape.heads / shape.kv_heads.max(1));
        let blocks = all.div_ceil(ROWS).max(1);
        let units = limits.units.min(128);
        let planes = limits.plane > 0 && units.is_multiple_of(limits.plane);
        let (key, value) = (shape.key / vector, shape.value / vector);
        // Neighbours read neighbouring addresses: 64 bytes of half type and 128 of f32 at a time.
        let team = if planes {
            vectors(8.min(limits.plane), &[key.max(1)])
        } else {
            1
        };
        Form {
            units: if planes { units } else { units.min(64) },
            rows: all.div_ceil(blocks).max(1),
            blocks,
            key,
            value,
            team,
            keys: if planes { 4 } else { 1 },
            plane: if planes { limits.plane } else { 0 },
        }
    }

    /// Keys of a cube at a time.
    const fn tile(self) -> usize {
        self.units / self.team * self.keys
    }

    /// The same, up to a number that the sharers of a vector of values divide.
    const fn padded(self) -> usize {
        self.tile().next_multiple_of(self.sharers())
    }

    /// Planes, or units where there are none.
    const fn voices(self) -> usize {
        match self.units.checked_div(self.plane) {
            Some(planes) => planes,
            None => self.units,
        }
    }

    /// Vectors of a value that a unit has.
    const fn held(self) -> usize {
        self.value.div_ceil(self.units)
    }

    /// Units that share the keys of a vector of values.
    const fn sharers(self) -> usize {
        match self.units.checked_div(self.value) {
            None | Some(0) => 1,
            Some(sharers) => sharers,
        }
    }
}

/// Elements of a vector in global memory: up to 16 bytes.
fn vector(client: &Client, shape: &Shape, dtype: ElemType) -> usize {
    let widest = client
        .io_optimized_vector_sizes(dtype.size())
        .max()
        .unwrap_or(1);
    let lengths = [shape.key, shape.value, shape.k_batch, shape.v_batch];
    vectors(widest.min(16 / dtype.size()).min(8), &lengths)
}

/// Parts that the keys of a call are cut into on a device: enough that every multiprocessor has several cubes, and none
/// shorter than what a cube takes at a time.
pub fn parts(client: &Client, shape: &Shape, dtype: ElemType) -> usize {
    let form = Form::of(shape, Limits::of(client), vector(client, shape, dtype));
    let processors = client.properties().hardware.num_streaming_multiprocessors;
    let wanted = 4 * processors.unwrap_or(64) as usize;
    let others = (shape.batch * shape.kv_heads * form.blocks).max(1);
    let most = shape.keys.div_ceil(form.tile()).clamp(1, PARTS);
    wanted.div_ceil(others).clamp(1, most)
}

/// Elements of f32 that the parts of a call take.
pub fn scratch(shape: &Shape, parts: usize) -> usize {
    shape.batch * shape.queries * shape.heads * parts * (shape.value + 2)
}

/// The sizes of a call.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Sizes {
    batch: u32,
    queries: u32,
    keys: u32,
    heads: u32,
    kv_heads: u32,
    value: u32,
    offset: u32,
    k_batch: u32,
    v_batch: u32,
    scale: f32,
    parts: u32,
    /// Keys of a part.
    run: u32,
}

#[cube(launch)]
#[allow(
    clippy::collapsible_if,
    reason = "what is known when a kernel is compiled is an `if` of its own"
)]
fn attention_decode<F: Float, N: Size>(
    q: &[Vector<F, N>],
    k: &[Vector<F, N>],
    v: &[Vector<F, N>],
    key_mask: ComptimeOption<&[u32]>,
    parts: &mut [f32],
    sizes: Sizes,
    #[comptime] form: Form,
    #[define(F)] _dtype: ElemType,
) {
    let units = comptime!(form.units);
    let rows = comptime!(form.rows);
    let team = comptime!(form.team);
    let teams = comptime!(units / team);
    let per_team = comptime!(form.keys);
    let tile = comptime!(form.tile());
    let of_key = comptime!(form.key);
    let of_value = comptime!(form.value);
    let held = comptime!(form.held());
    let sharers = comptime!(form.sharers());
    let voices = comptime!(form.voices());
    let vector = N::value();
    let queries = sizes.queries as usize;
    let keys = sizes.keys as usize;
    let heads = sizes.heads as usize;
    let kv_heads = sizes.kv_heads as usize;
    let group = heads / kv_heads;
    let value = sizes.value as usize;
    let all_parts = sizes.parts as usize;

    // Of parts · batch · blocks · kv_heads cubes, heads the fastest: neighbours read one step of a cache.
    let blocks = comptime!(form.blocks);
    let at = CUBE_POS;
    let kv_head = at % kv_heads;
    let above = at / kv_heads;
    let block = above % blocks;
    let above = above / blocks;
    let batch = above % sizes.batch as usize;
    let part = above / sizes.batch as usize;
    if part >= all_parts {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let lane = unit % team;
    let mine = unit / team;
    let k_row = kv_heads * of_key;
    let k_at = batch * (sizes.k_batch as usize / vector) + kv_head * of_key;
    let v_row = kv_heads * of_value;
    let v_at = batch * (sizes.v_batch as usize / vector) + kv_head * of_value;

    let mut query = Shared::<[Vector<f32, N>]>::new_slice(comptime!(rows * form.key));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(form.padded() * rows));
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(form.voices() * rows));
    let mut joined = Shared::<[Vector<f32, N>]>::new_slice(comptime!(form.units * form.held()));

    // Row r of the head's `queries · group` is query r / group of head r % group.
    let all_rows = queries * group;
    let first = block * rows;
    for i in range_stepped(unit, comptime!(rows * form.key), units) {
        let row = first + i / of_key;
        let mut one = Vector::<f32, N>::new(0.0f32);
        if row < all_rows {
            let place = (batch * queries + row / group) * heads + kv_head * group + row % group;
            one = Vector::cast_from(q[place * of_key + i % of_key]);
        }
        query[i] = one;
    }
    for i in range_stepped(unit, comptime!((form.padded() - form.tile()) * rows), units) {
        weights[tile * rows + i] = 0.0f32;
    }
    let mut top = Array::<f32>::new(rows);
    let mut total = Array::<f32>::new(rows);
    let mut shrink = Array::<f32>::new(rows);
    let mut visible = Array::<usize>::new(rows);
    let mut sums = Array::<Vector<f32, N>>::new(comptime!(rows * form.held()));
    #[unroll]
    for r in 0..rows {
        top[r] = f32::new(LEAST);
        total[r] = 0.0f32;
        visible[r] = min(keys, sizes.offset as usize + (first + r) / group + 1);
        #[unroll]
        for h in 0..held {
            sums[r * held + h] = Vector::new(0.0f32);
        }
    }
    let start = part * sizes.run as usize;
    let mut end = min(start + sizes.run as usize, keys);
    end = min(end, sizes.offset as usize + queries);
    let mut steps = 0usize.runtime();
    if end > start {
        steps = (end - start).div_ceil(tile);
    }
    // A unit's vector of values and its share of the keys.
    let column = unit
        % comptime!(if form.held() > 1 || form.value == 0 {
            form.units
        } else {
            form.value
        });
    let share = comptime!(if form.held() > 1 || form.value == 0 {
        form.units
    } else {
        form.value
    });
    let share = unit / share;
    sync_cube();

    let mut scores = Array::<f32>::new(comptime!(rows * form.keys));
    let mut ones = Array::<Vector<f32, N>>::new(per_team);
    for step in 0..steps {
        let from = start + step * tile;
        let valid = min(tile, end - from);
        #[unroll]
        for i in 0..comptime!(rows * form.keys) {
            scores[i] = 0.0f32;
        }
        for x in 0..comptime!(form.key / form.team) {
            let x = lane + x * team;
            #[unroll]
            for i in 0..per_team {
                // Where there is no key, the last one is read again.
                let at = min(mine + i * teams, valid - 1);
                ones[i] = Vector::cast_from(k[k_at + (from + at) * k_row + x]);
            }
            #[unroll]
            for r in 0..rows {
                let one = query[r * of_key + x];
                #[unroll]
                for i in 0..per_team {
                    let mut sum = scores[r * per_team + i];
                    #[unroll]
                    for e in 0..N::value() {
                        sum = fma(one.extract(e), ones[i].extract(e), sum);
                    }
                    scores[r * per_team + i] = sum;
                }
            }
        }
        if comptime!(team > 1) {
            #[unroll]
            for i in 0..comptime!(rows * form.keys) {
                #[unroll]
                for step in 0..comptime!(team.ilog2()) {
                    scores[i] += plane_shuffle_xor(scores[i], comptime!(1u32 << step));
                }
            }
        }
        let mut spot = Array::<usize>::new(per_team);
        #[unroll]
        for i in 0..per_team {
            let at = mine + i * teams;
            spot[i] = keys;
            if at < valid {
                spot[i] = from + at;
                #[comptime]
                if let ComptimeOption::Some(key_mask) = &key_mask {
                    if key_mask[batch * keys + from + at] == 0 {
                        // Beyond all keys: no row sees it.
                        spot[i] = keys;
                    }
                }
            }
        }
        #[unroll]
        for r in 0..rows {
            let mut largest = f32::new(LEAST);
            #[unroll]
            for i in 0..per_team {
                let score = scores[r * per_team + i] * sizes.scale;
                scores[r * per_team + i] = score;
                if spot[i] < visible[r] {
                    largest = max(largest, score);
                }
            }
            if comptime!(form.plane > 0) {
                largest = plane_max(largest);
                if UNIT_POS_PLANE == 0 {
                    scratch[PLANE_POS as usize * rows + r] = largest;
                }
            } else {
                scratch[unit * rows + r] = largest;
            }
        }
        sync_cube();
        #[unroll]
        for r in 0..rows {
            let mut now = top[r];
            for voice in 0..voices {
                now = max(now, scratch[voice * rows + r]);
            }
            shrink[r] = (top[r] - now).exp();
            top[r] = now;
            let mut sum = total[r] * shrink[r];
            #[unroll]
            for i in 0..per_team {
                let mut weight = 0.0f32;
                if spot[i] < visible[r] {
                    weight = (scores[r * per_team + i] - now).exp();
                }
                if lane == 0 {
                    sum += weight;
                    weights[(mine + i * teams) * rows + r] = weight;
                }
            }
            total[r] = sum;
            #[unroll]
            for h in 0..held {
                sums[r * held + h] *= Vector::new(shrink[r]);
            }
        }
        sync_cube();
        if share < sharers {
            for at in 0..comptime!(form.padded() / form.sharers()) {
                let at = share + at * sharers;
                // Where there is no key, the last one is read again, and weighs nothing.
                let there = from + min(at, valid - 1);
                #[unroll]
                for h in 0..held {
                    let x = column + h * units;
                    if x < of_value {
                        let one = Vector::<f32, N>::cast_from(v[v_at + there * v_row + x]);
                        #[unroll]
                        for r in 0..rows {
                            sums[r * held + h] =
                                fma(Vector::new(weights[at * rows + r]), one, sums[r * held + h]);
                        }
                    }
                }
            }
        }
    }

    // Sums over the units.
    sync_cube();
    #[unroll]
    for r in 0..rows {
        if comptime!(form.plane > 0) {
            let sum = plane_sum(total[r]);
            if UNIT_POS_PLANE == 0 {
                scratch[PLANE_POS as usize * rows + r] = sum;
            }
        } else {
            scratch[unit * rows + r] = total[r];
        }
    }
    let all = sizes.batch as usize * queries * heads * all_parts;
    #[unroll]
    for r in 0..rows {
        #[unroll]
        for h in 0..held {
            joined[unit * held + h] = sums[r * held + h];
        }
        sync_cube();
        let row = first + r;
        if row < all_rows {
            let place = (batch * queries + row / group) * heads + kv_head * group + row % group;
            let place = place * all_parts + part;
            if share == 0 {
                #[unroll]
                for h in 0..held {
                    let x = column + h * units;
                    if x < of_value {
                        let mut sum = joined[unit * held + h];
                        for other in 1..sharers {
                            sum += joined[(unit + other * of_value) * held + h];
                        }
                        #[unroll]
                        for e in 0..N::value() {
                            parts[place * value + x * vector + e] = sum.extract(e);
                        }
                    }
                }
            }
            if unit == 0 {
                let mut sum = 0.0f32;
                for voice in 0..voices {
                    sum += scratch[voice * rows + r];
                }
                parts[all * value + place * 2] = top[r];
                parts[all * value + place * 2 + 1] = sum;
            }
        }
        sync_cube();
    }
}

/// Joins the parts of a row, in order.
#[cube(launch)]
fn attention_join<F: Float>(
    parts: &[f32],
    out: &mut [F],
    rows: u32,
    count: u32,
    value: u32,
    #[comptime] units: usize,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let count = count as usize;
    let value = value as usize;
    let statistics = rows as usize * count * value + row * count * 2;
    let mut top = f32::new(LEAST);
    for part in 0..count {
        top = max(top, parts[statistics + part * 2]);
    }
    for x in range_stepped(UNIT_POS as usize, value, units) {
        let mut sum = 0.0f32;
        let mut total = 0.0f32;
        for part in 0..count {
            let factor = (parts[statistics + part * 2] - top).exp();
            total = fma(parts[statistics + part * 2 + 1], factor, total);
            sum = fma(parts[(row * count + part) * value + x], factor, sum);
        }
        let mut mean = sum / total;
        // Not `!=`, which is false of NaN in WGSL as drivers have it.
        if total == 0.0f32 {
            mean = 0.0f32;
        }
        out[row * value + x] = F::cast_from(mean);
    }
}

/// What [`forward`] reads and writes, in the shapes of [`Shape`].
pub struct Decode {
    /// Queries.
    pub q: BufferArg,
    /// Keys.
    pub k: BufferArg,
    /// Values.
    pub v: BufferArg,
    /// `[batch, keys]` of u32: 1 where a key may be seen, 0 elsewhere.
    pub key_mask: Option<BufferArg>,
    /// Gets the result; zeros where a query sees nothing.
    pub out: BufferArg,
    /// Room for [`scratch`] elements of f32.
    pub parts: BufferArg,
    /// Parts that the keys are cut into, [`parts`] for a device's best.
    pub count: usize,
}

/// `softmax(scale · q kᵀ) v` for few queries; all but the mask and the parts have the type `dtype`.
pub fn forward(client: &Client, shape: &Shape, buffers: Decode, dtype: ElemType) {
    let rows = shape.batch * shape.queries * shape.heads;
    if rows * shape.value == 0 {
        return;
    }
    let limits = Limits::of(client);
    let vector = vector(client, shape, dtype);
    let form = Form::of(shape, limits, vector);
    let count = buffers.count.max(1);
    // Whole tiles, so that a part's units are not idle.
    let run = shape.keys.div_ceil(count).next_multiple_of(form.tile());
    attention_decode::launch(
        client,
        cubes(count * shape.batch * form.blocks * shape.kv_heads),
        CubeDim::new_1d(form.units as u32),
        vector,
        buffers.q,
        buffers.k,
        buffers.v,
        buffers.key_mask.into(),
        again(&buffers.parts),
        SizesLaunch::new(
            shape.batch as u32,
            shape.queries as u32,
            shape.keys as u32,
            shape.heads as u32,
            shape.kv_heads as u32,
            shape.value as u32,
            shape.shown() as u32,
            shape.k_batch as u32,
            shape.v_batch as u32,
            shape.scale,
            count as u32,
            run as u32,
        ),
        form,
        dtype,
    );
    let units = shape.value.next_power_of_two().min(limits.units.min(128));
    attention_join::launch(
        client,
        cubes(rows),
        CubeDim::new_1d(units as u32),
        buffers.parts,
        buffers.out,
        rows as u32,
        count as u32,
        shape.value as u32,
        units,
        dtype,
    );
}
