//! The function, and the operation that a backend has to offer for it.

use super::{RotaryTable, rotary_reference};
use crate::kernels::served::{Kernel, served};
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

/// Which elements of a head form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RotaryLayout {
    /// Element `i` with `i + key / 2` (Hugging Face, GPT-NeoX).
    Half,
    /// Element `2 i` with `2 i + 1` (the original).
    Interleaved,
}

/// Turns x `[batch, time, head, key]` by `table`; key is even.
pub fn rotary(x: Tensor<4>, table: &RotaryTable, layout: RotaryLayout) -> Tensor<4> {
    if !served(Kernel::Rotary, &x) {
        return rotary_reference(x, table, layout);
    }
    Tensor::from_dispatch(Dispatch::rotary(
        x.into_dispatch(),
        table.cos.clone().into_dispatch(),
        table.sin.clone().into_dispatch(),
        layout,
        false,
    ))
}

/// The rotation as a backend operation.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait RotaryOps: Backend {
    /// See [`rotary`]; where `back`, the other way about, which is the gradient. Cosines and sines get none.
    #[fusion(dtype = x, shape = x)]
    fn rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        layout: RotaryLayout,
        back: bool,
    ) -> FloatTensor<Self>;
}
