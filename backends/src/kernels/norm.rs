//! Layer and RMS normalisation over the last axis, whole or in parts.

use burn::tensor::Tensor;

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
    norm_reference(x, gain, bias, kind, parts, eps)
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
