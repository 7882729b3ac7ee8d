//! Activations on GPUs.

use super::seam::ActivationOps;
use crate::kernels::cube::{alike, arg, as_type, element, in_order};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use jam_cube::activation::{Act, Operands, Shape, backward, forward};
use jam_ir::Activation;

fn act(activation: Activation) -> Act {
    match activation {
        Activation::Relu => Act::Relu,
        Activation::Gelu => Act::Gelu,
        Activation::GeluTanh => Act::GeluTanh,
        Activation::Silu => Act::Silu,
    }
}

/// Rows and columns: all axes but the last, and the last.
fn shape(tensor: &CubeTensor) -> Shape {
    let dims = tensor.meta.shape();
    let width = dims[dims.num_dims() - 1];
    Shape::apart(dims.num_elements() / width.max(1), width)
}

impl ActivationOps for CubeBackend {
    fn activation(x: CubeTensor, activation: Activation) -> CubeTensor {
        let x = in_order(x);
        let out = alike(&x);
        let (operands, dtype) = (Operands::Plain(arg(&x)), element(x.dtype));
        forward(
            &x.client,
            shape(&x),
            act(activation),
            operands,
            arg(&out),
            dtype,
        );
        out
    }

    fn activation_backward(x: CubeTensor, grad: CubeTensor, activation: Activation) -> CubeTensor {
        let dtype = x.dtype;
        let [x, grad] = [x, grad].map(|tensor| as_type(in_order(tensor), dtype));
        let out = alike(&x);
        backward(
            &x.client,
            shape(&x),
            act(activation),
            Operands::Plain(arg(&x)),
            arg(&grad),
            Operands::Plain(arg(&out)),
            element(dtype),
        );
        out
    }

    fn gated(gate: CubeTensor, value: CubeTensor, activation: Activation) -> CubeTensor {
        let dtype = gate.dtype;
        let [gate, value] = [gate, value].map(|tensor| as_type(in_order(tensor), dtype));
        let out = alike(&gate);
        let operands = Operands::Apart {
            gate: arg(&gate),
            value: arg(&value),
        };
        let (shape, dtype) = (shape(&gate), element(dtype));
        forward(
            &gate.client,
            shape,
            act(activation),
            operands,
            arg(&out),
            dtype,
        );
        out
    }

    fn gated_backward(
        gate: CubeTensor,
        value: CubeTensor,
        grad: CubeTensor,
        activation: Activation,
    ) -> (CubeTensor, CubeTensor) {
        let dtype = gate.dtype;
        let [gate, value, grad] =
            [gate, value, grad].map(|tensor| as_type(in_order(tensor), dtype));
        let (of_gate, of_value) = (alike(&gate), alike(&value));
        let pair = |gate: &CubeTensor, value: &CubeTensor| Operands::Apart {
            gate: arg(gate),
            value: arg(value),
        };
        backward(
            &gate.client,
            shape(&gate),
            act(activation),
            pair(&gate, &value),
            arg(&grad),
            pair(&of_gate, &of_value),
            element(dtype),
        );
        (of_gate, of_value)
    }
}
