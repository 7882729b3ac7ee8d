//! JAM-Uniform.

use jam_fusion_passes::fuse;
use jam_ir::text::{parse, print};
use jam_ir::{Plan, SettingValue};

use crate::parents::{Family, cm3leon, llama, opt, settings};
use crate::reference::plan;

#[test]
fn every_weight_is_the_mean_by_share() {
    for config in [cm3leon(8, 2, 2), opt(8, 2, 2), llama(8, 2, 2)] {
        let family = Family::new(&config, &config);
        let fused = family.fuse("uniform", &[("share", SettingValue::Number(0.25))]);
        assert!(fused.notes.is_empty());
        let weights = family.weights(&fused);
        assert_eq!(weights.len(), family.models[0].weights.len());
        for (name, weight) in &weights {
            let (a, b) = (&family.sources["llm"][name], &family.sources["img"][name]);
            let mean = a.zip(b, |a, b| 0.25 * a + 0.75 * b);
            assert!(weight.distance(&mean) < 1e-12, "{name}");
        }
        let plan = &fused.model.weights["layers.1.attn.q"].plan;
        let name = "layers.1.attn.q";
        let (a, b) = (Plan::load("llm", name), Plan::load("img", name));
        assert_eq!(*plan, Plan::Sum(vec![(0.25, a), (0.75, b)]));
    }
}

#[test]
fn a_whole_share_is_one_parent() {
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(8, 2, 2));
    for (share, parent) in [(1, 0), (0, 1)] {
        let fused = family.fuse("uniform", &[("share", SettingValue::Count(share))]);
        assert_eq!(family.logits(&fused), family.parent_logits(parent));
    }
}

#[test]
fn weights_are_paired_by_what_they_do_and_not_by_name() {
    let mut family = Family::new(&opt(8, 2, 2), &opt(8, 2, 2));
    // The second parent writes the same model in other words and another order.
    let text = print(&family.models[1]);
    let text = text.replace("attn.", "self.").replace("layers.", "blocks.");
    let text = text
        .replace("decoder", "layer")
        .replace("norm1", "pre")
        .replace("width", "d");
    family.models[1] = parse(&text.replace("axis d =", "axis d: width =")).unwrap();
    let position = |word: &str| {
        let mut body = family.models[1].main.body.iter();
        body.position(|statement| statement.op.word() == word)
            .unwrap()
    };
    let (embed, positions) = (position("embed"), position("positions"));
    family.models[1].main.body.swap(embed, positions);
    let img = family.sources["img"].iter().map(|(name, tensor)| {
        let name = name.replace("attn.", "self.").replace("layers.", "blocks.");
        (name.replace("norm1", "pre"), tensor.clone())
    });
    let img = img.collect();
    family.sources.insert("img".to_owned(), img);

    let fused = family.fuse("uniform", &[]);
    let weights = family.weights(&fused);
    for (ours, theirs) in [
        ("layers.1.attn.q", "blocks.1.self.q"),
        ("layers.0.norm1.gain", "blocks.0.pre.gain"),
    ] {
        let (a, b) = (&family.sources["llm"][ours], &family.sources["img"][theirs]);
        assert!(weights[ours].distance(&a.zip(b, |a, b| 0.5 * (a + b))) < 1e-12);
    }
}

#[test]
fn fused_models_are_fused_again_as_a_whole() {
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(8, 2, 2));
    let crossed = family.fuse("cross", &[]).model;
    let again = Family::of([crossed.clone(), crossed]);
    let fused = fuse("uniform", "again", &again.parents(), &settings(&[])).unwrap();
    let weights = plan::weights(&fused.model, &again.sources);
    let name = "cross.0.llm_to_img.attn.q";
    let (a, b) = (&again.sources["llm"][name], &again.sources["img"][name]);
    assert!(weights[name].distance(&a.zip(b, |a, b| 0.5 * (a + b))) < 1e-12);
}
