//! Models: what the language describes is the graph that was meant, weights and their names included.

use jam_ir::span::FileId;
use jam_ir::{DType, Model, Plan, TokenLayout};
use jam_weights::checkpoints::decoder::{
    DecoderConfig, NormConfig, NormKind, QkNorm, decoder_only,
};

use super::{compile_text, sound};

/// Weights of a model by name: type with the sizes of its sides, as text.
fn weights(model: &Model) -> Vec<(String, String)> {
    let shape = |axes: &[jam_ir::AxisId]| {
        let axes = axes.iter().map(|axis| {
            let axis = model.axis(*axis);
            format!("{} {}", axis.role.word(), axis.size.unwrap_or(0))
        });
        axes.collect::<Vec<_>>().join(", ")
    };
    let uses = model.weight_uses().into_iter().map(|(name, param)| {
        let ty = &param.ty;
        (
            name,
            format!(
                "{} [{} -> {}]",
                ty.dtype.word(),
                shape(&ty.input),
                shape(&ty.output)
            ),
        )
    });
    uses.collect()
}

/// The operations of a model in the order they run, blocks followed.
fn operations(model: &Model) -> Vec<String> {
    fn walk(model: &Model, block: &jam_ir::Block, words: &mut Vec<String>) {
        for statement in &block.body {
            match &statement.op {
                jam_ir::Op::Call { block, .. } => walk(model, &model.blocks[block], words),
                jam_ir::Op::Attention { mask, scale, .. } => {
                    words.push(format!("attention {mask:?} {scale}"));
                }
                jam_ir::Op::LayerNorm { norm, .. } | jam_ir::Op::RmsNorm { norm, .. } => {
                    words.push(format!("{} {}", statement.op.word(), norm.eps));
                }
                op => words.push(op.word().to_owned()),
            }
        }
    }
    let mut words = Vec::new();
    walk(model, &model.main, &mut words);
    words
}

/// What the language describes is the model that the sizes alone give.
fn same_as(text: &str, config: &DecoderConfig) {
    let program = sound(compile_text("a.jam", text, &[]));
    let model = &program.models["a"].model;
    let wanted = decoder_only(config);
    assert_eq!(weights(model), weights(&wanted));
    assert_eq!(operations(model), operations(&wanted));
    assert_eq!(model.context, wanted.context);
}

#[test]
fn opt_llama_chameleon_and_cm3leon_can_be_written() {
    let tokens = TokenLayout::bare(1000);
    same_as(
        "
block decoder(x) {
    x = x + attention(layer_norm(x), heads: 4, bias: yes)
    x = x + mlp(layer_norm(x), hidden: 128, act: relu, bias: yes)
}
model a {
    tokens  = 1000
    context = 64
    width   = 32
    x       = embed(tokens) + positions(learned, offset: 2)
    repeat 3 { x = decoder(x) }
    logits  = unembed(layer_norm(x))
}
",
        &DecoderConfig::opt(tokens.clone(), 64, 32, 3, 4, 128),
    );
    let mut llama = DecoderConfig::llama(tokens.clone(), 64, 32, 2, 4, 88);
    llama.kv_heads = 2;
    same_as(
        "
let layers = 1 + 1
block decoder(x, hidden, act: silu) {
    x = x + attention(
        rms_norm(x),
        heads: 4,
        kv_heads: 2,
        rotary: rotary(base: 10_000),
    )
    x = x + mlp(rms_norm(x), hidden: hidden, act: act, gated: yes)
}
model a {
    tokens  = 1000
    context = 64
    width   = 32
    x       = embed(tokens)
    repeat layers { x = decoder(x, hidden: round_up(8 / 3 * width, 8)) }
    logits  = unembed(rms_norm(x), tied: no)
}
",
        &llama,
    );
    let mut chameleon = DecoderConfig::llama(tokens.clone(), 64, 32, 2, 4, 88);
    let norm = NormConfig {
        kind: NormKind::Layer,
        affine: true,
        bias: true,
        eps: 1e-5,
    };
    chameleon.qk_norm = Some(QkNorm {
        norm,
        per_head: true,
    });
    // Layers without a block of their own.
    same_as(
        "
model a {
    tokens  = 1000
    context = 64
    width   = 32
    x       = embed(tokens)
    repeat 2 {
        h = x + attention(rms_norm(x), heads: 4, rotary: yes, qk_norm: layer_norm(per_head: yes))
        x = h + mlp(rms_norm(h), hidden: 88, act: silu, gated: yes)
    }
    logits = unembed(rms_norm(x), tied: no)
}
",
        &chameleon,
    );
    let mut half = DecoderConfig::cm3leon(tokens, 64, 32, 2, 4, 128);
    half.dtype = DType::BF16;
    same_as(
        "
block decoder(x, heads) {
    x = x + attention(layer_norm(x, affine: no), heads: heads)
    x = x + mlp(layer_norm(x, affine: no), hidden: 128)
}
model base {
    tokens    = 1000
    context   = 128
    width     = 64
    layers    = 8
    precision = bf16
    x         = embed(tokens) + positions(learned, offset: 2)
    repeat layers { x = decoder(x, heads: 4) }
    logits    = unembed(layer_norm(x, affine: no))
}
model a = base { width = 32, context = 64, layers = 2 }
",
        &half,
    );
}

