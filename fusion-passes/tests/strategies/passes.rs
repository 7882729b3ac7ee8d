//! Passes keep the logits of any model, bit for bit.

use jam_fusion_passes::passes::run_passes;
use jam_ir::Model;
use jam_ir_testing::generate;

use crate::parents::{Family, cm3leon, llama, opt};
use crate::reference::{Weights, graph, random_weights};

/// Logits of a model on a few ids of its vocabulary.
fn logits(model: &Model, weights: &Weights) -> Vec<u64> {
    let time = model.context.unwrap_or(4).min(4) as usize;
    let id = |seed: usize| (seed * 7 + 3) % model.tokens.size as usize;
    let tokens: Vec<Vec<usize>> = (0..2)
        .map(|row| (0..time).map(|t| id(row * time + t)).collect())
        .collect();
    let logits = graph::logits(model, weights, &tokens);
    // Of numbers that are none, any stands for another.
    let bits = |x: &f64| {
        if x.is_nan() {
            f64::NAN.to_bits()
        } else {
            x.to_bits()
        }
    };
    logits.data.iter().map(bits).collect()
}

/// Runs all passes; gives how many of them changed something.
fn equivalent(model: &Model) -> usize {
    let weights = random_weights(model, 3);
    let before = logits(model, &weights);
    let mut after = model.clone();
    let mut changed = 0;
    run_passes(&mut after, None, &mut |report| {
        changed += usize::from(report.changed);
        assert_eq!(
            logits(report.after, &weights),
            before,
            "{}",
            report.pass.name
        );
    })
    .unwrap_or_else(|error| panic!("{error}"));
    for (name, weight) in &after.weights {
        assert_eq!(weight, &model.weights[name]);
    }
    changed
}

#[test]
fn generated_models_compute_the_same() {
    let changed: usize = (0..300)
        .map(|seed| equivalent(&generate::seeded(seed).model))
        .sum();
    assert!(
        changed > 300,
        "generated models give passes something to do: {changed}"
    );
}

#[test]
fn fused_models_compute_the_same_and_are_small_already() {
    for (a, b) in [
        (cm3leon(8, 2, 2), opt(8, 2, 2)),
        (opt(8, 2, 2), llama(12, 2, 2)),
    ] {
        assert_eq!(equivalent(&Family::new(&a, &b).fuse("cross", &[]).model), 0);
        assert_eq!(equivalent(&Family::new(&a, &a).fuse("width", &[]).model), 0);
    }
}
