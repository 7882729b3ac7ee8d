//! Damage to a valid graph that text cannot say; what it can say is in `ir/tests/cases`.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use jam_ir::verify::verify;
use jam_ir::{
    AxisId, Block, DType, Diagnostic, Model, Op, ParamId, Plan, Span, TokenKind, TokenLayout,
    TokenRange, ValueId, ValueType,
};
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

fn opt() -> Model {
    decoder_only(&DecoderConfig::opt(TokenLayout::bare(20), 16, 8, 2, 2, 12))
}

fn llama() -> Model {
    let mut config = DecoderConfig::llama(TokenLayout::bare(20), 16, 8, 2, 4, 12);
    config.kv_heads = 2;
    config.head_dim = 2;
    config.dtype = DType::BF16;
    decoder_only(&config)
}

/// Damages a model and expects a problem at `place` whose message has `words`.
fn caught(mut model: Model, damage: impl FnOnce(&mut Model), place: &str, words: &str) {
    verify(&model).expect("the model is whole before the damage");
    damage(&mut model);
    let problems = verify(&model).expect_err("the damage must be caught");
    assert!(
        problems
            .iter()
            .any(|p| p.place.to_string() == place && p.message.contains(words)),
        "expected `{words}` at {place}, found {problems:#?}"
    );
}

fn block(model: &mut Model) -> &mut Block {
    &mut model.blocks["decoder"]
}

/// The first operation of the block with this word.
fn op<'m>(block: &'m mut Block, word: &str) -> &'m mut Op {
    let mut ops = block.body.iter_mut().map(|statement| &mut statement.op);
    ops.find(|op| op.word() == word).unwrap()
}

/// Cases that failed once.
const SEEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/verify.proptest-regressions"
);

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEN))),
        ..ProptestConfig::default()
    })]

    /// Whatever number of a model is changed: the verifier answers, and a model that it accepts
    /// is printed, parsed back and counted.
    #[test]
    fn any_changed_number_is_answered(
        seed in 0u64..60,
        which in any::<prop::sample::Index>(),
        number in prop_oneof![
            0u64..40,
            Just(u64::from(u32::MAX)),
            Just(u64::MAX),
            Just(1 << 40),
        ],
    ) {
        let ron = ron::to_string(&jam_ir_testing::generate::seeded(seed).model).unwrap();
        let is_digit = |c: char| c.is_ascii_digit();
        let starts: Vec<usize> = ron
            .match_indices(is_digit)
            .map(|(at, _)| at)
            .filter(|at| *at == 0 || !ron.as_bytes()[at - 1].is_ascii_alphanumeric())
            .collect();
        let start = starts[which.index(starts.len())];
        let len = ron[start..].find(|c| !is_digit(c)).unwrap_or(0);
        let changed = format!("{}{number}{}", &ron[..start], &ron[start + len..]);
        if let Ok(model) = ron::from_str::<Model>(&changed)
            && verify(&model).is_ok()
        {
            let text = jam_ir::text::print(&model);
            prop_assert!(jam_ir::text::parse(&text) == Ok(model.clone()), "{}", text);
            // Operations over a context of 2^64 tokens have no number: the count says so.
            let counted = jam_ir::count::counts(&model).is_ok();
            prop_assert!(counted || model.context.is_some_and(|context| context > 1 << 32));
        }
    }
}

#[test]
fn whole_models_pass() {
    verify(&opt()).unwrap();
    verify(&llama()).unwrap();
    let mut config = DecoderConfig::opt(TokenLayout::bare(9), 4, 8, 1, 2, 4);
    config.embed_width = Some(6);
    config.norm_place = jam_weights::checkpoints::decoder::NormPlace::After;
    config.qk_norm = Some(jam_weights::checkpoints::decoder::QkNorm {
        norm: config.norm,
        per_head: true,
    });
    config.source = Some("parent".to_owned());
    verify(&decoder_only(&config)).unwrap();
}

#[test]
fn damaged_axes() {
    let damage = |m: &mut Model| m.axes[3].name = "width".to_owned();
    caught(opt(), damage, "axis `width`", "two axes have this name");
}

#[test]
fn damaged_tokens() {
    let range = |start, len| TokenRange {
        kind: TokenKind::Image,
        start,
        len,
    };
    let damage = |m: &mut Model| m.tokens.ranges.push(range(20, u64::MAX));
    caught(opt(), damage, "tokens", "end at 18446744073709551635");
    let damage = |m: &mut Model| {
        m.tokens
            .ranges
            .splice(0..0, [range(0, u64::MAX)])
            .for_each(drop)
    };
    caught(opt(), damage, "tokens", "not at 18446744073709551615");
}

#[test]
fn damaged_blocks() {
    let damage = |m: &mut Model| block(m).name = "encoder".to_owned();
    caught(opt(), damage, "block `decoder`", "filed under another name");
    let damage = |m: &mut Model| m.main.name = "start".to_owned();
    caught(opt(), damage, "block `start`", "is called `main`");
    let damage = |m: &mut Model| block(m).result = ValueId(999);
    caught(opt(), damage, "block `decoder`", "result is never defined");
}

#[test]
fn damaged_parameters() {
    let at = |name: &str| format!("block `decoder`, parameter `{name}`");
    let damage = |m: &mut Model| block(m).params[1].name = "norm1.gain".to_owned();
    caught(opt(), damage, &at("norm1.gain"), "have this name");
    let damage = |m: &mut Model| block(m).params[0].ty.output = vec![AxisId(99)];
    caught(opt(), damage, &at("norm1.gain"), "no axis 99");
}

