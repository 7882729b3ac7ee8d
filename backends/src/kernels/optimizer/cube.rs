//! A step of AdamW on GPUs: one launch for each tensor, where it lies.

use super::seam::{Numbers, OptimizerOps};
use crate::kernels::cube::{arg, as_type, element, in_order};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use jam_cube::optimizer::{AdamW, Parameter, step};

/// A tensor that nobody else holds, in f32.
fn alone(tensor: CubeTensor) -> CubeTensor {
    let tensor = in_order(as_type(tensor, DType::F32));
    if tensor.can_mut() {
        tensor
    } else {
        tensor.copy()
    }
}

impl OptimizerOps for CubeBackend {
    fn adamw_update(
        weight: CubeTensor,
        grad: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        numbers: Numbers,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let grad = in_order(grad);
        let [weight, first, second] = [weight, first, second].map(alone);
        let client = weight.client.clone();
        let parameter = Parameter {
            weight: arg(&weight),
            grad: arg(&grad),
            first: arg(&first),
            second: arg(&second),
            copy: None,
            len: weight.meta.num_elements(),
            decay: numbers.decay,
            rate: 1.0,
        };
        let rule = AdamW {
            beta1: numbers.rule.beta1,
            beta2: numbers.rule.beta2,
            eps: numbers.rule.eps,
            step: numbers.step,
            lr: numbers.lr,
            scale: numbers.scale,
        };
        let (grad, f32) = (element(grad.dtype), element(DType::F32));
        step(&client, vec![parameter], rule, None, grad, f32);
        (weight, first, second)
    }
}
