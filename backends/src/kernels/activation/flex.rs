//! Activations on the processor: element by element, in parallel.

use super::seam::ActivationOps;
use crate::kernels::buffer::{Flat, filled, flat, floats, owned, zip1, zip2};
use crate::kernels::vector::{self, fma, multiversion};
use burn::backend::Flex;
use jam_ir::Activation;

impl ActivationOps for Flex {
    fn activation(x: Flat, act: Activation) -> Flat {
        map1(&x, |out, x| apply(out, x, act))
    }

    fn activation_backward(x: Flat, grad: Flat, act: Activation) -> Flat {
        let mut grad = owned(grad);
        let x = floats(&x);
        zip1(grad.storage_mut(), &x, |grad, x| times_slope(grad, x, act));
        grad
    }

    fn gated(gate: Flat, value: Flat, act: Activation) -> Flat {
        map2(&gate, &value, |out, gate, value| {
            apply(out, gate, act);
            multiply(out, value);
        })
    }

    fn gated_backward(gate: Flat, value: Flat, grad: Flat, act: Activation) -> (Flat, Flat) {
        let of_value = map2(&gate, &grad, |out, gate, grad| {
            apply(out, gate, act);
            multiply(out, grad);
        });
        let mut of_gate = owned(grad);
        let (gate, value) = (floats(&gate), floats(&value));
        zip2(of_gate.storage_mut(), &gate, &value, |grad, gate, value| {
            multiply(grad, value);
            times_slope(grad, gate, act);
        });
        (of_gate, of_value)
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
