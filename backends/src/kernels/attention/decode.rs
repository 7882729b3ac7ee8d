//! Attention of a single query per sequence: decoding against a cache.
//!
//! The cache is read in the order in which it lies, all heads of a step together, in pieces of steps.
//! Every piece has a softmax of its own; they are joined at the end, in order.

use super::flex::{SMALL, Sizes, View};
use super::seam::Settings;
use crate::kernels::buffer::{Flat, Matrix, flat};
use crate::kernels::vector::{self, fma, multiversion};
use rayon::prelude::*;

/// Keys of one piece.
const PIECE_KEYS: usize = 128;

/// One sequence: its query, and the keys and values of one piece.
struct Piece<'a> {
    sizes: Sizes,
    scale: f32,
    /// Keys of this piece.
    len: usize,
    bias: Option<&'a [f32]>,
    /// Head 0 of the first step of each, and the distance between heads.
    q: (Matrix, usize),
    k: (Matrix, usize),
    v: (Matrix, usize),
}

/// The elements of one head at one step.
///
/// # Safety
/// The step and the head lie within the view that `of` was taken from.
#[inline(always)]
unsafe fn row<'a>(of: (Matrix, usize), step: usize, head: usize, len: usize) -> &'a [f32] {
    let (matrix, stride) = of;
    // SAFETY: promised by the caller.
    unsafe {
        let start = matrix
            .start
            .offset(step as isize * matrix.row)
            .add(head * stride);
        std::slice::from_raw_parts(start, len)
    }
}

/// As [`super::flex::forward`], for `q [batch, 1, heads, key]`.
pub(super) fn forward(
    q: &View,
    k: &View,
    v: &View,
    bias: Option<&[f32]>,
    settings: Settings,
) -> (Flat, Vec<f32>) {
    let sizes = Sizes::of(q, k, v);
    let Sizes {
        batch,
        keys,
        heads,
        value,
        ..
    } = sizes;
    let seen = sizes.seen(settings, 1);
    let pieces = seen.div_ceil(PIECE_KEYS).max(1);
    // Of every piece and head: largest score, sum of exponentials above it, weighted values.
    let part = 2 + value;
    let mut parts = vec![0.0; batch * pieces * heads * part];
    let run = |scores: &mut Vec<f32>, (task, parts): (usize, &mut [f32])| {
        let (b, from) = (task / pieces, task % pieces * PIECE_KEYS);
        let len = PIECE_KEYS.min(seen - from);
        let piece = Piece {
            sizes,
            scale: settings.scale,
            len,
            bias: bias.map(|bias| &bias[b * keys + from..][..len]),
            q: (q.matrix(b, 0, 0), q.head_stride()),
            k: (k.matrix(b, from, 0), k.head_stride()),
            v: (v.matrix(b, from, 0), v.head_stride()),
        };
        scores.resize(heads * PIECE_KEYS, 0.0);
        one_piece(&piece, scores, parts);
    };
    let chunk = (heads * part).max(1);
    if sizes.work() < SMALL {
        let mut scores = Vec::new();
        let tasks = parts.chunks_mut(chunk).enumerate();
        tasks.for_each(|task| run(&mut scores, task));
    } else {
        let tasks = parts.par_chunks_mut(chunk).enumerate();
        tasks.for_each_init(Vec::new, run);
    }

    let mut out = vec![0.0; batch * heads * value];
    let mut sums = vec![f32::INFINITY; batch * heads];
    for (i, (out, sum)) in out.chunks_mut(value.max(1)).zip(&mut sums).enumerate() {
        let (b, h) = (i / heads, i % heads);
        let of_head = || {
            let first = b * pieces * heads + h;
            (0..pieces).map(move |piece| (first + piece * heads) * part)
        };
        let larger = |a: f32, at: usize| if parts[at] > a { parts[at] } else { a };
        let largest = of_head().fold(f32::NEG_INFINITY, larger);
        let mut total = 0.0;
        for at in of_head() {
            // A piece that sees nothing has sum 0, and a NaN where it holds one.
            let unseen = parts[at] == f32::NEG_INFINITY;
            let factor = if unseen {
                1.0
            } else {
                (parts[at] - largest).exp()
            };
            total += parts[at + 1] * factor;
            for (out, &x) in out.iter_mut().zip(&parts[at + 2..at + part]) {
                *out += x * factor;
            }
        }
        if total != 0.0 {
            *sum = largest + total.ln();
            out.iter_mut().for_each(|x| *x /= total);
        }
    }
    (flat(out, [batch, 1, heads, value]), sums)
}

#[inline(always)]
fn one_piece_body<const FMA: bool>(piece: &Piece<'_>, scores: &mut [f32], parts: &mut [f32]) {
    let Sizes {
        heads, key, value, ..
    } = piece.sizes;
    let (len, group) = (piece.len, piece.sizes.group());
    // SAFETY (both loops): steps and heads are those that the piece was cut for.
    for step in 0..len {
        for head in 0..heads {
            let (q, k) = unsafe {
                (
                    row(piece.q, 0, head, key),
                    row(piece.k, step, head / group, key),
                )
            };
            scores[head * PIECE_KEYS + step] = vector::dot::<FMA>(q, k) * piece.scale;
        }
    }
    let width = 2 + value;
    for (scores, part) in scores.chunks_mut(PIECE_KEYS).zip(parts.chunks_mut(width)) {
        let scores = &mut scores[..len];
        if let Some(bias) = piece.bias {
            for (x, &bias) in scores.iter_mut().zip(bias) {
                *x += bias;
            }
        }
        part[0] = vector::max(scores);
        if part[0] == f32::NEG_INFINITY {
            part[1] = if scores.iter().any(|x| x.is_nan()) {
                f32::NAN
            } else {
                0.0
            };
            scores.fill(0.0);
        } else {
            part[1] = vector::exp_shifted_sum::<FMA>(scores, part[0]);
        }
    }
    for step in 0..len {
        for (head, part) in parts.chunks_mut(width).enumerate() {
            let weight = scores[head * PIECE_KEYS + step];
            let v = unsafe { row(piece.v, step, head / group, value) };
            for (sum, &x) in part[2..].iter_mut().zip(v) {
                *sum = fma::<FMA>(weight, x, *sum);
            }
        }
    }
}

multiversion! {
    /// Fills the parts of one piece, one per head.
    fn one_piece(piece: &Piece<'_>, scores: &mut [f32], parts: &mut [f32]) = one_piece_body
}
