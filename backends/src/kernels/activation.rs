//! Activations, plain (`act(x)`) and gated (`act(a) · b`).

use burn::tensor::{Tensor, activation as burn_activation};

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x · Φ(x)`, with the error function.
    Gelu,
    /// GELU by tanh: `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.
    GeluTanh,
    /// `x · sigmoid(x)`, also called swish.
    Silu,
}

/// `act(x)`, any shape.
pub fn activation<const D: usize>(x: Tensor<D>, act: Activation) -> Tensor<D> {
    activation_reference(x, act)
}

/// `act(gate) · value`, the two of one shape (SwiGLU with [`Activation::Silu`]).
pub fn gated<const D: usize>(gate: Tensor<D>, value: Tensor<D>, act: Activation) -> Tensor<D> {
    gated_reference(gate, value, act)
}

/// [`activation`] by plain tensor operations.
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

/// [`gated`] by plain tensor operations.
pub fn gated_reference<const D: usize>(
    gate: Tensor<D>,
    value: Tensor<D>,
    act: Activation,
) -> Tensor<D> {
    activation_reference(gate, act) * value
}
