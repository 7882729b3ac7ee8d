//! The function, and the operations that a backend has to offer for it.

use std::sync::Arc;

use super::embedding_reference;
use crate::kernels::served::{Kernel, served};
#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// Ids on a device, and on the host where they came from there: then a gradient needs not ask the device which rows
/// they name.
#[derive(Debug, Clone)]
pub struct Ids {
    tensor: Tensor<2, Int>,
    host: Host,
}

/// Ids as the host knows them, row by row; `None` where only the device does.
pub(crate) type Host = Option<Arc<Vec<u32>>>;

impl Ids {
    /// Ids `[rows, length]`, row by row, brought to a device.
    pub fn new(ids: Vec<u32>, rows: usize, device: &Device) -> Ids {
        let shape = [rows, ids.len() / rows.max(1)];
        let signed: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        let tensor = Tensor::from_data(TensorData::new(signed, shape), (device, DType::I32));
        Ids {
            tensor,
            host: Some(Arc::new(ids)),
        }
    }

    /// Ids that were computed on a device.
    pub fn computed(tensor: Tensor<2, Int>) -> Ids {
        Ids { tensor, host: None }
    }

    /// Each id plus `by`.
    pub fn shifted(&self, by: usize) -> Ids {
        if by == 0 {
            return self.clone();
        }
        let host = self.host.as_ref().map(|ids| {
            let shifted = ids.iter().map(|&id| id + by as u32);
            Arc::new(shifted.collect())
        });
        Ids {
            tensor: self.tensor.clone().add_scalar(by as i64),
            host,
        }
    }

    /// `[rows, length]`.
    pub fn tensor(&self) -> &Tensor<2, Int> {
        &self.tensor
    }

    /// Rows and length.
    pub fn dims(&self) -> [usize; 2] {
        self.tensor.dims()
    }
}

/// `table[ids]`: table `[vocab, width]`, ids `[batch, time]` below vocab, result `[batch, time, width]`.
pub fn embedding(table: Tensor<2>, ids: &Ids) -> Tensor<3> {
    if !served(Kernel::Embedding, &table) {
        return embedding_reference(table, ids.tensor.clone());
    }
    Tensor::from_dispatch(Dispatch::gather_rows(
        table.into_dispatch(),
        ids.tensor.clone().into_dispatch(),
        ids.host.clone(),
    ))
}

/// The gather and its gradient as backend operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait EmbeddingOps: Backend {
    /// See [`embedding`].
    #[fusion(meta = gathered)]
    fn gather_rows(table: FloatTensor<Self>, ids: IntTensor<Self>, host: Host)
    -> FloatTensor<Self>;

    /// A table of `vocab` rows of zeros to which every row of `grad` is added at its id, in order.
    #[fusion(meta = scattered)]
    fn scatter_rows(
        grad: FloatTensor<Self>,
        ids: IntTensor<Self>,
        host: Host,
        vocab: usize,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "gpu")]
fn gathered(table: &TensorSpec, ids: &TensorSpec, _host: &Host) -> TensorSpec {
    let shape = [ids.shape[0], ids.shape[1], table.shape[1]];
    TensorSpec::new(burn::tensor::Shape::new(shape), table.dtype)
}

#[cfg(feature = "gpu")]
fn scattered(grad: &TensorSpec, _ids: &TensorSpec, _host: &Host, vocab: &usize) -> TensorSpec {
    let shape = burn::tensor::Shape::new([*vocab, grad.shape[2]]);
    TensorSpec::new(shape, grad.dtype)
}
