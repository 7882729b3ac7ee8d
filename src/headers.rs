//! Models against the headers of their checkpoints, before a byte of weights is read.

use std::path::Path;

use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::headers::{FoundTensor, compare};
use jam_ir::{Model, Program, Span};
use jam_runtime::checkpoints::import::open_weights;

/// Compares every model whose weights are there; absent ones have a note of their own already.
pub(crate) fn check(program: &Program, folder: &Path, diagnostics: &mut Diagnostics) {
    for recipe in program.models.values() {
        let Some(weights) = &recipe.weights else {
            continue;
        };
        let path = folder.join(weights);
        if path.exists() {
            check_model(&recipe.model, weights, &path, recipe.span, diagnostics);
        }
    }
}

fn check_model(
    model: &Model,
    name: &str,
    path: &Path,
    span: Option<Span>,
    diagnostics: &mut Diagnostics,
) {
    let source = match open_weights(path) {
        Ok(source) => source,
        Err(error) => {
            let message = format!("the weights of `{}` cannot be opened: {error}", model.name);
            diagnostics.push(Diagnostic::error(span.unwrap_or_default(), message));
            return;
        }
    };
    let uses = model.weight_uses();
    let found = source.names().into_iter().filter_map(|weight| {
        let shape = source.shape(&weight)?;
        // Sources give f32 whatever they store, so an element type is no reason for a report.
        let dtype = uses
            .get(&weight)
            .map_or("f32", |param| param.ty.dtype.word());
        Some(FoundTensor {
            stored: weight.clone(),
            name: weight,
            shape,
            dtype: dtype.to_owned(),
        })
    });
    for report in compare(model, name, span, found).iter() {
        diagnostics.push(report.clone());
    }
}
