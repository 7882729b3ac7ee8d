//! Attention on the CPU: blocks of queries against all their keys, forward and backward.
//!
//! A block's scores are one matrix product, its softmax runs over whole rows, and the result is
//! a second product. The forward pass keeps the logarithm of every row's sum of exponentials, so that
//! the backward pass forms the same weights again instead of storing them.

use super::decode;
use super::seam::{AttentionOps, Settings};
use crate::kernels::buffer::{
    Flat, Matrix, Shared, Threads, filled, flat, floats, integers, product,
};
use crate::kernels::vector::{self, multiversion};
use burn::backend::Flex;
use rayon::prelude::*;

/// Queries of one block.
const BLOCK: usize = 64;

/// Keys whose scores a block holds at a time: with those of the backward pass twice a quarter of a megabyte, which the
/// second level of a processor's cache has room for.
const TILE: usize = 1024;

/// Work (multiply-adds) below which threads cost more than they bring.
pub(super) const SMALL: usize = 1 << 16;

impl AttentionOps for Flex {
    fn attend(q: Flat, k: Flat, v: Flat, mask: Flat, settings: Settings) -> (Flat, Flat) {
        let bias = bias(&mask, settings);
        let shape = [0, 2, 1].map(|axis| q.layout().shape()[axis]);
        let (out, sums) = forward(&q, &k, &v, bias.as_deref(), settings);
        (out, flat(sums, shape))
    }

    fn attend_backward(
        q: Flat,
        k: Flat,
        v: Flat,
        mask: Flat,
        out: Flat,
        sums: Flat,
        grad: Flat,
        settings: Settings,
    ) -> (Flat, Flat, Flat) {
        let bias = bias(&mask, settings);
        let forward = (&out, &*floats(&sums));
        let [q, k, v] = backward((&q, &k, &v), bias.as_deref(), forward, &grad, settings);
        (q, k, v)
    }
}

/// What is added to the scores of a key: 0 where it may be seen, else minus infinity; `None` without a mask.
fn bias(mask: &Flat, settings: Settings) -> Option<Vec<f32>> {
    let of = |seen: i64| if seen == 0 { f32::NEG_INFINITY } else { 0.0 };
    let bias = || integers(mask).into_iter().map(of).collect();
    settings.masked.then(bias)
}

/// A `[batch, time, head, key]` tensor as it lies: the last axis contiguous, the others strided.
pub(super) struct View {
    tensor: Flat,
    dims: [usize; 4],
    strides: [usize; 3],
}

impl View {
    fn of(tensor: &Flat) -> Self {
        let layout = tensor.layout();
        let regular = layout.strides().iter().all(|&s| s >= 0)
            && (layout.strides()[3] == 1 || layout.shape()[3] == 1);
        let tensor = if regular {
            tensor.clone()
        } else {
            tensor.to_contiguous()
        };
        let layout = tensor.layout();
        let stride = |axis: usize| layout.strides()[axis] as usize;
        let dims = [0, 1, 2, 3].map(|axis| layout.shape()[axis]);
        let strides = [stride(0), stride(1), stride(2)];
        let last = layout.start_offset()
            + (0..3)
                .map(|i| dims[i].saturating_sub(1) * strides[i])
                .sum::<usize>()
            + dims[3];
        assert!(
            dims.contains(&0) || last <= tensor.storage::<f32>().len(),
            "attention: a view reaches beyond its buffer"
        );
        Self {
            tensor,
            dims,
            strides,
        }
    }

    /// Times `from ..` of one head: rows are times, columns the key axis.
    pub(super) fn matrix(&self, batch: usize, from: usize, head: usize) -> Matrix {
        let offset = self.tensor.layout().start_offset()
            + batch * self.strides[0]
            + from * self.strides[1]
            + head * self.strides[2];
        let storage = self.tensor.storage::<f32>();
        Matrix {
            start: storage[offset.min(storage.len())..].as_ptr(),
            row: self.strides[1] as isize,
            column: 1,
        }
    }
}

impl View {
    /// Elements from a head to the next.
    pub(super) fn head_stride(&self) -> usize {
        self.strides[2]
    }
}

/// Sizes of one call.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    queries: usize,
    pub(super) keys: usize,
    pub(super) heads: usize,
    kv_heads: usize,
    pub(super) key: usize,
    pub(super) value: usize,
}

impl Sizes {
    pub(super) fn of(q: &View, k: &View, v: &View) -> Self {
        let [batch, queries, heads, key] = q.dims;
        let [_, keys, kv_heads, _] = k.dims;
        assert!(
            k.dims[0] == batch
                && k.dims[3] == key
                && v.dims[..3] == k.dims[..3]
                && kv_heads > 0
                && heads.is_multiple_of(kv_heads),
            "attention: q {:?}, k {:?}, v {:?} do not fit",
            q.dims,
            k.dims,
            v.dims
        );
        Self {
            batch,
            queries,
            keys,
            heads,
            kv_heads,
            key,
            value: v.dims[3],
        }
    }

