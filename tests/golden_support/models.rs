//! Models of cases: a parent as a command opens a Hugging Face folder, and a fusion of parents as
//! a program asks for one, its weights computed from theirs.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use indexmap::IndexMap;
use jam_backends::{Device, Executable};
use jam_dsl::{CompileOptions, World, compile};
use jam_fusion_passes::{Fused, Parent, fuse, signatures};
use jam_ir::{DType, Model, TokenKind, TokenLayout, verify};
use jam_weights::checkpoints::import::{CONFIG_FILE, ImportedConfig, open_weights};
use jam_weights::checkpoints::names::NameTable;
use jam_weights::checkpoints::{CheckpointReader, WeightSource};
use jam_weights::plans::PlanRows;
use serde_json::Value;

use super::case::{Case, Checked, Findings, Stop, Tolerance, told};
use super::names::{Places, of_architecture, of_towers, read};
use super::runs::{Subject, options};

/// Names that the parents of a fusion have, in order; weights of two-tower cases are named so.
const PARENTS: [&str; 2] = ["llm", "img"];

/// A model of a Hugging Face folder.
pub(crate) struct Opened {
    config: ImportedConfig,
    /// Its graph.
    pub(crate) model: Model,
    /// Its weights, by JAM names.
    pub(crate) weights: Box<dyn WeightSource>,
}

/// Nothing lies outside of the programs of this test.
pub(crate) struct Nothing;

impl World for Nothing {
    fn read(&self, path: &str) -> Result<String, String> {
        Err(format!("`{path}` is not there"))
    }

    fn exists(&self, _: &str) -> bool {
        true
    }
}

/// A `config.json` of an architecture that there is a table of; others leave the case out.
pub(crate) fn config(folder: &Path) -> Checked<ImportedConfig> {
    let json = json(&folder.join(CONFIG_FILE))?;
    let kind = json["model_type"].as_str().unwrap_or("");
    if NameTable::of(kind).is_err() {
        let reason = format!("models of the type `{kind}` are not known");
        return Err(Stop::LeftOut(reason));
    }
    Ok(ImportedConfig::read(folder)?)
}

fn json(path: &Path) -> Checked<Value> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let json = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(json)
}

/// Opens a folder as `name`, by way of the language.
pub(crate) fn open(folder: &Path, name: &str) -> Checked<Opened> {
    let config = config(folder)?;
    let text = config.jam_source(name, "weights");
    let path = format!("{name}.jam");
    let compiled = compile(&path, &text, &Nothing, &CompileOptions::default());
    if compiled.diagnostics.has_errors() {
        let report = jam_dsl::report::render_all(&compiled.diagnostics, &compiled.sources, false);
        return Err(Stop::Wrong(report));
    }
    let models = compiled
        .program
        .map(|program| program.models)
        .unwrap_or_default();
    let recipe = models.get(name).cloned();
    let model = recipe
        .ok_or_else(|| format!("{path} defines no model"))?
        .model;
    if let Err(problems) = verify(&model) {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(Stop::Wrong(problems.join("; ")));
    }
    Ok(Opened {
        weights: open_weights(folder)?,
        config,
        model,
    })
}

/// All numbers of a weight.
fn whole(weights: &dyn WeightSource, name: &str) -> Checked<Vec<f32>> {
    let shape = weights.shape(name);
    let rows = shape.and_then(|shape| shape.first().copied());
    let rows = rows.ok_or_else(|| format!("there is no weight `{name}`"))?;
    Ok(weights.rows(name, 0..rows)?)
}

/// A model of these numbers.
pub(crate) fn executable(
    model: &Model,
    values: &IndexMap<String, Vec<f32>>,
) -> Checked<Executable> {
    let mut weights = |name: &str, _: &[usize]| {
        let found = values.get(name).cloned();
        found.ok_or_else(|| format!("`{name}` was not computed").into())
    };
    Ok(Executable::new(
        model,
        &mut weights,
        &Device::flex(),
        options(),
    )?)
}

/// A case of one model and what its architecture's own software computes with it.
pub(crate) fn parent(case: &Case, findings: &mut Findings) -> Checked<()> {
    let opened = open(&case.folder, "parent")?;
    let reader = CheckpointReader::open(&case.folder)?;
    let places = of_architecture(reader, &opened.config, &opened.model)?;
    let mut values = IndexMap::new();
    let mut count = 0;
    for (name, param) in opened.model.weight_uses() {
        let wanted = opened.model.weight_shape(&param.ty);
        if opened.weights.shape(&name) != wanted {
            let found = opened.weights.shape(&name);
            return Err(Stop::Wrong(format!(
                "weight `{name}` is {found:?}, not {wanted:?}"
            )));
        }
        let value = whole(&*opened.weights, &name)?;
        count += value.len() as u64;
        values.insert(name, value);
    }
    let names: Vec<&String> = places
        .keys()
        .filter(|name| !values.contains_key(*name))
        .collect();
    findings.equal("unused weights", "", &names, &[]);
    if let Some(told) = case.field("parameters").as_u64() {
        // The whole file is told, with what is no part of this model (an image tokenizer).
        let file = CheckpointReader::open(&case.folder)?;
        let read = |name: &&String| places.values().any(|p| p.tensor.file_name == **name);
        let others = file.tensors().iter().filter(|(name, _)| !read(name));
        let others: u64 = others.map(|(_, info)| info.elements()).sum();
        findings.equal("parameters", "", &[count + others], &[told]);
    }
    // The same weights stored another way, each in a folder of its own.
    let entries = fs::read_dir(&case.folder).map_err(|e| e.to_string())?;
    let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join(CONFIG_FILE).is_file());
    folders.sort();
    for folder in folders {
        let again = open_weights(&folder)?;
        for (name, value) in &values {
            let what = folder.display().to_string();
            let found = whole(&*again, name)?;
            findings.compare("other files", &what, &found, value, Tolerance::of(0.0));
        }
    }
    let executable = executable(&opened.model, &values)?;
    Subject::new(case, executable, &places)?.check(findings)
}

