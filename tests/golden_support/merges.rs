//! Cases of merged models: what mergekit made by a configuration, against what the same merge gives,
//! written as a program.
//!
//! A configuration is translated setting by setting into a `fuse` statement of the language; what has
//! no counterpart leaves the case out. Masks that were drawn there are read from the case in place of
//! those that a plan draws.

use std::fs;
use std::ops::Range;
use std::path::Path;

use indexmap::IndexMap;
use jam_dsl::{CompileOptions, compile};
use jam_fusion_passes::{Fused, Parent, fuse, signatures};
use jam_ir::recipe::FusionRecipe;
use jam_ir::{Model, Part, Plan, SettingKind, StrategySignature, Words};
use jam_weights::checkpoints::{CheckpointReader, WeightSource};
use jam_weights::plans::{PlanRows, groups};
use serde_json::Value;

use super::case::{Case, Checked, Findings, Stop, Tolerance, told};
use super::models::{Nothing, Opened, config, executable, open};
use super::names::{Places, of_architecture, read};
use super::runs::Subject;

/// What a model may be asked for beside numbers.
const CONFIG: &str = "mergekit.yaml";
/// Masks that were drawn, where a method draws.
const MASKS: &str = "masks.safetensors";
/// Settings of a configuration that change no number here.
const WITHOUT_EFFECT: [&str; 1] = ["int8_mask"];
/// Settings whose default is all that there is here.
const ONLY_DEFAULT: [(&str, bool); 3] = [
    ("nuslerp_flatten", true),
    ("nuslerp_row_wise", false),
    ("filter_wise", false),
];

/// A merge that a case asks for, as a statement of the language.
pub(crate) struct Asked {
    /// The method.
    pub(crate) method: String,
    /// Folders of the models, as the statement numbers them.
    pub(crate) models: Vec<String>,
    /// The statement, understood.
    pub(crate) recipe: FusionRecipe,
}

/// What a case asks for, and the folder in which its models lie.
pub(crate) fn asked(case: &Case) -> Checked<(Asked, &Path)> {
    let path = case.folder.join(CONFIG);
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let yaml: Value =
        serde_yaml_ng::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let method = yaml["merge_method"].as_str().unwrap_or("").to_owned();
    let known = signatures()
        .into_iter()
        .find(|known| known.signature.word == method);
    let Some(known) = known else {
        return Err(Stop::LeftOut(format!("strategy `{method}` is not known")));
    };
    let group = case.folder.parent().unwrap_or(&case.folder);
    let configuration = Configuration {
        yaml: &yaml,
        strategy: &known,
        group,
    };
    let (models, statement) = configuration.statement()?;
    let recipe = compiled(&models, &statement)?;
    let asked = Asked {
        method,
        models,
        recipe,
    };
    Ok((asked, group))
}

impl Asked {
    /// The merged graph; `model` gives the graph of a parent by its number.
    pub(crate) fn fused<'m>(&self, model: impl Fn(&str) -> &'m Model) -> Checked<Model> {
        let parents = self.recipe.parents.iter().map(|reference| Parent {
            model: model(&reference.name),
            source: reference.to_string(),
            span: None,
        });
        let parents: Vec<Parent<'_>> = parents.collect();
        let (strategy, settings) = (&self.recipe.strategy, &self.recipe.settings);
        let Fused { model, .. } = fuse(strategy, "merged", &parents, settings)
            .map_err(|problems| Stop::Wrong(told(&problems)))?;
        Ok(model)
    }
}

/// A case of models merged.
pub(crate) fn merge(case: &Case, findings: &mut Findings) -> Checked<()> {
    let (asked, group) = asked(case)?;
    let mut opened: IndexMap<String, Opened> = IndexMap::new();
    for (index, folder) in asked.models.iter().enumerate() {
        let name = model_name(index);
        opened.insert(name.clone(), open(&group.join(folder), &name)?);
    }
    let model = asked.fused(|name| &opened[name].model)?;

    let expected = || CheckpointReader::open(case.folder.join("expected.safetensors"));
    let places = of_architecture(expected()?, &config(&case.folder)?, &model)?;
    let mut sources: Sources = opened
        .into_iter()
        .map(|(name, opened)| (name, opened.weights))
        .collect();
    add_masks(&case.folder, &places, &mut sources)?;
    let file = expected()?;
    let tolerance = tolerance(case, &asked.method);
    let mut values = IndexMap::new();
    for (name, value) in merged(&model, &sources, &|_| true)? {
        let place = places
            .get(&name)
            .ok_or_else(|| format!("the case has no `{name}`"))?;
        let stored = read(&file, &place.tensor.file_name, place)?;
        findings.compare("merged weights", &name, &value, &stored, tolerance);
        values.insert(name, value);
    }
    let surplus = places.keys().filter(|name| !values.contains_key(*name));
    let surplus: Vec<&String> = surplus.collect();
    findings.equal("unused weights", "", &surplus, &[]);
    let executable = executable(&model, &values)?;
    Subject::expecting("expected_logits.safetensors", case, executable, &places)?.check(findings)
}

