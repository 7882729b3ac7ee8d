//! The function, and the operations that a backend has to offer for it.

use super::linear_reference;
use crate::kernels::absent::or_absent;
use crate::kernels::served::{Kernel, served};
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
#[cfg(feature = "gpu")]
use burn::{backend::fusion::custom::TensorSpec, tensor::Shape};

/// `x w + bias`: x `[.., in]`, w `[in, out]`, bias `[out]`, result `[.., out]`.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    if !served(Kernel::Linear, &x) {
        return linear_reference(x, weight, bias);
    }
    let has_bias = bias.is_some();
    let bias = or_absent(bias, &x);
    Tensor::from_dispatch(Dispatch::linear_layer(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias,
        has_bias,
    ))
}

/// The linear layer and its gradients as backend operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait LinearOps: Backend {
    /// `x w`, and `+ bias` where `has_bias`.
    #[fusion(meta = |x, weight, _bias, _has_bias| with_last(x, weight.shape[1]))]
    fn linear_layer(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        has_bias: bool,
    ) -> FloatTensor<Self>;

    /// The gradient of x: `grad wᵀ`.
    #[fusion(meta = |grad, weight| with_last(grad, weight.shape[0]))]
    fn linear_input_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The gradient of the weight: `xᵀ grad`.
    #[fusion(meta = matrix)]
    fn linear_weight_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the bias: the sum over all axes but the last.
    #[fusion(meta = |grad| TensorSpec::new(Shape::new([last(grad)]), grad.dtype))]
    fn linear_bias_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "gpu")]
fn last(spec: &TensorSpec) -> usize {
    spec.shape[spec.shape.num_dims() - 1]
}

/// The shape of `spec`, its last axis `len` long.
#[cfg(feature = "gpu")]
fn with_last(spec: &TensorSpec, len: usize) -> TensorSpec {
    let mut dims = spec.shape.to_vec();
    if let Some(last) = dims.last_mut() {
        *last = len;
    }
    TensorSpec::new(Shape::from(dims), spec.dtype)
}

#[cfg(feature = "gpu")]
fn matrix(x: &TensorSpec, grad: &TensorSpec) -> TensorSpec {
    TensorSpec::new(Shape::new([last(x), last(grad)]), grad.dtype)
}
