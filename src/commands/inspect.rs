//! `jamc inspect`: what every model costs, before a byte of weights is read.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use jam_ir::count::counts;
use jam_ir::origins::{cut, origins};
use jam_ir::plan_shape::plan_shape;
use jam_ir::{Model, Role, TokenKind};
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
    (view, rows): (View, bool),
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
    if rows {
        models.values().for_each(|model| show_rows(model, common));
        return Ok(());
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

/// Rows of a token table that come from one place.
#[derive(Serialize)]
struct RowsOf<'m> {
    model: &'m str,
    weight: &'m str,
    /// First id, and the one after the last.
    ids: [u64; 2],
    kind: &'static str,
    from: String,
}

/// Where every row of a model's tables of tokens comes from: a line, or an object, for each run.
fn show_rows(model: &Model, common: &Common) {
    for (name, param) in model.weight_uses() {
        let mut axes = param.ty.axes();
        let vocab = axes.position(|axis| model.axis(axis).role == Role::Vocab);
        let shape = model.weight_shape(&param.ty);
        let (Some(axis), Some(shape), Some(weight)) = (vocab, shape, model.weights.get(&name))
        else {
            continue;
        };
        let unknown = |_: &str, _: &str| None;
        let shaped = plan_shape(&weight.plan, &shape, &unknown).ok();
        let found = shaped.and_then(|shaped| origins(&shaped, axis));
        if !common.json {
            print(&format!("{} {name}\n", model.name));
        }
        for range in &model.tokens.ranges {
            let rows = match &found {
                Some(found) => cut(found, range.start, range.len),
                None => continue,
            };
            let mut start = range.start;
            for origin in rows {
                let rows = RowsOf {
                    model: &model.name,
                    weight: &name,
                    ids: [start, start + origin.len],
                    kind: kind_word(range.kind),
                    from: origin.to_string(),
                };
                let [first, end] = rows.ids;
                print(&match common.json {
                    true => serde_json::to_string(&rows).unwrap_or_default() + "\n",
                    false => {
                        let ids = format!("{first}..{end}");
                        format!("  {ids:>15}  {:8}  {}\n", rows.kind, rows.from)
                    }
                });
                start = end;
            }
        }
        if found.is_none() && !common.json {
            print("  of several places at once\n");
        }
    }
}

/// What ids of a kind are called.
fn kind_word(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Mark => "mark",
        TokenKind::Text => "text",
        TokenKind::Image => "image",
        TokenKind::Reserved => "reserved",
        TokenKind::Filler => "filler",
    }
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
