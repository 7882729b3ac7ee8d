//! The linear layer by plain tensor operations.

use burn::tensor::Tensor;

/// [`linear`](super::linear) by plain tensor operations.
pub fn linear_reference<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    burn::tensor::module::linear(x, weight, bias)
}
