//! Rows of a table by plain tensor operations.

use burn::tensor::{Int, Tensor};

/// [`embedding`](super::embedding) by plain tensor operations.
pub fn embedding_reference(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    burn::tensor::module::embedding(table, ids)
}
