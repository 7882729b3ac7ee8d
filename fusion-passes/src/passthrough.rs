//! Passthrough: layers of the parents as they are, one run of layers upon the other ("frankenmerge").
//!
//! The embedding is that of the first run's parent, the head that of the last's. A parent may be named
//! several times, and parents may differ in depth. The graph is the first parent's with as many layers
//! as the runs have together.

use indexmap::IndexMap;
use jam_ir::{Diagnostic, Model, Op, Plan, SettingKind, SettingSignature, SettingValue, Settings};
use jam_ir::{Signature, Statement, StrategySignature, Value, ValueId, Weight, join_path};

use crate::anatomy::{Anatomy, Layer};
use crate::graded::{Graded, Spot};
use crate::matching::{Side, match_parents};
use crate::merge::{spots, take_apart, weighted};
use crate::parents::{check_layouts, shortest_context};
use crate::passes::dead_code;
use crate::reports::{Errors, Place, error};
use crate::settings::{ALL_LAYERS, Read, WEIGHTS, graded};
use crate::{Fused, Parent, Strategy};

/// Most layers of a stack: several times what the deepest models have. Stacks of stacks grow by a factor each,
/// so that they are counted before their graph is made.
const MOST_LAYERS: u64 = 1_000;

/// The strategy.
pub(crate) struct Passthrough;

impl Strategy for Passthrough {
    fn signature(&self) -> StrategySignature {
        StrategySignature {
            signature: Signature::new(
                "passthrough",
                "layers of the parents as they are, one run of layers upon the other",
            )
            .with([
                SettingSignature::new(
                    "layers",
                    SettingKind::Layers,
                    Some(SettingValue::Word(ALL_LAYERS.to_owned())),
                    "the first layer of each parent, and the one after its last",
                ),
                graded(
                    "scale",
                    WEIGHTS,
                    1.0,
                    true,
                    "factor on the weights of each parent",
                ),
            ]),
            min_parents: 1,
            max_parents: usize::MAX,
        }
    }

