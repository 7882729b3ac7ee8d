//! The same models on every device that `JAM_DEVICES` names (`wgpu:cpu,cuda:0`; by default the CPU): logits, losses over
//! twenty training steps, and decoding, against the CPU's.
//!
//! A device that is named must be there. Sizes are small: a software Vulkan driver compiles for a minute before its first
//! step, and CUDA may run on the processor (`backends/cuda-on-cpu`).

#![allow(clippy::print_stdout, reason = "the comparisons print a table")]

mod support;

use jam_backends::{
    AdamW, DeviceChoice, ExecOptions, Executable, NextTokens, Optimizer, Precision, Tokens,
};
use jam_fusion_passes::{Parent, fuse};
use jam_ir::{Model, Settings, TokenLayout};
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};
use support::{distance, drawn, some_ids};

/// Ids of every model.
const VOCAB: u32 = 96;

/// Training steps.
const STEPS: usize = 20;

fn devices() -> Vec<DeviceChoice> {
    let named = std::env::var("JAM_DEVICES").unwrap_or_else(|_| "cpu".to_owned());
    let parsed = named.split(',').map(|name| name.trim().parse());
    parsed.map(|choice| choice.expect("a device")).collect()
}

/// Two layers each: OPT, LLaMA with grouped keys, and two OPTs fused by Width and by Cross.
fn models() -> [(&'static str, Model); 4] {
    let tokens = || TokenLayout::bare(u64::from(VOCAB));
    let opt = decoder_only(&DecoderConfig::opt(tokens(), 24, 32, 2, 4, 64));
    let mut llama = DecoderConfig::llama(tokens(), 24, 32, 2, 4, 64);
    llama.kv_heads = 2;
    let fused = |strategy: &str| {
        let parent = |source: &str| Parent {
            model: &opt,
            source: source.to_owned(),
            span: None,
        };
        let parents = [parent("llm"), parent("img")];
        let fused = fuse(strategy, "fused", &parents, &Settings::new());
        fused.unwrap_or_else(|errors| panic!("{errors:#?}")).model
    };
    let (width, cross) = (fused("width"), fused("cross"));
    [
        ("OPT", opt.clone()),
        ("LLaMA", decoder_only(&llama)),
        ("Width", width),
        ("Cross", cross),
    ]
}

/// What a device computed.
struct Run {
    /// Logits before training.
    logits: Vec<f32>,
    /// The loss before each step.
    losses: Vec<f64>,
    /// Logits of decoding after training, and of the whole pass over the same tokens.
    decoded: Vec<f32>,
    whole: Vec<f32>,
}

fn run(model: &Model, choice: DeviceChoice, precision: Precision) -> Run {
    let device = choice
        .open()
        .unwrap_or_else(|error| panic!("{choice}: {error}"));
    let mut weights = |name: &str, shape: &[usize]| Ok(drawn(name, shape));
    let options = ExecOptions { precision };
    let mut executable =
        Executable::new(model, &mut weights, &device, options).expect("an executable");
    let (rows, length) = (2, 12);
    let ids = some_ids(rows * length, VOCAB, 5);
    let mask: Vec<bool> = (0..ids.len()).map(|i| i >= 3).collect();
    let tokens = Tokens::masked(&ids, rows, &mask);
    let next = NextTokens::of(tokens);
    let vocab = executable.vocabulary();
    // At padding logits have no meaning.
    let logits = executable.forward(tokens).expect("logits")[3 * vocab..].to_vec();
    let recipe = AdamW {
        lr: 1e-3,
        betas: (0.9, 0.95),
        eps: 1e-8,
        decay: 0.1,
        no_decay: Vec::new(),
        clip: 1.0,
    };
    let mut optimizer = Optimizer::new(&executable, &recipe.called()).expect("an optimizer");
    let mut losses = Vec::new();
    for number in 0..STEPS {
        // A layer at a time in some steps: the same gradients.
        let step = executable
            .train_step(&[(tokens, next.targets())], number % 4 == 1)
            .expect("a step");
        losses.push(step.loss.mean);
        optimizer
            .step(&mut executable, step.gradients, 1e-3)
            .expect("a step");
    }
    let (first, then) = ([3, 4], [5, 6]);
    let mut decoder = executable.decoder(rows, length + 2).expect("a decoder");
    decoder.prefill(tokens).expect("logits");
    decoder.step(&first).expect("logits");
    let decoded = decoder.step(&then).expect("logits");
    let rest = |all: &[u32], row: usize| [all, &[first[row], then[row]]].concat();
    let long: Vec<u32> = (0..rows)
        .flat_map(|row| rest(&ids[row * length..][..length], row))
        .collect();
    let seen: Vec<bool> = mask
        .chunks(length)
        .flat_map(|row| [row, &[true, true]].concat())
        .collect();
    let all = executable
        .forward(Tokens::masked(&long, rows, &seen))
        .expect("logits");
    let last = |row: usize| &all[((row + 1) * (length + 2) - 1) * vocab..][..vocab];
    let whole = (0..rows).flat_map(last).copied().collect();
    Run {
        logits,
        losses,
        decoded,
        whole,
    }
}

fn furthest(a: &[f64], b: &[f64]) -> f64 {
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    off.fold(0.0, f64::max)
}

#[test]
fn every_device_computes_what_the_cpu_computes() {
    for (name, model) in models() {
        let here = run(&model, DeviceChoice::Cpu, Precision::F32);
        let losses = &here.losses;
        assert!(
            losses[STEPS - 1] < losses[0],
            "training does not help: {losses:?}"
        );
        for choice in devices() {
            let there = run(&model, choice, Precision::F32);
            let logits = distance(&here.logits, &there.logits, |_| true);
            let losses = furthest(&here.losses, &there.losses);
            let decoding = distance(&there.decoded, &there.whole, |_| true);
            println!(
                "{name:<6} {choice:<9} f32   logits {logits:.1e}, losses {losses:.1e}, decoding {decoding:.1e}"
            );
            assert!(
                logits < 1e-4,
                "{name} on {choice}: logits differ by {logits}"
            );
            assert!(
                losses < 1e-4,
                "{name} on {choice}: losses differ by {losses}"
            );
            assert!(
                decoding < 1e-4,
                "{name} on {choice}: decoding differs by {decoding}"
            );
        }
    }
}

/// Half precision where a device has it: training goes the same way, and decoding sees what the whole pass sees.
#[test]
fn bf16_trains_alike() {
    for (name, model) in models() {
        let here = run(&model, DeviceChoice::Cpu, Precision::F32);
        for choice in devices() {
            let device = choice
                .open()
                .unwrap_or_else(|error| panic!("{choice}: {error}"));
            let options = ExecOptions {
                precision: Precision::Bf16,
            };
            let mut weights = |name: &str, shape: &[usize]| Ok(drawn(name, shape));
            if let Err(error) = Executable::new(&model, &mut weights, &device, options) {
                println!("{name:<6} {choice:<9} bf16  refused: {error}");
                let error = error.to_string();
                assert!(
                    error.contains("does not compute in bf16"),
                    "{choice}: {error}"
                );
                assert_ne!(choice, DeviceChoice::Cpu);
                continue;
            }
            let there = run(&model, choice, Precision::Bf16);
            let losses = furthest(&here.losses, &there.losses);
            let decoding = distance(&there.decoded, &there.whole, |_| true);
            println!("{name:<6} {choice:<9} bf16  losses {losses:.1e}, decoding {decoding:.1e}");
            assert!(
                losses < 0.02,
                "{name} on {choice}: losses differ by {losses}"
            );
            assert!(
                decoding < 0.05,
                "{name} on {choice}: decoding differs by {decoding}"
            );
        }
    }
}
