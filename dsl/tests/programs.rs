//! Programs that are right: the examples, and what they become.

mod support;

use std::time::Instant;

use jam_dsl::{CompileOptions, Compiled, World, compile, report};
use jam_ir::decoder::{DecoderConfig, NormConfig, NormKind, QkNorm, decoder_only};
use jam_ir::recipe::{BatchSize, DataSource};
use jam_ir::span::FileId;
use jam_ir::verify::verify;
use jam_ir::{DType, Model, Part, Plan, Program, SettingValue, TokenLayout};
use support::{repository, strategies};

/// Files of the repository; nothing else is there.
struct Repository;

impl World for Repository {
    fn read(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(repository().join(path)).map_err(|error| error.to_string())
    }

    fn exists(&self, _: &str) -> bool {
        false
    }
}

fn compile_file(path: &str, set: &[(&str, &str)]) -> Compiled {
    let text = std::fs::read_to_string(repository().join(path)).unwrap();
    compile_text(path, &text, set)
}

fn compile_text(path: &str, text: &str, set: &[(&str, &str)]) -> Compiled {
    let strategies = strategies();
    let set: Vec<(String, String)> = set
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let options = CompileOptions {
        strategies: &strategies,
        set: &set,
        seed: None,
    };
    compile(path, text, &Repository, &options)
}

/// The program of a text without errors.
fn sound(compiled: Compiled) -> Program {
    let text = report::render_all(&compiled.diagnostics, &compiled.sources, false);
    assert!(!compiled.diagnostics.has_errors(), "{text}");
    compiled.program.unwrap()
}

fn parameters(program: &Program, model: &str) -> u64 {
    let model = &program.models[model].model;
    let uses = model.weight_uses();
    let sizes = uses
        .values()
        .map(|param| model.weight_shape(&param.ty).unwrap());
    sizes.map(|shape| shape.iter().product::<u64>()).sum()
}

#[test]
fn every_example_compiles_at_every_size() {
    let mut files = Vec::new();
    for folder in std::fs::read_dir(repository().join("examples")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path())
            .into_iter()
            .flatten()
        {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "jam") {
                files.push(path);
            }
        }
    }
    assert!(files.len() >= 4);
    for file in files {
        let path = file
            .strip_prefix(repository())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let program = sound(compile_file(&path, &[]));
        if program.settings.contains_key("size") {
            for size in ["smoke", "quick", "full"] {
                let program = sound(compile_file(&path, &[("size", size)]));
                assert_eq!(program.settings["size"], size);
            }
        }
        for (name, recipe) in &program.models {
            assert_eq!(verify(&recipe.model), Ok(()), "{path}: {name}");
        }
    }
}

#[test]
fn the_parents_of_the_paper_have_its_sizes() {
    let program = sound(compile_file("examples/paper/parents.jam", &[]));
    assert_eq!(parameters(&program, "llm"), 6_729_801_728);
    assert_eq!(
        program.models["cm3leon"].weights.as_deref(),
        Some("weights/cm3leon")
    );
    let layout = &program.tokens["mixed"];
    assert_eq!((layout.size, layout.grid), (66_056, 32));
    assert_eq!((layout.marks["bos"], layout.marks["eos"]), (0, 2));
    assert_eq!(layout.marks["mask:511"], layout.marks["break"] + 2 + 511);
    let names: Vec<&str> = program.models["llm"]
        .model
        .weights
        .keys()
        .map(String::as_str)
        .take(4)
        .collect();
    assert_eq!(
        names,
        [
            "embed.table",
            "positions.table",
            "layers.0.attn.q",
            "layers.0.attn.k"
        ]
    );
}

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

