//! Layer and RMS normalisation over the last axis, whole or in parts.

use super::buffer::{Flat, filled, flat, floats, on_flex, owned, piece_rows};
use super::linear::add_pieces;
use super::tape::{Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped};
use super::vector::{self, fma, multiversion};
use burn::backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Which normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Norm {
    /// `(x - mean) / √(variance + eps)`, the variance biased.
    Layer,
    /// `x / √(mean of squares + eps)`.
    Rms,
}

/// `norm(x) · gain + bias` over the last axis of x, `[.., width]`.
///
/// `parts` lists lengths that sum to the width: each stretch is normalised by itself (twin towers
/// laid side by side); empty means the whole width at once. `gain` and `bias` are `[width]`.
pub fn norm<const D: usize>(
    x: Tensor<D>,
    gain: Option<Tensor<1>>,
    bias: Option<Tensor<1>>,
    kind: Norm,
    parts: &[usize],
    eps: f64,
) -> Tensor<D> {
    let width = x.dims()[D - 1];
    if !on_flex(&x) || width == 0 {
        return norm_reference(x, gain, bias, kind, parts, eps);
    }
    let shape = Shape {
        kind,
        parts: if parts.is_empty() {
            vec![width]
        } else {
            parts.to_vec()
        },
        eps: eps as f32,
        gain: gain.is_some(),
        bias: bias.is_some(),
    };
    // The extension takes no optional tensors; these are not looked at where they are not given.
    let device = x.device();
    let or_none = |t: Option<Tensor<1>>| t.unwrap_or_else(|| Tensor::zeros([1], &device));
    let (gain, bias) = (or_none(gain), or_none(bias));
    Tensor::from_dispatch(Dispatch::norm(
        x.into_dispatch(),
        gain.into_dispatch(),
        bias.into_dispatch(),
        shape,
    ))
}

/// The settings of one call.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    kind: Norm,
    /// Lengths that sum to the width, at least one.
    parts: Vec<usize>,
    eps: f32,
    gain: bool,
    bias: bool,
}

/// Normalisation as a backend operation.
#[backend_extension(Flex, Autodiff)]
trait NormOps: Backend {
    /// See [`norm`]; gain and bias count where the shape says so.
    fn norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: Shape,
    ) -> FloatTensor<Self>;
}

impl NormOps for Flex {
    fn norm(x: Flat, gain: Flat, bias: Flat, shape: Shape) -> Flat {
        forward(
            &x,
            shape.gain.then_some(&gain),
            shape.bias.then_some(&bias),
            &shape,
        )
    }
}

impl<C: CheckpointStrategy> NormOps for Autodiff<Flex, C> {
    fn norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: Shape,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Normalise;

        impl Backward<Flex, 3> for Normalise {
            type State = (Flat, Option<Flat>, Shape);

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<Flex>(&ops.node);
                let (x, gain, shape) = ops.state;
                let [of_x, of_gain, of_bias] = ops.parents;
                let affine = of_gain.is_some() || of_bias.is_some();
                let (x_grad, gain_grad, bias_grad) =
                    backward(&x, gain.as_ref(), grad, &shape, affine);
                let pairs = [(of_x, x_grad), (of_gain, gain_grad), (of_bias, bias_grad)];
                for (node, grad) in pairs {
                    if let Some(node) = node {
                        grads.register::<Flex>(node.id, grad);
                    }
                }
            }
        }

        let nodes = [x.node(), gain.node(), bias.node()];
        let x = x.into_primitive();
        let gain = shape.gain.then(|| gain.into_primitive());
        let bias = shape.bias.then(|| bias.into_primitive());
        let out = forward(&x, gain.as_ref(), bias.as_ref(), &shape);
        taped!(C, Normalise, nodes, (x, gain, shape), out)
    }
}

fn forward(x: &Flat, gain: Option<&Flat>, bias: Option<&Flat>, shape: &Shape) -> Flat {
    let width: usize = shape.parts.iter().sum();
    let dims = x.layout().shape().clone();
    let x = floats(x);
    let (gain, bias) = (gain.map(floats), bias.map(floats));
    check(&x, width, gain.as_deref(), bias.as_deref());
    let out = filled(x.len(), |out| {
        let piece = piece_rows(width) * width;
        out.par_chunks_mut(piece)
            .zip(x.par_chunks(piece))
            .for_each(|(out, x)| rows_forward(out, x, gain.as_deref(), bias.as_deref(), shape));
    });
    flat(out, dims)
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
fn statistics(x: &[f32], kind: Norm, eps: f32) -> (f32, f32) {
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
    x: &[f32],
    gain: Option<&[f32]>,
    bias: Option<&[f32]>,
    shape: &Shape,
) {
    let mut at = 0;
    while at < x.len() {
        let mut column = 0;
        for &len in &shape.parts {
            let (x, out) = (&x[at..at + len], &mut out[at..at + len]);
            let (mean, factor) = statistics(x, shape.kind, shape.eps);
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
    grad: Flat,
    shape: &Shape,
    affine: bool,
) -> (Flat, Flat, Flat) {
    let width: usize = shape.parts.iter().sum();
    let (x, gain) = (floats(x), gain.map(floats));
    let mut grad = owned(grad);
    // Many rows a piece: each has sums of its own for gain and bias.
    let piece = 4 * piece_rows(width) * width;
    let pieces = x.len().div_ceil(piece);
    let sums_len = if affine { 2 * width } else { 1 };
    let mut sums = vec![0.0; pieces * sums_len];
    grad.storage_mut::<f32>()
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .zip(sums.par_chunks_mut(sums_len))
        .for_each(|((grad, x), sums)| {
            let sums = affine.then(|| sums.split_at_mut(width));
            rows_backward(grad, x, gain.as_deref(), shape, sums);
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
    gain: Option<&[f32]>,
    shape: &Shape,
    mut sums: Option<(&mut [f32], &mut [f32])>,
) {
    let mut at = 0;
    while at < x.len() {
        let mut column = 0;
        for &len in &shape.parts {
            let (x, grad) = (&x[at..at + len], &mut grad[at..at + len]);
            let (mean, factor) = statistics(x, shape.kind, shape.eps);
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
        gain: Option<&[f32]>,
        shape: &Shape,
        sums: Option<(&mut [f32], &mut [f32])>,
    ) = rows_backward_body
}

/// [`norm`] by plain tensor operations.
pub fn norm_reference<const D: usize>(
    x: Tensor<D>,
    gain: Option<Tensor<1>>,
    bias: Option<Tensor<1>>,
    kind: Norm,
    parts: &[usize],
    eps: f64,
) -> Tensor<D> {
    let one = |x: Tensor<D>| {
        let x = match kind {
            Norm::Layer => x.clone() - x.mean_dim(D - 1),
            Norm::Rms => x,
        };
        let spread = (x.clone() * x.clone()).mean_dim(D - 1);
        x / (spread + eps).sqrt()
    };
    let mut y = if parts.len() < 2 {
        one(x)
    } else {
        let mut from = 0;
        let pieces = parts.iter().map(|&len| {
            from += len;
            one(x.clone().narrow(D - 1, from - len, len))
        });
        Tensor::cat(pieces.collect(), D - 1)
    };
    if let Some(gain) = gain {
        y = y * gain.unsqueeze();
    }
    if let Some(bias) = bias {
        y = y + bias.unsqueeze();
    }
    y
}

#[cfg(test)]
mod tests;
