//! The gradients, once for every backend.

use super::seam::LinearOps;
use crate::kernels::tape::{
    Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped,
};
use burn::backend::{AutodiffBackend, tensor::FloatTensor};

impl<B: LinearOps, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn linear_layer(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        has_bias: bool,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Linear;

        impl<B: LinearOps> Backward<B, 3> for Linear {
            type State = (FloatTensor<B>, FloatTensor<B>);

            fn backward(
                self,
                ops: Ops<Self::State, 3>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<B>(&ops.node);
                let (x, weight) = ops.state;
                let [of_x, of_weight, of_bias] = ops.parents;
                if let Some(node) = of_bias {
                    grads.register::<B>(node.id, B::linear_bias_gradient(grad.clone()));
                }
                if let Some(node) = of_weight {
                    let gradient = B::linear_weight_gradient(x, grad.clone());
                    grads.register::<B>(node.id, gradient);
                }
                if let Some(node) = of_x {
                    grads.register::<B>(node.id, B::linear_input_gradient(grad, weight));
                }
            }
        }

        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
        let out = B::linear_layer(x.clone(), weight.clone(), bias, has_bias);
        taped!(C, Linear, nodes, (x, weight), out)
    }

    fn linear_input_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        // A gradient is a constant of the tape that it was computed on: there are no second derivatives.
        let gradient = B::linear_input_gradient(grad.into_primitive(), weight.into_primitive());
        <Self as AutodiffBackend>::from_inner(gradient)
    }

    fn linear_weight_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let gradient = B::linear_weight_gradient(x.into_primitive(), grad.into_primitive());
        <Self as AutodiffBackend>::from_inner(gradient)
    }

    fn linear_bias_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let gradient = B::linear_bias_gradient(grad.into_primitive());
        <Self as AutodiffBackend>::from_inner(gradient)
    }
}