    /// Keys that the queries before `end` may see.
    pub(super) fn seen(&self, settings: Settings, end: usize) -> usize {
        if settings.causal {
            self.keys.min(end + settings.offset)
        } else {
            self.keys
        }
    }

    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    pub(super) fn work(&self) -> usize {
        self.batch * self.queries * self.keys * self.heads * (self.key + self.value)
    }
}

/// What the softmax of a block takes of a tile of keys: one row is one query.
struct Rows {
    /// The tile's first key, and its keys: the row length in the buffer.
    from: usize,
    len: usize,
    /// Keys that the first row sees, from the first of all; every next row sees `step` more.
    first: usize,
    step: usize,
}

impl Rows {
    /// The tiles of the first `seen` keys, for queries `from ..`.
    fn tiles(settings: Settings, from: usize, seen: usize) -> impl Iterator<Item = Rows> {
        let (first, step) = if settings.causal {
            (from + settings.offset + 1, 1)
        } else {
            (seen, 0)
        };
        (0..seen).step_by(TILE).map(move |tile| Rows {
            from: tile,
            len: TILE.min(seen - tile),
            first,
            step,
        })
    }

    /// Keys of the tile that a row sees.
    fn visible(&self, row: usize) -> usize {
        (self.first + row * self.step)
            .saturating_sub(self.from)
            .min(self.len)
    }
}

/// Runs `f` over `0..tasks`, each thread with a buffer of its own, in parallel where it pays.
fn each(tasks: usize, work: usize, f: impl Fn(&mut Vec<f32>, usize) + Sync + Send) {
    if work < SMALL {
        let mut buffer = Vec::new();
        for task in 0..tasks {
            f(&mut buffer, task);
        }
    } else {
        (0..tasks).into_par_iter().for_each_init(Vec::new, f);
    }
}

