//! Parents that do not fit: every difference once, at both parents.

use jam_fusion_passes::{fuse, signatures};
use jam_ir::decoder::{NormKind, decoder_only};
use jam_ir::span::FileId;
use jam_ir::{Diagnostic, Model, Op, SettingKind, SettingValue, Span, TokenKind, TokenLayout};

use crate::parents::{Family, cm3leon, llama, opt, place, settings, word};

/// Gives every parameter and statement of a model a place in the program.
fn with_places(mut model: Model, start: u32) -> Model {
    for block in model.blocks.values_mut() {
        for (index, param) in block.params.iter_mut().enumerate() {
            param.span = Some(Span::new(
                FileId(0),
                start + index as u32,
                start + index as u32 + 1,
            ));
        }
    }
    model
}

fn messages(errors: &[Diagnostic]) -> Vec<&str> {
    errors.iter().map(|error| error.message.as_str()).collect()
}

#[test]
fn a_width_that_differs_is_one_error_at_both_parents() {
    let models = [cm3leon(8, 2, 2), cm3leon(16, 2, 2)].map(|config| decoder_only(&config));
    let [a, b] = models;
    let family = Family::of([with_places(a, 100), with_places(b, 300)]);
    let errors = family.try_fuse("uniform", &[]).unwrap_err();
    assert_eq!(
        messages(&errors),
        ["the width is 8 in `llm` and 16 in `img`"]
    );
    let further = [
        "also, the hidden size is 24 in `llm` and 48 in `img`",
        "also, the size of a head is 4 in `llm` and 8 in `img`",
    ];
    assert_eq!(errors[0].notes, further);
    let primary = errors[0].labels.iter().filter(|label| label.primary);
    assert_eq!(
        primary.map(|label| label.span).collect::<Vec<_>>(),
        [place(1)]
    );
    assert!(errors[0].labels.iter().any(|label| label.span == place(0)));
    let help = errors[0].help.as_deref().unwrap();
    assert_eq!(
        help,
        "`cross` fuses models of unlike layers and sizes; or make `img` like `llm` here"
    );
    // Heads of one size: what widening takes.
    let models = [cm3leon(8, 2, 2), cm3leon(16, 2, 4)].map(|config| decoder_only(&config));
    let errors = Family::of(models).try_fuse("uniform", &[]).unwrap_err();
    let help = errors[0].help.as_deref().unwrap();
    assert!(
        help.contains("`width` with `off_diagonal: zero` and `cross`"),
        "{help}"
    );
}

#[test]
fn places_inside_of_both_parents_are_shown() {
    let mut config = cm3leon(8, 2, 2);
    config.biases = true;
    let [a, b] = [cm3leon(8, 2, 2), config].map(|config| decoder_only(&config));
    let mut models = [a, b];
    for (model, start) in models.iter_mut().zip([100, 300]) {
        for (index, statement) in model.blocks["decoder"].body.iter_mut().enumerate() {
            let start = start + 2 * index as u32;
            statement.span = Some(Span::new(FileId(0), start, start + 1));
        }
    }
    let family = Family::of(models);
    let errors = family.try_fuse("uniform", &[]).unwrap_err();
    assert_eq!(
        messages(&errors),
        ["the bias of a linear map is absent in `llm` and there in `img`"]
    );
    let spans: Vec<u32> = errors[0]
        .labels
        .iter()
        .map(|label| label.span.start)
        .collect();
    assert!(
        spans.iter().any(|start| (100..200).contains(start)),
        "{spans:?}"
    );
    assert!(
        spans.iter().any(|start| (300..400).contains(start)),
        "{spans:?}"
    );
}

#[test]
fn everything_that_differs_is_reported_at_once() {
    let mut other = opt(8, 3, 2);
    other.norm.kind = NormKind::Rms;
    other.activation = jam_ir::Activation::Gelu;
    other.tied = false;
    other.context = 20;
    let family = Family::new(&opt(8, 2, 2), &other);
    for strategy in ["uniform", "width"] {
        let errors = family.try_fuse(strategy, &[]).unwrap_err();
        assert_eq!(errors.len(), 1, "one report of all of it");
        let all = [errors[0].message.clone(), errors[0].notes.join("\n")].join("\n");
        for words in [
            "the number of layers is 2 in `llm` and 3 in `img`",
            "the head of `llm` is its token table, and that of `img` has weights of its own",
            "a step of block `decoder` is layer_norm in `llm` and rms_norm in `img`",
            "a step of block `decoder` is relu in `llm` and gelu in `img`",
            "the number of positions is 14 in `llm` and 22 in `img`",
        ] {
            assert!(
                all.contains(words),
                "{strategy}: `{words}` is missing in\n{all}"
            );
        }
        assert!(errors.iter().all(|error| error.labels.len() >= 2));
    }
}

#[test]
fn constants_that_differ_are_named() {
    let mut other = llama(8, 2, 2);
    other.norm.eps = 1e-6;
    other.positions = jam_ir::decoder::PositionConfig::Rotary {
        base: 500.0,
        layout: jam_ir::RotaryLayout::Pairs,
        scaling: jam_ir::RotaryScaling::None,
    };
    let errors = Family::new(&llama(8, 2, 2), &other)
        .try_fuse("uniform", &[])
        .unwrap_err();
    assert_eq!(errors.len(), 1);
    let mut found = errors[0].notes.clone();
    found.push(format!("also, {}", errors[0].message));
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "also, the base of rotary positions is 100 in `llm` and 500 in `img`",
            "also, the constant of a norm is 0.00001 in `llm` and 0.000001 in `img`",
            "also, the layout of rotary positions is halves in `llm` and pairs in `img`",
        ]
    );
}