#[test]
fn records_update_one_another_and_the_command_line_updates_both() {
    let text = "
setting size = one_of(quick, full)
setting data = \"data\"
seed 7
data corpus = text(data + \"/*.txt\", val: data + \"/val.txt\")
model small { tokens = 100, context = 32, width = 8, logits = unembed(embed(tokens)) }
train first {
    model     = small
    data      = mix(0.75 * corpus, 25% * corpus.val)
    validate  = corpus.val
    optimizer = adamw(lr: 3e-5, betas: [0.9, 0.95])
    schedule  = linear(warmup: 5, floor: 10%)
    batch     = tokens(8Ki)
    steps     = choose(size, quick: 10, full: 1k)
}
train second = first { model = first.best, form = rows, length = 16 }
";
    let program = sound(compile_text("a/b.jam", text, &[]));
    assert_eq!((program.name.as_str(), program.seed), ("b", 7));
    let (first, second) = (&program.trainings["first"], &program.trainings["second"]);
    assert_eq!((first.steps, first.length, first.seed), (10, 32, 7));
    assert_eq!((second.steps, second.length), (10, 16));
    assert_eq!(second.model.to_string(), "first.best");
    assert_eq!(first.optimizer.lr, 3e-5);
    assert_eq!(first.schedule.floor, 0.1);
    let shares: Vec<f64> = first.data.iter().map(|(share, _)| *share).collect();
    assert_eq!(shares, [0.75, 0.25]);

    let set = [
        ("size", "full"),
        ("data", "\"/other\""),
        ("second.steps", "5"),
        ("seed", "9"),
    ];
    let program = sound(compile_text("a/b.jam", text, &set));
    assert_eq!(program.trainings["first"].steps, 1000);
    assert_eq!(program.trainings["second"].steps, 5);
    assert_eq!(program.seed, 9);
    assert_eq!(program.settings["size"], "full");
    for folder in ["/other", "../elsewhere/data", "C:\\data", "(1", "one_of"] {
        let program = sound(compile_text("a/b.jam", text, &[("data", folder)]));
        let files = DataSource::Files(vec![format!("{folder}/*.txt")]);
        assert_eq!(program.data["corpus"].splits["train"], files);
    }
    let files = DataSource::Files(vec!["/other/*.txt".to_owned()]);
    assert_eq!(program.data["corpus"].splits["train"], files);
    assert_eq!(program.data["corpus"].held_out, 0.0);
    let order: Vec<String> = program
        .steps
        .iter()
        .map(|step| format!("{step:?}"))
        .collect();
    assert_eq!(order, ["Train(\"first\")", "Train(\"second\")"]);
    let set = [
        ("second.optimizer.lr", "1e-2"),
        ("second.optimizer.clip", "1"),
    ];
    let program = sound(compile_text("a/b.jam", text, &set));
    assert_eq!(program.trainings["second"].optimizer.lr, 1e-2);
    assert_eq!(program.trainings["second"].optimizer.clip, 1.0);
    assert_eq!(program.trainings["first"].optimizer.lr, 3e-5);
    // A recipe of the command line is part of what others update.
    let program = sound(compile_text("a/b.jam", text, &[("small.width", "16")]));
    assert_eq!(parameters(&program, "small"), 1600);
}

#[test]
fn a_setting_of_a_fusion_brings_those_that_it_implies() {
    let text = "use \"examples/paper/parents.jam\"\n\
                fuse exact = cross(llm, cm3leon, start: parents)\n\
                fuse paper = cross(llm, cm3leon)\n";
    let program = sound(compile_text("fusions.jam", text, &[]));
    let head = |fusion: &str| program.fusions[fusion].settings["head"].to_string();
    assert_eq!(
        (head("exact").as_str(), head("paper").as_str()),
        ("rows", "joint")
    );
}

#[test]
fn the_language_of_the_design_is_understood() {
    // The program of the design page, without what comes later.
    let program = sound(compile_file("examples/paper/tables.jam", &[]));
    assert_eq!(program.fusions["jam_cross"].strategy, "cross");
    let parents: Vec<String> = program.fusions["jam_cross"]
        .parents
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(parents, ["llm", "cm3leon"]);
    assert_eq!(
        program.fusions["jam_cross"].settings["every"],
        SettingValue::Count(2)
    );
    let never = SettingValue::Word("never".to_owned());
    assert_eq!(program.fusions["jam_cross_never"].settings["every"], never);
    assert_eq!(program.trainings["align"].batch, BatchSize::Tokens(8 << 20));
    assert_eq!(program.trainings["align"].length, 4096);
    assert_eq!(program.decodings["answer"].image.guidance, 3.5);
}

#[test]
fn a_long_program_is_checked_fast() {
    let mut text =
        std::fs::read_to_string(repository().join("examples/drawing/drawing.jam")).unwrap();
    let mut copies = 0;
    while text.lines().count() < 300 {
        text.push_str(&format!(
            "
train more_{copies} = tune_cross {{
    steps    = {copies} + 10
    data     = mix(0.5 * articles, 0.5 * pairs)
    validate = [articles.val, pairs.val]
}}
"
        ));
        copies += 1;
    }
    sound(compile_text("long.jam", &text, &[("size", "full")]));
    let start = Instant::now();
    sound(compile_text("long.jam", &text, &[("size", "full")]));
    eprintln!("{} lines in {:?}", text.lines().count(), start.elapsed());
    // Printed for those who measure; a machine under load must not fail a test.
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn the_examples_keep_their_meaning_and_comments_when_formatted() {
    for path in [
        "examples/drawing/drawing.jam",
        "examples/emoji/emoji.jam",
        "examples/paper/tables.jam",
    ] {
        let text = std::fs::read_to_string(repository().join(path)).unwrap();
        let formatted = jam_dsl::format(FileId(0), &text).unwrap();
        assert_eq!(jam_dsl::format(FileId(0), &formatted).unwrap(), formatted);
        assert_eq!(
            text.matches("//").count(),
            formatted.matches("//").count(),
            "{path}"
        );
        let strip = |program: &Program| format!("{:?} {:?}", program.steps, program.settings);
        let before = sound(compile_text(path, &text, &[]));
        let after = sound(compile_text(path, &formatted, &[]));
        assert_eq!(strip(&before), strip(&after));
    }
}

#[test]
fn the_programs_of_the_language_page_compile() {
    let page = std::fs::read_to_string(repository().join("docs/language.md")).unwrap();
    let programs: Vec<&str> = page
        .split("```jam\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(programs.len() >= 4);
    for program in programs {
        sound(compile_text("language.jam", program, &[]));
        let formatted = jam_dsl::format(FileId(0), program).unwrap();
        sound(compile_text("language.jam", &formatted, &[]));
    }
}

#[test]
fn settings_differ_by_parent_layer_and_part() {
    let models = "model a { tokens = 8, width = 4, logits = unembed(embed(tokens)) }
        model b = a {}
        model c = a {}
    ";
    let fuse = "fuse m = ties(a, b, base: c, lambda: 50%,
        weight: [ramp(0.2, 0.5, 1), parts(mlp: 0.25, head: ramp(0, 1))])
    fuse n = passthrough(a, a, layers: [[0, 2], [1, 4]])";
    let program = sound(compile_text("merge.jam", &format!("{models}{fuse}"), &[]));
    let fusion = &program.fusions["m"];
    let parents: Vec<String> = fusion.parents.iter().map(ToString::to_string).collect();
    assert_eq!(parents, ["a", "b", "c"]);
    assert_eq!(fusion.parent_spans.len(), 3);
    let number = SettingValue::Number;
    assert_eq!(fusion.settings["base"], SettingValue::Parent(2));
    assert_eq!(fusion.settings["lambda"], number(0.5));
    let parts = vec![
        (Part::Mlp, number(0.25)),
        (Part::Head, SettingValue::Ramp(vec![0.0, 1.0])),
    ];
    assert_eq!(
        fusion.settings["weight"],
        SettingValue::List(vec![
            SettingValue::Ramp(vec![0.2, 0.5, 1.0]),
            SettingValue::Parts(parts, Box::new(number(1.0))),
        ])
    );
    assert_eq!(
        fusion.settings["weight"].to_string(),
        "[ramp(0.2, 0.5, 1), parts(mlp: 0.25, head: ramp(0, 1), rest: 1)]"
    );
    let runs = &program.fusions["n"].settings["layers"];
    assert_eq!(runs.to_string(), "[[0, 2], [1, 4]]");
}

/// The ids of Chameleon's folders: pictures and marks are tokens of the text tokenizer.
#[test]
fn pictures_and_marks_stand_among_the_ids_of_a_text_tokenizer() {
    let program = |image: &str| {
        let text = format!(
            "tokens inside {{\n    text = 100\n    image = vq(\"weights\", codes: 64, grid: 8, {image})\n    \
             marks = [bos, eos(2), break(99)]\n    pad_to = 8\n}}\n"
        );
        let program = sound(compile_text("inside.jam", &text, &[]));
        program.tokens["inside"].clone()
    };
    use jam_ir::TokenKind::{Filler, Image, Mark, Text};
    let kinds = |layout: &TokenLayout| -> Vec<_> {
        let ranges = layout.ranges.iter();
        ranges
            .map(|range| (range.kind, range.start, range.len))
            .collect()
    };
    // A mark of its own stands before them all.
    let layout = program("from: 4");
    let own = [
        (Mark, 0, 1),
        (Text, 1, 2),
        (Mark, 3, 1),
        (Text, 4, 1),
        (Image, 5, 64),
        (Text, 69, 31),
        (Mark, 100, 1),
        (Filler, 101, 3),
    ];
    assert_eq!(kinds(&layout), own);
    assert_eq!((layout.marks["eos"], layout.marks["break"]), (3, 100));
    assert_eq!((layout.first(Text), layout.first(Image)), (1, 5));
    let layout = program("from: 3");
    assert_eq!(kinds(&layout)[2..4], [(Mark, 3, 1), (Image, 4, 64)]);
}

/// As in OPT's files: one token begins and ends documents, and another is the first of all.
#[test]
fn a_token_may_be_several_marks_and_the_first_of_its_tokenizer() {
    let tokens = |rest: &str| {
        let text = format!("tokens t {{\n    text  = 10\n    {rest}\n}}\n");
        sound(compile_text("t.jam", &text, &[])).tokens["t"].clone()
    };
    use jam_ir::TokenKind::{Mark, Text};
    let layout = tokens("marks = [unk(0), bos(2), eos(2)]");
    let marks: Vec<_> = layout.marks.iter().collect();
    let marks: Vec<_> = marks
        .iter()
        .map(|(name, id)| (name.as_str(), **id))
        .collect();
    assert_eq!(marks, [("unk", 0), ("bos", 2), ("eos", 2)]);
    assert_eq!(layout.rows(Text), [(1, 2), (3, 10)]);
    assert_eq!((layout.first(Text), layout.room(Text)), (0, 10));
    assert_eq!(layout.begin, "eos");
    // A mark of its own before them does not belong to the tokenizer.
    let layout = tokens("marks = [pad, bos(0), eos(1)], begin = bos");
    assert_eq!(layout.rows(Mark), [(0, 1), (1, 2), (2, 3)]);
    assert_eq!((layout.first(Text), layout.room(Text)), (1, 10));
    assert_eq!(layout.begin, "bos");
}
