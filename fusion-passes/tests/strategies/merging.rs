//! Merging strategies: weights against the definition of each, numbers by layer and part, settings that
//! do not fit, and parents that do not.

use std::collections::BTreeMap;

use jam_fusion_passes::{Fused, Parent, fuse};
use jam_ir::{DType, Diagnostic, Model, Part, Plan, SettingValue, Settings};
use jam_ir_testing::generate;
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

use crate::parents::{cm3leon, llama, opt, place, settings};
use crate::reference::{Tensor, Weights, graph, plan, random_weights};

/// Models with weights of their own, called `a`, `b`, `c`, …
struct Crowd {
    models: Vec<Model>,
    sources: BTreeMap<String, Weights>,
}

impl Crowd {
    fn new(configs: &[DecoderConfig]) -> Crowd {
        Crowd::of(configs.iter().map(decoder_only).collect())
    }

    fn of(models: Vec<Model>) -> Crowd {
        let weights = models.iter().enumerate();
        let weights = weights.map(|(i, model)| (name(i), random_weights(model, 3 + i as u64)));
        Crowd {
            sources: weights.collect(),
            models,
        }
    }

    /// Merges the models at these places.
    fn fuse(
        &self,
        strategy: &str,
        parents: &[usize],
        given: &[(&str, SettingValue)],
    ) -> Result<Fused, Vec<Diagnostic>> {
        let parents = parents.iter().enumerate().map(|(at, index)| Parent {
            model: &self.models[*index],
            source: name(*index),
            span: Some(place(at as u32)),
        });
        let parents: Vec<Parent<'_>> = parents.collect();
        fuse(strategy, "merged", &parents, &settings(given))
    }

    fn merge(
        &self,
        strategy: &str,
        parents: &[usize],
        given: &[(&str, SettingValue)],
    ) -> (Fused, Weights) {
        let fused = self.fuse(strategy, parents, given);
        let fused = fused.unwrap_or_else(|errors| panic!("{strategy}: {errors:#?}"));
        let weights = plan::weights(&fused.model, &self.sources);
        (fused, weights)
    }

    fn of_weight(&self, weight: &str) -> Vec<&Tensor> {
        let sources = self.sources.values();
        sources.map(|weights| &weights[weight]).collect()
    }
}

fn name(index: usize) -> String {
    char::from(b'a' + index as u8).to_string()
}

fn number(number: f64) -> SettingValue {
    SettingValue::Number(number)
}

fn list(numbers: &[f64]) -> SettingValue {
    SettingValue::List(numbers.iter().copied().map(number).collect())
}

/// The last parent is the base.
fn base(index: usize) -> (&'static str, SettingValue) {
    ("base", SettingValue::Parent(index))
}

fn sum(terms: &[(f64, &Tensor)]) -> Tensor {
    let zero = Tensor::filled(&terms[0].1.shape, 0.0);
    let add = |sum: Tensor, (by, term): &(f64, &Tensor)| sum.zip(term, |a, b| a + by * b);
    terms.iter().fold(zero, add)
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.zip(b, |a, b| a * b).data.iter().sum()
}

#[test]
fn linear_is_the_weighted_mean_of_any_number() {
    for config in [cm3leon(8, 2, 2), opt(8, 2, 2), llama(8, 2, 2)] {
        let crowd = Crowd::new(&[config.clone(), config.clone(), config]);
        let weight = ("weight", list(&[1.0, 2.0, 5.0]));
        let (_, merged) = crowd.merge("linear", &[0, 1, 2], std::slice::from_ref(&weight));
        let plain = ("normalize", SettingValue::Flag(false));
        let (_, added) = crowd.merge("linear", &[0, 1, 2], &[weight, plain]);
        for (name, found) in &merged {
            let [a, b, c] = crowd.of_weight(name)[..] else {
                panic!("three models");
            };
            let mean = sum(&[(0.125, a), (0.25, b), (0.625, c)]);
            assert!(found.distance(&mean) < 1e-12, "{name}");
            assert!(
                added[name].distance(&mean.map(|x| 8.0 * x)) < 1e-12,
                "{name}"
            );
        }
    }
    let crowd = Crowd::new(&[cm3leon(8, 2, 2), cm3leon(8, 2, 2)]);
    let (fused, _) = crowd.merge("linear", &[0, 1], &[("weight", list(&[0.0, 2.0]))]);
    let plan = &fused.model.weights["layers.1.attn.q"].plan;
    assert_eq!(*plan, Plan::load("b", "layers.1.attn.q"));
}

