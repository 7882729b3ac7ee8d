//! Activations by plain tensor operations.

use burn::tensor::{Tensor, activation as burn_activation};
use jam_ir::Activation;

/// [`activation`](super::activation) by plain tensor operations.
pub fn activation_reference<const D: usize>(x: Tensor<D>, act: Activation) -> Tensor<D> {
    match act {
        Activation::Relu => burn_activation::relu(x),
        Activation::Gelu => burn_activation::gelu(x),
        Activation::GeluTanh => {
            let inner = x.clone().powi_scalar(3) * 0.044_715 + x.clone();
            let tanh = (inner * (2.0 / std::f64::consts::PI).sqrt()).tanh();
            x * (tanh + 1.0) * 0.5
        }
        Activation::Silu => burn_activation::silu(x),
    }
}

/// [`gated`](super::gated) by plain tensor operations.
pub fn gated_reference<const D: usize>(
    gate: Tensor<D>,
    value: Tensor<D>,
    act: Activation,
) -> Tensor<D> {
    activation_reference(gate, act) * value
}
