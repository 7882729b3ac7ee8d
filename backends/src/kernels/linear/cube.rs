//! The linear layer on GPUs: cubek's matrix products.

use super::seam::LinearOps;
use crate::kernels::cube::{as_type, column_sums, in_order, product, transposed};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

/// All axes but the last as rows.
fn as_matrix(tensor: CubeTensor) -> CubeTensor {
    let dims = tensor.meta.shape();
    if dims.num_dims() == 2 {
        return tensor;
    }
    let columns = dims[dims.num_dims() - 1];
    let rows = dims.num_elements() / columns.max(1);
    CubeBackend::float_reshape(tensor, Shape::new([rows, columns]))
}

/// The shape of `like`, its last axis `len` long.
fn shaped(tensor: CubeTensor, like: &Shape, len: usize) -> CubeTensor {
    let mut dims = like.to_vec();
    if let Some(last) = dims.last_mut() {
        *last = len;
    }
    CubeBackend::float_reshape(tensor, Shape::from(dims))
}

impl LinearOps for CubeBackend {
    fn linear_layer(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        has_bias: bool,
    ) -> CubeTensor {
        let (like, dtype, columns) = (x.meta.shape().clone(), x.dtype, weight.meta.shape()[1]);
        let mut out = product(as_matrix(x), as_type(weight, dtype), dtype);
        if has_bias {
            let bias = CubeBackend::float_reshape(as_type(bias, dtype), Shape::new([1, columns]));
            out = CubeBackend::float_add(out, bias);
        }
        shaped(out, &like, columns)
    }

    fn linear_input_gradient(grad: CubeTensor, weight: CubeTensor) -> CubeTensor {
        let (like, dtype, inner) = (
            grad.meta.shape().clone(),
            grad.dtype,
            weight.meta.shape()[0],
        );
        let weight = transposed(as_type(weight, dtype));
        shaped(product(as_matrix(grad), weight, dtype), &like, inner)
    }

    fn linear_weight_gradient(x: CubeTensor, grad: CubeTensor) -> CubeTensor {
        let dtype = grad.dtype;
        let x = transposed(as_matrix(as_type(x, dtype)));
        product(x, as_matrix(grad), dtype)
    }

    fn linear_bias_gradient(grad: CubeTensor) -> CubeTensor {
        let grad = in_order(as_matrix(grad));
        as_type(column_sums(&grad), grad.dtype)
    }
}