#[test]
fn numbers_change_by_layer_and_part() {
    let crowd = Crowd::new(&[llama(8, 3, 2), llama(8, 3, 2)]);
    let share = |name: &str, merged: &Weights| {
        let [a, b] = crowd.of_weight(name)[..] else {
            panic!("two models");
        };
        // found = s · a + (1 − s) · b
        let (of, ab) = (
            sum(&[(1.0, &merged[name]), (-1.0, b)]),
            sum(&[(1.0, a), (-1.0, b)]),
        );
        dot(&of, &ab) / dot(&ab, &ab)
    };
    let close = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
    let ramp = || SettingValue::Ramp(vec![0.2, 0.8]);
    let (_, merged) = crowd.merge("uniform", &[0, 1], &[("share", ramp())]);
    for (layer, expected) in [0.2, 0.5, 0.8].into_iter().enumerate() {
        for weight in ["attn.q", "mlp.down", "norm1.gain"] {
            let name = format!("layers.{layer}.{weight}");
            assert!(close(share(&name, &merged), expected), "{name}");
        }
    }
    // Outside of layers it is the first.
    assert!(close(share("embed.table", &merged), 0.2));
    assert!(close(share("unembed.weight", &merged), 0.2));

    let parts = SettingValue::Parts(
        vec![
            (Part::Attention, SettingValue::Ramp(vec![0.0, 0.5, 1.0])),
            (Part::Mlp, number(0.25)),
            (Part::Head, number(0.75)),
        ],
        Box::new(number(0.5)),
    );
    let (_, merged) = crowd.merge("uniform", &[0, 1], &[("share", parts)]);
    for (name, expected) in [
        ("layers.0.attn.q", 0.0),
        ("layers.1.attn.out", 0.5),
        ("layers.2.attn.v", 1.0),
        ("layers.2.mlp.gate", 0.25),
        ("layers.0.norm2.gain", 0.5),
        ("embed.table", 0.5),
        ("unembed.weight", 0.75),
    ] {
        assert!(close(share(name, &merged), expected), "{name}");
    }
    // One for each parent, each by layer.
    let each = SettingValue::List(vec![ramp(), SettingValue::Ramp(vec![0.8, 0.2])]);
    let (_, merged) = crowd.merge("linear", &[0, 1], &[("weight", each)]);
    assert!(close(share("layers.2.mlp.up", &merged), 0.8));
}

#[test]
fn slerp_and_nuslerp_lie_on_the_arc() {
    let crowd = Crowd::new(&[opt(8, 2, 2), opt(8, 2, 2), opt(8, 2, 2)]);
    let arc = |t: f64, a: &Tensor, b: &Tensor| {
        let angle = (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).acos();
        let at = |t: f64| (t * angle).sin() / angle.sin();
        sum(&[(at(1.0 - t), a), (at(t), b)])
    };
    let name = "layers.1.attn.q";
    let [a, b, c] = crowd.of_weight(name)[..] else {
        panic!("three models");
    };
    let (_, merged) = crowd.merge("slerp", &[0, 1], &[("t", number(0.25))]);
    assert!(merged[name].distance(&arc(0.25, a, b)) < 1e-12);
    let (fused, _) = crowd.merge("slerp", &[0, 1], &[("t", number(0.0))]);
    assert_eq!(fused.model.weights[name].plan, Plan::load("a", name));
    let weight = ("weight", list(&[3.0, 1.0]));
    let (_, merged) = crowd.merge("nuslerp", &[0, 1], std::slice::from_ref(&weight));
    assert!(merged[name].distance(&arc(0.25, a, b)) < 1e-12);
    let (_, merged) = crowd.merge("nuslerp", &[0, 1, 2], &[weight, base(2)]);
    let (a, b) = (sum(&[(1.0, a), (-1.0, c)]), sum(&[(1.0, b), (-1.0, c)]));
    let expected = sum(&[(1.0, c), (1.0, &arc(0.25, &a, &b))]);
    assert!(merged[name].distance(&expected) < 1e-12);
}

