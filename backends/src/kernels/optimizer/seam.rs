//! The functions, and where they are served.

use super::{adamw_step_reference, flex};
use crate::kernels::served::{Kernel, Place, served};
#[cfg(feature = "gpu")]
use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
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
pub(super) struct Step {
    pub(super) keep: f32,
    pub(super) beta1: f32,
    pub(super) beta2: f32,
    pub(super) eps: f32,
    pub(super) size: f32,
    pub(super) root: f32,
    pub(super) scale: f32,
}

impl AdamW {
    /// Step number `step` (the first is 1) at learning rate `rate`, gradients times `scale`.
    pub(super) fn step(&self, step: u64, rate: f64, decay: f64, scale: f64) -> Step {
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
    if !slots
        .iter()
        .all(|slot| served(Kernel::Optimizer, &slot.param))
    {
        return adamw_step_reference(slots, rule, step, lr, scale);
    }
    #[cfg(feature = "gpu")]
    if let Some(slot) = slots.first()
        && Place::of(&slot.param.device()) == Place::Gpu
    {
        let update = |slot| update(slot, rule, step, lr, scale);
        return slots.into_iter().map(update).collect();
    }
    flex::step(slots, rule, step, lr, scale)
}

/// The numbers of one step for one tensor, as the operation takes them.
#[cfg(feature = "gpu")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(super) rule: AdamW,
    pub(super) step: u64,
    pub(super) lr: f64,
    pub(super) decay: f64,
    pub(super) scale: f64,
}

/// A step of AdamW as a backend operation.
#[cfg(feature = "gpu")]
#[backend_extension(Cube, Fusion)]
pub(crate) trait OptimizerOps: Backend {
    /// Weight and moments after a step.
    #[fusion(meta = |weight, _grad, first, second, _numbers| (weight.clone(), first.clone(), second.clone()))]
    fn adamw_update(
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        numbers: Numbers,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(feature = "gpu")]
fn update(slot: Slot, rule: &AdamW, step: u64, lr: f64, scale: f64) -> Slot {
    let numbers = Numbers {
        rule: *rule,
        step,
        lr: lr * slot.rate,
        decay: slot.decay,
        scale,
    };
    let (param, first, second) = Dispatch::adamw_update(
        slot.param.into_dispatch(),
        slot.grad.clone().into_dispatch(),
        slot.first.into_dispatch(),
        slot.second.into_dispatch(),
        numbers,
    );
    Slot {
        param: Tensor::from_dispatch(param),
        grad: slot.grad,
        first: Tensor::from_dispatch(first),
        second: Tensor::from_dispatch(second),
        decay: slot.decay,
        rate: slot.rate,
    }
}

/// `√ Σ g²` over all gradients: on the processor summed in `f64` in a fixed order; elsewhere each by its device, and
/// their sums, read together, in `f64`.
pub fn global_norm(grads: &[Tensor<1>]) -> f64 {
    let here = |grad: &&Tensor<1>| {
        Place::of(&grad.device()) == Place::Processor && served(Kernel::Optimizer, *grad)
    };
    let (here, there): (Vec<&Tensor<1>>, Vec<&Tensor<1>>) = grads.iter().partition(here);
    let mut sum: f64 = here.into_iter().map(flex::squares).sum();
    if !there.is_empty() {
        let squares = |grad: &Tensor<1>| {
            let grad = grad.clone().cast(burn::tensor::FloatDType::F32);
            (grad.clone() * grad).sum()
        };
        let sums = Tensor::cat(there.into_iter().map(squares).collect(), 0);
        sum += sums.into_data().iter::<f64>().sum::<f64>();
    }
    sum.sqrt()
}

/// The factor that brings gradients of `norm` down to `largest` (1 where they are below), as
/// `torch.nn.utils.clip_grad_norm_` computes it.
pub fn clip_factor(norm: f64, largest: f64) -> f64 {
    (largest / (norm + 1e-6)).min(1.0)
}
