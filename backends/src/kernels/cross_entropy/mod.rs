//! The last linear layer and its cross-entropy together, without a full matrix of logits.

mod flex;
mod reference;

pub use reference::linear_cross_entropy_reference;

use super::buffer::{Flat, flat, on_flex};
use super::tape::{Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{AutodiffBackend, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Int, Tensor};
use flex::{Call, Gradients as HeadGradients, Wanted};

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
    let weight_on_flex = on_flex(&head.weight);
    if !on_flex(&hidden) || !weight_on_flex || !on_flex(&weights) {
        return linear_cross_entropy_reference(hidden, head, targets, weights);
    }
    let call = Call {
        layout: head.layout,
        bias: head.bias.is_some(),
        mask: head.mask.is_some(),
    };
    // The extension takes no optional tensors; these are not looked at where they are not given.
    let device = hidden.device();
    let or_none = |t: Option<Tensor<1>>| t.unwrap_or_else(|| Tensor::zeros([1], &device));
    let (sum, rows) = Dispatch::linear_cross_entropy(
        hidden.into_dispatch(),
        head.weight.into_dispatch(),
        or_none(head.bias).into_dispatch(),
        or_none(head.mask).into_dispatch(),
        weights.into_dispatch(),
        targets.into_dispatch(),
        call,
    );
    CrossEntropy {
        sum: Tensor::from_dispatch(sum),
        rows: Tensor::from_dispatch(rows),
    }
}

/// The last layer and its loss as a backend operation.
#[backend_extension(Flex, Autodiff)]
trait CrossEntropyOps: Backend {
    /// See [`linear_cross_entropy`]: the weighted sum, and the losses of the rows (a constant).
    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        targets: IntTensor<Self>,
        call: Call,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl CrossEntropyOps for Flex {
    fn linear_cross_entropy(
        hidden: Flat,
        weight: Flat,
        bias: Flat,
        mask: Flat,
        weights: Flat,
        targets: Flat,
        call: Call,
    ) -> (Flat, Flat) {
        let operands = [&hidden, &weight, &bias, &mask, &weights, &targets];
        let (sum, rows, _) = flex::run(operands, call, Wanted::default());
        let len = rows.len();
        (flat(vec![sum], [1]), flat(rows, [len]))
    }
}

impl<C: CheckpointStrategy> CrossEntropyOps for Autodiff<Flex, C> {
    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        targets: Flat,
        call: Call,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Loss;

        impl Backward<Flex, 3> for Loss {
            type State = HeadGradients;

            fn backward(
                self,
                ops: Ops<HeadGradients, 3>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<Flex>(&ops.node);
                let factor = grad.as_slice::<f32>().map_or(1.0, |g| g[0]);
                let HeadGradients {
                    hidden,
                    weight,
                    bias,
                } = ops.state;
                for (node, grad) in ops.parents.into_iter().zip([hidden, weight, bias]) {
                    if let (Some(node), Some(grad)) = (node, grad) {
                        grads.register::<Flex>(node.id, flex::scaled(grad, factor));
                    }
                }
            }
        }

        let nodes = [hidden.node(), weight.node(), bias.node()];
        let wanted = Wanted {
            hidden: hidden.is_tracked(),
            weight: weight.is_tracked(),
            bias: call.bias && bias.is_tracked(),
        };
        let operands = [
            hidden.primitive(),
            weight.primitive(),
            bias.primitive(),
            mask.primitive(),
            weights.primitive(),
            &targets,
        ];
        let (sum, rows, gradients) = flex::run(operands, call, wanted);
        let len = rows.len();
        let (sum, rows) = (flat(vec![sum], [1]), flat(rows, [len]));
        let sum = taped!(C, Loss, nodes, gradients, sum);
        (sum, <Self as AutodiffBackend>::from_inner(rows))
    }
}

#[cfg(test)]
mod tests;