#[test]
fn task_vectors_are_added_to_the_base() {
    let crowd = Crowd::new(&[llama(8, 2, 2), llama(8, 2, 2), llama(8, 2, 2)]);
    let name = "layers.0.mlp.up";
    let [a, b, c] = crowd.of_weight(name)[..] else {
        panic!("three models");
    };
    let given = [
        base(2),
        ("weight", list(&[0.5, 0.25])),
        ("lambda", number(2.0)),
    ];
    let (fused, merged) = crowd.merge("task_arithmetic", &[0, 1, 2], &given);
    let expected = sum(&[(-0.5, c), (1.0, a), (0.5, b)]);
    assert!(merged[name].distance(&expected) < 1e-12);
    // Every tensor is read once.
    let load = |source: &str| Plan::load(source, name);
    assert_eq!(
        fused.model.weights[name].plan,
        Plan::Sum(vec![(-0.5, load("c")), (1.0, load("a")), (0.5, load("b"))])
    );
    // One vector, and the base between the others.
    let (_, merged) = crowd.merge("task_arithmetic", &[0, 1], &[base(1)]);
    assert!(merged[name].distance(a) < 1e-12);
    let (_, merged) = crowd.merge("task_arithmetic", &[0, 2, 1], &given_base_between());
    assert!(merged[name].distance(&sum(&[(1.0, a), (1.0, b), (-1.0, c)])) < 1e-12);
}

