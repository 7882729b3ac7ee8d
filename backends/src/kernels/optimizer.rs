//! AdamW over a flat list of tensors, in place, and the norm of all gradients.
//!
//! The rule is the one of `torch.optim.AdamW`: decay by `lr · decay` before the step, both moments
//! corrected for their start, epsilon outside the square root. State is plain tensors, so that a
//! checkpoint can save it.

use super::buffer::{Flat, PIECE, floats};
use super::vector::{fma, multiversion};
use burn::backend::{DispatchDevice, Flex};
use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

/// The constants of the rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
        }
    }
}

/// One tensor of the list, flattened, without autodiff. All four have the same length.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The values to improve.
    pub param: Tensor<1>,
    /// Their gradient.
    pub grad: Tensor<1>,
    /// First moment: zeros before the first step.
    pub first: Tensor<1>,
    /// Second moment: zeros before the first step.
    pub second: Tensor<1>,
    /// Weight decay, 0 for none.
    pub decay: f64,
    /// Factor of the learning rate, usually 1.
    pub rate: f64,
}

impl Slot {
    /// A tensor before its first step.
    pub fn new(param: Tensor<1>, grad: Tensor<1>, decay: f64) -> Self {
        let zeros = param.zeros_like();
        Self {
            param,
            grad,
            first: zeros.clone(),
            second: zeros,
            decay,
            rate: 1.0,
        }
    }
}

/// The numbers of one step for one tensor.
#[derive(Debug, Clone, Copy)]
struct Step {
    keep: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    size: f32,
    root: f32,
    scale: f32,
}

impl AdamW {
    /// Step number `step` (the first is 1) at learning rate `rate`, gradients times `scale`.
    fn step(&self, step: u64, rate: f64, decay: f64, scale: f64) -> Step {
        let correct = |beta: f64| 1.0 - beta.powf(step as f64);
        Step {
            keep: (1.0 - rate * decay) as f32,
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            eps: self.eps as f32,
            size: (rate / correct(self.beta1)) as f32,
            root: (1.0 / correct(self.beta2).sqrt()) as f32,
            scale: scale as f32,
        }
    }
}

