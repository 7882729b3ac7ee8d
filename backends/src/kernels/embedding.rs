//! Rows of a table by id, with a dense gradient summed in a fixed order.

use burn::tensor::{Int, Tensor};

/// `table[ids]`: table `[vocab, width]`, ids `[batch, time]` below vocab, result `[batch, time, width]`.
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    embedding_reference(table, ids)
}

/// [`embedding`] by plain tensor operations.
pub fn embedding_reference(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    burn::tensor::module::embedding(table, ids)
}
