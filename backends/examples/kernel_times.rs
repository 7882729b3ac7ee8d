//! Times every kernel on the CPU beside its plain reference: best forward and backward of many runs.
//!
//! `cargo run --release -p jam-backends --example kernel_times [ROWS WIDTH HIDDEN HEADS TIME VOCAB]`

use burn::tensor::{Device, Distribution, Tensor};
use jam_backends::kernels::activation::{activation, activation_reference};
use jam_backends::kernels::attention::{AttentionOptions, attention, attention_reference};
use jam_backends::kernels::cross_entropy::{
    Head, HeadLayout, linear_cross_entropy, linear_cross_entropy_reference,
};
use jam_backends::kernels::embedding::{Ids, embedding, embedding_reference};
use jam_backends::kernels::linear::{linear, linear_reference};
use jam_backends::kernels::norm::{Norm, norm, norm_reference};
use jam_backends::kernels::rotary::{
    RotaryLayout, RotaryTable, inverse_frequencies, rotary, rotary_reference,
};
use jam_ir::Activation;
use std::io::Write;
use std::time::{Duration, Instant};

/// Best forward and backward of `f`, whose result gets a gradient of ones.
fn time<const D: usize>(runs: usize, f: impl Fn() -> Tensor<D>) -> [Duration; 2] {
    let mut best = [Duration::MAX; 2];
    for _ in 0..runs {
        let start = Instant::now();
        let out = f();
        let forward = start.elapsed();
        let grads = out.backward();
        let backward = start.elapsed() - forward;
        drop(grads);
        best = [best[0].min(forward), best[1].min(backward)];
    }
    best
}

fn main() -> std::io::Result<()> {
    let given: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let number = |i: usize, default: usize| given.get(i).copied().unwrap_or(default);
    let (rows, width, hidden) = (number(0, 2560), number(1, 128), number(2, 512));
    let (heads, steps, vocab) = (number(3, 4), number(4, 320), number(5, 1400));
    let batch = rows / steps;
    let device = Device::flex().autodiff();
    let random = |shape: &[usize]| {
        let values = Tensor::<1>::random(
            [shape.iter().product::<usize>()],
            Distribution::Normal(0.0, 0.5),
            &device,
        );
        values.into_data()
    };
    let matrix = |a: usize, b: usize| {
        Tensor::<1>::from_data(random(&[a, b]), &device)
            .reshape([a, b])
            .detach()
            .require_grad()
    };
    jam_backends::kernels::memory::keep_freed_memory();
    let mut out = std::io::stdout();
    let mut report = |name: &str, work: usize, fast: [Duration; 2], plain: [Duration; 2]| {
        let gflops = |t: Duration, times: f64| times * 2.0 * work as f64 / t.as_secs_f64() / 1e9;
        let rates = if work > 0 {
            format!(
                ", {:.0} and {:.0} GFLOP/s",
                gflops(fast[0], 1.0),
                gflops(fast[1], 2.0)
            )
        } else {
            String::new()
        };
        writeln!(out, "{name}: kernel {fast:.2?}, plain {plain:.2?}{rates}")
    };

    for (inner, outer) in [(width, width), (width, hidden), (hidden, width)] {
        let (x, w) = (matrix(rows, inner), matrix(inner, outer));
        report(
            &format!("linear {rows} x {inner} x {outer}"),
            rows * inner * outer,
            time(40, || linear(x.clone(), w.clone(), None)),
            time(10, || linear_reference(x.clone(), w.clone(), None)),
        )?;
    }
    let shape = [batch, steps, heads, width / heads];
    let head = || matrix(rows, width).reshape(shape).detach().require_grad();
    let (q, k, v) = (head(), head(), head());
    let causal = AttentionOptions::causal();
    report(
        &format!("attention {shape:?}"),
        // Half of the square, two products.
        batch * steps * steps * width,
        time(40, || attention(q.clone(), k.clone(), v.clone(), &causal)),
        time(5, || {
            attention_reference(q.clone(), k.clone(), v.clone(), &causal)
        }),
    )?;
    for (cached, heads, key) in [(steps, heads, width / heads), (4096, 32, 128)] {
        let plain = device.clone().inner();
        let one = Tensor::<4>::zeros([batch, 1, heads, key], &plain);
        let cache = Tensor::<4>::zeros([batch, cached + 64, heads, key], &plain);
        let keys = || cache.clone().narrow(1, 0, cached);
        let options = AttentionOptions {
            query_offset: cached - 1,
            ..AttentionOptions::causal()
        };
        let best = |attend: &dyn Fn() -> Tensor<4>| {
            let one = || {
                let start = Instant::now();
                drop(attend());
                start.elapsed()
            };
            (0..20).map(|_| one()).min().unwrap_or_default()
        };
        let fast = best(&|| attention(one.clone(), keys(), keys(), &options));
        let slow = best(&|| attention_reference(one.clone(), keys(), keys(), &options));
        let shape = [batch, cached, heads, key];
        report(
            &format!("one step on a cache {shape:?}"),
            0,
            [fast; 2],
            [slow; 2],
        )?;
    }
    let table = RotaryTable::range(0, steps, &inverse_frequencies(width / heads, 1e4), &device);
    report(
        "rotary",
        0,
        time(40, || rotary(q.clone(), &table, RotaryLayout::Half)),
        time(5, || {
            rotary_reference(q.clone(), &table, RotaryLayout::Half)
        }),
    )?;
    let (x, gain) = (matrix(rows, width), matrix(1, width));
    let gain = || Some(gain.clone().reshape([width]));
    for kind in [Norm::Layer, Norm::Rms] {
        report(
            &format!("{kind:?} norm"),
            0,
            time(40, || norm(x.clone(), gain(), gain(), kind, &[], 1e-5)),
            time(5, || {
                norm_reference(x.clone(), gain(), gain(), kind, &[], 1e-5)
            }),
        )?;
    }
    let wide = matrix(rows, hidden);
    for act in Activation::ALL {
        report(
            &format!("{act:?}"),
            0,
            time(40, || activation(wide.clone(), act)),
            time(5, || activation_reference(wide.clone(), act)),
        )?;
    }
    let ids = (0..rows).map(|i| (i * 7919 % vocab) as u32);
    let ids = Ids::new(ids.collect(), batch, &device);
    let weight = matrix(vocab, width);
    report(
        "embedding",
        0,
        time(40, || embedding(weight.clone(), &ids)),
        time(5, || {
            embedding_reference(weight.clone(), ids.tensor().clone())
        }),
    )?;
    let head = || Head {
        weight: weight.clone(),
        layout: HeadLayout::Table,
        bias: None,
        mask: None,
    };
    let targets = ids.tensor().clone().reshape([rows]);
    let once = Tensor::ones([rows], &device);
    let (t, w) = (|| targets.clone(), || once.clone());
    report(
        "linear + cross-entropy (the kernel forms gradients in its forward pass)",
        rows * width * vocab,
        time(20, || linear_cross_entropy(x.clone(), head(), t(), w()).sum),
        time(5, || {
            linear_cross_entropy_reference(x.clone(), head(), t(), w()).sum
        }),
    )
}