/// The base stands at place 1 of three.
fn given_base_between() -> [(&'static str, SettingValue); 1] {
    [base(1)]
}

#[test]
fn ties_trims_elects_and_merges() {
    let crowd = Crowd::new(&[cm3leon(8, 2, 2), cm3leon(8, 2, 2), cm3leon(8, 2, 2)]);
    let name = "layers.0.attn.k";
    let [a, b, c] = crowd.of_weight(name)[..] else {
        panic!("three models");
    };
    let given = [
        base(2),
        ("weight", list(&[0.6, 0.4])),
        ("density", list(&[0.5, 1.0])),
        ("lambda", number(0.5)),
    ];
    let (_, merged) = crowd.merge("ties", &[0, 1, 2], &given);
    let (da, db) = (sum(&[(1.0, a), (-1.0, c)]), sum(&[(1.0, b), (-1.0, c)]));
    let mut sizes: Vec<f64> = da.data.iter().map(|x| x.abs()).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let least = sizes[sizes.len() / 2 - 1];
    for (place, found) in merged[name].data.iter().enumerate() {
        let x = da.data[place];
        let (x, y) = (if x.abs() >= least { x } else { 0.0 }, db.data[place]);
        let plus = 0.6 * x + 0.4 * y >= 0.0;
        let terms = [(0.6, x), (0.4, y)];
        let agree = terms
            .iter()
            .filter(|(_, x)| *x != 0.0 && (*x > 0.0) == plus);
        let (weight, total) = agree.fold((0.0, 0.0), |all, (w, x)| (all.0 + w, all.1 + w * x));
        let delta = if weight == 0.0 { 0.0 } else { total / weight };
        let expected = c.data[place] + 0.5 * delta;
        assert!(
            (found - expected).abs() < 1e-12,
            "{place}: {found}, not {expected}"
        );
    }
}

#[test]
fn dare_drops_at_random_and_scales_the_rest() {
    let crowd = Crowd::new(&[opt(8, 2, 2), opt(8, 2, 2)]);
    let name = "layers.1.mlp.up";
    let [a, c] = crowd.of_weight(name)[..] else {
        panic!("two models");
    };
    let delta = sum(&[(1.0, a), (-1.0, c)]);
    let kept = |merged: &Weights| sum(&[(1.0, &merged[name]), (-1.0, c)]);
    let size = |tensor: &Tensor| tensor.data.iter().map(|x| x.abs()).sum::<f64>();
    for (strategy, rescale) in [
        ("dare_linear", "norm"),
        ("dare_ties", "norm"),
        ("dare_linear", "density"),
        ("dare_ties", "no"),
    ] {
        let rescale_by = ("rescale", SettingValue::Word(rescale.to_owned()));
        let given = [base(1), ("density", number(0.25)), rescale_by];
        let (_, merged) = crowd.merge(strategy, &[0, 1], &given);
        let kept = kept(&merged);
        let count = kept.data.iter().filter(|x| x.abs() > 1e-12).count();
        let share = count as f64 / kept.data.len() as f64;
        assert!((0.1..0.4).contains(&share), "{strategy}: {share} stay");
        let (place, x) = kept
            .data
            .iter()
            .enumerate()
            .find(|(_, x)| x.abs() > 1e-9)
            .unwrap();
        let factor = x / delta.data[place];
        match rescale {
            "norm" => assert!((size(&kept) / size(&delta) - 1.0).abs() < 1e-9),
            "density" => assert!((factor - 4.0).abs() < 1e-6),
            _ => assert!((factor - 1.0).abs() < 1e-6),
        }
    }
    let (fused, merged) = crowd.merge("dare_linear", &[0, 1], &[base(1)]);
    assert!(merged[name].distance(a) < 1e-12);
    assert!(!format!("{:?}", fused.model.weights[name]).contains("Bernoulli"));
}

#[test]
fn model_stock_lies_between_base_and_mean() {
    let crowd = Crowd::new(&[
        llama(8, 2, 2),
        llama(8, 2, 2),
        llama(8, 2, 2),
        llama(8, 2, 2),
    ]);
    let name = "layers.1.attn.out";
    let [a, b, c, d] = crowd.of_weight(name)[..] else {
        panic!("four models");
    };
    let (_, merged) = crowd.merge("model_stock", &[0, 1, 2, 3], &[base(3)]);
    let deltas = [a, b, c].map(|x| sum(&[(1.0, x), (-1.0, d)]));
    let cosine = |a: &Tensor, b: &Tensor| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let mean = (cosine(&deltas[0], &deltas[1])
        + cosine(&deltas[0], &deltas[2])
        + cosine(&deltas[1], &deltas[2]))
        / 3.0;
    let t = 3.0 * mean / (1.0 + 2.0 * mean);
    let expected = sum(&[(t / 3.0, a), (t / 3.0, b), (t / 3.0, c), (1.0 - t, d)]);
    assert!(merged[name].distance(&expected) < 1e-12);
}

fn layers(runs: &[(u64, u64)]) -> (&'static str, SettingValue) {
    let run = |(first, end): &(u64, u64)| {
        SettingValue::List([*first, *end].map(SettingValue::Count).to_vec())
    };
    ("layers", SettingValue::List(runs.iter().map(run).collect()))
}

/// Each stack of three is three times as high: the one that is too high is refused before it is made.
#[test]
fn stacks_of_stacks_are_counted_before_they_are_made() {
    let mut model = decoder_only(&llama(8, 2, 2));
    for height in [6, 18, 54, 162, 486] {
        model = stacked(&model).unwrap().model;
        assert_eq!(model.name, "tall");
        let top = format!("layers.{}.attn.q", height - 1);
        assert!(model.weights.contains_key(&top), "{height}");
    }
    let errors = stacked(&model).unwrap_err();
    assert_eq!(
        errors[0].message,
        "a stack of 1458 layers is too high; 1000 are possible"
    );
}

/// Three times a model, one upon the other.
fn stacked(model: &Model) -> Result<Fused, Vec<Diagnostic>> {
    let parents: Vec<Parent<'_>> = ["a", "b", "c"]
        .map(|source| Parent {
            model,
            source: source.to_owned(),
            span: None,
        })
        .into();
    fuse("passthrough", "tall", &parents, &Settings::new())
}

#[test]
fn passthrough_stacks_layers() {
    for configs in [
        [llama(8, 3, 2), llama(8, 4, 2)],
        [cm3leon(8, 3, 2), cm3leon(8, 4, 2)],
    ] {
        let crowd = Crowd::new(&configs);
        let given = [layers(&[(0, 2), (1, 4), (2, 3)])];
        let (fused, merged) = crowd.merge("passthrough", &[0, 1, 0], &given);
        let stacked = [("a", 0), ("a", 1), ("b", 1), ("b", 2), ("b", 3), ("a", 2)];
        for (layer, (source, own)) in stacked.into_iter().enumerate() {
            let found = &merged[&format!("layers.{layer}.attn.q")];
            assert_eq!(
                *found,
                crowd.sources[source][&format!("layers.{own}.attn.q")]
            );
        }
        let of_layers = merged.keys().filter(|name| name.starts_with("layers.6."));
        assert_eq!(of_layers.count(), 0);
        let tokens = vec![vec![0, 5, 9]];
        let logits = graph::logits(&fused.model, &merged, &tokens);
        assert!(logits.data.iter().all(|x| x.is_finite()));
    }
    // All layers of one model give the model.
    let crowd = Crowd::new(&[opt(8, 3, 2), opt(8, 3, 2)]);
    let tokens = vec![vec![0, 5, 9]];
    let (fused, merged) = crowd.merge("passthrough", &[0], &[]);
    assert_eq!(
        graph::logits(&fused.model, &merged, &tokens),
        graph::logits(&crowd.models[0], &crowd.sources["a"], &tokens)
    );
    // The embedding is the first's, the head the last's; factors go by parent.
    let crowd = Crowd::new(&[llama(8, 2, 2), llama(8, 2, 2)]);
    let scale = SettingValue::List(vec![
        number(1.0),
        SettingValue::Parts(vec![(Part::Mlp, number(0.5))], Box::new(number(1.0))),
    ]);
    let (_, merged) = crowd.merge("passthrough", &[0, 1], &[("scale", scale)]);
    assert_eq!(merged["embed.table"], crowd.sources["a"]["embed.table"]);
    assert_eq!(
        merged["unembed.weight"],
        crowd.sources["b"]["unembed.weight"]
    );
    let half = crowd.sources["b"]["layers.0.mlp.up"].map(|x| 0.5 * x);
    assert_eq!(merged["layers.2.mlp.up"], half);
    assert_eq!(
        merged["layers.1.mlp.up"],
        crowd.sources["a"]["layers.1.mlp.up"]
    );
}

#[test]
fn what_does_not_fit_is_told_at_both_parents() {
    let crowd = Crowd::new(&[
        cm3leon(8, 2, 2),
        cm3leon(8, 2, 2),
        cm3leon(16, 2, 2),
        llama(8, 3, 2),
    ]);
    let told = |strategy, parents: &[usize], given: &[(&str, SettingValue)]| {
        let errors = crowd.fuse(strategy, parents, given).unwrap_err();
        (errors[0].message.clone(), errors)
    };
    for (strategy, given) in [
        ("linear", vec![]),
        ("model_stock", vec![base(2)]),
        ("ties", vec![base(2)]),
    ] {
        let (message, errors) = told(strategy, &[0, 1, 2], &given);
        assert_eq!(message, "the width is 8 in `a` and 16 in `c`");
        let spans: Vec<_> = errors[0].labels.iter().map(|label| label.span).collect();
        assert!(
            spans.contains(&place(0)) && spans.contains(&place(2)),
            "{spans:?}"
        );
    }
    let (message, errors) = told("passthrough", &[0, 3], &[]);
    assert!(
        message.contains("in `a`") && message.contains("in `d`"),
        "{message}"
    );
    assert!(errors[0].labels.iter().any(|label| label.span == place(0)));

    let (message, _) = told("passthrough", &[0, 1], &[layers(&[(0, 2), (1, 3)])]);
    assert_eq!(message, "`b` has 2 layers, and layers 1 to 3 are asked for");
    let (message, _) = told("linear", &[0, 1], &[("weight", list(&[1.0, -1.0]))]);
    assert!(message.contains("the weights add up to zero"), "{message}");
    let (message, _) = told("linear", &[0, 1], &[("weight", list(&[1.0]))]);
    assert!(message.contains("1 values for 2 parents"), "{message}");
    let (message, _) = told("linear", &[0], &[]);
    assert_eq!(message, "`linear` fuses at least 2 models, not 1");
    let (message, _) = told("ties", &[0, 1], &[]);
    assert_eq!(message, "`base` of `ties` is not given");
    let (message, _) = told("ties", &[0, 1], &[base(2)]);
    assert_eq!(message, "`base` of `ties` is not among the parents");
    let (message, _) = told("ties", &[1], &[base(0)]);
    assert_eq!(message, "`ties` fuses at least 1 models, not 0");
    let (message, _) = told(
        "slerp",
        &[0, 1],
        &[("t", SettingValue::Ramp(vec![0.0, 1.5]))],
    );
    assert!(
        message.contains("a number from 0 to 1, also by layer"),
        "{message}"
    );

    // Numbers by layer ask for layers.
    let crossed = crowd.fuse("cross", &[0, 1], &[]).unwrap().model;
    let pair = Crowd::of(vec![crossed.clone(), crossed]);
    assert!(pair.fuse("uniform", &[0, 1], &[]).is_ok());
    let ramp = ("share", SettingValue::Ramp(vec![0.0, 1.0]));
    let errors = pair.fuse("uniform", &[0, 1], &[ramp]).unwrap_err();
    assert!(errors[0].message.contains("stack of layers"), "{errors:#?}");
}

#[test]
fn any_models_are_merged_soundly_or_answered() {
    let mut merged: BTreeMap<&str, usize> = BTreeMap::new();
    let asked = [
        ("linear", vec![]),
        ("ties", vec![base(2), ("density", number(0.3))]),
        ("dare_ties", vec![base(2), ("density", number(0.3))]),
        ("dare_linear", vec![base(2), ("density", number(0.3))]),
        ("task_arithmetic", vec![base(2)]),
        ("model_stock", vec![base(2)]),
        ("nuslerp", vec![base(2)]),
        ("passthrough", vec![]),
    ];
    for seed in 0..150 {
        let model = generate::seeded(seed).model;
        let other = generate::seeded(seed + 1).model;
        for models in [
            vec![model.clone(), model.clone(), model.clone()],
            vec![model.clone(), other, model],
        ] {
            let crowd = Crowd::of(models);
            for (strategy, given) in &asked {
                match crowd.fuse(strategy, &[0, 1, 2], given) {
                    Ok(_) => *merged.entry(*strategy).or_insert(0) += 1,
                    Err(errors) => {
                        let fault = errors.iter().find(|e| e.message.contains("not sound"));
                        assert!(fault.is_none(), "{seed} {strategy}: {fault:#?}");
                    }
                }
            }
        }
    }
    for (strategy, least) in asked.iter().map(|(strategy, _)| (*strategy, 10)) {
        let count = merged.get(strategy).copied().unwrap_or(0);
        assert!(count >= least, "{strategy} merged {count} crowds");
    }
}

/// A parent that computes in bf16 merges with one that computes in f32, as if both did in f32.
#[test]
fn parents_of_two_precisions_are_merged_as_f32() {
    for config in [cm3leon(8, 2, 2), opt(8, 2, 2), llama(8, 2, 2)] {
        let mut half = config.clone();
        half.dtype = DType::BF16;
        let (mixed, alike) = (
            Crowd::new(&[half, config.clone()]),
            Crowd::new(&[config.clone(), config]),
        );
        for strategy in [
            "uniform",
            "linear",
            "slerp",
            "nuslerp",
            "passthrough",
            "width",
        ] {
            for parents in [[0, 1], [1, 0]] {
                let merged = mixed.fuse(strategy, &parents, &[]).unwrap();
                let expected = alike.fuse(strategy, &parents, &[]).unwrap();
                let note = &merged.notes[0].message;
                assert!(
                    note.contains("the fused model stores f32"),
                    "{strategy}: {note}"
                );
                assert_eq!(merged.notes[1..], expected.notes, "{strategy}");
                assert_eq!(merged.model, expected.model, "{strategy}");
            }
        }
    }
}

/// Weights of NuSLERP that cancel out give no point on the arc.
#[test]
fn weights_of_an_arc_that_cancel_out_are_warned_of_once() {
    let crowd = Crowd::new(&[cm3leon(8, 2, 2), cm3leon(8, 2, 2)]);
    let weight = |a: f64, b: f64| {
        let values = [a, b].map(SettingValue::Number);
        [("weight", SettingValue::List(values.to_vec()))]
    };
    let fused = crowd.fuse("nuslerp", &[0, 1], &weight(2.0, -2.0)).unwrap();
    assert_eq!(fused.notes.len(), 1);
    assert!(fused.notes[0].message.contains("add up to zero"));
    let even = crowd.fuse("nuslerp", &[0, 1], &weight(1.0, 1.0)).unwrap();
    assert_eq!((fused.model, even.notes), (even.model, Vec::new()));
}