#[test]
fn fresh_weights_begin_as_the_program_says() {
    let text = |init: &str| {
        format!(
            "
model a {{
    tokens  = 1000
    context = 64
    width   = 32
    {init}
    x       = embed(tokens) + positions(learned)
    repeat 8 {{ x = x + mlp(rms_norm(x), hidden: 64, bias: yes) }}
    logits  = unembed(x)
}}
"
        )
    };
    let plan = |init: &str, name: &str| {
        let program = sound(compile_text("a.jam", &text(init), &[]));
        program.models["a"].model.weights[name].plan.clone()
    };
    let normal = |sd| Plan::TruncatedNormal { sd, cut: 3.0 };
    assert_eq!(plan("", "embed.table"), normal(0.02));
    assert_eq!(plan("", "layers.7.mlp.down"), normal(0.005));
    assert_eq!(plan("", "layers.7.mlp.down_bias"), Plan::Zeros);
    assert_eq!(plan("", "layers.0.norm1.gain"), Plan::Ones);
    let paper = "init = truncated_normal(0.006, positions: 0.0002, residual: 0)";
    assert_eq!(plan(paper, "positions.table"), normal(0.0002));
    assert_eq!(plan(paper, "layers.7.mlp.down"), Plan::Zeros);
    assert_eq!(
        plan("init = normal(0.5)", "layers.7.mlp.up"),
        Plan::Normal { sd: 0.5 }
    );
    assert_eq!(
        plan("weights = \"w\"", "embed.table"),
        Plan::load("a", "embed.table"),
    );
}

#[test]
fn names_of_weights_come_from_bindings_and_do_not_change_with_the_layout() {
    let text = "
block half(x, heads) { y = x + attention(x, heads: heads), first = mlp(y, hidden: 8), x = y + first + mlp(x, hidden: 8) }
model a {
    tokens = 100, width = 32
    x = embed(tokens), inner = half(x, heads: 2), x = half(inner, 4)
    repeat 2 { x = half(x, heads: 2) }
    repeat 1 { x = half(x, heads: 4) }
    logits = unembed(linear(x, width: 32, bias: yes))
}
";
    let names = |text: &str| {
        let program = sound(compile_text("a.jam", text, &[]));
        program.models["a"]
            .model
            .weights
            .keys()
            .cloned()
            .collect::<Vec<String>>()
    };
    let before = names(text);
    for name in [
        "inner.attn.q",
        "inner.first.up",
        "inner.mlp.down",
        "half.attn.out",
        "layers.0.first.down",
        "layers.1.attn.q",
        "layers.2.attn.q",
        "linear.weight",
        "linear.bias",
    ] {
        assert!(
            before.iter().any(|known| known == name),
            "{name} in {before:#?}"
        );
    }
    let formatted = jam_dsl::format(FileId(0), text).unwrap();
    assert_eq!(names(&formatted), before);
}

