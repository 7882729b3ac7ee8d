//! Activations, plain (`act(x)`) and gated (`act(a) · b`).

use super::buffer::{Flat, filled, flat, floats, on_flex, owned, zip1, zip2};
use super::tape::{Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped};
use super::vector::{self, fma, multiversion};
use burn::backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{Tensor, activation as burn_activation};
use jam_ir::Activation;

/// `act(x)`, any shape.
pub fn activation<const D: usize>(x: Tensor<D>, act: Activation) -> Tensor<D> {
    if !on_flex(&x) {
        return activation_reference(x, act);
    }
    Tensor::from_dispatch(Dispatch::activation(x.into_dispatch(), act))
}

/// `act(gate) · value`, the two of one shape (SwiGLU with [`Activation::Silu`]).
pub fn gated<const D: usize>(gate: Tensor<D>, value: Tensor<D>, act: Activation) -> Tensor<D> {
    if !on_flex(&gate) || !on_flex(&value) || gate.dims() != value.dims() {
        return gated_reference(gate, value, act);
    }
    Tensor::from_dispatch(Dispatch::gated(
        gate.into_dispatch(),
        value.into_dispatch(),
        act,
    ))
}

/// [`activation`] by plain tensor operations.
pub fn activation_reference<const D: usize>(x: Tensor<D>, act: Activation) -> Tensor<D> {
    match act {
        Activation::Relu => burn_activation::relu(x),
        Activation::Gelu => burn_activation::gelu(x),
        Activation::GeluTanh => {
            let inner = x.clone().powi_scalar(3) * 0.044_715 + x.clone();
            let tanh = (inner * (2.0 / std::f64::consts::PI).sqrt()).tanh();
            x * (tanh + 1.0) * 0.5
        }
        Activation::Silu => burn_activation::silu(x),
    }
}

/// [`gated`] by plain tensor operations.
pub fn gated_reference<const D: usize>(
    gate: Tensor<D>,
    value: Tensor<D>,
    act: Activation,
) -> Tensor<D> {
    activation_reference(gate, act) * value
}

/// Activations as backend operations.
#[backend_extension(Flex, Autodiff)]
trait ActivationOps: Backend {
    /// See [`activation`].
    fn activation(x: FloatTensor<Self>, act: Activation) -> FloatTensor<Self>;

    /// See [`gated`].
    fn gated(
        gate: FloatTensor<Self>,
        value: FloatTensor<Self>,
        act: Activation,
    ) -> FloatTensor<Self>;
}

impl ActivationOps for Flex {
    fn activation(x: Flat, act: Activation) -> Flat {
        map1(&x, |out, x| apply(out, x, act))
    }

    fn gated(gate: Flat, value: Flat, act: Activation) -> Flat {
        map2(&gate, &value, |out, gate, value| {
            apply(out, gate, act);
            multiply(out, value);
        })
    }
}

impl<C: CheckpointStrategy> ActivationOps for Autodiff<Flex, C> {
    fn activation(x: FloatTensor<Self>, act: Activation) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Activate;

        impl Backward<Flex, 1> for Activate {
            type State = (Flat, Activation);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<Flex>(&ops.node);
                let (x, act) = ops.state;
                if let [Some(node)] = ops.parents {
                    let mut grad = owned(grad);
                    zip1(grad.storage_mut(), &floats(&x), |grad, x| {
                        times_slope(grad, x, act)
                    });
                    grads.register::<Flex>(node.id, grad);
                }
            }
        }

        let nodes = [x.node()];
        let x = x.into_primitive();
        let out = map1(&x, |out, x| apply(out, x, act));
        taped!(C, Activate, nodes, (x, act), out)
    }

    fn gated(
        gate: FloatTensor<Self>,
        value: FloatTensor<Self>,
        act: Activation,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Gate;

        impl Backward<Flex, 2> for Gate {
            type State = (Flat, Flat, Activation);

            fn backward(
                self,
                ops: Ops<Self::State, 2>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<Flex>(&ops.node);
                let (gate, value, act) = ops.state;
                let [of_gate, of_value] = ops.parents;
                if let Some(node) = of_value {
                    let grad = map2(&gate, &grad, |out, gate, grad| {
                        apply(out, gate, act);
                        multiply(out, grad);
                    });
                    grads.register::<Flex>(node.id, grad);
                }
                if let Some(node) = of_gate {
                    let mut grad = owned(grad);
                    zip2(
                        grad.storage_mut(),
                        &floats(&gate),
                        &floats(&value),
                        |grad, gate, value| {
                            multiply(grad, value);
                            times_slope(grad, gate, act);
                        },
                    );
                    grads.register::<Flex>(node.id, grad);
                }
            }
        }

        let nodes = [gate.node(), value.node()];
        let (gate, value) = (gate.into_primitive(), value.into_primitive());
        let out = <Flex as ActivationOps>::gated(gate.clone(), value.clone(), act);
        taped!(C, Gate, nodes, (gate, value, act), out)
    }
}

