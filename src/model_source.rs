//! A model that stands alone: a JAM folder, or a Hugging Face folder of a known architecture.

use std::path::Path;

use jam_dsl::CompileOptions;
use jam_ir::diagnostic::{Diagnostic, Severity};
use jam_ir::headers::WRAPPED;
use jam_ir::{Error, Model};
use jam_runtime::folders::{ModelFolder, is_model_folder};
use jam_weights::checkpoints::import::{ImportedConfig, open_weights_of};
use jam_weights::checkpoints::{Numbers, WeightSource};

use crate::console::Console;
use crate::failure::Failure;
use crate::headers;
use crate::program::Files;
use crate::vocabulary;
use crate::words::words;

/// The model of JAM in a folder; none where it has a checkpoint of others.
pub(crate) fn own(folder: &Path) -> Result<Option<ModelFolder>, Failure> {
    match is_model_folder(folder) {
        true => Ok(Some(ModelFolder::open(folder)?)),
        false => Ok(None),
    }
}

/// Opens a folder: its graph, and its weights by JAM names.
pub(crate) fn open(
    folder: &Path,
    numbers: Numbers,
    console: &Console,
) -> Result<(Model, Box<dyn WeightSource>), Failure> {
    if let Some(ModelFolder { model, weights, .. }) = own(folder)? {
        return Ok((model, numbers.of(Box::new(weights))));
    }
    let config = ImportedConfig::read(folder)?;
    let model = of_config(&config, folder)?;
    let weights = weights_of(&model, folder, numbers, console)?;
    Ok((model, weights))
}

/// The weights of a checkpoint of others for a model, when it has what the model asks for and nothing that the
/// model does not read.
pub(crate) fn weights_of(
    model: &Model,
    checkpoint: &Path,
    numbers: Numbers,
    console: &Console,
) -> Result<Box<dyn WeightSource>, Failure> {
    let name = checkpoint.display().to_string();
    let reports = headers::of_checkpoint(model, &name, checkpoint, None)?;
    let wrong: Vec<&Diagnostic> = reports.iter().filter(|report| report.is_error()).collect();
    if let Some(first) = wrong.first() {
        let more = match wrong.len() - 1 {
            0 => String::new(),
            more => format!("; {more} more like this: `jamc import` tells all"),
        };
        let error = Error::new(format!("{}{more}", first.message)).with_path(checkpoint);
        return Err(Failure::Input(error.with_help(
            "what a checkpoint has and its model does not read would be lost: its `config.json` may be another's",
        )));
    }
    let wrapped = |report: &&Diagnostic| report.code.as_deref() == Some(WRAPPED);
    for note in reports.iter().filter(wrapped) {
        console.remark(&note.message);
    }
    Ok(open_weights_of(checkpoint, numbers)?)
}

/// The configuration of a checkpoint of others with what its tokenizers say of its ids, and its graph.
pub(crate) fn with_vocabulary(
    checkpoint: &Path,
    console: &Console,
) -> Result<(ImportedConfig, Model), Failure> {
    let mut config = ImportedConfig::read(checkpoint)?;
    let named = |path: &Path| Ok(path.display().to_string());
    vocabulary::complete(&mut config, checkpoint, &named, console)?;
    let model = of_config(&config, checkpoint)?;
    Ok((config, model))
}

/// The graph of a configuration, whose weights are in `folder`.
pub(crate) fn of_config(config: &ImportedConfig, folder: &Path) -> Result<Model, Failure> {
    let name = "model";
    let source = config.jam_source(name, &folder.display().to_string());
    let options = CompileOptions {
        words: words(),
        set: &[],
        seed: None,
    };
    let compiled = jam_dsl::compile("config.json", &source, &Files, &options);
    let errors: Vec<_> = compiled
        .diagnostics
        .iter()
        .filter(|found| found.severity == Severity::Error)
        .collect();
    if let Some(first) = errors.first() {
        let message = format!(
            "{}: its configuration gives no model: {}",
            folder.display(),
            first.message
        );
        return Err(Failure::new(message));
    }
    let recipe = compiled
        .program
        .and_then(|mut program| program.models.swap_remove(name));
    let recipe = recipe.ok_or_else(|| {
        Failure::new(format!(
            "{}: its configuration gives no model",
            folder.display()
        ))
    })?;
    Ok(recipe.model)
}