/// The main block and the blocks that it calls, as the text form of the IR has them.
fn calls(text: &str) -> Vec<String> {
    fn walk(model: &Model, block: &jam_ir::Block, within: &str, calls: &mut Vec<String>) {
        for statement in &block.body {
            if let jam_ir::Op::Call { block, at, .. } = &statement.op {
                let at = format!("{within}{at}");
                let callee = &model.blocks[block];
                walk(model, callee, &format!("{at}."), calls);
                calls.push(at);
            }
        }
    }
    let program = sound(compile_text("a.jam", text, &[]));
    let model = &program.models["a"].model;
    let mut found = Vec::new();
    walk(model, &model.main, "", &mut found);
    found
}

#[test]
fn a_repeat_may_stand_in_a_repeat() {
    let model = |layers: &str| {
        format!(
            "block dec(x) {{ x = x + mlp(x, hidden: 8) }}
block stage(x) {{ repeat 3 {{ x = dec(x) }} }}
model a {{ tokens = 100, context = 16, width = 16, x = embed(tokens), {layers}, logits = unembed(rms_norm(x)) }}"
        )
    };
    // The stream goes through every layer, and the last of them is what the rest reads.
    let nested = model("repeat 2 { h = rms_norm(x), repeat 3 { x = x + mlp(h, hidden: 32) } }");
    let program = sound(compile_text("a.jam", &nested, &[]));
    let operations = operations(&program.models["a"].model);
    let norm = "rms_norm 0.00001";
    let mlp = ["linear", "relu", "linear", "add"];
    let layer = || [&[norm], mlp.as_slice(), &mlp, &mlp].concat();
    let wanted = [vec!["embed"], layer(), layer(), vec![norm, "unembed"]].concat();
    assert_eq!(operations, wanted);
    assert_eq!(calls(&nested).len(), 2 + 2 * 3);
    for layers in [
        "repeat 4 { repeat 3 { x = dec(x) } }",
        "repeat 4 { repeat 3 { y = silu(x), x = x + mlp(y, hidden: 8) } }",
        "repeat 2 { repeat 2 { repeat 3 { x = dec(x) } } }",
        "repeat 4 { x = stage(x) }",
        "repeat 12 { x = dec(x) }",
    ] {
        let program = sound(compile_text("a.jam", &model(layers), &[]));
        let weights = program.models["a"].model.weights.iter();
        let down = weights.filter(|(name, _)| name.ends_with("mlp.down"));
        let plans: Vec<Plan> = down.map(|(_, weight)| weight.plan.clone()).collect();
        assert_eq!(plans.len(), 12, "{layers}");
        // Twelve layers write to the residual stream.
        let sd = 0.02 / 24f64.sqrt();
        let plan = Plan::TruncatedNormal { sd, cut: 3.0 };
        assert!(
            plans.iter().all(|found| *found == plan),
            "{layers}: {plans:?}"
        );
    }
}

#[test]
fn two_calls_in_one_layer_have_weights_of_their_own() {
    let text = "
block dec(x) { x = x + mlp(x, hidden: 8) }
model a {
    tokens = 100, context = 16, width = 16
    x = embed(tokens)
    repeat 2 { x = dec(dec(x)) }
    logits = unembed(x)
}
";
    let program = sound(compile_text("a.jam", text, &[]));
    let names = program.models["a"].model.weights.keys();
    let down: Vec<&String> = names.filter(|name| name.ends_with("down")).collect();
    assert_eq!(down.len(), 4, "{down:?}");
}

#[test]
fn settings_hold_for_the_whole_model() {
    let text = "
block layer(x) { x = silu(x) }
model a {
    context = 16, width = 16
    x = embed(tokens)
    repeat 2 { h = layer(x), x = x + h + mlp(x, hidden: 8) }
    logits = unembed(x)
    tokens = 100, init = normal(0.5), precision = bf16
}
";
    let program = sound(compile_text("a.jam", text, &[]));
    let model = &program.models["a"].model;
    assert_eq!(model.weights["embed.table"].plan, Plan::Normal { sd: 0.5 });
    let types = model.weight_uses();
    assert!(types.values().all(|param| param.ty.dtype == DType::BF16));
}