    fn fuse(
        &self,
        name: &str,
        parents: &[Parent<'_>],
        settings: &Settings,
    ) -> Result<Fused, Vec<Diagnostic>> {
        let read = Read(settings);
        let scales = read.each("scale", parents.len())?;
        let Some(first) = parents.first() else {
            return Err(vec![error("a stack needs a parent", &[])]);
        };
        let mut errors = Errors::default();
        for other in &parents[1..] {
            check_layouts(first, other, &mut errors);
        }
        let (models, anatomies) = take_apart(parents, true)?;
        let anatomies = anatomies.unwrap_or_default();
        let mut notes = Vec::new();
        let runs = runs(parents, &anatomies, read.layers("layers"), &mut errors);
        errors.check()?;

        let mut stack = Stack::default();
        for (index, (run, scale)) in runs.iter().zip(&scales).enumerate() {
            let ends = [0, index].map(|index| Side {
                parent: &parents[index],
                model: &models[index],
                anatomy: Some(&anatomies[index]),
            });
            errors.take(stack.add(ends, run.clone(), scale));
        }
        errors.check()?;
        let context = shortest_context(&parents.iter().collect::<Vec<_>>(), &mut notes);
        let mut model = stack.build(&models[0], &anatomies[0]);
        name.clone_into(&mut model.name);
        model.context = context;
        Ok(Fused { model, notes })
    }
}

/// The layers of each parent that are stacked.
fn runs(
    parents: &[Parent<'_>],
    anatomies: &[Anatomy],
    given: Option<Vec<(u64, u64)>>,
    errors: &mut Errors,
) -> Vec<std::ops::Range<usize>> {
    let all = anatomies.iter().map(|anatomy| 0..anatomy.layers.len());
    let Some(given) = given else {
        let all: Vec<_> = all.collect();
        check_height(
            parents,
            all.iter().map(|run| run.len() as u64).sum(),
            errors,
        );
        return all;
    };
    if given.len() != parents.len() {
        let message = format!(
            "setting `layers` has {} runs for {} parents",
            given.len(),
            parents.len()
        );
        let places = parents.iter().map(|parent| Place::new(parent, ""));
        errors.add(error(message, &places.collect::<Vec<_>>()));
    }
    let mut total = 0u64;
    let mut runs = Vec::new();
    for ((parent, all), (start, end)) in parents.iter().zip(all).zip(given) {
        if end > all.end as u64 {
            let message = format!(
                "`{}` has {} layers, and layers {start} to {end} are asked for",
                parent.source, all.end
            );
            let place = Place::new(parent, format!("{} layers", all.end));
            let help = "layers count from 0, and the end of a run is left out";
            errors.add(error(message, &[place]).help(help));
            continue;
        }
        total = total.saturating_add(end - start);
        runs.push(start as usize..end as usize);
    }
    check_height(parents, total, errors);
    runs
}

/// Refuses a stack that is too high.
fn check_height(parents: &[Parent<'_>], layers: u64, errors: &mut Errors) {
    if layers > MOST_LAYERS {
        let message = format!("a stack of {layers} layers is too high; {MOST_LAYERS} are possible");
        let places = parents.iter().map(|parent| Place::new(parent, ""));
        errors.add(error(message, &places.collect::<Vec<_>>()));
    }
}

/// A stack as it grows.
#[derive(Default)]
struct Stack {
    /// Blocks of the first parent that the layers call.
    blocks: Vec<String>,
    /// Plans of the layers' weights, by their names in the block.
    layers: Vec<IndexMap<String, Plan>>,
    /// Plans of the weights outside of layers, by the first parent's names: the first run's, and the
    /// last's.
    ends: [IndexMap<String, Plan>; 2],
}

impl Stack {
    /// Adds layers of the second of two sides, in terms of the first's graph.
    fn add(
        &mut self,
        [first, own]: [Side<'_>; 2],
        run: std::ops::Range<usize>,
        scale: &Graded,
    ) -> Result<(), Vec<Diagnostic>> {
        let (Some(left), Some(right)) = (first.anatomy, own.anatomy) else {
            return Ok(());
        };
        let places = spots(own.model, own.anatomy);
        let source = &own.parent.source;
        let plan = |name: &str, layer: Option<(usize, usize)>| {
            let part = places.get(name).and_then(|spot| spot.part);
            let factor = scale.at(Spot { part, layer });
            weighted([(factor, Plan::load(source.clone(), name))])
        };
        // Parents are compared one layer at a time: they may differ in depth.
        let with = |anatomy: &Anatomy, layer: &Layer| Anatomy {
            layers: vec![layer.clone()],
            ..anatomy.clone()
        };
        let mut ends = IndexMap::new();
        for (index, layer) in right.layers[run.clone()].iter().enumerate() {
            let theirs = with(right, layer);
            let mut problems = Vec::new();
            let found = candidates(left, run.start + index).find_map(|candidate| {
                let ours = with(left, candidate);
                let [a, b] = [(first, &ours), (own, &theirs)].map(|(side, anatomy)| Side {
                    anatomy: Some(anatomy),
                    ..side
                });
                match match_parents(a, b, &[]) {
                    Ok(matching) => Some((candidate, matching.weights)),
                    Err(found) => {
                        if problems.is_empty() {
                            problems = found;
                        }
                        None
                    }
                }
            });
            let Some((candidate, pairs)) = found else {
                return Err(problems);
            };
            let inside = format!("{}.", candidate.at);
            let mut weights = IndexMap::new();
            for (ours, theirs) in &pairs {
                match ours.strip_prefix(&inside) {
                    Some(name) => {
                        let layer = Some((index, run.len()));
                        weights.insert(name.to_owned(), plan(theirs, layer));
                    }
                    None => {
                        ends.insert(ours.clone(), plan(theirs, None));
                    }
                }
            }
            self.blocks.push(candidate.block.clone());
            self.layers.push(weights);
        }
        if self.ends[0].is_empty() {
            self.ends[0] = ends.clone();
        }
        self.ends[1] = ends;
        Ok(())
    }

    /// The first parent's graph with these layers in place of its own.
    fn build(self, first: &Model, anatomy: &Anatomy) -> Model {
        let mut model = first.clone();
        let main = &mut model.main;
        let mut body: Vec<Statement> = Vec::new();
        let at = |index: &usize| first.main.body[*index].clone();
        body.extend(anatomy.embedding.iter().map(at));
        let names = Numbered::of(first, anatomy);
        let state = first.main.value_of(anatomy.stack_in).clone();
        let mut last = anatomy.stack_in;
        for (index, block) in self.blocks.iter().enumerate() {
            let result = ValueId(main.values.len() as u32);
            main.values.push(Value {
                name: format!("{}.stack.{index}", state.name),
                ty: state.ty.clone(),
            });
            body.push(Statement {
                result,
                op: Op::Call {
                    block: block.clone(),
                    args: vec![last],
                    at: names.at(index),
                },
                span: anatomy.layers.first().and_then(|layer| layer.span),
            });
            last = result;
        }
        let head = anatomy.head.iter().map(|index| {
            let mut statement = at(index);
            statement.op.for_each_operand(|operand| {
                if *operand == anatomy.stack_out {
                    *operand = last;
                }
            });
            statement
        });
        body.extend(head);
        if main.result == anatomy.stack_out {
            main.result = last;
        }
        main.body = body;

        let embedding: Vec<String> = anatomy
            .embedding
            .iter()
            .flat_map(|index| first.main.body[*index].op.params())
            .map(|param| first.main.param_of(param).name.clone())
            .collect();
        let mut weights: IndexMap<String, Plan> = self.ends[1].clone();
        for (name, plan) in &self.ends[0] {
            if embedding.contains(name) {
                weights.insert(name.clone(), plan.clone());
            }
        }
        for (index, layer) in self.layers.into_iter().enumerate() {
            let path = names.at(index);
            let layer = layer.into_iter();
            weights.extend(layer.map(|(name, plan)| (join_path(&path, &name), plan)));
        }
        let spans = model.weights.clone();
        let uses: Vec<String> = model.weight_uses().keys().cloned().collect();
        model.weights = uses
            .into_iter()
            .filter_map(|name| {
                let span = spans.get(&name).and_then(|weight| weight.span);
                let plan = weights.shift_remove(&name)?;
                Some((name, Weight { plan, span }))
            })
            .collect();
        dead_code::run(&mut model);
        model
    }
}

/// Layers of the first parent that another's layer may be like: the one at its place first.
fn candidates(anatomy: &Anatomy, place: usize) -> impl Iterator<Item = &Layer> {
    let place = place.min(anatomy.layers.len().saturating_sub(1));
    let mut seen: Vec<&str> = Vec::new();
    let mut layers: Vec<&Layer> = Vec::new();
    for layer in anatomy.layers[place..]
        .iter()
        .chain(&anatomy.layers[..place])
    {
        if !seen.contains(&layer.block.as_str()) {
            seen.push(&layer.block);
            layers.push(layer);
        }
    }
    layers.into_iter()
}

/// Paths of layers: the first layer's, with another number in it.
struct Numbered {
    before: String,
    after: String,
}

impl Numbered {
    fn of(model: &Model, anatomy: &Anatomy) -> Numbered {
        let path = anatomy.layers.first().map_or("", |layer| layer.at.as_str());
        let parts: Vec<&str> = path.split('.').collect();
        let number = parts.iter().rposition(|part| part.parse::<u64>().is_ok());
        let (before, after) = match number {
            Some(number) => (parts[..number].join("."), parts[number + 1..].join(".")),
            None => (join_path(path, "layers"), String::new()),
        };
        // Weights outside of layers may have such paths too.
        let taken = |path: &str| {
            let start = format!("{path}.");
            let mut params = model.main.params.iter();
            path.is_empty() || params.any(|param| param.name.starts_with(&start))
        };
        let mut path = before.clone();
        let mut count = 1;
        while taken(&path) {
            count += 1;
            path = join_path(&before, &format!("stack_{count}"));
        }
        Numbered {
            before: path,
            after,
        }
    }

    fn at(&self, index: usize) -> String {
        let number = join_path(&self.before, &index.to_string());
        join_path(&number, &self.after)
    }
}
