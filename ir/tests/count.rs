//! What a model counts: parameters, bytes and operations.

use jam_ir::count::{TrainingBytes, counts, counts_at};
use jam_ir::{DType, Model, Op, TokenLayout, ValueId};
use jam_ir_testing::generate;
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

/// The paper's parent: 32 layers of width 4096, 32 heads, hidden 16384, tied head.
fn parent() -> Model {
    let tokens = TokenLayout::bare(64_512);
    let mut config = DecoderConfig::cm3leon(tokens, 4096, 4096, 32, 32, 16384);
    config.positions = jam_weights::checkpoints::decoder::PositionConfig::Learned { offset: 0 };
    config.dtype = DType::BF16;
    decoder_only(&config)
}

#[test]
fn the_papers_parent() {
    let counts = counts(&parent()).unwrap();
    assert_eq!(counts.parameters, 6_723_469_312);
    assert_eq!(counts.parts["layers"], 6_442_450_944);
    assert_eq!(counts.parts["embed"], 264_241_152);
    assert_eq!(counts.parts["positions"], 16_777_216);
    assert_eq!(counts.stored_bytes, 2 * 6_723_469_312);
    let [f32, bf16] = &counts.training[..] else {
        panic!("two precisions")
    };
    let all = |t: &TrainingBytes| t.weights + t.gradients + t.optimizer;
    assert_eq!(all(f32), 16 * 6_723_469_312);
    assert_eq!(all(bf16), 18 * 6_723_469_312);
    assert_eq!(counts.inference[1].weights, 2 * 6_723_469_312);
    // A key and a value of 4096 entries in each of 32 layers.
    assert_eq!(counts.inference[1].cache_per_token, 32 * 2 * 4096 * 2);
    // Layers and head, and 4 · t · width in each of 32 layers.
    let matrices = 2 * (6_442_450_944 + 264_241_152);
    let attention = 32 * 4 * 4096 * 4096;
    assert_eq!(counts.flops.forward, matrices + attention);
    assert_eq!(counts.flops.training, 3 * (matrices + attention));
    assert_eq!(counts_at(&parent(), 0).unwrap().flops.forward, matrices);
}

#[test]
fn grouped_heads_cache_less_and_an_untied_head_adds_a_matrix() {
    let tokens = TokenLayout::bare(100);
    let mut config = DecoderConfig::llama(tokens, 64, 32, 3, 4, 48);
    config.kv_heads = 2;
    let free = counts(&decoder_only(&config)).unwrap();
    assert_eq!(free.inference[0].cache_per_token, 3 * 2 * (2 * 8) * 4);
    config.tied = true;
    let tied = counts(&decoder_only(&config)).unwrap();
    assert_eq!(free.parameters - tied.parameters, 100 * 32);
    assert_eq!(free.flops, tied.flops);
}

#[test]
fn calls_at_one_path_share_parameters_but_not_work() {
    let mut model = parent();
    let before = counts(&model).unwrap();
    let body = &mut model.main.body;
    for statement in body.iter_mut() {
        if let Op::Call { at, .. } = &mut statement.op {
            *at = "layers.0".to_owned();
        }
    }
    let after = counts(&model).unwrap();
    assert_eq!(after.parts["layers"] * 32, before.parts["layers"]);
    assert_eq!(after.flops, before.flops);
}

#[test]
fn parts_add_up_and_numbers_that_do_not_fit_are_said() {
    for seed in 0..200 {
        let model = generate::seeded(seed).model;
        let counts = counts(&model).unwrap();
        assert_eq!(counts.parts.values().sum::<u64>(), counts.parameters);
        assert_eq!(counts.inference[0].weights, 4 * counts.parameters);
    }
    let error = counts_at(&parent(), u64::MAX).unwrap_err();
    assert_eq!(error.to_string(), "its operations do not fit 64 bits");
    let mut model = parent();
    for axis in [2, 5, 6] {
        model.axes[axis].size = Some(u64::MAX);
    }
    let error = counts(&model).unwrap_err();
    assert_eq!(error.to_string(), "its parameters do not fit 64 bits");
    let mut model = parent();
    let ty = model.blocks["decoder"].values[0].ty.clone();
    let op = Op::Call {
        block: "decoder".to_owned(),
        args: vec![ValueId(0)],
        at: "again".to_owned(),
    };
    model.blocks["decoder"].push("again", ty, op);
    let error = counts(&model).unwrap_err();
    assert_eq!(error.to_string(), "its calls do not end");
}

#[test]
fn a_page_for_people() {
    let text = counts(&parent()).unwrap().to_string();
    let expected = "  parameters   6.72B (6723469312)
    embed                  264M
    positions             16.8M
    layers                6.44B
  stored       12.5 GiB
  run f32      25.0 GiB weights, 1.00 MiB cache per token
  run bf16     12.5 GiB weights, 512 KiB cache per token
  train f32    25.0 GiB weights + 25.0 GiB gradients + 50.1 GiB optimizer
  train bf16   37.6 GiB weights + 25.0 GiB gradients + 50.1 GiB optimizer
  operations   15.6B forward, 46.7B training, per token at context 4096";
    assert_eq!(text, expected);
}
