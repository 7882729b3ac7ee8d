//! Parents that do not fit, as far as a program cannot say it; what it can say is in `tests/cases/fusions/misfit-*.jam`.

use jam_fusion_passes::{fuse, signatures};
use jam_ir::{Op, SettingKind, SettingValue, TokenKind, TokenLayout};
use jam_weights::checkpoints::decoder::decoder_only;

use crate::parents::{Family, cm3leon, settings, word};

#[test]
fn vocabularies_must_mean_the_same() {
    let mut marks = cm3leon(8, 2, 2);
    marks.tokens.marks.insert("bos".to_owned(), 1);
    let mut moved = cm3leon(8, 2, 2);
    moved.tokens = TokenLayout::empty("");
    for (kind, len) in [
        (TokenKind::Mark, 4),
        (TokenKind::Text, 9),
        (TokenKind::Image, 7),
        (TokenKind::Mark, 1),
    ] {
        moved.tokens.add(kind, len);
    }
    for (other, words) in [(marks, "marks have other ids"), (moved, "lie elsewhere")] {
        let errors = Family::new(&cm3leon(8, 2, 2), &other)
            .try_fuse("cross", &[])
            .unwrap_err();
        assert!(errors[0].message.contains(words), "{errors:?}");
    }
}

#[test]
fn layers_that_do_not_reach_the_logits_are_none() {
    let mut model = decoder_only(&cm3leon(8, 2, 2));
    let calls = model.main.body.iter();
    let mut calls = calls.filter(|s| matches!(s.op, Op::Call { .. }));
    let first = calls.next().unwrap().result;
    for statement in &mut model.main.body {
        if let Op::LayerNorm { x, .. } = &mut statement.op {
            *x = first;
        }
    }
    let other = decoder_only(&cm3leon(8, 1, 2));
    let fused = Family::of([model, other]).fuse("uniform", &[]).model;
    assert!(!fused.weights.contains_key("layers.1.norm1.gain"));
}

#[test]
fn what_start_parents_rules_out_is_an_error() {
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(8, 2, 2));
    for (strategy, setting, value) in [
        ("cross", "head", word("joint")),
        ("cross", "tokens", word("shared")),
        ("cross", "positions", word("second")),
        ("width", "head", word("sum")),
        ("width", "norm", word("joint")),
        ("width", "off_diagonal", word("copy")),
        ("width", "scale", SettingValue::Number(0.5)),
    ] {
        let given = [("start", word("parents")), (setting, value)];
        let errors = family.try_fuse(strategy, &given).unwrap_err();
        assert_eq!(errors.len(), 1);
        let message = &errors[0].message;
        assert!(
            message.contains("`start: parents` means") && message.contains(setting),
            "{message}"
        );
    }
}

#[test]
fn unknown_strategies_settings_and_broken_parents_are_errors() {
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(8, 2, 2));
    let parents = family.parents();
    let errors = fuse("widht", "f", &parents, &settings(&[])).unwrap_err();
    assert!(
        errors[0]
            .help
            .as_deref()
            .unwrap()
            .contains("uniform, width, cross")
    );
    let errors = family
        .try_fuse("cross", &[("evry", SettingValue::Count(2))])
        .unwrap_err();
    assert!(errors[0].message.contains("`evry`"));
    let errors = fuse("width", "f", &parents[..1], &settings(&[])).unwrap_err();
    assert!(errors[0].message.contains("fuses 2 models, not 1"));
    let mut broken = family.models[0].clone();
    broken.weights.clear();
    let errors = Family {
        models: [broken, family.models[1].clone()],
        sources: Default::default(),
    }
    .try_fuse("uniform", &[])
    .unwrap_err();
    assert!(errors[0].message.contains("`llm` is not a sound model"));
    assert!(!errors[0].notes.is_empty());
}

#[test]
fn signatures_are_complete() {
    let signatures = signatures();
    let names: Vec<&str> = signatures
        .iter()
        .map(|s| s.signature.word.as_str())
        .collect();
    assert_eq!(names[..3], ["uniform", "width", "cross"]);
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(8, 2, 2));
    for signature in &signatures {
        assert!(
            signature
                .signature
                .settings
                .iter()
                .all(|s| !s.help.is_empty())
                && !signature.signature.help.is_empty()
        );
        let mut settings_of = signature.signature.settings.iter();
        let wants_a_base = settings_of.any(|s| s.kind == SettingKind::Parent && s.is_required());
        let mut given = settings(&[]);
        let mut defaults = signature.signature.defaults();
        let mut parents = family.parents().to_vec();
        if wants_a_base {
            parents.push(parents[0].clone());
            for settings in [&mut given, &mut defaults] {
                settings.insert("base".to_owned(), SettingValue::Parent(2));
            }
        }
        let silent = fuse(&signature.signature.word, "f", &parents, &given).unwrap();
        let said = fuse(&signature.signature.word, "f", &parents, &defaults).unwrap();
        assert_eq!(silent, said);
    }
}

#[test]
fn layers_whose_keys_come_from_no_matrix_cannot_read_the_other_tower() {
    let mut model = decoder_only(&cm3leon(8, 1, 2));
    let block = &mut model.blocks["decoder"];
    let place = block
        .body
        .iter()
        .position(|s| matches!(s.op, Op::Attention { .. }))
        .unwrap();
    let Op::Attention { k, .. } = block.body[place].op else {
        panic!("found above");
    };
    let ty = block.value_of(k).ty.clone();
    let sum = block.push("sum", ty, Op::Add { a: k, b: k });
    let statement = block.body.pop().unwrap();
    block.body.insert(place, statement);
    if let Op::Attention { k, .. } = &mut block.body[place + 1].op {
        *k = sum;
    }
    let other = decoder_only(&cm3leon(8, 1, 2));
    for (models, index) in [([model.clone(), other.clone()], 0), ([other, model], 1)] {
        let errors = Family::of(models).try_fuse("cross", &[]).unwrap_err();
        assert!(errors[0].message.contains("come from `add`"), "{errors:?}");
        let label = errors[0]
            .labels
            .iter()
            .find(|label| label.span == super::parents::place(index));
        assert_eq!(label.unwrap().text, "its layers");
    }
}

/// Keys and values may come from one matrix: both then read the other tower.
#[test]
fn keys_and_values_of_one_matrix_are_read_together() {
    let mut model = decoder_only(&cm3leon(8, 1, 2));
    for statement in &mut model.blocks["decoder"].body {
        if let Op::Attention { k, v, .. } = &mut statement.op {
            *v = *k;
        }
    }
    let fused = Family::of([model.clone(), model]).fuse("cross", &[]);
    let names: Vec<&String> = fused.model.weights.keys().collect();
    assert!(
        names
            .iter()
            .any(|name| *name == "cross.0.img_to_llm.attn.k")
    );
    assert!(!names.iter().any(|name| name.ends_with("attn.v")));
}
