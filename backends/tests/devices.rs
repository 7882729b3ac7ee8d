//! The same model on every device that `JAM_DEVICES` names (`wgpu:cpu,cuda:0`; by default the CPU):
//! its logits, losses over some training steps, and decoding, against the CPU's.
//!
//! A device that is named must be there. Sizes are small: a software Vulkan driver compiles and
//! tunes for a minute before its first step (`CUBECL_AUTOTUNE_LEVEL=minimal` shortens that).

mod support;

use jam_backends::{AdamW, DeviceChoice, ExecOptions, Executable, NextTokens, Optimizer, Tokens};
use jam_ir::{Model, TokenLayout};
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};
use support::{distance, drawn, some_ids};

fn devices() -> Vec<DeviceChoice> {
    let named = std::env::var("JAM_DEVICES").unwrap_or_else(|_| "cpu".to_owned());
    let parsed = named.split(',').map(|name| name.trim().parse());
    parsed.map(|choice| choice.expect("a device")).collect()
}

/// Two layers each: OPT, and LLaMA with grouped keys.
fn models() -> [Model; 2] {
    let opt = DecoderConfig::opt(TokenLayout::bare(96), 24, 32, 2, 4, 64);
    let mut llama = DecoderConfig::llama(TokenLayout::bare(96), 24, 32, 2, 4, 64);
    llama.kv_heads = 2;
    [decoder_only(&opt), decoder_only(&llama)]
}

fn executable(model: &Model, choice: DeviceChoice) -> Executable {
    let device = choice
        .open()
        .unwrap_or_else(|error| panic!("{choice}: {error}"));
    let mut weights = |name: &str, shape: &[usize]| Ok(drawn(name, shape));
    Executable::new(model, &mut weights, &device, ExecOptions::default()).expect("an executable")
}

/// Logits before training, losses before each step, and logits of decoding afterwards.
fn run(model: &Model, choice: DeviceChoice) -> (Vec<f32>, Vec<f64>, Vec<f32>) {
    let mut executable = executable(model, choice);
    let (rows, length) = (2, 12);
    let ids = some_ids(rows * length, 96, 5);
    let mask: Vec<bool> = (0..ids.len()).map(|i| i >= 3).collect();
    let tokens = Tokens::masked(&ids, rows, &mask);
    let next = NextTokens::of(tokens);
    let logits = executable.forward(tokens).expect("logits");
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
    for recompute in [false, true, false] {
        let step = executable
            .train_step(&[(tokens, next.targets())], recompute)
            .expect("a step");
        losses.push(step.loss.mean);
        optimizer
            .step(&mut executable, step.gradients, 1e-3)
            .expect("a step");
    }
    let mut decoder = executable.decoder(rows, length + 2).expect("a decoder");
    let mut decoded = decoder.prefill(tokens).expect("logits");
    decoded.extend(decoder.step(&[3, 4]).expect("logits"));
    decoded.extend(decoder.step(&[5, 6]).expect("logits"));
    // At padding logits have no meaning.
    let vocab = executable.vocabulary();
    (logits[3 * vocab..].to_vec(), losses, decoded)
}

#[test]
fn every_device_computes_what_the_cpu_computes() {
    for model in models() {
        let (logits, losses, decoded) = run(&model, DeviceChoice::Cpu);
        assert!(losses[2] < losses[0], "training does not help: {losses:?}");
        for choice in devices() {
            let (there, losses_there, decoded_there) = run(&model, choice);
            let off = distance(&logits, &there, |_| true);
            assert!(off < 1e-3, "{choice}: logits differ by {off}");
            for (a, b) in losses.iter().zip(&losses_there) {
                assert!(
                    (a - b).abs() < 1e-3,
                    "{choice}: losses {losses_there:?} for {losses:?}"
                );
            }
            let off = distance(&decoded, &decoded_there, |_| true);
            assert!(off < 1e-2, "{choice}: decoded logits differ by {off}");
        }
    }
}
