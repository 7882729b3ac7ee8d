//! The function, and the operations that a backend has to offer for it.

use crate::kernels::absent::or_absent;
use crate::kernels::served::{Kernel, served};
#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

use super::norm_reference;

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
    if width == 0 || !served(Kernel::Norm, &x) {
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
    let (gain, bias) = (or_absent(gain, &x), or_absent(bias, &x));
    let (out, _) = Dispatch::norm(x.into_dispatch(), gain, bias, shape);
    Tensor::from_dispatch(out)
}

/// The settings of one call.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(super) kind: Norm,
    /// Lengths that sum to the width, at least one.
    pub(super) parts: Vec<usize>,
    pub(super) eps: f32,
    pub(super) gain: bool,
    pub(super) bias: bool,
}

impl Shape {
    pub(super) fn width(&self) -> usize {
        self.parts.iter().sum()
    }
}

/// Normalisation and its gradient as backend operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait NormOps: Backend {
    /// See [`norm`]; gain and bias count where the shape says so. The second result is what the backward pass
    /// needs: mean and reciprocal spread of every part of every row, `[rows · parts · 2]` in f32.
    #[fusion(meta = forward_shapes)]
    fn norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: Shape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of x, gain and bias; the last two are zeros where `affine` is false.
    #[fusion(meta = backward_shapes)]
    fn norm_backward(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        shape: Shape,
        affine: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Length of the statistics of a tensor with `elements`.
pub(super) fn statistics_len(shape: &Shape, elements: usize) -> usize {
    shape.parts.len() * (elements / shape.width()) * 2
}

#[cfg(feature = "gpu")]
fn forward_shapes(
    x: &TensorSpec,
    _gain: &TensorSpec,
    _bias: &TensorSpec,
    shape: &Shape,
) -> (TensorSpec, TensorSpec) {
    use burn::tensor::{DType, Shape as Dims};
    let statistics = Dims::new([statistics_len(shape, x.shape.num_elements())]);
    (x.clone(), TensorSpec::new(statistics, DType::F32))
}

#[cfg(feature = "gpu")]
fn backward_shapes(
    x: &TensorSpec,
    gain: &TensorSpec,
    _statistics: &TensorSpec,
    _grad: &TensorSpec,
    shape: &Shape,
    _affine: &bool,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    use burn::tensor::Shape as Dims;
    let affine = TensorSpec::new(Dims::new([shape.width()]), gain.dtype);
    (x.clone(), affine.clone(), affine)
}
