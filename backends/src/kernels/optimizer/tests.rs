//! AdamW against its definition in f64, and norms.

use super::*;
use crate::kernels::buffer::PIECE;
use burn::tensor::{Device, Tensor, TensorData};

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