/// Step number `step` (the first is 1) for every slot at learning rate `lr`, gradients multiplied by
/// `scale` first (see [`clip_factor`]). Returns the slots with `param`, `first` and `second` replaced.
///
/// On the CPU a tensor that nobody else holds is changed where it lies.
pub fn adamw_step(slots: Vec<Slot>, rule: &AdamW, step: u64, lr: f64, scale: f64) -> Vec<Slot> {
    let served = |slot: &Slot| {
        let tensors = [&slot.param, &slot.grad, &slot.first, &slot.second];
        tensors.into_iter().all(plain_on_flex)
    };
    if !slots.iter().all(served) {
        return adamw_step_reference(slots, rule, step, lr, scale);
    }
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

/// Whether the CPU kernel serves the tensor: on Flex, `f32`, without autodiff.
fn plain_on_flex(tensor: &Tensor<1>) -> bool {
    tensor.dtype() == DType::F32 && matches!(tensor.device().as_dispatch(), DispatchDevice::Flex(_))
}

/// The primitive of a tensor that [`plain_on_flex`] found, its buffer exactly as long as it.
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

/// [`adamw_step`] by plain tensor operations.
pub fn adamw_step_reference(
    slots: Vec<Slot>,
    rule: &AdamW,
    step: u64,
    lr: f64,
    scale: f64,
) -> Vec<Slot> {
    slots
        .into_iter()
        .map(|slot| {
            let s = rule.step(step, lr * slot.rate, slot.decay, scale);
            let grad = slot.grad.clone() * s.scale;
            let first = slot.first * s.beta1 + grad.clone() * (1.0 - s.beta1);
            let second = slot.second * s.beta2 + grad.clone() * grad * (1.0 - s.beta2);
            let denominator = second.clone().sqrt() * s.root + s.eps;
            let param = slot.param * s.keep - first.clone() / denominator * s.size;
            Slot {
                param,
                first,
                second,
                ..slot
            }
        })
        .collect()
}

/// `√ Σ g²` over all gradients, summed in `f64` in a fixed order.
pub fn global_norm(grads: &[Tensor<1>]) -> f64 {
    let squares = |grad: &Tensor<1>| {
        if plain_on_flex(grad) {
            let grad = whole(grad.clone());
            let pieces: Vec<f64> = floats(&grad)
                .par_chunks(PIECE)
                .map(sum_of_squares)
                .collect();
            return pieces.into_iter().sum();
        }
        f64::from((grad.clone() * grad.clone()).sum().into_scalar::<f32>())
    };
    grads.iter().map(squares).sum::<f64>().sqrt()
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

/// The factor that brings gradients of `norm` down to `largest` (1 where they are below), as
/// `torch.nn.utils.clip_grad_norm_` computes it.
pub fn clip_factor(norm: f64, largest: f64) -> f64 {
    (largest / (norm + 1e-6)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn tensor(values: &[f64]) -> Tensor<1> {
        let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        let len = values.len();
        Tensor::from_data(TensorData::new(values, [len]), &Device::flex())
    }

    fn values(tensor: &Tensor<1>) -> Vec<f64> {
        tensor.clone().into_data().iter::<f64>().collect()
    }

    fn noise(len: usize, seed: u64) -> Vec<f64> {
        let one = |i| super::super::sampling::uniform(seed, i, 0) - 0.5;
        (0..len as u64).map(one).collect()
    }

    /// The rule in `f64`, one element.
    fn exact(p: f64, grads: &[f64], rule: &AdamW, lr: f64, decay: f64, scale: f64) -> f64 {
        let (mut p, mut m, mut v) = (p, 0.0, 0.0);
        for (step, g) in grads.iter().map(|g| g * scale).enumerate() {
            let t = (step + 1) as i32;
            p -= lr * decay * p;
            m = rule.beta1 * m + (1.0 - rule.beta1) * g;
            v = rule.beta2 * v + (1.0 - rule.beta2) * g * g;
            let (m_hat, v_hat) = (
                m / (1.0 - rule.beta1.powi(t)),
                v / (1.0 - rule.beta2.powi(t)),
            );
            p -= lr * m_hat / (v_hat.sqrt() + rule.eps);
        }
        p
    }

    #[test]
    fn both_versions_follow_the_rule() {
        let rule = AdamW::default();
        let (lr, scale) = (0.01, 0.5);
        let sizes = [(1, 0.1), (37, 0.0), (2 * PIECE + 5, 0.1)];
        let start: Vec<Vec<f64>> = sizes
            .iter()
            .map(|&(len, _)| noise(len, len as u64))
            .collect();
        let grads: Vec<Vec<Vec<f64>>> = (0..4)
            .map(|step| {
                sizes
                    .iter()
                    .map(|&(len, _)| noise(len, 100 + step))
                    .collect()
            })
            .collect();
        for run in [adamw_step, adamw_step_reference] {
            let mut slots: Vec<Slot> = start
                .iter()
                .zip(sizes)
                .map(|(p, (_, decay))| Slot::new(tensor(p), tensor(p), decay))
                .collect();
            for (step, grads) in grads.iter().enumerate() {
                for (slot, grad) in slots.iter_mut().zip(grads) {
                    slot.grad = tensor(grad);
                }
                slots = run(slots, &rule, step as u64 + 1, lr, scale);
            }
            for (i, slot) in slots.iter().enumerate() {
                for (j, got) in values(&slot.param).into_iter().enumerate() {
                    let history: Vec<f64> = grads.iter().map(|g| g[i][j]).collect();
                    let want = exact(start[i][j], &history, &rule, lr, sizes[i].1, scale);
                    assert!(
                        (got - want).abs() < 1e-6,
                        "{i}, {j}: {got}, expected {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn somebody_elses_handle_keeps_its_values() {
        let param = tensor(&[1.0, 2.0]);
        let held = param.clone();
        let slots = vec![Slot::new(param, tensor(&[1.0, -1.0]), 0.0)];
        let slots = adamw_step(slots, &AdamW::default(), 1, 0.1, 1.0);
        assert_eq!(values(&held), [1.0, 2.0]);
        assert_ne!(values(&slots[0].param), [1.0, 2.0]);
    }

    #[test]
    fn norm_and_clipping() {
        let norm = global_norm(&[tensor(&[3.0]), tensor(&[0.0, 4.0])]);
        assert!((norm - 5.0).abs() < 1e-6);
        let long = noise(3 * PIECE + 7, 5);
        let exact = long.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((global_norm(&[tensor(&long)]) - exact).abs() < 1e-4);
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!((clip_factor(4.0, 1.0) - 0.25).abs() < 1e-6);
    }
}
