//! Normalisation by plain tensor operations.

use super::Norm;
use burn::tensor::Tensor;

/// [`norm`](super::norm) by plain tensor operations.
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
