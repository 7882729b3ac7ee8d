//! The headers of a checkpoint against what a model asks for.

use indexmap::IndexMap;
use jam_ir::diagnostic::{Diagnostic, Severity};
use jam_ir::headers::{FoundTensor, Headers, compare};
use jam_ir::span::FileId;
use jam_ir::{Model, Span, TokenLayout};
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

fn model() -> Model {
    let mut model = decoder_only(&DecoderConfig::opt(TokenLayout::bare(20), 16, 8, 3, 2, 12));
    let block = &mut model.blocks["decoder"];
    for (index, param) in block.params.iter_mut().enumerate() {
        param.span = Some(place(index as u32));
    }
    model
}

fn place(start: u32) -> Span {
    Span::new(FileId(0), start, start + 1)
}

/// Exactly what the model asks for.
fn whole(model: &Model) -> Vec<FoundTensor> {
    let uses = model.weight_uses().into_iter();
    uses.map(|(name, param)| FoundTensor {
        stored: name.clone(),
        name,
        shape: model.weight_shape(&param.ty).unwrap(),
        dtype: "F32".to_owned(),
    })
    .collect()
}

fn messages(model: &Model, found: Vec<FoundTensor>) -> Vec<Diagnostic> {
    let at = Some(place(100));
    let found = Headers {
        tensors: found,
        ..Headers::default()
    };
    compare(model, "weights/llm", at, &found, &|_| None)
        .into_iter()
        .collect()
}

#[test]
fn what_fits_says_nothing_folded_or_not() {
    let model = model();
    let mut found = whole(&model);
    assert_eq!(messages(&model, found.clone()), []);
    for tensor in &mut found {
        match tensor.name.rsplit_once("attn.") {
            Some((_, "q" | "out")) => tensor.shape = vec![8, 8],
            Some((_, "q_bias")) => tensor.shape = vec![8],
            _ => {}
        }
    }
    assert_eq!(messages(&model, found), []);
}

#[test]
fn missing_and_surplus_tensors_are_grouped_and_explain_one_another() {
    let model = model();
    let mut found = whole(&model);
    for tensor in &mut found {
        if tensor.name.ends_with("mlp.up") {
            tensor.name = tensor.name.replace("mlp.up", "mlp.upp");
        }
    }
    found.retain(|tensor| tensor.name != "positions.table");
    let reports = messages(&model, found);
    assert_eq!(reports.len(), 3, "{reports:#?}");
    assert_eq!(reports[0].message, "`weights/llm` has no `positions.table`");
    assert_eq!(reports[0].span(), Some(place(100)));
    assert_eq!(
        reports[1].message,
        "`weights/llm` has no `layers.0.mlp.up`, and 2 more like it"
    );
    assert_eq!(
        reports[1].notes,
        ["it has `layers.0.mlp.upp`: was that meant?"]
    );
    assert_ne!(reports[1].span(), Some(place(100)));
    assert_eq!(reports[1].labels[1].span, place(100));
    assert_eq!(
        reports[2].message,
        "`weights/llm` has `layers.0.mlp.upp` (stored as `layers.0.mlp.up`), and 2 more like \
         it, which the model does not ask for"
    );
    assert_eq!(reports[2].notes, ["the model asks for `layers.0.mlp.up`"]);
    assert!(reports.iter().all(Diagnostic::is_error));
}

#[test]
fn a_division_that_tensors_cannot_show_and_a_wrapper_are_told() {
    let model = model();
    let found = Headers {
        tensors: whole(&model),
        shapes: IndexMap::from([("layers.0.attn.q".to_owned(), vec![8, 4, 2])]),
        wrapper: Some("module.".to_owned()),
    };
    let reports: Vec<Diagnostic> = compare(&model, "w", None, &found, &|_| None)
        .into_iter()
        .collect();
    let [misfit, wrapper] = &reports[..] else {
        panic!("{reports:#?}");
    };
    assert!(misfit.message.contains("by the configuration of `w`"));
    assert!(wrapper.message.contains("`module.`") && !wrapper.is_error());
}

#[test]
fn shapes_types_and_doubles() {
    let model = model();
    let mut found = whole(&model);
    for tensor in &mut found {
        match tensor.name.as_str() {
            "embed.table" => tensor.dtype = "I64".to_owned(),
            "layers.1.mlp.up" | "layers.2.mlp.up" => tensor.shape = vec![8, 13],
            name if name.ends_with("bias") => tensor.dtype = "BF16".to_owned(),
            _ => {}
        }
    }
    found.push(found[1].clone());
    let reports = messages(&model, found);
    let texts: Vec<&str> = reports.iter().map(|r| r.message.as_str()).collect();
    assert_eq!(
        texts,
        [
            "25 tensors of `weights/llm` are bf16, the model's are f32; they are converted",
            "`embed.table` is of type I64 in `weights/llm`, where a weight is f32, f16 or bf16",
            "`layers.1.mlp.up` is [8, 13] in `weights/llm`, but the model asks for \
             [width -> hidden], which is [8, 12], and 1 more like it",
            "`weights/llm` has `positions.table` twice",
        ]
    );
    assert_eq!(reports[0].severity, Severity::Note);
}
