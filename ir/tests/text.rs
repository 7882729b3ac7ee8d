//! What is printed parses back, and what is not of the form is answered with its place.

use std::collections::BTreeSet;

use proptest::prelude::*;

use jam_ir::plan_shape::{plan_shape, plan_word};
use jam_ir::text::{parse, print, print_plan};
use jam_ir::verify::verify;
use jam_ir::{Model, Plan, TokenLayout};
use jam_ir_testing::generate;
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

fn opt() -> Model {
    let mut config = DecoderConfig::opt(TokenLayout::bare(20), 16, 8, 2, 2, 12);
    config.source = Some("llm".to_owned());
    decoder_only(&config)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Text and RON give back the same model, names, ids, spans and plans included.
    #[test]
    fn generated_models_come_back_from_text_and_ron(
        bytes in proptest::collection::vec(any::<u8>(), 0..1500)
    ) {
        let model = generate::model(&bytes).model;
        prop_assert_eq!(verify(&model), Ok(()));
        let text = print(&model);
        match parse(&text) {
            Ok(parsed) => prop_assert_eq!(&parsed, &model, "{}", text),
            Err(error) => prop_assert!(false, "{error}\n{text}"),
        }
        let ron = ron::to_string(&model).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let back: Model = ron::from_str(&ron).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(back, model);
    }

    /// A text with a piece cut out, doubled or overwritten is parsed or refused, never a panic.
    #[test]
    fn damaged_texts_are_answered(
        seed in 0u64..40,
        cut in any::<prop::sample::Index>(),
        len in 0usize..40,
        put in "[a-z{}()\\[\\]:,=@*%0-9\"\\\\ .>-]{0,8}",
    ) {
        let text = print(&generate::seeded(seed).model);
        let mut chars: Vec<char> = text.chars().collect();
        let at = cut.index(chars.len());
        let end = (at + len).min(chars.len());
        chars.splice(at..end, put.chars());
        let damaged: String = chars.into_iter().collect();
        match parse(&damaged) {
            // Whatever parses can be printed and verified.
            Ok(model) => {
                print(&model);
                let _ = verify(&model);
            }
            Err(error) => prop_assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty()),
        }
    }
}

#[test]
fn generated_models_have_everything_and_known_shapes() {
    let mut ops = BTreeSet::new();
    let mut plans = BTreeSet::new();
    for seed in 0..500 {
        let generated = generate::seeded(seed);
        let model = &generated.model;
        verify(model).unwrap_or_else(|problems| panic!("{problems:#?}\n{}", print(model)));
        for block in model.blocks.values().chain([&model.main]) {
            ops.extend(block.body.iter().map(|statement| statement.op.word()));
        }
        let lookup = |source: &str, name: &str| {
            let key = (source.to_owned(), name.to_owned());
            generated.sources.get(&key).cloned()
        };
        for (name, param) in model.weight_uses() {
            let plan = &model.weights[&name].plan;
            plan.for_each(&mut |plan: &Plan| {
                plans.insert(plan_word(plan));
            });
            let shape = model.weight_shape(&param.ty).unwrap();
            let shaped = plan_shape(plan, &shape, &lookup).unwrap();
            assert!(shaped.is_known(), "{}", print_plan(plan, None));
        }
    }
    assert_eq!(ops.len(), 21, "{ops:?}");
    assert_eq!(plans.len(), 21, "{plans:?}");
}

#[test]
fn the_form_is_the_one_that_is_drawn() {
    let text = print(&opt());
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "model opt {",
        "  context = 16",
        "  axis b: batch",
        "  axis width = 8",
        "  axis head: heads = 2",
        "  block decoder(x: f32[b, t, width]) -> f32[b, t, width] {",
        "    param attn.q: f32[width -> head, key] = truncated_normal(0.02, 3.0)",
        "    norm1: f32[b, t, width] = layer_norm x, norm1.gain, norm1.bias {eps = 1e-5}",
        "    q: f32[b, t, head, key] = linear norm1, attn.q, attn.q_bias",
        "    attended: f32[b, t, head, key] = attention q, k, v {mask = causal, scale = 0.5}",
        "    return x2",
        "  main(tokens: u32[b, t]) -> f32[b, t, vocab] {",
        "    positions: f32[b, t, width] = positions tokens, positions.table {offset = 2}",
        "    x1: f32[b, t, width] = call decoder(x) at layers.0",
        "    layers.1.mlp.down = load(llm)",
    ] {
        assert!(lines.contains(&line), "{line:?} is not in\n{text}");
    }
    assert_eq!(parse(&text), Ok(opt()));
}

#[test]
fn comments_and_line_breaks_mean_nothing() {
    let text = print(&opt());
    let one_line = text.replace('\n', " ");
    assert_eq!(parse(&one_line), Ok(opt()));
    let commented = text.replace('\n', " // a comment } {\r\n\n\t");
    assert_eq!(parse(&commented), Ok(opt()));
}

#[test]
fn hostile_texts_are_refused_cheaply() {
    let deep = format!(
        "{}{}",
        print(&opt()).split_once("weights {").unwrap().0,
        format_args!("weights {{ a = {}", "scale(1.0, ".repeat(100_000))
    );
    let error = parse(&deep).unwrap_err();
    assert!(error.message.contains("nested deeper than 64"), "{error}");
    let long = format!("model {}", "x".repeat(5_000_000));
    assert!(parse(&long).unwrap_err().message.len() < 200);
    let error = parse(&"[".repeat(1_000_000)).unwrap_err();
    assert_eq!(error.to_string(), "1:1: expected `model`, found `[`");
}

#[test]
fn a_broken_model_is_printed_all_the_same() {
    let mut model = opt();
    model.main.result = jam_ir::ValueId(999);
    let block = &mut model.blocks["decoder"];
    block.body[0].result = jam_ir::ValueId(777);
    block.values[3].ty.axes.push(jam_ir::AxisId(55));
    block.params.truncate(2);
    let text = print(&model);
    for mark in ["-> ? {", "?%777: ?", "?55", "?%7"] {
        assert!(text.contains(mark), "{mark} is not in\n{text}");
    }
}
