//! A step of AdamW on the processor: all tensors in pieces, where they lie.

use super::seam::Step;
use super::{AdamW, Slot};
use crate::kernels::buffer::{Flat, PIECE, floats};
use crate::kernels::vector::{fma, multiversion};
use burn::backend::Flex;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// As [`super::adamw_step`].
pub(super) fn step(slots: Vec<Slot>, rule: &AdamW, step: u64, lr: f64, scale: f64) -> Vec<Slot> {
    let mut work: Vec<Work> = slots
        .into_iter()
        .map(|slot| Work {
            step: rule.step(step, lr * slot.rate, slot.decay, scale),
            decay: slot.decay,
            rate: slot.rate,
            tensors: [slot.param, slot.first, slot.second].map(whole),
            grad: whole(slot.grad),
        })
        .collect();
    let mut pieces = Vec::new();
    for Work {
        tensors,
        grad,
        step,
        ..
    } in &mut work
    {
        let step = *step;
        let [param, first, second] = tensors.each_mut().map(|t| t.storage_mut::<f32>());
        let grad = grad
            .as_slice::<f32>()
            .expect("a gradient without gaps, of f32");
        assert!(
            [first.len(), second.len(), grad.len()] == [param.len(); 3],
            "adamw: parameter, gradient and moments differ in size"
        );
        let moments = first.chunks_mut(PIECE).zip(second.chunks_mut(PIECE));
        let values = param.chunks_mut(PIECE).zip(grad.chunks(PIECE));
        pieces.extend(
            values
                .zip(moments)
                .map(|(values, moments)| (values, moments, step)),
        );
    }
    pieces
        .into_par_iter()
        .for_each(|((param, grad), (first, second), step)| {
            improve(param, grad, first, second, step);
        });
    work.into_iter()
        .map(|work| {
            let [param, first, second] = work.tensors.map(Tensor::from_primitive::<Flex>);
            Slot {
                param,
                grad: Tensor::from_primitive::<Flex>(work.grad),
                first,
                second,
                decay: work.decay,
                rate: work.rate,
            }
        })
        .collect()
}

/// A slot taken apart: parameter and moments, the gradient, and the numbers of the step.
struct Work {
    tensors: [Flat; 3],
    grad: Flat,
    step: Step,
    decay: f64,
    rate: f64,
}

/// The primitive of a tensor of the processor, its buffer exactly as long as it.
fn whole(tensor: Tensor<1>) -> Flat {
    let primitive = tensor
        .try_into_primitive::<Flex>()
        .unwrap_or_else(|error| panic!("adamw: {error:?}"));
    primitive.to_contiguous()
}

#[inline(always)]
fn improve_body<const FMA: bool>(
    param: &mut [f32],
    grad: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: Step,
) {
    let values = param.iter_mut().zip(grad);
    for ((p, &g), (m, v)) in values.zip(first.iter_mut().zip(second)) {
        let g = g * step.scale;
        *m = fma::<FMA>(1.0 - step.beta1, g - *m, *m);
        *v = fma::<FMA>((1.0 - step.beta2) * g, g, *v * step.beta2);
        let denominator = fma::<FMA>(v.sqrt(), step.root, step.eps);
        *p = fma::<FMA>(-step.size, *m / denominator, *p * step.keep);
    }
}

multiversion! {
    fn improve(
        param: &mut [f32],
        grad: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        step: Step,
    ) = improve_body
}

/// `Σ x²` of a tensor in `f64`.
pub(super) fn squares(tensor: &Tensor<1>) -> f64 {
    let tensor = whole(tensor.clone());
    let pieces: Vec<f64> = floats(&tensor)
        .par_chunks(PIECE)
        .map(sum_of_squares)
        .collect();
    pieces.into_iter().sum()
}

/// `Σ x²` in `f64`, in eight running sums.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    for chunk in values.chunks(8) {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    lanes.into_iter().sum()
}
