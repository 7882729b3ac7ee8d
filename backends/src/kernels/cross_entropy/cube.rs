//! The last layer and its loss on GPUs: matrix products over chunks of rows, and one kernel between them that makes
//! losses and gradients of logits.

use super::HeadLayout;
use super::seam::{Call, CrossEntropyOps, Wanted};
use crate::kernels::cube::{
    arg, as_type, column_sums, element, fresh, in_order, product, rows, transposed, zeros,
};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape as Dims};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use jam_cube::cross_entropy::{self, Buffers, Shape};

/// Logits of a chunk at most, in elements: a gigabyte in f32.
const CHUNK: u64 = 1 << 28;

/// Rows of a chunk at most: enough to keep a device busy.
const ROWS: usize = 4096;

impl CrossEntropyOps for CubeBackend {
    fn linear_cross_entropy(
        hidden: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        mask: CubeTensor,
        weights: CubeTensor,
        targets: CubeTensor,
        call: Call,
        wanted: Wanted,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let hidden = in_order(hidden);
        let [weights, targets] = [weights, targets].map(in_order);
        let weights = as_type(weights, DType::F32);
        let targets = as_type(targets, DType::I32);
        let (count, width) = (hidden.meta.shape()[0], hidden.meta.shape()[1]);
        // [width, vocab], whatever way it lies.
        let head = match call.layout {
            HeadLayout::Linear => weight.clone(),
            HeadLayout::Table => transposed(weight.clone()),
        };
        let vocab = head.meta.shape()[1];
        let added = added(&bias, &mask, call);
        let compute = hidden.dtype;
        let mut losses = Vec::new();
        let mut of_hidden = Vec::new();
        let mut of_weight: Option<CubeTensor> = None;
        let mut of_bias: Option<CubeTensor> = None;
        let any = wanted.hidden || wanted.weight || wanted.bias;
        let chunk = chunk(&hidden, count, vocab);
        for from in (0..count).step_by(chunk) {
            let len = chunk.min(count - from);
            let states = rows(&hidden, from, len);
            let logits = product(states.clone(), head.clone(), DType::F32);
            let of_rows = fresh(&hidden, Dims::new([len]), DType::F32);
            let buffers = Buffers {
                logits: arg(&logits),
                added: added.as_ref().map(arg),
                targets: arg(&in_order(rows(&targets, from, len))),
                weights: arg(&in_order(rows(&weights, from, len))),
                ranges: None,
                losses: arg(&of_rows),
            };
            let shape = Shape::new(len, vocab);
            cross_entropy::rows(&hidden.client, shape, buffers, any, element(DType::F32));
            losses.push(of_rows);
            if wanted.bias {
                of_bias = Some(plus(of_bias, column_sums(&logits)));
            }
            if wanted.hidden || wanted.weight {
                let gradients = as_type(logits, compute);
                if wanted.hidden {
                    let states = product(gradients.clone(), transposed(head.clone()), compute);
                    of_hidden.push(states);
                }
                if wanted.weight {
                    let (left, right) = match call.layout {
                        HeadLayout::Linear => (states, gradients),
                        HeadLayout::Table => (gradients, states),
                    };
                    let part = product(transposed(left), right, DType::F32);
                    of_weight = Some(plus(of_weight, part));
                }
            }
        }
        let losses = joined(losses, || zeros(&hidden, Dims::new([0]), DType::F32));
        let sum = CubeBackend::float_mul(losses.clone(), weights);
        let sum = CubeBackend::float_sum(sum);
        let rows_of_hidden = if wanted.hidden { width } else { 0 };
        let of_hidden = joined(of_hidden, || {
            zeros(&hidden, Dims::new([0, rows_of_hidden]), compute)
        });
        let or_zeros = |wanted: bool, sum: Option<CubeTensor>, like: &CubeTensor| match sum {
            Some(sum) => as_type(sum, like.dtype),
            None if wanted => zeros(&hidden, like.meta.shape().clone(), like.dtype),
            None => {
                let dims = vec![0; like.meta.shape().num_dims()];
                zeros(&hidden, Dims::from(dims), like.dtype)
            }
        };
        let of_weight = or_zeros(wanted.weight, of_weight, &weight);
        let of_bias = or_zeros(wanted.bias, of_bias, &bias);
        (sum, losses, of_hidden, of_weight, of_bias)
    }

    fn scaled_gradient(gradient: CubeTensor, factor: CubeTensor) -> CubeTensor {
        let ones = vec![1; gradient.meta.shape().num_dims()];
        let factor = as_type(factor, gradient.dtype);
        CubeBackend::float_mul(
            gradient,
            CubeBackend::float_reshape(factor, Dims::from(ones)),
        )
    }
}

/// Rows of a chunk, so that its logits fit what a device allocates at once.
fn chunk(hidden: &CubeTensor, count: usize, vocab: usize) -> usize {
    let most = hidden.client.properties().memory.max_page_size / 4 / 4;
    let elements = most.min(CHUNK) as usize;
    (elements / vocab.max(1)).clamp(1, ROWS.min(count.max(1)))
}

/// Parts below each other, or what is there where there are none.
fn joined(mut parts: Vec<CubeTensor>, none: impl FnOnce() -> CubeTensor) -> CubeTensor {
    match parts.len() {
        0 => none(),
        1 => parts.remove(0),
        _ => CubeBackend::float_cat(parts, 0),
    }
}

/// What every row of logits gets added, `[vocab]` in f32: bias and mask together.
fn added(bias: &CubeTensor, mask: &CubeTensor, call: Call) -> Option<CubeTensor> {
    let both = [(call.bias, bias), (call.mask, mask)];
    let given = both.into_iter().filter(|(counts, _)| *counts);
    given
        .map(|(_, values)| as_type(in_order(values.clone()), DType::F32))
        .reduce(CubeBackend::float_add)
}

fn plus(sum: Option<CubeTensor>, part: CubeTensor) -> CubeTensor {
    match sum {
        Some(sum) => CubeBackend::float_add(sum, part),
        None => part,
    }
}
