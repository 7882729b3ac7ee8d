//! The gradient, once for every backend: the transpose of a rotation turns back.

use super::RotaryLayout;
use super::seam::RotaryOps;
use crate::kernels::tape::{
    Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped,
};
use burn::backend::tensor::FloatTensor;

impl<B: RotaryOps, C: CheckpointStrategy> RotaryOps for Autodiff<B, C> {
    fn rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        layout: RotaryLayout,
        back: bool,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Turn;

        impl<B: RotaryOps> Backward<B, 1> for Turn {
            type State = (FloatTensor<B>, FloatTensor<B>, RotaryLayout, bool);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<B>(&ops.node);
                let (cos, sin, layout, back) = ops.state;
                if let [Some(node)] = ops.parents {
                    grads.register::<B>(node.id, B::rotary(grad, cos, sin, layout, !back));
                }
            }
        }

        let nodes = [x.node()];
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let out = B::rotary(x.into_primitive(), cos.clone(), sin.clone(), layout, back);
        taped!(C, Turn, nodes, (cos, sin, layout, back), out)
    }
}
