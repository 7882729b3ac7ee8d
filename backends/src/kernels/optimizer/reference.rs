//! A step of AdamW by plain tensor operations.

use super::{AdamW, Slot};

/// [`adamw_step`](super::adamw_step) by plain tensor operations.
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
