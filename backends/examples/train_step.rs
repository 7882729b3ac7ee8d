//! Times whole training steps of a small decoder on the CPU, plain operations and kernels side by side.
//!
//! `cargo run --release -p jam-backends --example train_step [WIDTH LAYERS HEADS HIDDEN VOCAB TIME BATCH STEPS] [plain|kernels]`

use burn::tensor::{Device, Distribution, Tensor};
use jam_backends::kernels::activation::{activation, activation_reference};
use jam_backends::kernels::attention::{AttentionOptions, attention, attention_reference};
use jam_backends::kernels::cross_entropy::{
    Head, HeadLayout, linear_cross_entropy, linear_cross_entropy_reference,
};
use jam_backends::kernels::embedding::{Ids, embedding, embedding_reference};
use jam_backends::kernels::linear::{linear, linear_reference};
use jam_backends::kernels::norm::{Norm, norm, norm_reference};
use jam_backends::kernels::optimizer::{
    AdamW, Slot, adamw_step, adamw_step_reference, clip_factor, global_norm,
};
use jam_backends::kernels::rotary::{
    RotaryLayout, RotaryTable, inverse_frequencies, rotary, rotary_reference,
};
use jam_ir::Activation;
use std::io::Write;
use std::time::{Duration, Instant};

/// Sizes of the decoder and of a batch.
struct Sizes {
    width: usize,
    layers: usize,
    heads: usize,
    hidden: usize,
    vocab: usize,
    time: usize,
    batch: usize,
}

/// A weight: its sides, and its state for the optimizer.
struct Weight {
    sides: [usize; 2],
    slot: Slot,
}

fn weights(sizes: &Sizes) -> Vec<Weight> {
    let (w, h) = (sizes.width, sizes.hidden);
    let mut sides = vec![[sizes.vocab, w]];
    for _ in 0..sizes.layers {
        sides.extend([
            [w, w],
            [w, w],
            [w, w],
            [w, w],
            [w, h],
            [h, w],
            [1, w],
            [1, w],
        ]);
    }
    sides.push([1, w]);
    let device = Device::flex();
    sides
        .into_iter()
        .map(|sides| {
            let len = sides[0] * sides[1];
            let param = if sides[0] == 1 {
                Tensor::ones([len], &device)
            } else {
                Tensor::random([len], Distribution::Normal(0.0, 0.02), &device)
            };
            let decay = if sides[0] == 1 { 0.0 } else { 0.1 };
            Weight {
                sides,
                slot: Slot::new(param.clone(), param, decay),
            }
        })
        .collect()
}

/// The summed loss of a batch; `fast` chooses kernels or plain operations.
fn loss(sizes: &Sizes, leaves: &[Tensor<2>], ids: &[i32], fast: bool) -> Tensor<1> {
    let Sizes {
        width,
        heads,
        time,
        batch,
        ..
    } = *sizes;
    let key = width / heads;
    let device = leaves[0].device();
    let gain = |i: usize| Some(leaves[i].clone().reshape([width]));
    let dense = |x: Tensor<3>, i: usize| {
        let f = if fast {
            linear::<3>
        } else {
            linear_reference::<3>
        };
        f(x, leaves[i].clone(), None)
    };
    let normalise = |x: Tensor<3>, i: usize| {
        let f = if fast { norm::<3> } else { norm_reference::<3> };
        f(x, gain(i), None, Norm::Rms, &[], 1e-5)
    };
    let table = RotaryTable::range(0, time, &inverse_frequencies(key, 1e4), &device);
    let heads_of = |x: Tensor<3>| x.reshape([batch, time, heads, key]);
    let turn = |x: Tensor<3>| {
        let f = if fast { rotary } else { rotary_reference };
        f(heads_of(x), &table, RotaryLayout::Half)
    };
    let known = Ids::new(ids.iter().map(|&id| id as u32).collect(), batch, &device);
    let ids = known.tensor().clone();
    let mut x = if fast {
        embedding(leaves[0].clone(), &known)
    } else {
        embedding_reference(leaves[0].clone(), ids.clone())
    };
    for layer in 0..sizes.layers {
        let at = 1 + layer * 8;
        let y = normalise(x.clone(), at + 6);
        let (q, k) = (turn(dense(y.clone(), at)), turn(dense(y.clone(), at + 1)));
        let v = heads_of(dense(y, at + 2));
        let attend = if fast { attention } else { attention_reference };
        let y = attend(q, k, v, &AttentionOptions::causal()).reshape([batch, time, width]);
        x = x + dense(y, at + 3);
        let y = dense(normalise(x.clone(), at + 7), at + 4);
        let act = if fast {
            activation::<3>
        } else {
            activation_reference::<3>
        };
        x = x + dense(act(y, Activation::Gelu), at + 5);
    }
    let x = normalise(x, leaves.len() - 1).reshape([batch * time, width]);
    let head = Head {
        weight: leaves[0].clone(),
        layout: HeadLayout::Table,
        bias: None,
        mask: None,
    };
    let f = if fast {
        linear_cross_entropy
    } else {
        linear_cross_entropy_reference
    };
    let counted = Tensor::ones([batch * time], &device);
    f(x, head, ids.reshape([batch * time]), counted).sum
}