/// Weights of parents by their name in the program, and masks.
pub(crate) type Sources = IndexMap<String, Box<dyn WeightSource>>;

/// How far a merged tensor may be off.
pub(crate) fn tolerance(case: &Case, method: &str) -> Tolerance {
    let tolerance = case.tolerance("tensors", Tolerance::of(1e-6));
    case.tolerance(&format!("{method} tensors"), tolerance)
}

/// Adds the masks that were drawn, where the folder has any.
pub(crate) fn add_masks(folder: &Path, places: &Places, sources: &mut Sources) -> Checked<()> {
    let path = folder.join(MASKS);
    if path.is_file() {
        let masks = Recorded::open(&path, places)?;
        sources.insert(MASKS.to_owned(), Box::new(masks));
    }
    Ok(())
}

/// The numbers of those merged weights that are wanted, by name.
pub(crate) fn merged(
    model: &Model,
    sources: &Sources,
    wanted: &dyn Fn(&str) -> bool,
) -> Checked<IndexMap<String, Vec<f32>>> {
    let mut model = model.clone();
    if sources.contains_key(MASKS) {
        for (name, weight) in &mut model.weights {
            let mut count = 0;
            weight.plan.for_each_mut(&mut |part| {
                if let Plan::Bernoulli { .. } = part {
                    *part = Plan::load(MASKS, format!("{name}|{count}"));
                    count += 1;
                }
            });
        }
    }
    let groups = groups(&model, sources)?;
    let mut values = IndexMap::new();
    for (name, param) in model.weight_uses() {
        if !wanted(&name) {
            continue;
        }
        let shape = model.weight_shape(&param.ty).unwrap_or_default();
        let group = groups.iter().find(|group| group.has(&name));
        let rows = PlanRows::new(&model.weights[&name].plan, &name, &shape, 0, sources);
        let value = rows.in_group(group).all()?;
        values.insert(name, value);
    }
    Ok(values)
}

/// The name of a model in the program.
fn model_name(index: usize) -> String {
    format!("m{index}")
}

/// The recipe of a `fuse` statement about some models.
fn compiled(models: &[String], statement: &str) -> Checked<FusionRecipe> {
    let mut text = String::new();
    for index in 0..models.len() {
        let name = model_name(index);
        text.push_str(&format!(
            "model {name} {{ tokens = 8, width = 4, logits = unembed(embed(tokens)) }}\n"
        ));
    }
    text.push_str(statement);
    let words = Words {
        strategies: signatures(),
        ..Words::NONE
    };
    let options = CompileOptions {
        words: &words,
        ..CompileOptions::default()
    };
    let compiled = compile("merge.jam", &text, &Nothing, &options);
    if compiled.diagnostics.has_errors() {
        let report = jam_dsl::report::render_all(&compiled.diagnostics, &compiled.sources, false);
        return Err(Stop::Wrong(report));
    }
    let fusions = compiled.program.map(|program| program.fusions);
    let recipe = fusions.and_then(|fusions| fusions.into_iter().next());
    let (_, recipe) = recipe.ok_or_else(|| format!("nothing is fused by `{statement}`"))?;
    Ok(recipe)
}

/// A mergekit configuration, on its way into the language.
struct Configuration<'c> {
    yaml: &'c Value,
    strategy: &'c StrategySignature,
    group: &'c Path,
}

/// A model of a configuration with its own parameters, and the slice that it is in.
struct Source<'c> {
    model: &'c str,
    parameters: &'c Value,
    slice: &'c Value,
    layers: Option<[u64; 2]>,
}

