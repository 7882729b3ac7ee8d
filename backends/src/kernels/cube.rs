//! Between Burn's tensors on a GPU and the buffers that the kernels of `jam-cube` take.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level;
use cubek::std::InputBinding;
use jam_cube::cubecl::prelude::{BufferArg, ElemType};
use jam_cube::sums::{self, Sum};

/// A tensor whose elements lie in order.
pub(super) fn in_order(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// A tensor to be written, beside another.
pub(super) fn fresh(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    let buffer = like.client.empty(shape.num_elements() * dtype.size());
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, shape, buffer, dtype)
}

/// A tensor to be written, of another's shape and type.
pub(super) fn alike(tensor: &CubeTensor) -> CubeTensor {
    fresh(tensor, tensor.meta.shape().clone(), tensor.dtype)
}

/// A tensor of zeros, beside another.
pub(super) fn zeros(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    // Of a matrix Burn would make one whose rows lie apart.
    let line = Shape::new([shape.num_elements()]);
    let line = burn_cubecl::ops::numeric::zeros_client(client, device, line, dtype);
    let (client, device) = (like.client.clone(), like.device.clone());
    CubeTensor::new_contiguous(client, device, shape, line.handle, dtype)
}

/// A tensor in another element type.
pub(super) fn as_type(tensor: CubeTensor, dtype: DType) -> CubeTensor {
    if tensor.dtype == dtype {
        return tensor;
    }
    burn_cubecl::kernel::cast(tensor, dtype)
}

/// The buffer of a tensor in order, which lives on.
pub(super) fn arg(tensor: &CubeTensor) -> BufferArg {
    assert!(tensor.is_contiguous(), "a kernel takes elements in order");
    tensor.clone().into_buffer_arg()
}

/// The buffer of a tensor whose first axis may have gaps, which the kernel is told of.
pub(super) fn arg_with_gaps(tensor: &CubeTensor) -> BufferArg {
    tensor.clone().into_buffer_arg()
}

/// The element type as kernels know it.
pub(super) fn element(dtype: DType) -> ElemType {
    burn::backend::cubecl::dtype_to_storage_type(dtype)
}

/// `left [m, k] · right [k, n]`, given in the element type `dtype`; sums are f32.
///
/// Products of f32 are products of f32: cubek would round operands to TF32 where a device has tensor cores for it, and
/// says so nowhere.
pub(super) fn product(left: CubeTensor, right: CubeTensor, dtype: DType) -> CubeTensor {
    let (m, n) = (left.meta.shape()[0], right.meta.shape()[1]);
    if m == 0 || n == 0 || left.meta.shape()[1] == 0 {
        return zeros(&left, Shape::new([m, n]), dtype);
    }
    let out = fresh(&left, Shape::new([m, n]), dtype);
    if left.dtype != DType::F32 {
        let strategy = burn_cubecl::kernel::matmul::MatmulStrategy::default();
        // Without this output Burn makes one whose rows lie apart.
        return burn_cubecl::kernel::matmul::matmul(left, right, Some(out), strategy, dtype)
            .unwrap_or_else(|error| panic!("a matrix product cannot be set up: {error:?}"));
    }
    let operand = |tensor: CubeTensor| InputBinding::new(tensor.binding(), element(DType::F32));
    let (client, left, right) = (left.client.clone(), operand(left), operand(right));
    let launch = |strategy: multi_level::Strategy| {
        let mut types = MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: element(DType::F32),
            rhs: element(DType::F32),
            out: element(dtype),
        });
        let (left, right) = (left.clone(), right.clone());
        let to = out.clone().binding();
        launch_ref(&strategy.into(), &client, left, right, to, &mut types)
    };
    launch(multi_level::Strategy::DoubleUnit(Default::default()))
        .or_else(|_| launch(multi_level::Strategy::SimpleUnit(Default::default())))
        .or_else(|_| launch(multi_level::Strategy::Naive))
        .unwrap_or_else(|error| panic!("a matrix product cannot be set up: {error:?}"));
    out
}

/// The sums of a matrix's columns, `[columns]` in f32.
pub(super) fn column_sums(matrix: &CubeTensor) -> CubeTensor {
    let (rows, columns) = (matrix.meta.shape()[0], matrix.meta.shape()[1]);
    let out = fresh(matrix, Shape::new([columns]), DType::F32);
    sums::rows(
        &matrix.client,
        Sum::whole(rows, columns),
        arg(matrix),
        arg(&out),
        element(matrix.dtype),
    );
    out
}

/// The other way about, without a copy.
pub(super) fn transposed(tensor: CubeTensor) -> CubeTensor {
    CubeBackend::float_swap_dims(tensor, 0, 1)
}

/// Rows `from .. from + len` of a matrix.
pub(super) fn rows(tensor: &CubeTensor, from: usize, len: usize) -> CubeTensor {
    let mut all = vec![Slice::full(); tensor.meta.shape().num_dims()];
    all[0] = Slice::from(from..from + len);
    CubeBackend::float_slice(tensor.clone(), &all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::comparison::{device, everywhere};
    use crate::kernels::served::Place;
    use burn::tensor::TensorData;
    use burn_cubecl::CubeDevice;

    /// A product of halves whose sums are f32 loses nothing but what its operands have lost.
    #[test]
    fn halves_are_multiplied_into_f32() {
        everywhere(|| {
            let here = device().inner();
            if Place::of(&here) != Place::Gpu {
                return;
            }
            let burn::backend::DispatchDevice::Cube(cube) = here.as_dispatch().clone() else {
                return;
            };
            let cube: CubeDevice = cube;
            for half in [DType::F16, DType::BF16] {
                if !here.supports_dtype(half) {
                    continue;
                }
                for (m, k, n) in [
                    (1, 1, 2),
                    (7, 5, 11),
                    (24, 32, 96),
                    (33, 70, 65),
                    (128, 64, 128),
                ] {
                    let numbers = |rows: usize, columns: usize| {
                        let numbers = (0..rows * columns).map(|i| (i * 7 % 13) as f32 - 6.0);
                        TensorData::new(numbers.collect::<Vec<f32>>(), [rows, columns])
                    };
                    let put = |data: TensorData| {
                        let tensor = CubeBackend::float_from_data(data, &cube);
                        as_type(tensor, half)
                    };
                    let (left, right) = (numbers(m, k), numbers(k, n));
                    let wanted = |i: usize, j: usize| {
                        let (a, b) = (
                            left.as_slice::<f32>().unwrap(),
                            right.as_slice::<f32>().unwrap(),
                        );
                        (0..k).map(|x| a[i * k + x] * b[x * n + j]).sum::<f32>()
                    };
                    let out = product(put(left.clone()), put(right.clone()), DType::F32);
                    let out = burn::tensor::read_sync(CubeBackend::float_into_data(out)).unwrap();
                    let out = out.as_slice::<f32>().unwrap();
                    for i in 0..m {
                        for j in 0..n {
                            assert_eq!(
                                out[i * n + j],
                                wanted(i, j),
                                "{half:?} {m} {k} {n}: [{i}, {j}]"
                            );
                        }
                    }
                }
            }
        });
    }
}