fn map1(x: &Flat, f: impl Fn(&mut [f32], &[f32]) + Sync) -> Flat {
    let shape = x.layout().shape().clone();
    let x = floats(x);
    flat(filled(x.len(), |out| zip1(out, &x, f)), shape)
}

fn map2(a: &Flat, b: &Flat, f: impl Fn(&mut [f32], &[f32], &[f32]) + Sync) -> Flat {
    let shape = a.layout().shape().clone();
    let (a, b) = (floats(a), floats(b));
    assert_eq!(a.len(), b.len(), "activation: the operands differ in size");
    flat(filled(a.len(), |out| zip2(out, &a, &b, f)), shape)
}

/// `√(2/π)` of the tanh form.
const ROOT: f32 = 0.797_884_6;
/// The cubic term of the tanh form.
const CUBIC: f32 = 0.044_715;

#[inline(always)]
fn gelu_tanh_parts<const FMA: bool>(x: f32) -> f32 {
    vector::tanh::<FMA>(ROOT * fma::<FMA>(CUBIC * x * x, x, x))
}

#[inline(always)]
fn apply_body<const FMA: bool>(out: &mut [f32], x: &[f32], act: Activation) {
    #[inline(always)]
    fn each(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
        for (y, &x) in out.iter_mut().zip(x) {
            *y = f(x);
        }
    }
    match act {
        // A NaN stays one.
        Activation::Relu => each(out, x, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::Gelu => each(out, x, |x| {
            0.5 * x * (1.0 + vector::erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2))
        }),
        Activation::GeluTanh => each(out, x, |x| 0.5 * x * (1.0 + gelu_tanh_parts::<FMA>(x))),
        Activation::Silu => each(out, x, |x| x * vector::sigmoid::<FMA>(x)),
    }
}

multiversion! {
    /// `act(x)`.
    fn apply(out: &mut [f32], x: &[f32], act: Activation) = apply_body
}

#[inline(always)]
fn times_slope_body<const FMA: bool>(out: &mut [f32], x: &[f32], act: Activation) {
    #[inline(always)]
    fn each(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
        for (y, &x) in out.iter_mut().zip(x) {
            *y *= f(x);
        }
    }
    /// `1 / √(2 π)`.
    const DENSITY: f32 = 0.398_942_3;
    match act {
        Activation::Relu => each(out, x, |x| if x > 0.0 { 1.0 } else { 0.0 }),
        Activation::Gelu => each(out, x, |x| {
            let below = 0.5 * (1.0 + vector::erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2));
            fma::<FMA>(x * DENSITY, vector::exp::<FMA>(-0.5 * x * x), below)
        }),
        Activation::GeluTanh => each(out, x, |x| {
            let t = gelu_tanh_parts::<FMA>(x);
            // Where tanh is flat the second term is zero; its factors must not overflow there.
            let low = if x < -10.0 { -10.0 } else { x };
            let c = if low > 10.0 { 10.0 } else { low };
            let inner = ROOT * fma::<FMA>(3.0 * CUBIC * c, c, 1.0);
            0.5 * (1.0 + t) + 0.5 * c * (1.0 - t * t) * inner
        }),
        Activation::Silu => each(out, x, |x| {
            let s = vector::sigmoid::<FMA>(x);
            s * fma::<FMA>(x, 1.0 - s, 1.0)
        }),
    }
}

multiversion! {
    /// Multiplies by the derivative of `act` at x.
    fn times_slope(out: &mut [f32], x: &[f32], act: Activation) = times_slope_body
}

/// `out *= by`.
fn multiply(out: &mut [f32], by: &[f32]) {
    for (y, &b) in out.iter_mut().zip(by) {
        *y *= b;
    }
}

#[cfg(test)]
mod tests;
