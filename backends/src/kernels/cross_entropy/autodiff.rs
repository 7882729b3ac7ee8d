//! The gradient, once for every backend: it was formed in the forward pass.

use super::seam::{Call, CrossEntropyOps, Wanted};
use crate::kernels::tape::{
    Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped,
};
use burn::backend::AutodiffBackend;
use burn::backend::tensor::{FloatTensor, IntTensor};

impl<B: CrossEntropyOps, C: CheckpointStrategy> CrossEntropyOps for Autodiff<B, C> {
    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        targets: IntTensor<Self>,
        call: Call,
        _wanted: Wanted,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        #[derive(Debug)]
        struct Loss;

        impl<B: CrossEntropyOps> Backward<B, 3> for Loss {
            /// The gradients of hidden states, weight and bias.
            type State = [FloatTensor<B>; 3];

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let factor = grads.consume::<B>(&ops.node);
                for (node, gradient) in ops.parents.into_iter().zip(ops.state) {
                    if let Some(node) = node {
                        let gradient = B::scaled_gradient(gradient, factor.clone());
                        grads.register::<B>(node.id, gradient);
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
        let [hidden, weight, bias, mask, weights] =
            [hidden, weight, bias, mask, weights].map(|tensor| tensor.into_primitive());
        let (sum, rows, hidden, weight, bias) =
            B::linear_cross_entropy(hidden, weight, bias, mask, weights, targets, call, wanted);
        let constant = <Self as AutodiffBackend>::from_inner;
        let gradients = [hidden.clone(), weight.clone(), bias.clone()];
        let sum = taped!(C, Loss, nodes, gradients, sum);
        (
            sum,
            constant(rows),
            constant(hidden),
            constant(weight),
            constant(bias),
        )
    }

    fn scaled_gradient(
        gradient: FloatTensor<Self>,
        factor: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        // A gradient is a constant of the tape that it was computed on: there are no second derivatives.
        let scaled = B::scaled_gradient(gradient.into_primitive(), factor.into_primitive());
        <Self as AutodiffBackend>::from_inner(scaled)
    }
}