#[test]
fn vocabularies_must_mean_the_same() {
    let mut other = cm3leon(8, 2, 2);
    other.tokens = TokenLayout::bare(30);
    for strategy in ["uniform", "width", "cross"] {
        let errors = Family::new(&cm3leon(8, 2, 2), &other)
            .try_fuse(strategy, &[])
            .unwrap_err();
        assert!(
            errors[0].message.contains("have 21 and 30 ids"),
            "{strategy}"
        );
    }
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
fn unequal_parents_of_width_are_sent_to_zero_off_diagonals() {
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(12, 2, 3));
    let errors = family.try_fuse("width", &[]).unwrap_err();
    let expected =
        "`off_diagonal: copy` needs parents of one size: the width is 8 in `llm` and 12 in `img`";
    assert_eq!(messages(&errors), [expected]);
    let further = [
        "also, the number of heads is 2 in `llm` and 3 in `img`",
        "also, the hidden size is 24 in `llm` and 36 in `img`",
    ];
    assert_eq!(errors[0].notes, further);
    assert!(errors[0].help.as_deref().unwrap().contains("zero"));
}

#[test]
fn query_heads_must_share_key_heads_alike() {
    let (mut a, mut b) = (llama(8, 1, 2), llama(8, 1, 4));
    (a.head_dim, b.head_dim) = (2, 2);
    b.kv_heads = 4;
    let errors = Family::new(&a, &b)
        .try_fuse("width", &[("off_diagonal", word("zero"))])
        .unwrap_err();
    assert!(
        messages(&errors)[0].contains("2 query heads share 1"),
        "{errors:?}"
    );
}

#[test]
fn models_without_one_stack_of_layers_are_named() {
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(8, 2, 2));
    let crossed = family.fuse("cross", &[]).model;
    let plain = decoder_only(&cm3leon(8, 0, 2));
    for (model, words) in [
        (crossed, "more than one stack"),
        (plain, "no stack of layers"),
    ] {
        let couple = Family::of([decoder_only(&cm3leon(8, 2, 2)), model]);
        for strategy in ["width", "cross"] {
            let errors = couple.try_fuse(strategy, &[]).unwrap_err();
            assert!(errors[0].message.contains(words), "{errors:?}");
            assert_eq!(errors[0].span(), Some(place(1)));
        }
    }
}

#[test]
fn states_that_are_read_elsewhere_are_shown() {
    let mut model = decoder_only(&cm3leon(8, 2, 2));
    let states: Vec<_> = model
        .main
        .body
        .iter()
        .filter(|s| matches!(s.op, Op::Call { .. }))
        .map(|s| s.result)
        .collect();
    for statement in &mut model.main.body {
        if let Op::LayerNorm { x, .. } = &mut statement.op {
            *x = states[0]; // The last layer does not reach the logits.
        }
    }
    let skip = Op::Add {
        a: states[0],
        b: states[1],
    };
    let mut skipping = decoder_only(&cm3leon(8, 2, 2));
    let norm = skipping
        .main
        .body
        .iter()
        .position(|s| matches!(s.op, Op::LayerNorm { .. }))
        .unwrap();
    let ty = skipping.main.value_of(states[0]).ty.clone();
    let sum = skipping.main.push("sum", ty, skip);
    let statement = skipping.main.body.pop().unwrap();
    skipping.main.body.insert(norm, statement);
    if let Op::LayerNorm { x, .. } = &mut skipping.main.body[norm + 1].op {
        *x = sum;
    }
    let other = decoder_only(&cm3leon(8, 1, 2));
    // Without its dead layer the first has one layer like the other.
    Family::of([model, other.clone()]).fuse("uniform", &[]);
    let errors = Family::of([skipping, other])
        .try_fuse("cross", &[])
        .unwrap_err();
    assert!(
        errors[0]
            .message
            .contains("read by more than the next layer"),
        "{errors:?}"
    );
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
fn rows_need_image_tokens() {
    let mut config = cm3leon(8, 2, 2);
    config.tokens = TokenLayout::bare(21);
    let family = Family::new(&config, &config);
    for strategy in ["width", "cross"] {
        let errors = family
            .try_fuse(strategy, &[("head", word("rows"))])
            .unwrap_err();
        assert!(errors[0].message.contains("no image tokens"));
    }
    assert_eq!(
        family.fuse("cross", &[]).notes.len(),
        1,
        "a note says whose rows are taken"
    );
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
    let names: Vec<&str> = signatures.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names[..3], ["uniform", "width", "cross"]);
    assert_eq!(names.len(), 12);
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(8, 2, 2));
    for signature in &signatures {
        assert!(
            signature.settings.iter().all(|s| !s.help.is_empty()) && !signature.help.is_empty()
        );
        let wants_a_base = SettingKind::Parent { required: true };
        let wants_a_base = signature.settings.iter().any(|s| s.kind == wants_a_base);
        let mut given = settings(&[]);
        let mut defaults = signature.defaults();
        let mut parents = family.parents().to_vec();
        if wants_a_base {
            parents.push(parents[0].clone());
            for settings in [&mut given, &mut defaults] {
                settings.insert("base".to_owned(), SettingValue::Parent(2));
            }
        }
        let silent = fuse(&signature.name, "f", &parents, &given).unwrap();
        let said = fuse(&signature.name, "f", &parents, &defaults).unwrap();
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
