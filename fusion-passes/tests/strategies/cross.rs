//! JAM-Cross.

use jam_ir::{Op, Plan, SettingValue, TokenKind};
use jam_weights::checkpoints::decoder::{DecoderConfig, PositionConfig};

use crate::parents::{Family, cm3leon, llama, opt, word};
use crate::reference::plan::{concat, slice};

const FLAGS: [bool; 2] = [false, true];

/// Parents of one kind and of unlike kinds, depths and widths.
fn couples() -> Vec<(DecoderConfig, DecoderConfig)> {
    let mut post = opt(8, 2, 2);
    post.norm_place = jam_weights::checkpoints::decoder::NormPlace::After;
    post.embed_width = Some(6);
    let mut deep = cm3leon(8, 3, 2);
    deep.context = 20;
    vec![
        (cm3leon(8, 4, 2), cm3leon(8, 4, 2)),
        (opt(8, 2, 2), opt(8, 2, 2)),
        (llama(8, 2, 2), llama(8, 2, 4)),
        (cm3leon(8, 2, 2), deep),
        (opt(8, 2, 2), llama(12, 3, 2)),
        (post, opt(16, 4, 4)),
    ]
}

#[test]
fn every_setting_gives_a_sound_model_for_parents_of_any_kind() {
    let every = [
        SettingValue::Count(1),
        SettingValue::Count(2),
        word("never"),
    ];
    for (a, b) in couples() {
        let family = Family::new(&a, &b);
        for every in &every {
            for head in ["joint", "towers", "rows"] {
                for positions in ["second", "first", "own"] {
                    for tokens in ["shared", "own"] {
                        for kv_norm in FLAGS {
                            let given = [
                                ("every", every.clone()),
                                ("head", word(head)),
                                ("positions", word(positions)),
                                ("tokens", word(tokens)),
                                ("kv_norm", SettingValue::Flag(kv_norm)),
                            ];
                            let fused = family.fuse("cross", &given);
                            let logits = family.logits(&fused);
                            assert_eq!(logits.shape, [2, 7, 21]);
                            assert!(logits.data.iter().all(|x| x.is_finite()));
                        }
                    }
                }
            }
        }
    }
}

/// Names of the model's calls, in order.
fn calls(fused: &jam_fusion_passes::Fused) -> Vec<String> {
    let calls = fused.model.main.body.iter().filter_map(|s| match &s.op {
        Op::Call { at, .. } => Some(at.clone()),
        _ => None,
    });
    calls.collect()
}

#[test]
fn layers_and_exchanges_follow_one_another_as_the_settings_say() {
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(8, 2, 2));
    let exchange = |k: usize| {
        [
            format!("cross.{k}.img_to_llm"),
            format!("cross.{k}.llm_to_img"),
        ]
    };
    let layers = |i: usize| [format!("llm.layers.{i}"), format!("img.layers.{i}")];
    let default = family.fuse("cross", &[]);
    assert_eq!(
        calls(&default),
        [layers(0), exchange(0), layers(1)].concat()
    );
    let every = family.fuse("cross", &[("every", SettingValue::Count(1))]);
    assert_eq!(
        calls(&every),
        [layers(0), exchange(0), layers(1), exchange(1)].concat()
    );
    let given = [
        ("every", SettingValue::Count(1)),
        ("after_last", SettingValue::Flag(false)),
    ];
    assert_eq!(
        calls(&family.fuse("cross", &given)),
        [layers(0), exchange(0), layers(1)].concat()
    );
    let last = family.fuse("cross", &[("at", word("last"))]);
    assert_eq!(calls(&last), [layers(0), layers(1), exchange(0)].concat());
    // Twin towers share their blocks.
    let blocks: Vec<&String> = default.model.blocks.keys().collect();
    assert_eq!(blocks, ["decoder", "decoder_cross"]);
}

#[test]
fn both_directions_read_the_states_from_before() {
    let family = Family::new(&cm3leon(8, 1, 2), &cm3leon(8, 1, 2));
    let fused = family.fuse("cross", &[]);
    let args: Vec<_> = fused
        .model
        .main
        .body
        .iter()
        .filter_map(|s| match &s.op {
            Op::Call { args, .. } => Some((args.clone(), s.result)),
            _ => None,
        })
        .collect();
    let (llm, img) = (args[0].1, args[1].1);
    assert_eq!(
        args[2].0,
        [llm, img],
        "the receiver's state, then the giver's"
    );
    assert_eq!(args[3].0, [img, llm]);
    assert_eq!(args[0].0, args[1].0, "one shared embedding");
}

