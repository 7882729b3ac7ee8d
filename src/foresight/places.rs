//! Results and what is read: a fusion is never written over its parents, wherever links lead.

use std::path::PathBuf;

use jam_data::sources::matching_files;
use jam_ir::diagnostic::{Diagnostic, Diagnostics, Severity};
use jam_ir::recipe::DataSource;
use jam_ir::{ImageTokens, Span, TextTokens, TokenLayout};
use jam_runtime::steps::result_folder;

use super::written::written;
use crate::output::{overlap, resolved};
use crate::program::Loaded;

/// A place that the program reads from.
struct Input {
    what: String,
    place: PathBuf,
    span: Option<Span>,
}

/// Refuses results whose folder is one that is read, lies in one or has one in it.
pub(super) fn check(loaded: &Loaded, diagnostics: &mut Diagnostics) {
    let inputs = inputs(loaded);
    if inputs.is_empty() {
        return;
    }
    for step in &loaded.program.steps {
        let folder = result_folder(&loaded.out, step);
        let result = resolved(&folder);
        let Some(input) = inputs.iter().find(|input| overlap(&input.place, &result)) else {
            continue;
        };
        let (step, step_span) = written(&loaded.program, step);
        let message = format!(
            "`{step}` would be written to {}, over {}, which the program reads",
            folder.display(),
            input.what
        );
        let report = match input.span.or(step_span) {
            Some(span) => Diagnostic::error(span, message),
            None => Diagnostic::placeless(Severity::Error, message),
        };
        let labels = [(input.span, "read here"), (step_span, "made here")];
        let report = labels
            .into_iter()
            .filter_map(|(span, text)| Some((span?, text)))
            .fold(report, |report, (span, text)| report.label(span, text));
        diagnostics.push(
            report
                .code("overwrites")
                .help("give another folder of results with `--out DIR`, or another name"),
        );
    }
}

/// Everything that is there and read: weights, tokenizers, files of data.
fn inputs(loaded: &Loaded) -> Vec<Input> {
    let program = &loaded.program;
    let mut inputs: Vec<Input> = Vec::new();
    let mut add = |what: String, path: &str, span| {
        inputs.push(Input {
            what,
            place: resolved(&loaded.folder.join(path)),
            span,
        });
    };
    for (name, recipe) in &program.models {
        if let Some(weights) = &recipe.weights {
            add(format!("the weights of `{name}`"), weights, recipe.span);
        }
        for path in tokenizers(&recipe.model.tokens) {
            add(format!("the tokenizer `{path}`"), path, recipe.span);
        }
    }
    for layout in program.tokens.values() {
        for path in tokenizers(layout) {
            add(format!("the tokenizer `{path}`"), path, None);
        }
    }
    for (name, recipe) in &program.data {
        for source in recipe.splits.values() {
            let DataSource::Files(patterns) = source else {
                continue;
            };
            // What is not there is noted elsewhere, and nothing can be written over it.
            for file in matching_files(&loaded.folder, patterns).unwrap_or_default() {
                inputs.push(Input {
                    what: format!("the data `{name}`"),
                    place: resolved(&file),
                    span: recipe.span,
                });
            }
        }
    }
    inputs
}

/// Paths of the tokenizers of a vocabulary.
fn tokenizers(layout: &TokenLayout) -> Vec<&str> {
    let text: Vec<&str> = match &layout.text {
        TextTokens::Files(path) => vec![path],
        TextTokens::Joint(paths) => paths.iter().map(String::as_str).collect(),
        TextTokens::Tokenizer(_) | TextTokens::Ids => Vec::new(),
    };
    let image = match &layout.image {
        ImageTokens::Files(path) => Some(path.as_str()),
        ImageTokens::Tokenizer(_) | ImageTokens::Ids => None,
    };
    text.into_iter().chain(image).collect()
}
