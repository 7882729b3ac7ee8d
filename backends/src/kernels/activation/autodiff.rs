//! The gradients, once for every backend.

use super::seam::ActivationOps;
use crate::kernels::tape::{
    Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped,
};
use burn::backend::{AutodiffBackend, tensor::FloatTensor};
use jam_ir::Activation;

impl<B: ActivationOps, C: CheckpointStrategy> ActivationOps for Autodiff<B, C> {
    fn activation(x: FloatTensor<Self>, act: Activation) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Activate;

        impl<B: ActivationOps> Backward<B, 1> for Activate {
            type State = (FloatTensor<B>, Activation);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<B>(&ops.node);
                let (x, act) = ops.state;
                if let [Some(node)] = ops.parents {
                    grads.register::<B>(node.id, B::activation_backward(x, grad, act));
                }
            }
        }

        let nodes = [x.node()];
        let x = x.into_primitive();
        let out = B::activation(x.clone(), act);
        taped!(C, Activate, nodes, (x, act), out)
    }

    fn activation_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        act: Activation,
    ) -> FloatTensor<Self> {
        // A gradient is a constant of the tape that it was computed on: there are no second derivatives.
        let grad = B::activation_backward(x.into_primitive(), grad.into_primitive(), act);
        <Self as AutodiffBackend>::from_inner(grad)
    }

    fn gated(
        gate: FloatTensor<Self>,
        value: FloatTensor<Self>,
        act: Activation,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Gate;

        impl<B: ActivationOps> Backward<B, 2> for Gate {
            type State = (FloatTensor<B>, FloatTensor<B>, Activation);

            fn backward(
                self,
                ops: Ops<Self::State, 2>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<B>(&ops.node);
                let (gate, value, act) = ops.state;
                let (gate, value) = B::gated_backward(gate, value, grad, act);
                for (node, grad) in ops.parents.into_iter().zip([gate, value]) {
                    if let Some(node) = node {
                        grads.register::<B>(node.id, grad);
                    }
                }
            }
        }

        let nodes = [gate.node(), value.node()];
        let (gate, value) = (gate.into_primitive(), value.into_primitive());
        let out = B::gated(gate.clone(), value.clone(), act);
        taped!(C, Gate, nodes, (gate, value, act), out)
    }

    fn gated_backward(
        gate: FloatTensor<Self>,
        value: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        act: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [gate, value, grad] = [gate, value, grad].map(|tensor| tensor.into_primitive());
        let (gate, value) = B::gated_backward(gate, value, grad, act);
        let constant = <Self as AutodiffBackend>::from_inner;
        (constant(gate), constant(value))
    }
}
