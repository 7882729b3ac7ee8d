//! Rows of a table on GPUs.

use super::seam::{EmbeddingOps, Host};
use crate::kernels::cube::{arg, as_type, element, fresh, in_order, zeros};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use jam_cube::cubecl::prelude::{BufferArg, CubeElement as _};
use jam_cube::embedding::{Gather, Scatter, Segments, gather, scatter};

impl EmbeddingOps for CubeBackend {
    fn gather_rows(table: CubeTensor, ids: CubeTensor, _host: Host) -> CubeTensor {
        let table = in_order(table);
        let ids = as_type(in_order(ids), DType::I32);
        let (rows, width) = (ids.meta.num_elements(), table.meta.shape()[1]);
        let shape = Shape::new([ids.meta.shape()[0], ids.meta.shape()[1], width]);
        let out = fresh(&table, shape, table.dtype);
        let buffers = Gather {
            table: arg(&table),
            ids: arg(&ids),
            more: None,
            out: arg(&out),
        };
        let dtype = element(table.dtype);
        gather(&table.client, rows, width, buffers, dtype, dtype);
        out
    }

    fn scatter_rows(grad: CubeTensor, ids: CubeTensor, host: Host, vocab: usize) -> CubeTensor {
        let grad = in_order(grad);
        let width = grad.meta.shape()[2];
        let table = zeros(&grad, Shape::new([vocab, width]), grad.dtype);
        let segments = match host {
            Some(ids) => Segments::of(&ids),
            None => Segments::of(&read(ids)),
        };
        let words = u32::as_bytes(segments.words());
        let count = segments.words().len();
        let words = grad.client.create_from_slice(words);
        let buffers = Scatter {
            dy: arg(&grad),
            // SAFETY: as many as it was made of.
            words: unsafe { BufferArg::from_raw_parts(words, count) },
            gradient: arg(&table),
            add: false,
        };
        let dtype = element(grad.dtype);
        scatter(&grad.client, &segments, width, buffers, dtype, dtype);
        table
    }
}

/// Ids that only the device knows, waited for.
fn read(ids: CubeTensor) -> Vec<u32> {
    let ids = as_type(in_order(ids), DType::I32);
    let bytes = ids.client.read_one_unchecked(ids.handle.clone());
    i32::from_bytes(&bytes)
        .iter()
        .map(|&id| id as u32)
        .collect()
}
