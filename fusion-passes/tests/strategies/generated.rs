//! Generated models as parents: any two are fused soundly or answered with a reason.

use std::collections::BTreeMap;

use jam_fusion_passes::{Parent, fuse};
use jam_ir::{Model, SettingValue};
use jam_ir_testing::generate;

use crate::parents::{settings, word};
use crate::reference::{graph, plan, random_weights};

fn parents<'m>(a: &'m Model, b: &'m Model) -> [Parent<'m>; 2] {
    let parent = |model, source: &str| Parent {
        model,
        source: source.to_owned(),
        span: None,
    };
    [parent(a, "llm"), parent(b, "img")]
}

#[test]
fn any_two_models_are_fused_soundly_or_answered() {
    let every = ("every", SettingValue::Count(1));
    let widths = [
        vec![],
        vec![
            ("off_diagonal", word("zero")),
            ("head", word("rows")),
            ("norm", word("halves")),
        ],
        vec![("scale", SettingValue::Number(0.5))],
    ];
    let crosses = [
        vec![every.clone()],
        vec![
            every,
            ("kv_norm", SettingValue::Flag(true)),
            ("tokens", word("own")),
        ],
        vec![("head", word("rows"))],
    ];
    let mut asked = vec![("uniform", vec![])];
    asked.extend(widths.map(|given| ("width", given)));
    asked.extend(crosses.map(|given| ("cross", given)));
    let mut fused = BTreeMap::new();
    for seed in 0..400 {
        let a = generate::seeded(seed).model;
        let other = generate::seeded(seed + 1).model;
        for b in [&a, &other] {
            for (strategy, given) in &asked {
                match fuse(strategy, "fused", &parents(&a, b), &settings(given)) {
                    Ok(_) => *fused.entry(*strategy).or_insert(0) += 1,
                    Err(errors) => {
                        assert!(!errors.is_empty());
                        for error in errors {
                            let fault = error.message.contains("not sound");
                            assert!(!fault, "{seed} {strategy} {given:?}: {error:#?}");
                        }
                    }
                }
            }
        }
    }
    for (strategy, least) in [("uniform", 400), ("width", 30), ("cross", 30)] {
        let count = fused.get(strategy).copied().unwrap_or(0);
        assert!(count >= least, "{strategy} fused {count} couples");
    }
}

/// A model and its twin are, in the mean, the model.
#[test]
fn the_mean_of_a_model_and_its_twin_is_the_model() {
    for seed in 0..200 {
        let model = generate::seeded(seed).model;
        let weights = random_weights(&model, 5);
        let sources = ["llm", "img"].map(|source| (source.to_owned(), weights.clone()));
        let fused = fuse("uniform", "fused", &parents(&model, &model), &settings(&[])).unwrap();
        let mean = plan::weights(&fused.model, &BTreeMap::from(sources));
        let tokens = vec![vec![0; model.context.unwrap_or(3).min(3) as usize]];
        let logits = graph::logits(&fused.model, &mean, &tokens);
        let expected = graph::logits(&model, &weights, &tokens);
        for (a, b) in logits.data.iter().zip(&expected.data) {
            let same = a == b || (a.is_nan() && b.is_nan());
            // Ids that a parent's head masks: no fusion inherits that.
            let masked = *b == f64::from(f32::MIN) && a != b;
            assert!(
                same || masked || (a - b).abs() <= 1e-9 * b.abs().max(1.0),
                "{seed}: {a} {b}"
            );
        }
    }
}
