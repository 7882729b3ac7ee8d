//! Every kind of damage done to a valid graph is caught, at its place.

use proptest::prelude::*;

use super::*;
use crate::decoder::{DecoderConfig, decoder_only};
use crate::{
    AxisId, Block, DType, Op, ParamId, Plan, Role, TokenKind, TokenLayout, TokenRange, ValueId,
    ValueType, Weight,
};

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

fn axis(model: &Model, name: &str) -> AxisId {
    let index = model.axes.iter().position(|axis| axis.name == name);
    AxisId(index.unwrap() as u32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever number of a model is changed: the verifier answers, and a model that it accepts
    /// is printed, parsed back, counted and drawn.
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
        let ron = ron::to_string(&crate::generate::seeded(seed).model).unwrap();
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
            let text = crate::text::print(&model);
            prop_assert!(crate::text::parse(&text) == Ok(model.clone()), "{}", text);
            // Operations over a context of 2^64 tokens have no number: the count says so.
            let counted = crate::count::counts(&model).is_ok();
            prop_assert!(counted || model.context.is_some_and(|context| context > 1 << 32));
            prop_assert!(!crate::dot::dot(&model).is_empty());
        }
    }
}

#[test]
fn whole_models_pass() {
    verify(&opt()).unwrap();
    verify(&llama()).unwrap();
    let mut config = DecoderConfig::opt(TokenLayout::bare(9), 4, 8, 1, 2, 4);
    config.embed_width = Some(6);
    config.norm_place = crate::decoder::NormPlace::After;
    config.qk_norm = Some(crate::decoder::QkNorm {
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
    let damage = |m: &mut Model| m.axes[3].name.clear();
    caught(opt(), damage, "axis ``", "no name");
    let damage = |m: &mut Model| m.axes[0].size = Some(3);
    caught(opt(), damage, "axis `b`", "no size before a run");
    let damage = |m: &mut Model| m.axes[2].size = None;
    caught(opt(), damage, "axis `width`", "has a size");
    let damage = |m: &mut Model| m.axes[2].size = Some(0);
    caught(opt(), damage, "axis `width`", "at least one entry");
    let damage = |m: &mut Model| m.axes[1].role = Role::Batch;
    caught(opt(), damage, "model", "0 axes of role time");
}

#[test]
fn damaged_tokens() {
    let range = |start, len| TokenRange {
        kind: TokenKind::Image,
        start,
        len,
    };
    let damage = |m: &mut Model| m.tokens.ranges = vec![range(0, 9), range(10, 10)];
    caught(opt(), damage, "tokens", "starts at 10, not at 9");
    let damage = |m: &mut Model| m.tokens.ranges = vec![range(0, 19)];
    caught(opt(), damage, "tokens", "end at 19, not at 20");
    let damage = |m: &mut Model| m.tokens.ranges.push(range(20, u64::MAX));
    caught(opt(), damage, "tokens", "end at 18446744073709551635");
    let damage = |m: &mut Model| {
        m.tokens
            .ranges
            .splice(0..0, [range(0, u64::MAX)])
            .for_each(drop)
    };
    caught(opt(), damage, "tokens", "not at 18446744073709551615");
    let damage = |m: &mut Model| m.tokens.size = 0;
    caught(opt(), damage, "tokens", "between 1 and");
    let damage = |m: &mut Model| m.tokens = TokenLayout::bare(21);
    caught(opt(), damage, "axis `vocab`", "20 rows");
    let damage = |m: &mut Model| {
        m.tokens.marks.insert("bos".to_owned(), 20);
    };
    caught(opt(), damage, "tokens", "mark `bos`");
    let damage = |m: &mut Model| {
        m.tokens.marks.insert("bos".to_owned(), 19);
    };
    caught(opt(), damage, "tokens", "that of no mark");
    let damage = |m: &mut Model| m.tokens.text_ids = (1, 20);
    caught(opt(), damage, "tokens", "does not fit the ids of the text");
    let damage = |m: &mut Model| m.tokens.text_ids = (0, 21);
    caught(opt(), damage, "tokens", "has the ids 0..21");
    let damage = |m: &mut Model| {
        m.tokens.ranges[0].len = 19;
        m.tokens.ranges.push(TokenRange {
            kind: TokenKind::Filler,
            start: 19,
            len: 1,
        });
    };
    caught(opt(), damage, "tokens", "Filler ids from 19 on");
    let damage = |m: &mut Model| m.tokens.begin = "bos".to_owned();
    caught(opt(), damage, "tokens", "begin with `bos`");
    let damage = |m: &mut Model| m.tokens.grid = u64::MAX;
    caught(opt(), damage, "tokens", "too large");
}

#[test]
fn damaged_blocks() {
    let damage = |m: &mut Model| block(m).name = "encoder".to_owned();
    caught(opt(), damage, "block `decoder`", "filed under another name");
    let damage = |m: &mut Model| m.main.name = "start".to_owned();
    caught(opt(), damage, "block `start`", "is called `main`");
    let damage = |m: &mut Model| {
        let copy = m.blocks["decoder"].clone();
        m.blocks.insert("main".to_owned(), copy);
    };
    caught(opt(), damage, "block `main`", "other than `main`");
    let damage = |m: &mut Model| block(m).result = ValueId(999);
    caught(opt(), damage, "block `decoder`", "result is never defined");
    let damage = |m: &mut Model| {
        let ty = m.main.values[1].ty.clone();
        m.main.values.push(crate::Value {
            name: "never".to_owned(),
            ty,
        });
        m.main.result = ValueId(m.main.values.len() as u32 - 1);
    };
    caught(opt(), damage, "block `main`", "result is never defined");
}

#[test]
fn damaged_parameters() {
    let at = |name: &str| format!("block `decoder`, parameter `{name}`");
    let damage = |m: &mut Model| block(m).params[1].name = "norm1.gain".to_owned();
    caught(opt(), damage, &at("norm1.gain"), "have this name");
    let damage = |m: &mut Model| block(m).params[1].name.clear();
    caught(opt(), damage, &at(""), "no name");
    let damage = |m: &mut Model| block(m).params[0].ty.dtype = DType::U32;
    caught(opt(), damage, &at("norm1.gain"), "float type");
    let damage = |m: &mut Model| block(m).params[0].ty.output.clear();
    caught(opt(), damage, &at("norm1.gain"), "output side");
    let damage = |m: &mut Model| block(m).params[0].ty.output = vec![AxisId(99)];
    caught(opt(), damage, &at("norm1.gain"), "no axis 99");
    let damage = |m: &mut Model| block(m).params[0].ty.output = vec![AxisId(0)];
    caught(opt(), damage, &at("norm1.gain"), "has no size");
    let damage = |m: &mut Model| block(m).params[2].ty.output = vec![AxisId(3), AxisId(3)];
    caught(opt(), damage, &at("attn.q"), "axes of one side differ");
    let damage = |m: &mut Model| block(m).params[2].init = Plan::load("llm", "x");
    caught(opt(), damage, &at("attn.q"), "reads a model");
    let damage = |m: &mut Model| block(m).params[2].init = Plan::Identity;
    caught(opt(), damage, &at("attn.q"), "does not fit");
}

#[test]
fn damaged_values() {
    let at = |name: &str| format!("block `decoder`, value `{name}`");
    let damage = |m: &mut Model| block(m).values[1].name = "x".to_owned();
    caught(opt(), damage, &at("x"), "have this name");
    let damage = |m: &mut Model| block(m).values[1].name.clear();
    caught(opt(), damage, &at(""), "no name");
    let damage = |m: &mut Model| block(m).values[1].ty.axes = vec![AxisId(99)];
    caught(opt(), damage, &at("norm1"), "names no axis");
    let damage = |m: &mut Model| block(m).values[1].ty.axes = vec![AxisId(0), AxisId(0)];
    caught(opt(), damage, &at("norm1"), "an axis twice");
    let damage = |m: &mut Model| block(m).values[1].ty.dtype = DType::BF16;
    caught(opt(), damage, &at("norm1"), "declared bf16[b, t, width]");
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
    // Each operation is given something that it cannot take.
    let damage = |m: &mut Model| {
        if let Op::LayerNorm { norm, .. } = op(block(m), "layer_norm") {
            norm.parts = vec![4, 3];
        }
    };
    caught(opt(), damage, &at("norm1"), "do not divide axis `width`");
    let damage = |m: &mut Model| {
        if let Op::RmsNorm { norm, .. } = op(block(m), "rms_norm") {
            norm.eps = f64::NAN;
        }
    };
    caught(llama(), damage, &at("norm1"), "constant of a norm");
    let damage = |m: &mut Model| {
        if let Op::LayerNorm { gain, .. } = op(block(m), "layer_norm") {
            *gain = Some(ParamId(2));
        }
    };
    caught(opt(), damage, &at("norm1"), "not the last axes");
    let damage = |m: &mut Model| {
        if let Op::Linear { bias, .. } = op(block(m), "linear") {
            *bias = Some(ParamId(0));
        }
    };
    caught(opt(), damage, &at("q"), "output side of weight `attn.q`");
    let damage = |m: &mut Model| {
        if let Op::Linear { weight, .. } = op(block(m), "linear") {
            *weight = ParamId(0);
        }
    };
    caught(opt(), damage, &at("q"), "not a matrix");
    let damage = |m: &mut Model| m.axes[3].size = Some(3);
    caught(llama(), damage, &at("attended"), "shared out");
    let damage = |m: &mut Model| m.axes[5].size = Some(3);
    caught(llama(), damage, &at("q_rotated"), "even size");
    let damage = |m: &mut Model| {
        if let Op::Rotary { base, .. } = op(block(m), "rotary") {
            *base = 0.0;
        }
    };
    caught(llama(), damage, &at("q_rotated"), "base of rotary");
    let damage = |m: &mut Model| {
        if let Op::Attention { q, k, .. } = op(block(m), "attention") {
            *k = *q;
        }
    };
    caught(llama(), damage, &at("attended"), "not kv_heads");
    let damage = |m: &mut Model| {
        if let Op::Attention { scale, .. } = op(block(m), "attention") {
            *scale = f64::INFINITY;
        }
    };
    caught(llama(), damage, &at("attended"), "not finite");
    let damage = |m: &mut Model| {
        if let Op::Add { a, .. } = op(block(m), "add") {
            *a = ValueId(2);
        }
    };
    caught(opt(), damage, &at("x1"), "differ in type");
    let damage = |m: &mut Model| {
        let x = m.main.inputs[0];
        *op(&mut m.main, "unembed") = Op::Unembed {
            x,
            table: ParamId(0),
        };
    };
    caught(opt(), damage, "block `main`, value `logits`", "float type");
    let damage = |m: &mut Model| {
        if let Op::Embed { table, .. } = op(&mut m.main, "embed") {
            *table = ParamId(1);
        }
    };
    caught(opt(), damage, "block `main`, value `embed`", "not vocab");
    let damage = |m: &mut Model| {
        if let Op::Cast { dtype, .. } = op(&mut m.main, "cast") {
            *dtype = DType::U32;
        }
    };
    caught(llama(), damage, "block `main`, value `logits_f32`", "cast");
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
fn damaged_operations_on_features_and_rows() {
    let place = "block `main`, value `extra`";
    let states = |m: &Model| {
        let id = ValueId(1);
        (id, m.main.value_of(id).ty.axes.clone())
    };
    let logits = |m: &Model| {
        let id = m.main.result;
        (id, m.main.value_of(id).ty.axes.clone())
    };
    let damage = with_op(|m| {
        let (x, mut axes) = states(m);
        axes[2] = m.add_axis("cut", Some(5), Role::Inner);
        let axis = axes[2];
        (axes, Op::Slice { x, start: 4, axis })
    });
    caught(opt(), damage, place, "5 features from 4 on");
    let damage = with_op(|m| {
        let (x, mut axes) = states(m);
        axes[2] = m.add_axis("both", Some(17), Role::Inner);
        let (axis, parts) = (axes[2], vec![x, x]);
        (axes, Op::Concat { parts, axis })
    });
    caught(opt(), damage, place, "add up to 16");
    let damage = with_op(|m| {
        let axis = axis(m, "width");
        let parts = Vec::new();
        (states(m).1, Op::Concat { parts, axis })
    });
    caught(opt(), damage, place, "nothing stands");
    let damage = with_op(|m| {
        let (x, axes) = logits(m);
        let rows = vec![(4, 9), (8, 10)];
        (axes, Op::MaskRows { x, rows })
    });
    caught(opt(), damage, place, "rows 8..10");
    let damage = with_op(|m| {
        let (x, axes) = logits(m);
        let second = vec![(4, 21)];
        (axes, Op::ChooseRows { a: x, b: x, second })
    });
    caught(opt(), damage, place, "rows 4..21");
    let damage = with_op(|m| {
        let (x, axes) = states(m);
        (axes, Op::MaskRows { x, rows: vec![] })
    });
    caught(opt(), damage, place, "not on a vocabulary");
    let damage = with_op(|m| {
        let (x, axes) = states(m);
        (axes, Op::Scale { x, by: f64::NAN })
    });
    caught(opt(), damage, place, "not finite");
}

#[test]
fn damaged_calls() {
    let first_call = |m: &mut Model, change: fn(&mut String, &mut Vec<ValueId>, &mut String)| {
        if let Op::Call { block, args, at } = op(&mut m.main, "call") {
            change(block, args, at);
        }
    };
    let damage = |m: &mut Model| first_call(m, |block, _, _| *block = "other".to_owned());
    caught(
        opt(),
        damage,
        "block `main`, value `x1`",
        "no block `other`",
    );
    let damage = |m: &mut Model| first_call(m, |_, args, _| args.clear());
    caught(opt(), damage, "block `main`, value `x1`", "takes 1 values");
    let damage = |m: &mut Model| first_call(m, |_, args, _| args[0] = ValueId(0));
    caught(opt(), damage, "block `main`, value `x1`", "but `tokens` is");
    let damage = |m: &mut Model| first_call(m, |_, _, at| *at = "elsewhere".to_owned());
    caught(
        opt(),
        damage,
        "weight `layers.0.attn.q`",
        "nothing in the graph",
    );
    let call = |name: &str| Op::Call {
        block: name.to_owned(),
        args: vec![ValueId(0)],
        at: String::new(),
    };
    let damage = |m: &mut Model| {
        let ty = block(m).values[0].ty.clone();
        block(m).push("again", ty, call("decoder"));
    };
    caught(opt(), damage, "block `decoder`", "calls itself");
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
    let damage = |m: &mut Model| m.main.result = ValueId(1);
    caught(opt(), damage, "block `main`, value `embed`", "logits f32");
    let damage = |m: &mut Model| m.main.values[0].ty.dtype = DType::F32;
    caught(opt(), damage, "block `main`, value `tokens`", "tokens u32");
    let damage = |m: &mut Model| m.main.inputs.clear();
    caught(opt(), damage, "block `main`", "alone, not 0 values");
}

#[test]
fn damaged_context() {
    let place = "block `main`, parameter `positions.table`";
    let damage = |m: &mut Model| m.context = Some(17);
    caught(opt(), damage, place, "more than the 18 rows");
    let damage = |m: &mut Model| m.context = None;
    caught(opt(), damage, place, "none is given");
    let damage = |m: &mut Model| m.context = Some(u64::MAX);
    caught(opt(), damage, place, "needs more");
    let damage = |m: &mut Model| m.context = Some(0);
    caught(llama(), damage, "model", "at least one token");
}

#[test]
fn damaged_weights() {
    let place = "weight `layers.1.attn.q`";
    let damage = |m: &mut Model| {
        m.weights.shift_remove("layers.1.attn.q");
    };
    caught(opt(), damage, place, "no plan");
    let damage = |m: &mut Model| {
        let plan = Plan::Zeros;
        let weight = Weight { plan, span: None };
        m.weights.insert("surplus".to_owned(), weight);
    };
    caught(opt(), damage, "weight `surplus`", "nothing in the graph");
    let damage = |m: &mut Model| {
        let twin = block(m).params[2].clone();
        m.main.params.push(twin);
        let name = "layers.1.attn.q".to_owned();
        let id = ParamId(m.main.params.len() as u32 - 1);
        m.main.params[id.0 as usize].name = name;
        let (x, bias) = (ValueId(1), None);
        let linear = Op::Linear {
            x,
            weight: id,
            bias,
        };
        let ty = m.blocks["decoder"].values[2].ty.clone();
        m.main.push("extra", ty, linear);
    };
    caught(opt(), damage, place, "two different parameters");
    let damage = |m: &mut Model| m.weights["layers.1.attn.q"].plan = Plan::Identity;
    caught(opt(), damage, place, "does not give shape [8, 2, 4]");
    let damage = |m: &mut Model| m.axes[6].size = Some(u64::MAX / 2);
    caught(opt(), damage, "weight `layers.0.mlp.up`", "64 bits");
    let damage = |m: &mut Model| m.axes[6].size = Some(u64::MAX / 70);
    caught(opt(), damage, "model", "all weights together");
}

#[test]
fn problems_become_reports_with_their_place() {
    let mut model = opt();
    let span = Span::new(crate::span::FileId(1), 2, 3);
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
