//! The last linear layer and its cross-entropy together, without a full matrix of logits.

use burn::tensor::{Int, Tensor, activation::log_softmax};

/// How the last layer's weight lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadLayout {
    /// `[width, vocab]`: a linear layer.
    Linear,
    /// `[vocab, width]`: the embedding table itself (a tied head).
    Table,
}

/// The last layer: hidden states to logits.
#[derive(Debug, Clone)]
pub struct Head {
    /// The weight, see [`HeadLayout`].
    pub weight: Tensor<2>,
    /// How it lies.
    pub layout: HeadLayout,
    /// Added to the logits, `[vocab]`.
    pub bias: Option<Tensor<1>>,
    /// A constant added to the logits, `[vocab]`: minus infinity forbids an id. No gradient.
    pub mask: Option<Tensor<1>>,
}

/// What [`linear_cross_entropy`] returns.
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    /// `Σ weight · loss` over all rows, `[1]`; this is what gradients flow through.
    pub sum: Tensor<1>,
    /// The loss of every row by itself in nats, unweighted, 0 where the weight is 0; `[rows]`. A constant.
    pub rows: Tensor<1>,
}

/// Cross-entropy of `hidden [rows, width]` through `head` against `targets [rows]`, each row counted
/// `weights [rows]` times (0: left out, its target is not looked at).
///
/// Logits exist for a chunk of rows at a time. On the CPU the gradients are formed in the same
/// pass, so that the backward pass only scales them.
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    head: Head,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
) -> CrossEntropy {
    linear_cross_entropy_reference(hidden, head, targets, weights)
}

/// Logits of one chunk of the reference, in elements.
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