/// One step; returns the mean loss and how long forward, backward and optimizer took.
fn step(sizes: &Sizes, weights: &mut Vec<Weight>, number: u64, fast: bool) -> (f64, [Duration; 3]) {
    let count = sizes.batch * sizes.time;
    let ids: Vec<i32> = (0..count)
        .map(|i| ((i * 7919 + number as usize * 31) % sizes.vocab) as i32)
        .collect();
    let start = Instant::now();
    let leaves: Vec<Tensor<2>> = weights
        .iter()
        .map(|w| {
            w.slot
                .param
                .clone()
                .reshape(w.sides)
                .autodiff()
                .require_grad()
        })
        .collect();
    let sum = loss(sizes, &leaves, &ids, fast) / count as f64;
    let value = f64::from(sum.clone().into_scalar::<f32>());
    let forward = start.elapsed();
    let mut grads = sum.backward();
    for (weight, leaf) in weights.iter_mut().zip(&leaves) {
        if let Some(grad) = leaf.grad_remove(&mut grads) {
            let len = weight.sides[0] * weight.sides[1];
            weight.slot.grad = grad.reshape([len]);
        }
    }
    drop((grads, leaves));
    let backward = start.elapsed() - forward;
    let grads: Vec<_> = weights.iter().map(|w| w.slot.grad.clone()).collect();
    let scale = clip_factor(global_norm(&grads), 1.0);
    drop(grads);
    let improve = if fast {
        adamw_step
    } else {
        adamw_step_reference
    };
    let (sides, slots): (Vec<_>, Vec<_>) = weights.drain(..).map(|w| (w.sides, w.slot)).unzip();
    let slots = improve(slots, &AdamW::default(), number, 1e-3, scale);
    let renewed = sides.into_iter().zip(slots);
    weights.extend(renewed.map(|(sides, slot)| Weight { sides, slot }));
    (
        value,
        [forward, backward, start.elapsed() - forward - backward],
    )
}

fn main() -> std::io::Result<()> {
    let given: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let number = |i: usize, default: usize| given.get(i).copied().unwrap_or(default);
    let sizes = Sizes {
        width: number(0, 128),
        layers: number(1, 4),
        heads: number(2, 4),
        hidden: number(3, 512),
        vocab: number(4, 1400),
        time: number(5, 320),
        batch: number(6, 8),
    };
    let steps = number(7, 8) as u64;
    jam_backends::kernels::memory::keep_freed_memory();
    let only = std::env::args().find(|a| a == "plain" || a == "kernels");
    let mut out = std::io::stdout();
    for (name, fast) in [("plain", false), ("kernels", true)] {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        Device::flex().seed(1);
        let mut weights = weights(&sizes);
        let mut best = [Duration::MAX; 3];
        let mut losses = Vec::new();
        for number in 1..=steps {
            let (loss, times) = step(&sizes, &mut weights, number, fast);
            for (best, time) in best.iter_mut().zip(times) {
                *best = time.min(*best);
            }
            losses.push(format!("{loss:.5}"));
        }
        let total: Duration = best.iter().sum();
        let speed = (sizes.batch * sizes.time) as f64 / total.as_secs_f64();
        writeln!(
            out,
            "{name}: {speed:.0} tokens/s (best forward, backward, step: {best:.1?})"
        )?;
        writeln!(out, "  losses {}", losses.join(" "))?;
    }
    Ok(())
}
