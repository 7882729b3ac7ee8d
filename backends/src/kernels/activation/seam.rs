//! The functions, and the operations that a backend has to offer for them.

use super::{activation_reference, gated_reference};
use crate::kernels::served::{Kernel, served};
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;
use jam_ir::Activation;

/// `act(x)`, any shape.
pub fn activation<const D: usize>(x: Tensor<D>, act: Activation) -> Tensor<D> {
    if !served(Kernel::Activation, &x) {
        return activation_reference(x, act);
    }
    Tensor::from_dispatch(Dispatch::activation(x.into_dispatch(), act))
}

/// `act(gate) · value`, the two of one shape (SwiGLU with [`Activation::Silu`]).
pub fn gated<const D: usize>(gate: Tensor<D>, value: Tensor<D>, act: Activation) -> Tensor<D> {
    if gate.dims() != value.dims() || !served(Kernel::Activation, &gate) {
        return gated_reference(gate, value, act);
    }
    Tensor::from_dispatch(Dispatch::gated(
        gate.into_dispatch(),
        value.into_dispatch(),
        act,
    ))
}

/// Activations and their gradients as backend operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait ActivationOps: Backend {
    /// See [`activation`].
    #[fusion(dtype = x, shape = x)]
    fn activation(x: FloatTensor<Self>, act: Activation) -> FloatTensor<Self>;

    /// The gradient of x.
    #[fusion(dtype = x, shape = x)]
    fn activation_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        act: Activation,
    ) -> FloatTensor<Self>;

    /// See [`gated`].
    #[fusion(dtype = gate, shape = gate)]
    fn gated(
        gate: FloatTensor<Self>,
        value: FloatTensor<Self>,
        act: Activation,
    ) -> FloatTensor<Self>;

    /// The gradients of gate and value.
    #[fusion(meta = |gate, value, _grad, _act| (gate.clone(), value.clone()))]
    fn gated_backward(
        gate: FloatTensor<Self>,
        value: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        act: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}