#[test]
fn a_cross_block_is_the_receivers_with_keys_and_values_of_the_other() {
    let (a, b) = (llama(8, 1, 2), opt(12, 1, 3));
    let family = Family::new(&a, &b);
    let fused = family.fuse("cross", &[("kv_norm", SettingValue::Flag(true))]);
    let shape = |name: &str| {
        let uses = fused.model.weight_uses();
        fused.model.weight_shape(&uses[name].ty).unwrap()
    };
    let receiver = |name: &str| shape(&format!("cross.0.img_to_llm.{name}"));
    assert_eq!(receiver("attn.q"), [8, 2, 4]);
    assert_eq!(
        receiver("attn.k"),
        [12, 1, 4],
        "keys read the giver's width"
    );
    assert_eq!(receiver("kv_norm.gain"), [12]);
    assert_eq!(
        receiver("mlp.gate"),
        [8, 24],
        "with the receiver's feed-forward part"
    );
    assert!(
        !fused
            .model
            .weights
            .contains_key("cross.0.img_to_llm.kv_norm.bias")
    );
    assert_eq!(shape("cross.0.llm_to_img.attn.v"), [8, 3, 4]);
    assert_eq!(shape("cross.0.llm_to_img.kv_norm.bias"), [8]);
    for (name, weight) in &fused.model.weights {
        assert_eq!(
            name.starts_with("cross.") || name.starts_with("join."),
            weight.plan.is_fresh(),
            "{name}"
        );
    }
}

#[test]
fn nothing_new_begins_as_zeros_but_biases() {
    let family = {
        let mut models = [opt(8, 2, 2), opt(8, 2, 2)]
            .map(|c| jam_weights::checkpoints::decoder::decoder_only(&c));
        for model in &mut models {
            for param in &mut model.blocks["decoder"].params {
                if param.name == "attn.out" || param.name == "mlp.down" {
                    param.init = Plan::Zeros;
                }
            }
        }
        Family::of(models)
    };
    let fused = family.fuse("cross", &[]);
    let plan = |name: &str| &fused.model.weights[&format!("cross.0.img_to_llm.{name}")].plan;
    assert!(matches!(plan("attn.out"), Plan::TruncatedNormal { .. }));
    assert_eq!(plan("mlp.down"), plan("attn.q"));
    assert_eq!(*plan("attn.out_bias"), Plan::Zeros);
    assert_eq!(*plan("norm1.gain"), Plan::Ones);
    let sd = 8f64.powf(-0.5);
    assert_eq!(fused.model.weights["join.weight"].plan, Plan::Normal { sd });
}

#[test]
fn shared_tables_take_their_rows_by_the_settings() {
    let family = Family::new(&cm3leon(8, 1, 2), &cm3leon(8, 1, 2));
    let table = |source: &str, name: &str| family.sources[source][name].clone();
    for (positions, source) in [("second", "img"), ("first", "llm")] {
        let weights = family.weights(&family.fuse("cross", &[("positions", word(positions))]));
        assert_eq!(
            weights["shared.positions"],
            table(source, "positions.table")
        );
        let embed = &weights["shared.embed"];
        let rows = |source, from, len| slice(&table(source, "embed.table"), 0, from, len);
        let expected = concat(
            &[rows("llm", 0, 14), rows("img", 14, 6), rows("llm", 20, 1)],
            0,
        );
        assert_eq!(*embed, expected);
        assert!(!weights.contains_key("llm.embed.table"));
    }
    let given = [("positions", word("own")), ("tokens", word("own"))];
    let weights = family.weights(&family.fuse("cross", &given));
    for (prefix, name) in [("llm", "embed.table"), ("img", "positions.table")] {
        assert_eq!(weights[&format!("{prefix}.{name}")], table(prefix, name));
    }
}

#[test]
fn untied_parents_share_their_output_matrix() {
    let family = Family::new(&llama(8, 1, 2), &llama(8, 1, 2));
    let fused = family.fuse("cross", &[]);
    let weights = family.weights(&fused);
    let columns =
        |source: &str, from, len| slice(&family.sources[source]["unembed.weight"], 1, from, len);
    let expected = concat(
        &[
            columns("llm", 0, 14),
            columns("img", 14, 6),
            columns("llm", 20, 1),
        ],
        1,
    );
    assert_eq!(weights["shared.unembed"], expected);
    // Affine final norms begin as their mean.
    let gains = ["llm", "img"].map(|source| family.sources[source]["final_norm.gain"].clone());
    let mean = gains[0].zip(&gains[1], |a, b| 0.5 * (a + b));
    assert!(weights["join.norm.gain"].distance(&mean) < 1e-12);
    let joined: Vec<&str> = fused.model.weights.keys().map(String::as_str).collect();
    assert!(!joined.contains(&"llm.final_norm.gain") && !joined.contains(&"llm.unembed.weight"));
}

