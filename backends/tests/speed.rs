//! Speed by hand: `cargo test --release -p jam-backends --test speed -- --ignored --nocapture`.
//!
//! The sizes are those of the drawing lessons. Nothing is asserted: times depend on the machine.

mod support;

use std::time::Instant;

use jam_backends::{AdamW, ExecOptions, Executable, NextTokens, Optimizer, Tokens};
use jam_ir::TokenLayout;
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};
use support::{fresh, some_ids};

/// Four layers of width 128 over 1,400 ids.
fn lessons_model() -> Executable {
    let config = DecoderConfig::cm3leon(TokenLayout::bare(1400), 320, 128, 4, 4, 512);
    fresh(&decoder_only(&config), ExecOptions::default())
}

#[test]
#[ignore = "a measurement"]
fn decoding() {
    let executable = lessons_model();
    let (rows, prompt, steps) = (128, 20, 60);
    let ids = some_ids(rows * prompt, 1400, 1);
    let mut decoder = executable.decoder(rows, prompt + steps).expect("a decoder");
    let start = Instant::now();
    decoder.prefill(Tokens::new(&ids, rows)).expect("logits");
    let prefilled = start.elapsed();
    for step in 0..steps {
        let next = some_ids(rows, 1400, step as u32);
        decoder.step(&next).expect("logits");
    }
    let all = start.elapsed();
    eprintln!(
        "{rows} rows: prefill of {prompt} {prefilled:?}, {steps} steps {:?}",
        all - prefilled
    );
}

#[test]
#[ignore = "a measurement"]
fn training() {
    for (rows, length, recompute) in [(32, 45, false), (32, 45, true), (8, 320, false)] {
        let mut executable = lessons_model();
        let recipe = AdamW {
            lr: 1e-3,
            betas: (0.9, 0.95),
            eps: 1e-8,
            decay: 0.1,
            no_decay: Vec::new(),
            clip: 1.0,
        };
        let mut optimizer = Optimizer::new(&executable, &recipe.called()).expect("an optimizer");
        let ids = some_ids(rows * length, 1400, 1);
        let tokens = Tokens::new(&ids, rows);
        let next = NextTokens::of(tokens);
        let steps = 10;
        let mut start = Instant::now();
        for step in 0..=steps {
            if step == 1 {
                start = Instant::now();
            }
            let found = executable
                .train_step(&[(tokens, next.targets())], recompute)
                .expect("a step");
            optimizer
                .step(&mut executable, found.gradients, 1e-3)
                .expect("a step");
        }
        let time = start.elapsed().as_secs_f64() / f64::from(steps);
        let speed = (rows * length) as f64 / time;
        eprintln!(
            "{rows} x {length}, recompute {recompute}: {time:.3} s a step, {speed:.0} tokens/s"
        );
    }
}
