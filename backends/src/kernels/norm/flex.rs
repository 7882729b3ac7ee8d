//! Normalisation on the processor: rows in parallel.

use super::seam::{Norm, NormOps, Shape, statistics_len};
use crate::kernels::buffer::{Flat, filled, flat, floats, owned, piece_rows};
use crate::kernels::linear::add_pieces;
use crate::kernels::vector::{self, fma, multiversion};
use burn::backend::Flex;
use rayon::prelude::*;

impl NormOps for Flex {
    fn norm(x: Flat, gain: Flat, bias: Flat, shape: Shape) -> (Flat, Flat) {
        forward(
            &x,
            shape.gain.then_some(&gain),
            shape.bias.then_some(&bias),
            &shape,
        )
    }

    fn norm_backward(
        x: Flat,
        gain: Flat,
        statistics: Flat,
        grad: Flat,
        shape: Shape,
        affine: bool,
    ) -> (Flat, Flat, Flat) {
        let gain = shape.gain.then_some(&gain);
        backward(&x, gain, &statistics, grad, &shape, affine)
    }
}

fn forward(x: &Flat, gain: Option<&Flat>, bias: Option<&Flat>, shape: &Shape) -> (Flat, Flat) {
    let width = shape.width();
    let dims = x.layout().shape().clone();
    let x = floats(x);
    let (gain, bias) = (gain.map(floats), bias.map(floats));
    check(&x, width, gain.as_deref(), bias.as_deref());
    let len = statistics_len(shape, x.len());
    let mut statistics = vec![0.0; len];
    let out = filled(x.len(), |out| {
        let rows = piece_rows(width);
        out.par_chunks_mut(rows * width)
            .zip(x.par_chunks(rows * width))
            .zip(statistics.par_chunks_mut(rows * shape.parts.len() * 2))
            .for_each(|((out, x), statistics)| {
                rows_forward(out, statistics, x, gain.as_deref(), bias.as_deref(), shape);
            });
    });
    (flat(out, dims), flat(statistics, [len]))
}

fn check(x: &[f32], width: usize, gain: Option<&[f32]>, bias: Option<&[f32]>) {
    assert!(
        x.len().is_multiple_of(width),
        "norm: the parts sum to {width}, which is not the last axis"
    );
    let fits = |v: Option<&[f32]>| v.is_none_or(|v| v.len() == width);
    assert!(
        fits(gain) && fits(bias),
        "norm: gain or bias is not as long as a row"
    );
}

/// Mean (0 for RMS) and the reciprocal of the spread of one stretch.
#[inline(always)]
fn moments(x: &[f32], kind: Norm, eps: f32) -> (f32, f32) {
    let scale = 1.0 / x.len() as f32;
    let mean = match kind {
        Norm::Layer => vector::sum_of(x, |x| x) * scale,
        Norm::Rms => 0.0,
    };
    let spread = vector::sum_of(x, |x| (x - mean) * (x - mean)) * scale;
    (mean, 1.0 / (spread + eps).sqrt())
}

#[inline(always)]
fn rows_forward_body<const FMA: bool>(
    out: &mut [f32],
    statistics: &mut [f32],
    x: &[f32],
    gain: Option<&[f32]>,
    bias: Option<&[f32]>,
    shape: &Shape,
) {
    let mut at = 0;
    let mut of_parts = statistics.chunks_exact_mut(2);
    while at < x.len() {
        let mut column = 0;
        for (&len, of_part) in shape.parts.iter().zip(&mut of_parts) {
            let (x, out) = (&x[at..at + len], &mut out[at..at + len]);
            let (mean, factor) = moments(x, shape.kind, shape.eps);
            of_part.copy_from_slice(&[mean, factor]);
            for (y, &x) in out.iter_mut().zip(x) {
                *y = (x - mean) * factor;
            }
            if let Some(gain) = gain {
                for (y, &gain) in out.iter_mut().zip(&gain[column..column + len]) {
                    *y *= gain;
                }
            }
            if let Some(bias) = bias {
                for (y, &bias) in out.iter_mut().zip(&bias[column..column + len]) {
                    *y += bias;
                }
            }
            at += len;
            column += len;
        }
    }
}

