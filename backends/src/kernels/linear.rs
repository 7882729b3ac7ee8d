//! The linear layer `x w + bias`.

use burn::tensor::Tensor;

/// `x w + bias`: x `[.., in]`, w `[in, out]`, bias `[out]`, result `[.., out]`.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    linear_reference(x, weight, bias)
}

/// [`linear`] by plain tensor operations.
pub fn linear_reference<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    burn::tensor::module::linear(x, weight, bias)
}
