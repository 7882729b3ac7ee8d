//! AdamW over a flat list of tensors, in place, and the norm of all gradients.
//!
//! The rule is the one of `torch.optim.AdamW`: decay by `lr · decay` before the step, both moments
//! corrected for their start, epsilon outside the square root. State is plain tensors, so that a
//! checkpoint can save it.

use burn::tensor::Tensor;

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
    adamw_step_reference(slots, rule, step, lr, scale)
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
    grads
        .iter()
        .map(|grad| f64::from((grad.clone() * grad.clone()).sum().into_scalar::<f32>()))
        .sum::<f64>()
        .sqrt()
}

/// The factor that brings gradients of `norm` down to `largest` (1 where they are below), as
/// `torch.nn.utils.clip_grad_norm_` computes it.
pub fn clip_factor(norm: f64, largest: f64) -> f64 {
    (largest / (norm + 1e-6)).min(1.0)
}
