//! A model that stands alone: a JAM folder, or a Hugging Face folder of a known architecture.

use std::path::Path;

use jam_dsl::CompileOptions;
use jam_ir::Model;
use jam_ir::diagnostic::Severity;
use jam_runtime::folders::ModelFolder;
use jam_weights::checkpoints::WeightSource;
use jam_weights::checkpoints::import::{ImportedConfig, open_weights};

use crate::console::Console;
use crate::failure::Failure;
use crate::program::Files;
use crate::vocabulary;

/// Opens a folder: its graph, and its weights by JAM names.
pub(crate) fn open(folder: &Path) -> Result<(Model, Box<dyn WeightSource>), Failure> {
    if folder.join("model.ron").is_file() {
        let ModelFolder { model, weights, .. } = ModelFolder::open(folder)?;
        return Ok((model, Box::new(weights)));
    }
    let config = ImportedConfig::read(folder)?;
    Ok((of_config(&config, folder)?, open_weights(folder)?))
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
        strategies: &[],
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