/// At least `len` elements of `buffer`, whose contents are arbitrary.
fn at_least(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// The result `[batch, t, heads, value]`, and the logarithm of every row's sum of exponentials,
/// `[batch, heads, t]` (infinity for a row that sees nothing).
///
/// `bias [batch, s]` is added to the scores: 0 or minus infinity.
pub(super) fn forward(
    q: &Flat,
    k: &Flat,
    v: &Flat,
    bias: Option<&[f32]>,
    settings: Settings,
) -> (Flat, Vec<f32>) {
    let (q, k, v) = (View::of(q), View::of(k), View::of(v));
    if q.dims[1] == 1 {
        return decode::forward(&q, &k, &v, bias, settings);
    }
    let sizes = Sizes::of(&q, &k, &v);
    let Sizes {
        batch,
        queries,
        heads,
        value,
        ..
    } = sizes;
    let blocks = queries.div_ceil(BLOCK);
    let mut sums = vec![0.0; batch * heads * queries];
    let sums_at = Shared::new(&mut sums);
    let out = filled(batch * queries * heads * value, |out| {
        let out_at = Shared::new(out);
        each(batch * heads * blocks, sizes.work(), |buffer, task| {
            // The last blocks see most keys: they come first.
            let from = (blocks - 1 - task % blocks) * BLOCK;
            let (b, h) = (task / blocks / heads, task / blocks % heads);
            let len = BLOCK.min(queries - from);
            // SAFETY: rows `from .. from + len` of head h of sequence b, this task's alone.
            let (out, sums) = unsafe {
                (
                    out_at.at(((b * queries + from) * heads + h) * value),
                    std::slice::from_raw_parts_mut(
                        sums_at.at((b * heads + h) * queries + from),
                        len,
                    ),
                )
            };
            // SAFETY: row `row` of the block.
            let out_row = |row: usize| unsafe {
                std::slice::from_raw_parts_mut(out.add(row * heads * value), value)
            };
            let bias = bias.map(|bias| &bias[b * sizes.keys..][..sizes.keys]);
            let h_kv = h / sizes.group();
            let seen = sizes.seen(settings, from + len);
            let buffer = at_least(buffer, len * TILE.min(seen) + 3 * len);
            let (states, scores) = buffer.split_at_mut(3 * len);
            let (largest, rest) = states.split_at_mut(len);
            let (totals, shrinks) = rest.split_at_mut(len);
            largest.fill(f32::NEG_INFINITY);
            totals.fill(0.0);
            if seen == 0 {
                (0..len).for_each(|row| out_row(row).fill(0.0));
            }
            for rows in Rows::tiles(settings, from, seen) {
                let scores = &mut scores[..len * rows.len];
                let tile_bias = bias.map(|bias| &bias[rows.from..][..rows.len]);
                // SAFETY: sizes and strides come from the views.
                unsafe {
                    product(
                        (len, rows.len, sizes.key),
                        scores.as_mut_ptr(),
                        rows.len as isize,
                        false,
                        q.matrix(b, from, h),
                        k.matrix(b, rows.from, h_kv).transposed(),
                        settings.scale,
                        Threads::One,
                    );
                }
                softmax(scores, &rows, tile_bias, largest, totals, shrinks);
                if rows.from > 0 {
                    for (row, &shrink) in shrinks.iter().enumerate() {
                        if shrink != 1.0 {
                            out_row(row).iter_mut().for_each(|x| *x *= shrink);
                        }
                    }
                }
                // SAFETY: as above.
                unsafe {
                    product(
                        (len, value, rows.len),
                        out,
                        (heads * value) as isize,
                        rows.from > 0,
                        Matrix::rows(scores, rows.len),
                        v.matrix(b, rows.from, h_kv),
                        1.0,
                        Threads::One,
                    );
                }
            }
            for (row, sum) in sums.iter_mut().enumerate() {
                // A row that sees nothing is zeros.
                let total = totals[row];
                let scale = if total == 0.0 { 0.0 } else { 1.0 / total };
                *sum = if total == 0.0 {
                    f32::INFINITY
                } else {
                    largest[row] + total.ln()
                };
                out_row(row).iter_mut().for_each(|x| *x *= scale);
            }
        });
    });
    (flat(out, [batch, queries, heads, value]), sums)
}

/// Rows of a tile's scores become unnormalised weights: exponentials above the largest score so far, which `largest` has
/// of every row, `totals` their sum; `shrinks` gets what earlier weights have to be multiplied with.
#[inline(always)]
fn softmax_body<const FMA: bool>(
    scores: &mut [f32],
    rows: &Rows,
    bias: Option<&[f32]>,
    largest: &mut [f32],
    totals: &mut [f32],
    shrinks: &mut [f32],
) {
    let states = largest.iter_mut().zip(totals).zip(shrinks);
    for (i, ((largest, total), shrink)) in states.enumerate() {
        let row = &mut scores[i * rows.len..][..rows.len];
        let (row, rest) = row.split_at_mut(rows.visible(i));
        rest.fill(0.0);
        if let Some(bias) = bias {
            for (x, &bias) in row.iter_mut().zip(bias) {
                *x += bias;
            }
        }
        *shrink = 1.0;
        let here = vector::max(row);
        if here == f32::NEG_INFINITY {
            // Sees nothing (or holds nothing but NaN, which stays).
            if row.iter().any(|x| x.is_nan()) {
                *total = f32::NAN;
            }
            row.fill(0.0);
            continue;
        }
        if here > *largest {
            *shrink = if *largest == f32::NEG_INFINITY {
                1.0
            } else {
                (*largest - here).exp()
            };
            *largest = here;
        }
        *total = *total * *shrink + vector::exp_shifted_sum::<FMA>(row, *largest);
    }
}

multiversion! {
    fn softmax(
        scores: &mut [f32],
        rows: &Rows,
        bias: Option<&[f32]>,
        largest: &mut [f32],
        totals: &mut [f32],
        shrinks: &mut [f32],
    ) = softmax_body
}

/// Gradients of q, k and v, contiguous.
pub(super) fn backward(
    (q, k, v): (&Flat, &Flat, &Flat),
    bias: Option<&[f32]>,
    (out, sums): (&Flat, &[f32]),
    grad: &Flat,
    settings: Settings,
) -> [Flat; 3] {
    let (q, k, v) = (View::of(q), View::of(k), View::of(v));
    let (out, grad) = (View::of(out), View::of(grad));
    let sizes = Sizes::of(&q, &k, &v);
    let Sizes {
        batch,
        queries,
        keys,
        heads,
        kv_heads,
        key,
        value,
        ..
    } = sizes;
    let mut q_grad = vec![0.0; batch * queries * heads * key];
    let mut k_grad = vec![0.0; batch * keys * kv_heads * key];
    let mut v_grad = vec![0.0; batch * keys * kv_heads * value];
    let places = [&mut q_grad, &mut k_grad, &mut v_grad].map(|g| Shared::new(g));
    each(batch * kv_heads, 3 * sizes.work(), |buffer, task| {
        let (b, h_kv) = (task / kv_heads, task % kv_heads);
        let bias = bias.map(|bias| &bias[b * keys..][..keys]);
        // SAFETY: head `h_kv` of sequence b, and the query heads that read it, are this task's alone.
        let (k_out, v_out) = unsafe {
            (
                places[1].at((b * keys * kv_heads + h_kv) * key),
                places[2].at((b * keys * kv_heads + h_kv) * value),
            )
        };
        for h in h_kv * sizes.group()..(h_kv + 1) * sizes.group() {
            for from in (0..queries).step_by(BLOCK) {
                let len = BLOCK.min(queries - from);
                let seen = sizes.seen(settings, from + len);
                let sums = &sums[(b * heads + h) * queries + from..][..len];
                let tile = len * TILE.min(seen);
                let buffer = at_least(buffer, 2 * tile + len);
                let (weights, rest) = buffer.split_at_mut(tile);
                let (scores, means) = rest.split_at_mut(tile);
                let (queries_of, grads) = (q.matrix(b, from, h), grad.matrix(b, from, h));
                // SAFETY: sizes and strides come from the views.
                unsafe { row_products(means, grads, out.matrix(b, from, h), value) };
                for rows in Rows::tiles(settings, from, seen) {
                    let weights = &mut weights[..len * rows.len];
                    let scores = &mut scores[..len * rows.len];
                    let bias = bias.map(|bias| &bias[rows.from..][..rows.len]);
                    let keys_of = k.matrix(b, rows.from, h_kv);
                    let values_of = v.matrix(b, rows.from, h_kv);
                    // SAFETY: sizes and strides come from the views; outputs as above.
                    unsafe {
                        let square = |out: &mut [f32], inner, left, right: Matrix, factor| {
                            product(
                                (len, rows.len, inner),
                                out.as_mut_ptr(),
                                rows.len as isize,
                                false,
                                left,
                                right.transposed(),
                                factor,
                                Threads::One,
                            );
                        };
                        square(weights, key, queries_of, keys_of, settings.scale);
                        square(scores, value, grads, values_of, 1.0);
                        score_gradient(weights, scores, &rows, bias, sums, means);
                        let weights = Matrix::rows(weights, rows.len);
                        let scores = Matrix::rows(scores, rows.len);
                        product(
                            (rows.len, value, len),
                            v_out.add(rows.from * kv_heads * value),
                            (kv_heads * value) as isize,
                            true,
                            weights.transposed(),
                            grads,
                            1.0,
                            Threads::One,
                        );
                        product(
                            (rows.len, key, len),
                            k_out.add(rows.from * kv_heads * key),
                            (kv_heads * key) as isize,
                            true,
                            scores.transposed(),
                            queries_of,
                            settings.scale,
                            Threads::One,
                        );
                        product(
                            (len, key, rows.len),
                            places[0].at(((b * queries + from) * heads + h) * key),
                            (heads * key) as isize,
                            rows.from > 0,
                            scores,
                            keys_of,
                            settings.scale,
                            Threads::One,
                        );
                    }
                }
            }
        }
    });
    [
        flat(q_grad, [batch, queries, heads, key]),
        flat(k_grad, [batch, keys, kv_heads, key]),
        flat(v_grad, [batch, keys, kv_heads, value]),
    ]
}

/// `Σ left · right` of every row.
///
/// # Safety
/// Both matrices hold `out.len()` rows of `width` contiguous elements.
unsafe fn row_products(out: &mut [f32], left: Matrix, right: Matrix, width: usize) {
    for (i, out) in out.iter_mut().enumerate() {
        // SAFETY: promised by the caller.
        let row = |m: Matrix| unsafe {
            std::slice::from_raw_parts(m.start.offset(i as isize * m.row), width)
        };
        *out = vector::dot::<false>(row(left), row(right));
    }
}

/// From scores to weights (in `weights`), and from the gradient of weights to that of scores (in `scores`).
#[inline(always)]
fn score_gradient_body<const FMA: bool>(
    weights: &mut [f32],
    scores: &mut [f32],
    rows: &Rows,
    bias: Option<&[f32]>,
    sums: &[f32],
    means: &[f32],
) {
    for (i, (&sum, &mean)) in sums.iter().zip(means).enumerate() {
        let visible = rows.visible(i);
        let (weights, rest) = weights[i * rows.len..][..rows.len].split_at_mut(visible);
        rest.fill(0.0);
        let (scores, rest) = scores[i * rows.len..][..rows.len].split_at_mut(visible);
        rest.fill(0.0);
        if let Some(bias) = bias {
            for (x, &bias) in weights.iter_mut().zip(bias) {
                *x += bias;
            }
        }
        for (weight, score) in weights.iter_mut().zip(scores) {
            *weight = vector::exp::<FMA>(*weight - sum);
            *score = *weight * (*score - mean);
        }
    }
}

multiversion! {
    fn score_gradient(
        weights: &mut [f32],
        scores: &mut [f32],
        rows: &Rows,
        bias: Option<&[f32]>,
        sums: &[f32],
        means: &[f32],
    ) = score_gradient_body
}
