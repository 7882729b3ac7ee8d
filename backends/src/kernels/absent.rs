//! Operands that may be missing, for operations of a backend, which take no optional tensors.

use burn::backend::DispatchTensor;
use burn::tensor::Tensor;

/// An operand, or in its place, where there is none, another that is not looked at: nothing is made for it.
pub(super) fn or_absent<const D: usize, const E: usize>(
    operand: Option<Tensor<D>>,
    other: &Tensor<E>,
) -> DispatchTensor {
    match operand {
        Some(operand) => operand.into_dispatch(),
        None => other.clone().without_autodiff().into_dispatch(),
    }
}
