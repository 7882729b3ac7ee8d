//! JAM-Width.

use jam_ir::{Op, Plan, SettingValue};
use jam_weights::checkpoints::decoder::{NormConfig, NormKind, QkNorm};

use crate::parents::{Family, cm3leon, llama, opt, word};
use crate::reference::plan::{concat, permute, slice};
use crate::reference::{Tensor, plan};

#[test]
fn grids_are_the_papers_with_outputs_as_rows() {
    // Parents' matrices as [out, in]: A = [[1, 2], [3, 4]], B = [[10, 20], [30, 40]].
    let a = Tensor::new(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    let b = Tensor::new(&[2, 2], vec![10.0, 20.0, 30.0, 40.0]);
    // In the paper's order, rows of outputs: the first's two, then the second's two.
    let copy = [
        [1., 2., 1., 2.],
        [3., 4., 3., 4.],
        [10., 20., 10., 20.],
        [30., 40., 30., 40.],
    ];
    let average = [
        [1., 2., 5.5, 11.],
        [3., 4., 16.5, 22.],
        [10., 20., 5.5, 11.],
        [30., 40., 16.5, 22.],
    ];
    let zero = [
        [1., 2., 0., 0.],
        [3., 4., 0., 0.],
        [0., 0., 10., 20.],
        [0., 0., 30., 40.],
    ];
    for (name, expected) in [("copy", copy), ("average", average), ("zero", zero)] {
        let mut config = cm3leon(2, 1, 1);
        config.hidden = 2;
        let mut family = Family::new(&config, &config);
        // Stored [in, out].
        for (source, tensor) in [("llm", &a), ("img", &b)] {
            let weights = family.sources.get_mut(source).unwrap();
            weights.insert("layers.0.mlp.up".to_owned(), permute(tensor, &[1, 0]));
        }
        let fused = family.fuse("width", &[("off_diagonal", word(name))]);
        let up = permute(&family.weights(&fused)["layers.0.mlp.up"], &[1, 0]);
        let expected: Vec<f64> = expected.iter().flatten().copied().collect();
        assert_eq!(up, Tensor::new(&[4, 4], expected), "{name}");
    }
}

#[test]
fn every_setting_gives_a_sound_model_of_the_right_shapes() {
    for config in [cm3leon(8, 2, 2), opt(8, 2, 2), llama(8, 2, 4)] {
        let family = Family::new(&config, &config);
        for off in ["copy", "average", "zero"] {
            for scale in [1.0, 0.5] {
                for norm in ["joint", "halves"] {
                    for head in ["sum", "rows"] {
                        let fused = family.fuse(
                            "width",
                            &[
                                ("off_diagonal", word(off)),
                                ("scale", SettingValue::Number(scale)),
                                ("norm", word(norm)),
                                ("head", word(head)),
                            ],
                        );
                        let logits = family.logits(&fused);
                        assert_eq!(logits.shape, [2, 7, 21]);
                        assert!(logits.data.iter().all(|x| x.is_finite()));
                    }
                }
            }
        }
    }
}

#[test]
fn half_of_everything_keeps_equal_parents() {
    for config in [cm3leon(8, 2, 2), opt(8, 2, 2), llama(8, 2, 4)] {
        let family = Family::new(&config, &config).twins();
        for off in ["copy", "average"] {
            let given = [
                ("off_diagonal", word(off)),
                ("scale", SettingValue::Number(0.5)),
            ];
            let fused = family.fuse("width", &given);
            let distance = family.logits(&fused).distance(&family.parent_logits(0));
            assert!(distance < 1e-9, "{off}: {distance}");
        }
        // The paper's own factor, 1, keeps nothing.
        let fused = family.fuse("width", &[]);
        assert!(family.logits(&fused).distance(&family.parent_logits(0)) > 0.1);
    }
}

/// Zero off-diagonals, norms per half and a head by rows keep both parents exactly, parents of
/// unequal width, heads and hidden sizes too.
#[test]
fn halves_that_keep_to_themselves_are_the_parents() {
    let mut wide = llama(12, 2, 4);
    wide.head_dim = 4;
    wide.hidden = 10;
    let mut narrow = llama(8, 2, 2);
    narrow.head_dim = 4;
    let mut projected = opt(8, 2, 2);
    projected.embed_width = Some(6);
    for (a, b) in [
        (cm3leon(8, 2, 2), cm3leon(8, 2, 2)),
        (opt(8, 2, 2), opt(12, 2, 3)),
        (wide, narrow),
        (projected.clone(), projected),
    ] {
        let family = Family::new(&a, &b);
        let given = [
            ("off_diagonal", word("zero")),
            ("norm", word("halves")),
            ("head", word("rows")),
        ];
        let fused = family.fuse("width", &given);
        let logits = family.logits(&fused);
        let [llm, img] = [0, 1].map(|index| family.parent_logits(index));
        for (i, logit) in logits.data.iter().enumerate() {
            let parent = if (14..20).contains(&(i % 21)) {
                &img
            } else {
                &llm
            };
            assert!((logit - parent.data[i]).abs() < 1e-9, "{} {i}", a.name);
        }
    }
}

#[test]
fn sums_of_heads_are_concatenated_tables() {
    let family = Family::new(&cm3leon(8, 2, 2), &cm3leon(8, 2, 2));
    let fused = family.fuse("width", &[]);
    let weights = family.weights(&fused);
    let both = |name: &str, axis: usize| {
        let parts = ["llm", "img"].map(|source| family.sources[source][name].clone());
        concat(&parts, axis)
    };
    assert_eq!(weights["embed.table"], both("embed.table", 1));
    assert_eq!(weights["positions.table"], both("positions.table", 1));
    assert!(
        !weights.contains_key("unembed.weight"),
        "the head stays tied"
    );
    // Heads of the first parent come first, each as it was.
    let q = &weights["layers.0.attn.q"];
    assert_eq!(q.shape, [16, 4, 4]);
    let first = slice(&slice(q, 0, 0, 8), 1, 0, 2);
    assert_eq!(first, family.sources["llm"]["layers.0.attn.q"]);

    let fused = family.fuse("width", &[("scale", SettingValue::Number(0.5))]);
    let weights = family.weights(&fused);
    assert_eq!(
        weights["embed.table"],
        both("embed.table", 1),
        "embeddings are not scaled"
    );
    let head = permute(&both("embed.table", 1), &[1, 0]).map(|x| 0.5 * x);
    assert_eq!(weights["unembed.weight"], head);
}

#[test]
fn biases_and_gains_are_concatenated_and_not_scaled() {
    let family = Family::new(&opt(8, 1, 2), &opt(8, 1, 2));
    let fused = family.fuse("width", &[("scale", SettingValue::Number(0.5))]);
    let weights = family.weights(&fused);
    for name in [
        "layers.0.norm1.gain",
        "layers.0.attn.q_bias",
        "layers.0.mlp.up_bias",
        "final_norm.bias",
    ] {
        let parts = ["llm", "img"].map(|source| family.sources[source][name].clone());
        assert_eq!(weights[name], concat(&parts, 0), "{name}");
    }
    assert_eq!(weights["layers.0.attn.q_bias"].shape, [4, 4]);
}

#[test]
fn a_weight_without_a_widened_axis_is_averaged_with_a_note() {
    let mut config = opt(8, 2, 2);
    let norm = NormConfig {
        kind: NormKind::Layer,
        affine: true,
        bias: true,
        eps: 1e-5,
    };
    for (per_head, notes) in [(false, 4), (true, 0)] {
        config.qk_norm = Some(QkNorm { norm, per_head });
        let family = Family::new(&config, &config);
        let fused = family.fuse("width", &[]);
        assert_eq!(
            fused.notes.len(),
            notes,
            "gain and bias of queries and keys, once each"
        );
        let name = "layers.1.attn.q_norm.gain";
        let parts = ["llm", "img"].map(|source| family.sources[source][name].clone());
        let expected = match per_head {
            true => concat(&parts, 0),
            false => parts[0].zip(&parts[1], |a, b| 0.5 * (a + b)),
        };
        assert_eq!(family.weights(&fused)[name], expected);
    }
}

#[test]
fn norms_are_divided_at_the_border_of_the_parents() {
    let family = Family::new(&opt(8, 1, 2), &opt(12, 1, 3));
    let given = [("off_diagonal", word("zero")), ("norm", word("halves"))];
    let fused = family.fuse("width", &given);
    let blocks = fused.model.blocks.values().chain([&fused.model.main]);
    let parts: Vec<Vec<u64>> = blocks
        .flat_map(|block| &block.body)
        .filter_map(|statement| match &statement.op {
            Op::LayerNorm { norm, .. } => Some(norm.parts.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(parts, vec![vec![8, 12]; 3]);
    // A third parent keeps the division of the two before it.
    let halves = fused.model;
    let again = Family::of([halves.clone(), halves]);
    let fused = again.fuse("width", &[]);
    let Op::LayerNorm { norm, .. } = &fused.model.blocks["decoder"].body[0].op else {
        panic!("a layer begins with its norm");
    };
    assert_eq!(norm.parts, [8, 12, 8, 12]);
}

#[test]
fn off_diagonal_blocks_are_fresh_of_no_parent() {
    let family = Family::new(&cm3leon(8, 1, 2), &cm3leon(12, 1, 3));
    let fused = family.fuse("width", &[("off_diagonal", word("zero"))]);
    let Plan::Grid { rows, .. } = &fused.model.weights["layers.0.attn.k"].plan else {
        panic!("both sides are widened");
    };
    assert_eq!((&rows[0][1], &rows[1][0]), (&Plan::Zeros, &Plan::Zeros));
    let k = &plan::weights(&fused.model, &family.sources)["layers.0.attn.k"];
    assert_eq!(k.shape, [20, 5, 4]);
}