#[test]
fn damaged_values() {
    let at = |name: &str| format!("block `decoder`, value `{name}`");
    let damage = |m: &mut Model| block(m).values[1].name = "x".to_owned();
    caught(opt(), damage, &at("x"), "have this name");
    let damage = |m: &mut Model| block(m).values[1].ty.axes = vec![AxisId(99)];
    caught(opt(), damage, &at("norm1"), "names no axis");
}

#[test]
fn damaged_definitions() {
    let at = |name: &str| format!("block `decoder`, value `{name}`");
    let damage = |m: &mut Model| block(m).body.swap(0, 1);
    caught(opt(), damage, &at("q"), "`norm1` is read before");
    let damage = |m: &mut Model| block(m).body[1].result = ValueId(1);
    caught(opt(), damage, &at("norm1"), "defined twice");
    let damage = |m: &mut Model| block(m).body[1].result = ValueId(999);
    caught(opt(), damage, &at("%999"), "no such value");
    let damage = |m: &mut Model| block(m).inputs.push(ValueId(999));
    caught(opt(), damage, &at("%999"), "no such value");
    let damage = |m: &mut Model| {
        op(block(m), "linear").for_each_operand(|x| *x = ValueId(999));
    };
    caught(opt(), damage, &at("q"), "no value %999");
    let damage = |m: &mut Model| {
        op(block(m), "linear").for_each_param(|p| *p = ParamId(999));
    };
    caught(opt(), damage, &at("q"), "no parameter 999");
}

#[test]
fn damaged_operations() {
    let at = |name: &str| format!("block `decoder`, value `{name}`");
    let damage = |m: &mut Model| {
        if let Op::RmsNorm { norm, .. } = op(block(m), "rms_norm") {
            norm.eps = f64::NAN;
        }
    };
    caught(llama(), damage, &at("norm1"), "constant of a norm");
    let damage = |m: &mut Model| {
        if let Op::Attention { scale, .. } = op(block(m), "attention") {
            *scale = f64::INFINITY;
        }
    };
    caught(llama(), damage, &at("attended"), "not finite");
    let place = "block `main`, value `extra`";
    let damage = with_op(|m| {
        let (x, axes) = states(m);
        (axes, Op::Scale { x, by: f64::NAN })
    });
    caught(opt(), damage, place, "not finite");
    let damage = with_op(|m| {
        let axes = states(m).1;
        let (axis, parts) = (axes[2], Vec::new());
        (axes, Op::Concat { parts, axis })
    });
    caught(opt(), damage, place, "nothing stands");
    let damage = with_op(|m| {
        let (x, axes) = states(m);
        (axes, Op::MaskRows { x, rows: vec![] })
    });
    caught(opt(), damage, place, "not on a vocabulary");
}

/// The first states of the main block, and their axes.
fn states(model: &Model) -> (ValueId, Vec<AxisId>) {
    let id = ValueId(1);
    (id, model.main.value_of(id).ty.axes.clone())
}

/// A model with one more operation on the logits or on the first states of the main block.
fn with_op(make: impl FnOnce(&mut Model) -> (Vec<AxisId>, Op)) -> impl FnOnce(&mut Model) {
    |model| {
        let (axes, op) = make(model);
        let dtype = DType::F32;
        model.main.push("extra", ValueType { dtype, axes }, op);
    }
}

#[test]
fn damaged_calls() {
    // Calls nested 70 deep, each block calling the next.
    let damage = |m: &mut Model| nest(m, 70, 1);
    caught(opt(), damage, "block `main`", "calls nest 71 deep");
    // 40 blocks that call the next twice: 2^40 calls.
    let damage = |m: &mut Model| nest(m, 40, 2);
    caught(opt(), damage, "block `main`", "the graph expands to");
}

/// Blocks `deep0 … deep{depth}`, each calling the next `times` over; the main block calls the first.
fn nest(model: &mut Model, depth: usize, times: usize) {
    let ty = model.blocks["decoder"].values[0].ty.clone();
    for level in 0..=depth {
        let mut block = Block::new(format!("deep{level}"));
        let mut x = block.input("x", ty.clone());
        for time in 0..times {
            let op = match level == depth {
                true => Op::Scale { x, by: 1.0 },
                false => Op::Call {
                    block: format!("deep{}", level + 1),
                    args: vec![x],
                    at: format!("c{time}"),
                },
            };
            x = block.push("y", ty.clone(), op);
        }
        block.result = x;
        model.blocks.insert(block.name.clone(), block);
    }
    let op = Op::Call {
        block: "deep0".to_owned(),
        args: vec![ValueId(1)],
        at: "deep".to_owned(),
    };
    model.main.push("deep", ty, op);
}

#[test]
fn damaged_main() {
    let damage = |m: &mut Model| m.main.inputs.clear();
    caught(opt(), damage, "block `main`", "alone, not 0 values");
}

#[test]
fn problems_become_reports_with_their_place() {
    let mut model = opt();
    let span = Span::new(jam_ir::span::FileId(1), 2, 3);
    block(&mut model).params[2].span = Some(span);
    block(&mut model).params[2].init = Plan::Identity;
    model.weights.shift_remove("embed.table");
    let reports: Vec<Diagnostic> = verify(&model)
        .unwrap_err()
        .into_iter()
        .map(Diagnostic::from)
        .collect();
    assert_eq!(reports.len(), 2, "{reports:#?}");
    assert_eq!(reports[0].span(), Some(span));
    assert!(reports[1].message.starts_with("weight `embed.table`"));
}
