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
use crate::program::{self, Purpose};

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

/// What of the models is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) view: View,
    /// Where the rows of token tables come from, instead.
    pub(crate) rows: bool,
}

pub(crate) fn run(
    file: &Path,
    name: Option<&str>,
    Shown { view, rows }: Shown,
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
        return show_rows(&models, common);
    }
    let draw: fn(&Model) -> String = match view {
        View::Ir => jam_ir::text::print,
        View::Dot => crate::drawings::dot,
        View::Svg => crate::drawings::svg,
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
    models.values().try_for_each(|model| print(&draw(model)))
}

/// The models of a program that are not a training's (which has its model's counts), or the one
/// of a model folder.
fn open(
    file: &Path,
    common: &Common,
    console: &Console,
) -> Result<IndexMap<String, Arc<Model>>, Failure> {
    if file.is_dir() {
        common.refuse_program_flags(file, None)?;
        let folder = ModelFolder::open(file)?;
        return Ok(IndexMap::from([(
            folder.model.name.clone(),
            Arc::new(folder.model),
        )]));
    }
    let loaded = program::load(file, Purpose::Look, common, console)?;
    let trainings = &loaded.program.trainings;
    let models = loaded
        .models
        .into_iter()
        .filter(|(name, _)| !trainings.contains_key(name));
    Ok(models.collect())
}

/// Rows of a token table that come from one place.
#[derive(Serialize)]
struct RowsOf {
    weight: String,
    /// First id, and the one after the last.
    ids: [u64; 2],
    kind: &'static str,
    /// Where they come from; none where that is several places at once.
    from: Option<String>,
}

/// The tables of a model.
#[derive(Serialize)]
struct Tables {
    rows: Vec<RowsOf>,
}

/// Where every row of the models' tables of tokens comes from, by runs.
fn show_rows(models: &IndexMap<String, Arc<Model>>, common: &Common) -> Result<(), Failure> {
    if common.json {
        let models = models.iter().map(|(name, model)| Inspected {
            name: name.clone(),
            told: Tables {
                rows: rows_of(model),
            },
        });
        let models = models.collect();
        return print_json(&Inspection { models });
    }
    for (name, model) in models {
        let mut weight = String::new();
        for rows in rows_of(model) {
            if rows.weight != weight {
                print(&format!("{name} {}\n", rows.weight))?;
                weight.clone_from(&rows.weight);
            }
            let ids = format!("{}..{}", rows.ids[0], rows.ids[1]);
            let from = rows.from.as_deref().unwrap_or("several places at once");
            print(&format!("  {ids:>15}  {:8}  {from}\n", rows.kind))?;
        }
    }
    Ok(())
}

fn rows_of(model: &Model) -> Vec<RowsOf> {
    let mut all = Vec::new();
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
        for range in &model.tokens.ranges {
            let mut add = |ids, from| {
                let (weight, kind) = (name.clone(), kind_word(range.kind));
                all.push(RowsOf {
                    weight,
                    ids,
                    kind,
                    from,
                });
            };
            let Some(found) = &found else {
                add([range.start, range.start + range.len], None);
                continue;
            };
            let mut start = range.start;
            for origin in cut(found, range.start, range.len) {
                let end = start + origin.len;
                add([start, end], Some(origin.to_string()));
                start = end;
            }
        }
    }
    all
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
        print(&format!("{name}\n{told}\n"))?;
    }
    Ok(())
}