multiversion! {
    fn rows_forward(
        out: &mut [f32],
        statistics: &mut [f32],
        x: &[f32],
        gain: Option<&[f32]>,
        bias: Option<&[f32]>,
        shape: &Shape,
    ) = rows_forward_body
}

/// Gradients of x, gain and bias; the last two are zeros where `affine` is false.
fn backward(
    x: &Flat,
    gain: Option<&Flat>,
    statistics: &Flat,
    grad: Flat,
    shape: &Shape,
    affine: bool,
) -> (Flat, Flat, Flat) {
    let width = shape.width();
    let (x, gain, statistics) = (floats(x), gain.map(floats), floats(statistics));
    let mut grad = owned(grad);
    // Many rows a piece: each has sums of its own for gain and bias.
    let rows = 4 * piece_rows(width);
    let piece = rows * width;
    let pieces = x.len().div_ceil(piece);
    let sums_len = if affine { 2 * width } else { 1 };
    let mut sums = vec![0.0; pieces * sums_len];
    grad.storage_mut::<f32>()
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .zip(statistics.par_chunks(rows * shape.parts.len() * 2))
        .zip(sums.par_chunks_mut(sums_len))
        .for_each(|(((grad, x), statistics), sums)| {
            let sums = affine.then(|| sums.split_at_mut(width));
            rows_backward(grad, x, statistics, gain.as_deref(), shape, sums);
        });
    let mut total = vec![0.0; 2 * width];
    if affine {
        add_pieces(&mut total, &sums);
    }
    let bias_grad = total.split_off(width);
    (grad, flat(total, [width]), flat(bias_grad, [width]))
}

#[inline(always)]
fn rows_backward_body<const FMA: bool>(
    grad: &mut [f32],
    x: &[f32],
    statistics: &[f32],
    gain: Option<&[f32]>,
    shape: &Shape,
    mut sums: Option<(&mut [f32], &mut [f32])>,
) {
    let mut at = 0;
    let mut of_parts = statistics.chunks_exact(2);
    while at < x.len() {
        let mut column = 0;
        for (&len, of_part) in shape.parts.iter().zip(&mut of_parts) {
            let (x, grad) = (&x[at..at + len], &mut grad[at..at + len]);
            let (mean, factor) = (of_part[0], of_part[1]);
            if let Some((gains, biases)) = &mut sums {
                let gains = &mut gains[column..column + len];
                for ((sum, &x), &g) in gains.iter_mut().zip(x).zip(&*grad) {
                    *sum = fma::<FMA>((x - mean) * factor, g, *sum);
                }
                for (sum, &g) in biases[column..column + len].iter_mut().zip(&*grad) {
                    *sum += g;
                }
            }
            // From here on `grad` is the gradient of the normalised values, then of x.
            if let Some(gain) = gain {
                for (g, &gain) in grad.iter_mut().zip(&gain[column..column + len]) {
                    *g *= gain;
                }
            }
            let scale = 1.0 / len as f32;
            let level = match shape.kind {
                Norm::Layer => vector::sum_of(grad, |g| g) * scale,
                Norm::Rms => 0.0,
            };
            // Σ g · (x - mean) · factor / len
            let along = (vector::dot::<FMA>(grad, x) - mean * level / scale) * factor * scale;
            for (g, &x) in grad.iter_mut().zip(x) {
                *g = (*g - level - (x - mean) * factor * along) * factor;
            }
            at += len;
            column += len;
        }
    }
}

multiversion! {
    fn rows_backward(
        grad: &mut [f32],
        x: &[f32],
        statistics: &[f32],
        gain: Option<&[f32]>,
        shape: &Shape,
        sums: Option<(&mut [f32], &mut [f32])>,
    ) = rows_backward_body
}
