//! The gradient, once for every backend.

use super::seam::{AttentionOps, Settings};
use crate::kernels::tape::{
    Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped,
};
use burn::backend::AutodiffBackend;
use burn::backend::tensor::{FloatTensor, IntTensor};

impl<B: AttentionOps, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: IntTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        #[derive(Debug)]
        struct Attention;

        impl<B: AttentionOps> Backward<B, 3> for Attention {
            /// q, k and v, the result and the logarithms of the rows' sums, and the mask.
            type State = ([FloatTensor<B>; 5], IntTensor<B>, Settings);

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<B>(&ops.node);
                let ([q, k, v, out, sums], mask, settings) = ops.state;
                let (q, k, v) = B::attend_backward(q, k, v, mask, out, sums, grad, settings);
                for (node, grad) in ops.parents.into_iter().zip([q, k, v]) {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, grad);
                    }
                }
            }
        }

        let nodes = [q.node(), k.node(), v.node()];
        let keep = q.is_tracked() || k.is_tracked() || v.is_tracked();
        let settings = Settings { keep, ..settings };
        let [q, k, v] = [q, k, v].map(|x| x.into_primitive());
        let (out, sums) = B::attend(q.clone(), k.clone(), v.clone(), mask.clone(), settings);
        let kept = |out| ([q, k, v, out, sums.clone()], mask, settings);
        let out = taped!(C, Attention, nodes, kept(out.clone()), out);
        (out, <Self as AutodiffBackend>::from_inner(sums))
    }

    fn attend_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: IntTensor<Self>,
        out: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        // A gradient is a constant of the tape that it was computed on: there are no second derivatives.
        let [q, k, v, out, sums, grad] =
            [q, k, v, out, sums, grad].map(|tensor| tensor.into_primitive());
        let (q, k, v) = B::attend_backward(q, k, v, mask, out, sums, grad, settings);
        let constant = <Self as AutodiffBackend>::from_inner;
        (constant(q), constant(k), constant(v))
    }
}