/// Towers that never exchange, with tables of their own and a head by rows, are the parents.
#[test]
fn towers_alone_are_the_parents() {
    for (a, b) in couples() {
        let family = Family::new(&a, &b);
        let given = [
            ("every", word("never")),
            ("tokens", word("own")),
            ("positions", word("own")),
            ("head", word("rows")),
        ];
        let logits = family.logits(&family.fuse("cross", &given));
        let parents = [0, 1].map(|index| family.parent_logits(index));
        let images = family.models[0].tokens.rows(TokenKind::Image);
        assert_eq!(images, [(14, 20)]);
        for (i, logit) in logits.data.iter().enumerate() {
            let parent = &parents[usize::from((14..20).contains(&(i % 21)))];
            assert!((logit - parent.data[i]).abs() < 1e-9);
        }
    }
}

/// With `start: parents` they are so while they exchange.
#[test]
fn towers_that_begin_as_their_parents_are_the_parents() {
    for (a, b) in couples() {
        let family = Family::new(&a, &b);
        let fused = family.fuse("cross", &[("start", word("parents"))]);
        assert!(calls(&fused).contains(&"cross.0.img_to_llm".to_owned()));
        let logits = family.logits(&fused);
        let parents = [0, 1].map(|index| family.parent_logits(index));
        for (i, logit) in logits.data.iter().enumerate() {
            let parent = &parents[usize::from((14..20).contains(&(i % 21)))];
            assert!((logit - parent.data[i]).abs() < 1e-9, "{}", a.name);
        }
        // Of the new matrices the residual outputs alone are zeros.
        for (name, weight) in &fused.model.weights {
            let matrix = !name.contains("bias") && !name.contains("norm");
            if matrix && name.starts_with("cross.") {
                let last = name.ends_with("attn.out") || name.ends_with("mlp.down");
                assert_eq!(weight.plan == Plan::Zeros, last, "{name}");
            }
        }
    }
}

/// A layer that is no residual sum has no cross block that begins without effect.
#[test]
fn layers_that_are_no_sums_cannot_begin_as_their_parents() {
    let mut models =
        [opt(8, 2, 2), opt(8, 2, 2)].map(|c| jam_weights::checkpoints::decoder::decoder_only(&c));
    let block = &mut models[1].blocks["decoder"];
    let ty = block.value_of(block.result).ty.clone();
    let op = Op::Scale {
        x: block.result,
        by: 0.5,
    };
    block.result = block.push("half", ty, op);
    let family = Family::of(models);
    family.fuse("cross", &[]);
    let errors = family
        .try_fuse("cross", &[("start", word("parents"))])
        .unwrap_err();
    assert_eq!(errors.len(), 1);
    let message = &errors[0].message;
    assert!(
        message.contains("layers of `img`") && message.contains("no sum with the state"),
        "{message}"
    );
}

#[test]
fn parents_of_unequal_width_keep_their_tables_and_join_each_to_its_own() {
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(12, 2, 3));
    let fused = family.fuse("cross", &[]);
    let weights = family.weights(&fused);
    assert_eq!(weights["join.llm.weight"].shape, [20, 8]);
    assert_eq!(weights["join.img.weight"].shape, [20, 12]);
    assert_eq!(weights["llm.embed.table"].shape, [21, 8]);
    assert_eq!(fused.notes.len(), 2, "{:#?}", fused.notes);
    assert!(fused.notes.iter().all(|note| note.labels.len() == 2));
}

#[test]
fn one_parent_twice_has_two_names() {
    let family = Family::new(&cm3leon(8, 1, 2), &cm3leon(8, 1, 2));
    let [first, _] = family.parents();
    let parents = [first.clone(), first];
    let fused = jam_fusion_passes::fuse("cross", "twins", &parents, &crate::parents::settings(&[]))
        .unwrap();
    let plan = &fused.model.weights["llm_2.layers.0.attn.q"].plan;
    assert_eq!(*plan, Plan::load("llm", "layers.0.attn.q"));
    assert!(
        fused
            .model
            .weights
            .contains_key("cross.0.llm_2_to_llm_1.attn.q")
    );
}

#[test]
fn other_places_of_layers_and_positions_come_with_notes() {
    let mut rotary = cm3leon(8, 4, 2);
    rotary.positions = PositionConfig::Rotary {
        base: 100.0,
        layout: jam_ir::RotaryLayout::Pairs,
        scaling: jam_ir::RotaryScaling::None,
    };
    let family = Family::new(&cm3leon(8, 2, 2), &rotary);
    let fused = family.fuse("cross", &[]);
    let messages: Vec<&str> = fused
        .notes
        .iter()
        .map(|note| note.message.as_str())
        .collect();
    assert!(
        messages.iter().any(|m| m.contains("keeps its own")),
        "{messages:?}"
    );
    assert!(
        messages.iter().any(|m| m.contains("spread evenly")),
        "{messages:?}"
    );
    let fused = family.fuse(
        "cross",
        &[("every", SettingValue::Count(9)), ("at", word("last"))],
    );
    assert!(
        fused
            .notes
            .iter()
            .any(|note| note.message.contains("never exchange their states")
                && note.severity == jam_ir::diagnostic::Severity::Warning)
    );
}