impl<'c> Configuration<'c> {
    /// Folders of the models, and the statement about them.
    fn statement(&self) -> Checked<(Vec<String>, String)> {
        let leave = |reason: String| Err(Stop::LeftOut(reason));
        let fields = self.yaml.as_object().into_iter().flatten();
        for (field, value) in fields {
            match field.as_str() {
                "merge_method" | "base_model" | "models" | "slices" | "parameters" => {}
                "dtype" | "out_dtype" if value == "float32" => {}
                _ => return leave(format!("`{field}` of a merge is not known")),
            }
        }
        let base = self.yaml["base_model"].as_str();
        let takes_base = self
            .strategy
            .signature
            .settings
            .iter()
            .any(|s| s.name == "base");
        let mut sources = self.sources()?;
        match base {
            Some(base) if takes_base => sources.retain(|source| source.model != base),
            Some(base) => {
                // It is the first of two; elsewhere nothing is said of it.
                let place = sources.iter().position(|source| source.model == base);
                match (place, self.strategy.max_parents) {
                    (Some(place), 2) => sources.swap(0, place),
                    _ => return leave("a base of a method without one".to_owned()),
                }
            }
            None => {}
        }
        self.check_parameters(&sources)?;
        let mut models: Vec<String> = Vec::new();
        let mut index = |model: &str| {
            let known = models.iter().position(|known| known == model);
            known.unwrap_or_else(|| {
                models.push(model.to_owned());
                models.len() - 1
            })
        };
        let named = sources.iter().map(|source| model_name(index(source.model)));
        let mut arguments: Vec<String> = named.collect();
        for setting in &self.strategy.signature.settings {
            let name = setting.name.as_str();
            let value = match &setting.kind {
                SettingKind::Parent => base.map(|base| model_name(index(base))),
                SettingKind::Layers => {
                    let runs = sources.iter().map(|source| source.layers);
                    let runs: Option<Vec<_>> = runs.collect();
                    runs.map(|runs| format!("{runs:?}"))
                }
                SettingKind::Graded { each: true, .. } => {
                    let values = sources.iter().map(|source| self.graded(name, Some(source)));
                    let values: Vec<Option<String>> = values.collect::<Checked<_>>()?;
                    match values.iter().all(Option::is_some) {
                        true => {
                            let values: Vec<String> = values.into_iter().flatten().collect();
                            Some(format!("[{}]", values.join(", ")))
                        }
                        false if values.iter().all(Option::is_none) => None,
                        false => return leave(format!("`{name}` of some models alone")),
                    }
                }
                SettingKind::Graded { each: false, .. } => self.graded(name, None)?,
                SettingKind::Flag => self.global(name).map(|value| {
                    let yes = value.as_bool().unwrap_or(false);
                    if yes { "yes" } else { "no" }.to_owned()
                }),
                SettingKind::Word(_) => self.global(name).map(|value| {
                    let scaled = value.as_bool().unwrap_or(false);
                    if scaled { "norm" } else { "no" }.to_owned()
                }),
                _ => None,
            };
            arguments.extend(value.map(|value| format!("{name}: {value}")));
        }
        let arguments = arguments.join(", ");
        let statement = format!(
            "fuse merged = {}({arguments})\n",
            self.strategy.signature.word
        );
        Ok((models, statement))
    }

    /// The models that are merged, or stacked, in their order.
    fn sources(&self) -> Checked<Vec<Source<'c>>> {
        let wrong = |what: &str| Stop::Wrong(format!("{CONFIG}: {what}"));
        let list = |value: &'c Value| value.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut sources = Vec::new();
        for model in list(&self.yaml["models"]) {
            sources.push(Source {
                model: model["model"].as_str().ok_or_else(|| wrong("a model"))?,
                parameters: &model["parameters"],
                slice: &Value::Null,
                layers: None,
            });
        }
        let settings = &self.strategy.signature.settings;
        let stacks = settings.iter().any(|s| s.kind == SettingKind::Layers);
        let slices = list(&self.yaml["slices"]);
        if slices.len() > 1 && !stacks {
            let reason = "slices that are merged and then stacked".to_owned();
            return Err(Stop::LeftOut(reason));
        }
        for slice in slices {
            for source in list(&slice["sources"]) {
                let model = source["model"].as_str().ok_or_else(|| wrong("a model"))?;
                let end = |index: usize| source["layer_range"][index].as_u64();
                let layers = end(0).zip(end(1)).ok_or_else(|| wrong("a range"))?;
                let all = self.depth(model)?;
                if !stacks && layers != (0, all) {
                    let reason = "layers that are merged and others that are not".to_owned();
                    return Err(Stop::LeftOut(reason));
                }
                sources.push(Source {
                    model,
                    parameters: &source["parameters"],
                    slice: &slice["parameters"],
                    layers: Some([layers.0, layers.1]),
                });
            }
        }
        Ok(sources)
    }

    /// Number of layers of a model.
    fn depth(&self, model: &str) -> Checked<u64> {
        Ok(config(&self.group.join(model))?.decoder.layers)
    }

    /// A parameter that holds for all models.
    fn global(&self, name: &str) -> Option<&'c Value> {
        let slice = &self.yaml["slices"][0]["parameters"][name];
        let found = [slice, &self.yaml["parameters"][name]];
        found.into_iter().find(|value| !value.is_null())
    }

    /// A number, by layer and part, as the language writes it: a model's own, that of its slice, or
    /// that of all.
    fn graded(&self, name: &str, source: Option<&Source<'_>>) -> Checked<Option<String>> {
        let own = source.map(|source| &source.parameters[name]);
        let slice = source.map(|source| &source.slice[name]);
        let levels = [own, slice, self.global(name)];
        let levels = levels
            .into_iter()
            .flatten()
            .filter(|value| !value.is_null());
        // Conditions of one level may leave the rest to the next.
        let mut parts: Vec<(&str, String)> = Vec::new();
        let mut rest = None;
        'levels: for level in levels {
            let conditions = match level.as_array() {
                Some(list) if list.iter().any(Value::is_object) => list.clone(),
                _ => vec![serde_json::json!({ "value": level })],
            };
            for condition in &conditions {
                let value = number(name, &condition["value"])?;
                match condition["filter"].as_str() {
                    None | Some("*") => {
                        rest = Some(value);
                        break 'levels;
                    }
                    Some(filter) => {
                        let part = part(filter)?.word();
                        if !parts.iter().any(|(known, _)| *known == part) {
                            parts.push((part, value));
                        }
                    }
                }
            }
        }
        if parts.is_empty() {
            return Ok(rest);
        }
        let rest = rest.map(|rest| ("rest", rest));
        let parts = parts.into_iter().chain(rest);
        let parts: Vec<String> = parts
            .map(|(part, value)| format!("{part}: {value}"))
            .collect();
        Ok(Some(format!("parts({})", parts.join(", "))))
    }

    /// Leaves a case out that sets what the strategy does not have.
    fn check_parameters(&self, sources: &[Source<'_>]) -> Checked<()> {
        let levels = sources
            .iter()
            .flat_map(|source| [source.parameters, source.slice])
            .chain([&self.yaml["parameters"]]);
        for (name, value) in levels.filter_map(Value::as_object).flatten() {
            let known = self
                .strategy
                .signature
                .settings
                .iter()
                .any(|s| s.name == *name)
                || WITHOUT_EFFECT.contains(&name.as_str())
                || ONLY_DEFAULT.contains(&(name.as_str(), value.as_bool().unwrap_or_default()));
            if !known {
                let strategy = &self.strategy.signature.word;
                let reason = format!("setting `{name}: {value}` of `{strategy}` is not known");
                return Err(Stop::LeftOut(reason));
            }
        }
        Ok(())
    }
}

