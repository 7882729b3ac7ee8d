//! The last layer and its cross-entropy by plain tensor operations, in chunks of rows.

use super::{CrossEntropy, Head, HeadLayout};
use burn::tensor::{Int, Tensor, activation::log_softmax};

/// Logits of one chunk, in elements.
const CHUNK: usize = 1 << 22;

/// [`linear_cross_entropy`] by plain tensor operations.
pub fn linear_cross_entropy_reference(
    hidden: Tensor<2>,
    head: Head,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
) -> CrossEntropy {
    let [rows, _] = hidden.dims();
    let device = hidden.device();
    let weight = match head.layout {
        HeadLayout::Linear => head.weight,
        HeadLayout::Table => head.weight.transpose(),
    };
    let vocab = weight.dims()[1];
    let chunk = (CHUNK / vocab.max(1)).clamp(1, rows.max(1));
    let counted = weights.clone().not_equal_elem(0.0);
    // Rows left out may carry any target; 0 is always a valid id.
    let targets = targets * counted.clone().int();
    let mut sum = Tensor::<1>::zeros([1], &device);
    let mut losses = Vec::new();
    for from in (0..rows).step_by(chunk) {
        let len = chunk.min(rows - from);
        let mut logits = hidden.clone().narrow(0, from, len).matmul(weight.clone());
        if let Some(bias) = &head.bias {
            logits = logits + bias.clone().unsqueeze();
        }
        if let Some(mask) = &head.mask {
            logits = logits + mask.clone().unsqueeze();
        }
        let target = targets.clone().narrow(0, from, len).reshape([len, 1]);
        let loss: Tensor<1> = log_softmax(logits, 1)
            .gather(1, target)
            .neg()
            .reshape([len]);
        let skip = counted.clone().narrow(0, from, len).bool_not();
        let loss = loss.mask_fill(skip, 0.0);
        sum = sum + (loss.clone() * weights.clone().narrow(0, from, len)).sum();
        losses.push(loss.detach());
    }
    let rows = if losses.is_empty() {
        Tensor::zeros([0], &device)
    } else {
        Tensor::cat(losses, 0)
    };
    CrossEntropy { sum, rows }
}
