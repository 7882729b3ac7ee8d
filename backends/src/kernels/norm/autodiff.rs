//! The gradient, once for every backend.

use super::seam::{NormOps, Shape};
use crate::kernels::tape::{
    Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped,
};
use burn::backend::{AutodiffBackend, tensor::FloatTensor};

impl<B: NormOps, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shape: Shape,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Normalise;

        impl<B: NormOps> Backward<B, 3> for Normalise {
            /// x, gain and statistics.
            type State = ([FloatTensor<B>; 3], Shape);

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<B>(&ops.node);
                let ([x, gain, statistics], shape) = ops.state;
                let [of_x, of_gain, of_bias] = ops.parents;
                let affine = of_gain.is_some() || of_bias.is_some();
                let (x, gain, bias) = B::norm_backward(x, gain, statistics, grad, shape, affine);
                for (node, grad) in [(of_x, x), (of_gain, gain), (of_bias, bias)] {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, grad);
                    }
                }
            }
        }

        let nodes = [x.node(), gain.node(), bias.node()];
        let (x, gain) = (x.into_primitive(), gain.into_primitive());
        let (out, statistics) = B::norm(
            x.clone(),
            gain.clone(),
            bias.into_primitive(),
            shape.clone(),
        );
        let kept = || ([x, gain, statistics.clone()], shape);
        let out = taped!(C, Normalise, nodes, kept(), out);
        (out, <Self as AutodiffBackend>::from_inner(statistics))
    }

    fn norm_backward(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        shape: Shape,
        affine: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        // A gradient is a constant of the tape that it was computed on: there are no second derivatives.
        let [x, gain, statistics, grad] = [x, gain, statistics, grad].map(|t| t.into_primitive());
        let (x, gain, bias) = B::norm_backward(x, gain, statistics, grad, shape, affine);
        let constant = <Self as AutodiffBackend>::from_inner;
        (constant(x), constant(gain), constant(bias))
    }
}