/// A case of parents fused by a strategy.
pub(crate) fn fusion(case: &Case, findings: &mut Findings) -> Checked<()> {
    let strategy = case.field("strategy").as_str().unwrap_or("");
    let settings = case.settings()?;
    let known = signatures()
        .into_iter()
        .find(|signature| signature.signature.word == strategy);
    let Some(known) = known else {
        return Err(Stop::LeftOut(format!("strategy `{strategy}` is not known")));
    };
    let is_known = |name: &&String| known.signature.settings.iter().any(|s| s.name == **name);
    if let Some(name) = settings.keys().find(|name| !is_known(name)) {
        let reason = format!("setting `{name}` of `{strategy}` is not known");
        return Err(Stop::LeftOut(reason));
    }
    let own = json(&case.folder.join(CONFIG_FILE))?;
    let mut parents = IndexMap::new();
    for (index, folder) in case.parents()?.iter().enumerate() {
        let name = PARENTS
            .get(index)
            .map_or(format!("parent{index}"), |&name| name.to_owned());
        let mut opened = open(folder, &name)?;
        opened.model.tokens = layout(opened.model.tokens.size, &own["image_token_rows"]);
        parents.insert(name, opened);
    }
    let named: Vec<Parent<'_>> = parents
        .iter()
        .map(|(name, opened)| Parent {
            model: &opened.model,
            source: name.clone(),
            span: None,
        })
        .collect();
    let Fused { model, .. } = fuse(strategy, "fused", &named, &settings).map_err(|problems| {
        // What a later version builds says so.
        match problems
            .iter()
            .all(|problem| problem.message.ends_with("comes later"))
        {
            true => Stop::LeftOut(told(&problems)),
            false => Stop::Wrong(told(&problems)),
        }
    })?;
    let file = CheckpointReader::open(&case.folder)?;
    let places = match own["model_type"].is_string() {
        true => {
            let reader = CheckpointReader::open(&case.folder)?;
            of_architecture(reader, &config(&case.folder)?, &model)?
        }
        false => {
            let towers: Vec<_> = parents
                .iter()
                .map(|(name, opened)| (name.clone(), opened.config.clone()))
                .collect();
            of_towers(&model, &towers, &file)?
        }
    };
    let sources: IndexMap<String, Box<dyn WeightSource>> = parents
        .into_iter()
        .map(|(name, opened)| (name, opened.weights))
        .collect();
    let values = planned(case, &model, &places, &file, &sources, findings)?;
    let executable = executable(&model, &values)?;
    Subject::new(case, executable, &places)?.check(findings)
}

/// The numbers of every weight: those that the strategy plans from the parents, compared with the
/// case's; those that begin at random, as the case has them.
fn planned(
    case: &Case,
    model: &Model,
    places: &Places,
    file: &CheckpointReader,
    sources: &IndexMap<String, Box<dyn WeightSource>>,
    findings: &mut Findings,
) -> Checked<IndexMap<String, Vec<f32>>> {
    let mut values = IndexMap::new();
    let tolerance = case.tolerance("fused weights", Tolerance::of(0.0));
    for (name, param) in model.weight_uses() {
        let plan = &model
            .weights
            .get(&name)
            .ok_or_else(|| format!("`{name}` has no plan"))?
            .plan;
        let place = places
            .get(&name)
            .ok_or_else(|| format!("the case has no `{name}`"))?;
        let shape = model.weight_shape(&param.ty).unwrap_or_default();
        let stored = read(file, &place.tensor.file_name, place)?;
        if plan.is_fresh() {
            findings.equal("fresh weights", &name, &[&shape], &[&place.tensor.shape]);
            values.insert(name, stored);
            continue;
        }
        let mut value = PlanRows::new(plan, &name, &shape, 0, sources).all()?;
        match param.ty.dtype {
            DType::BF16 => value
                .iter_mut()
                .for_each(|x| *x = bf16::from_f32(*x).to_f32()),
            DType::F16 => value
                .iter_mut()
                .for_each(|x| *x = f16::from_f32(*x).to_f32()),
            DType::F32 | DType::U32 => {}
        }
        findings.compare("planned weights", &name, &value, &stored, tolerance);
        values.insert(name, value);
    }
    let surplus = places.keys().filter(|name| !values.contains_key(*name));
    let surplus: Vec<&String> = surplus.collect();
    findings.equal("unused weights", "", &surplus, &[]);
    Ok(values)
}

/// A vocabulary of `size` ids, those from `image[0]` to `image[1]` of pictures.
fn layout(size: u64, image: &Value) -> TokenLayout {
    let (Some(start), Some(end)) = (image[0].as_u64(), image[1].as_u64()) else {
        return TokenLayout::bare(size);
    };
    let mut layout = TokenLayout::empty("");
    layout.add(TokenKind::Text, start);
    layout.add(TokenKind::Image, end - start);
    layout.add(TokenKind::Reserved, size - end);
    layout
}
