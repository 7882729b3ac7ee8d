//! Models against the headers of their checkpoints, before a byte of weights is read.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::path::Path;

use jam_data::tokens::image::ImageTokenizerPlace;
use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::headers::{FoundTensor, compare};
use jam_ir::{ImageTokens, Model, Program, Result, Span, TextTokens, TokenKind, TokenLayout};
use jam_weights::checkpoints::import::{ImportedConfig, read_headers};
use jam_weights::checkpoints::names::StoredNames;

use crate::program::Spelling;

/// Compares every model whose weights are there, and every vocabulary whose tokenizer is; absent ones
/// have a note of their own already.
pub(crate) fn check(
    program: &Program,
    folder: &Path,
    spelling: &Spelling,
    diagnostics: &mut Diagnostics,
) {
    let mut seen = BTreeSet::new();
    for recipe in program.models.values() {
        let tokens = &recipe.model.tokens;
        if let TextTokens::Files(name) = &tokens.text
            && folder.join(name).exists()
            && seen.insert((tokens.name.clone(), name.clone()))
        {
            check_tokenizer(tokens, name, spelling, recipe.span, diagnostics);
        }
        if let ImageTokens::Files(name) = &tokens.image
            && folder.join(name).exists()
            && seen.insert((tokens.name.clone(), format!("pictures {name}")))
        {
            check_pictures(tokens, name, &folder.join(name), recipe.span, diagnostics);
        }
        let Some(weights) = &recipe.weights else {
            continue;
        };
        let path = folder.join(weights);
        if path.exists() {
            check_model(&recipe.model, weights, &path, recipe.span, diagnostics);
        }
    }
}

/// Compares the image tokens of a vocabulary with the tokenizer that makes them.
fn check_pictures(
    tokens: &TokenLayout,
    name: &str,
    path: &Path,
    span: Option<Span>,
    diagnostics: &mut Diagnostics,
) {
    let span = span.unwrap_or_default();
    let (codes, grid) = match ImageTokenizerPlace::of(path).sizes() {
        Ok((codes, grid)) => (codes as u64, grid as u64),
        Err(error) => {
            let message = format!("the image tokenizer `{name}` cannot be opened: {error}");
            diagnostics.push(Diagnostic::error(span, message));
            return;
        }
    };
    let room = tokens.room(TokenKind::Image);
    if codes > room || grid != tokens.grid {
        let message = format!(
            "the image tokenizer `{name}` has {codes} codes and a grid of {grid}; `{}` has {room} ids for \
             pictures and a grid of {}",
            tokens.name, tokens.grid
        );
        diagnostics.push(
            Diagnostic::error(span, message)
                .code("misfit-vocabulary")
                .help(format!("give it `codes: {codes}, grid: {grid}`")),
        );
    }
}

/// A vocabulary must have an id for every token.
fn check_tokenizer(
    tokens: &TokenLayout,
    name: &str,
    spelling: &Spelling,
    span: Option<Span>,
    diagnostics: &mut Diagnostics,
) {
    let span = span.unwrap_or_default();
    let room = tokens.room(TokenKind::Text);
    match spelling.open(&tokens.text) {
        Ok(tokenizer) if tokenizer.size() > room => {
            let size = tokenizer.size();
            let message = format!(
                "the tokenizer `{name}` has {size} tokens, and `{}` has {room} ids for text",
                tokens.name
            );
            let help = "the table of the weights has no rows for the rest: name the tokenizer that the \
                        checkpoint was trained with, or, where the ids beyond are never used, take them out of its \
                        `added_tokens`; without a tokenizer beside it a checkpoint has bare ids";
            let report = Diagnostic::error(span, message).code("misfit-vocabulary");
            diagnostics.push(report.help(help));
        }
        Ok(_) => {}
        Err(error) => {
            let message = format!("the tokenizer `{name}` cannot be opened: {error}");
            diagnostics.push(Diagnostic::error(span, message));
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
    match of_checkpoint(model, name, path, span) {
        Ok(reports) => {
            for report in reports.iter() {
                diagnostics.push(report.clone());
            }
        }
        Err(error) => {
            let message = format!("the weights of `{}` cannot be opened: {error}", model.name);
            diagnostics.push(Diagnostic::error(span.unwrap_or_default(), message));
        }
    }
}

/// What a model asks for against what a checkpoint has, which a program calls `name`.
///
/// # Errors
/// When the headers cannot be read.
pub(crate) fn of_checkpoint(
    model: &Model,
    name: &str,
    path: &Path,
    span: Option<Span>,
) -> Result<Diagnostics> {
    let uses = model.weight_uses();
    let found = read_headers(path, &|name| uses.contains_key(name))?;
    let names = LazyCell::new(|| stored_names(path, &found.tensors));
    let stored_name = |weight: &str| names.as_ref()?.name(weight);
    Ok(compare(model, name, span, &found, &stored_name))
}

/// What a checkpoint calls weights, where that is not what JAM calls them.
fn stored_names(path: &Path, tensors: &[FoundTensor]) -> Option<StoredNames> {
    if tensors.iter().all(|tensor| tensor.name == tensor.stored) {
        return None;
    }
    let config = ImportedConfig::read(path).ok()?;
    let stored: Vec<&str> = tensors
        .iter()
        .map(|tensor| tensor.stored.as_str())
        .collect();
    StoredNames::of(&config.model_type, &stored).ok()
}
