//! `jamc inspect`: what every model costs, before a byte of weights is read.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use jam_ir::Model;
use jam_ir::count::{Counts, counts};
use jam_runtime::folders::ModelFolder;
use serde::Serialize;

use super::known;
use crate::cli::{Common, View};
use crate::console::{Console, print};
use crate::failure::Failure;
use crate::program;

/// What `--json` prints.
#[derive(Serialize)]
struct Inspection {
    models: Vec<Inspected>,
}

/// One model; the counts stand beside its name.
#[derive(Serialize)]
struct Inspected {
    name: String,
    #[serde(flatten)]
    counts: Counts,
}

pub(crate) fn run(
    file: &Path,
    name: Option<&str>,
    view: View,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let mut models = open(file, common, console)?;
    if let Some(name) = name {
        let model = Arc::clone(known(&models, "model", name)?);
        models = IndexMap::from([(name.to_owned(), model)]);
    }
    match view {
        View::Ir => models
            .values()
            .for_each(|model| print(&jam_ir::text::print(model))),
        View::Dot => models
            .values()
            .for_each(|model| print(&jam_ir::dot::dot(model))),
        View::Counts => show_counts(&models, common)?,
    }
    Ok(())
}

/// The models of a program that are not a training's (which has its model's counts), or the one
/// of a model folder.
fn open(
    file: &Path,
    common: &Common,
    console: &Console,
) -> Result<IndexMap<String, Arc<Model>>, Failure> {
    if file.is_dir() {
        let folder = ModelFolder::open(file)?;
        return Ok(IndexMap::from([(
            folder.model.name.clone(),
            Arc::new(folder.model),
        )]));
    }
    let loaded = program::load(file, common, console)?;
    let trainings = &loaded.program.trainings;
    let models = loaded
        .models
        .into_iter()
        .filter(|(name, _)| !trainings.contains_key(name));
    Ok(models.collect())
}

fn show_counts(models: &IndexMap<String, Arc<Model>>, common: &Common) -> Result<(), Failure> {
    let mut inspected = Vec::new();
    for (name, model) in models {
        let counts = counts(model)
            .map_err(|why| Failure::new(format!("`{name}` cannot be counted: {why}")))?;
        inspected.push(Inspected {
            name: name.clone(),
            counts,
        });
    }
    let inspection = Inspection { models: inspected };
    if common.json {
        let json = serde_json::to_string_pretty(&inspection);
        print(&json.map_err(|error| Failure::new(error.to_string()))?);
        print("\n");
        return Ok(());
    }
    for Inspected { name, counts } in &inspection.models {
        print(&format!("{name}\n{counts}\n"));
    }
    Ok(())
}