/// A number, or one for each of some layers.
fn number(name: &str, value: &Value) -> Checked<String> {
    let one = |value: &Value| value.as_f64().map(|number| format!("{number}"));
    let text = match value {
        Value::Array(values) if values.len() == 1 => one(&values[0]),
        Value::Array(values) => {
            let values = values.iter().map(one).collect::<Option<Vec<_>>>();
            values.map(|values| format!("ramp({})", values.join(", ")))
        }
        value => one(value),
    };
    text.ok_or_else(|| Stop::Wrong(format!("`{name}` is {value}")))
}

/// The part of a model whose tensors have this in their names.
fn part(filter: &str) -> Checked<Part> {
    Ok(match filter {
        "self_attn" | "attn" | "attention" => Part::Attention,
        "mlp" => Part::Mlp,
        "norm" | "layernorm" => Part::Norms,
        "embed_tokens" | "embed" => Part::Embedding,
        "lm_head" => Part::Head,
        _ => return Err(Stop::LeftOut(format!("the filter `{filter}` of a merge"))),
    })
}

/// Masks that were drawn elsewhere, in JAM's layout: `layers.0.attn.q|1` is the second of a weight.
struct Recorded(IndexMap<String, (Vec<u64>, Vec<f32>)>);

impl Recorded {
    fn open(path: &Path, places: &Places) -> Checked<Recorded> {
        let file = CheckpointReader::open(path)?;
        let mut masks = IndexMap::new();
        for (name, place) in places {
            let mut count = 0;
            loop {
                let tensor = format!("{}|{count}", place.tensor.file_name);
                if !file.tensors().contains_key(&tensor) {
                    break;
                }
                let mask = (place.tensor.shape.clone(), read(&file, &tensor, place)?);
                masks.insert(format!("{name}|{count}"), mask);
                count += 1;
            }
        }
        Ok(Recorded(masks))
    }
}

impl WeightSource for Recorded {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.0.get(name).map(|(shape, _)| shape.clone())
    }

    fn rows(&self, name: &str, rows: Range<u64>) -> jam_ir::Result<Vec<f32>> {
        let missing = || jam_ir::Error::new(format!("no mask `{name}` was recorded"));
        let (shape, numbers) = self.0.get(name).ok_or_else(missing)?;
        let width = shape[1..].iter().product::<u64>();
        let range = (rows.start * width) as usize..(rows.end * width) as usize;
        numbers.get(range).map(<[f32]>::to_vec).ok_or_else(missing)
    }
}
