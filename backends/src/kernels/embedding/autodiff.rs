//! The gradient, once for every backend.

use super::seam::{EmbeddingOps, Host};
use crate::kernels::tape::{
    Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped,
};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{AutodiffBackend, TensorMetadata};

impl<B: EmbeddingOps, C: CheckpointStrategy> EmbeddingOps for Autodiff<B, C> {
    fn gather_rows(
        table: FloatTensor<Self>,
        ids: IntTensor<Self>,
        host: Host,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Gather;

        impl<B: EmbeddingOps> Backward<B, 1> for Gather {
            type State = (IntTensor<B>, Host, usize);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<B>(&ops.node);
                let (ids, host, vocab) = ops.state;
                if let [Some(node)] = ops.parents {
                    grads.register::<B>(node.id, B::scatter_rows(grad, ids, host, vocab));
                }
            }
        }

        let nodes = [table.node()];
        let table = table.into_primitive();
        let vocab = table.shape()[0];
        let out = B::gather_rows(table, ids.clone(), host.clone());
        taped!(C, Gather, nodes, (ids, host, vocab), out)
    }

    fn scatter_rows(
        grad: FloatTensor<Self>,
        ids: IntTensor<Self>,
        host: Host,
        vocab: usize,
    ) -> FloatTensor<Self> {
        // A gradient is a constant of the tape that it was computed on: there are no second derivatives.
        let table = B::scatter_rows(grad.into_primitive(), ids, host, vocab);
        <Self as AutodiffBackend>::from_inner(table)
    }
}
