//! `jamc inspect`: what every model costs, before a byte of weights is read.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use jam_ir::Model;
use jam_ir::count::counts;
use jam_runtime::folders::ModelFolder;
use serde::Serialize;

use super::known;
use crate::cli::{Common, PassArgs, View};
use crate::console::{Console, print, print_json};
use crate::failure::Failure;
use crate::program;

/// What `--json` prints.
#[derive(Serialize)]
struct Inspection<T> {
    models: Vec<Inspected<T>>,
}

/// One model; what is told of it stands beside its name.
#[derive(Serialize)]
struct Inspected<T> {
    name: String,
    #[serde(flatten)]
    told: T,
}

/// A graph as text of some language.
#[derive(Serialize)]
struct Graph {
    graph: String,
}

pub(crate) fn run(
    file: &Path,
    name: Option<&str>,
    view: View,
    passes: &PassArgs,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    passes.check(common)?;
    let mut models = open(file, common, console)?;
    if let Some(name) = name {
        let model = Arc::clone(known(&models, "model", name)?);
        models = IndexMap::from([(name.to_owned(), model)]);
    }
    if passes.asked() {
        for model in models.values_mut() {
            passes.run(model, common, console)?;
        }
    }
    let draw: fn(&Model) -> String = match view {
        View::Ir => jam_ir::text::print,
        View::Dot => jam_ir::dot::dot,
        View::Svg => jam_ir::svg::svg,
        View::Counts => return show_counts(&models, common),
    };
    if view == View::Svg && models.len() > 1 && !common.json {
        let names: Vec<_> = models.keys().map(|name| format!("`{name}`")).collect();
        let message = format!(
            "a drawing shows one model; name one of {}",
            names.join(", ")
        );
        return Err(Failure::usage(message));
    }
    if common.json {
        let models = models.iter().map(|(name, model)| Inspected {
            name: name.clone(),
            told: Graph { graph: draw(model) },
        });
        let models = models.collect();
        return print_json(&Inspection { models });
    }
    models.values().for_each(|model| print(&draw(model)));
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
            told: counts,
        });
    }
    if common.json {
        return print_json(&Inspection { models: inspected });
    }
    for Inspected { name, told } in &inspected {
        print(&format!("{name}\n{told}\n"));
    }
    Ok(())
}
