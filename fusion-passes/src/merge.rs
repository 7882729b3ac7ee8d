//! What merging strategies share: several models of one structure, whose weights are paired by what
//! they are to the graph, and a plan for each of them. The merged graph is the first parent's.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use jam_ir::{
    AxisId, Block, Diagnostic, Model, Op, ParamId, Part, Plan, Role, Settings, join_path,
};

use crate::anatomy::{Anatomy, dissect};
use crate::graded::Spot;
use crate::matching::{Side, match_parents};
use crate::parents::{check_layouts, shortest_context};
use crate::passes::dead_code;
use crate::reports::{Errors, Place, error};
use crate::settings::Read;
use crate::{Fused, Parent};

/// Plans of one weight, as every parent has it.
pub(crate) struct Candidates<'c> {
    /// Where in the model it stands.
    pub(crate) spot: Spot,
    /// Those of the parents without a label, in their order.
    pub(crate) of: &'c [Plan],
    /// That of the parent `base`, where there is one.
    pub(crate) base: Option<&'c Plan>,
}

impl Candidates<'_> {
    /// What each parent adds to the base; the parents themselves without one.
    pub(crate) fn differences(&self) -> Vec<Plan> {
        let difference = |plan: &Plan| match self.base {
            Some(base) => Plan::Sum(vec![(1.0, plan.clone()), (-1.0, base.clone())]),
            None => plan.clone(),
        };
        self.of.iter().map(difference).collect()
    }
}

/// Merges parents of one structure into a model called `name`: `plan` gives the plan of every weight,
/// or says why there is none.
///
/// # Errors
/// Every difference between the first parent and each other, at both; parents without layers where a
/// setting changes from layer to layer.
pub(crate) fn merge(
    name: &str,
    parents: &[Parent<'_>],
    settings: &Settings,
    mut plan: impl FnMut(&Candidates<'_>) -> Result<Plan, String>,
) -> Result<Fused, Vec<Diagnostic>> {
    let read = Read(settings);
    let base = read.parent("base");
    let Some(first) = parents.first() else {
        return Err(vec![error("a merge needs a parent", &[])]);
    };
    let mut errors = Errors::default();
    for other in &parents[1..] {
        check_layouts(first, other, &mut errors);
    }
    let (mut models, anatomies) = take_apart(parents, read.is_by_layer())?;
    let mut notes = Vec::new();
    let side = |index: usize| Side {
        parent: &parents[index],
        model: &models[index],
        anatomy: anatomies.as_ref().map(|anatomies| &anatomies[index]),
    };
    let mut partners = vec![IndexMap::new()];
    for index in 1..parents.len() {
        let matching = errors.take(match_parents(side(0), side(index), &[]));
        partners.push(matching.unwrap_or_default().weights);
    }
    errors.check()?;
    let context = shortest_context(&parents.iter().collect::<Vec<_>>(), &mut notes);

    let mut model = models.swap_remove(0);
    let spots = spots(&model, anatomies.as_ref().map(|anatomies| &anatomies[0]));
    name.clone_into(&mut model.name);
    model.context = context;
    for (weight_name, weight) in &mut model.weights {
        let mut of = Vec::with_capacity(parents.len());
        for (parent, partners) in parents.iter().zip(&partners) {
            let own = if of.is_empty() {
                Some(weight_name)
            } else {
                partners.get(weight_name)
            };
            let Some(own) = own else {
                let message = format!(
                    "weight `{weight_name}` has no partner in `{}`",
                    parent.source
                );
                let places = [first, parent].map(|parent| Place::new(parent, ""));
                return Err(vec![error(message, &places)]);
            };
            of.push(Plan::load(parent.source.clone(), own.clone()));
        }
        let base = base.map(|index| of.remove(index));
        let candidates = Candidates {
            spot: spots.get(weight_name).copied().unwrap_or(NOWHERE),
            of: &of,
            base: base.as_ref(),
        };
        weight.plan = plan(&candidates).map_err(|why| {
            let places = parents.iter().map(|parent| Place::new(parent, ""));
            let places: Vec<_> = places.collect();
            vec![error(format!("{why}, for weight `{weight_name}`"), &places)]
        })?;
    }
    Ok(Fused { model, notes })
}

/// Plain models, and their parts where all have one stack.
pub(crate) type TakenApart = (Vec<Model>, Option<Vec<Anatomy>>);

/// Models without what does not reach their logits, and their parts where all are single stacks.
///
/// # Errors
/// Why a parent is no single stack, where layers are asked for.
pub(crate) fn take_apart(
    parents: &[Parent<'_>],
    by_layer: bool,
) -> Result<TakenApart, Vec<Diagnostic>> {
    let mut errors = Errors::default();
    let dissected = parents.iter().map(|parent| errors.take(dissect(parent)));
    let dissected: Vec<_> = dissected.collect();
    if let Some(dissected) = dissected.into_iter().collect::<Option<Vec<_>>>() {
        let parts = dissected.into_iter().map(|d| (d.model, d.anatomy)).unzip();
        let (models, anatomies): (Vec<Model>, Vec<Anatomy>) = parts;
        return Ok((models, Some(anatomies)));
    }
    if by_layer {
        errors.check()?;
    }
    // Models that are no single stack (fused ones, say) are paired as a whole.
    let living = parents.iter().map(|parent| {
        let mut model = parent.model.clone();
        dead_code::run(&mut model);
        model
    });
    Ok((living.collect(), None))
}

/// A weight that belongs to nothing with a name.
const NOWHERE: Spot = Spot {
    part: None,
    layer: None,
};

/// Where every weight stands, by its first use.
pub(crate) fn spots(model: &Model, anatomy: Option<&Anatomy>) -> BTreeMap<String, Spot> {
    let mut spots = BTreeMap::new();
    let layers: BTreeMap<&str, usize> = anatomy
        .into_iter()
        .flat_map(|anatomy| anatomy.layers.iter().enumerate())
        .map(|(index, layer)| (layer.at.as_str(), index))
        .collect();
    collect(model, &model.main, "", None, &layers, &mut spots);
    spots
}

fn collect(
    model: &Model,
    block: &Block,
    path: &str,
    layer: Option<(usize, usize)>,
    layers: &BTreeMap<&str, usize>,
    spots: &mut BTreeMap<String, Spot>,
) {
    for statement in &block.body {
        if let Op::Call { block, at, .. } = &statement.op
            && let Some(callee) = model.blocks.get(block)
        {
            let path = join_path(path, at);
            let own = layers.get(path.as_str());
            let layer = own.map(|index| (*index, layers.len())).or(layer);
            collect(model, callee, &path, layer, layers, spots);
        }
        let part = part_of(model, block, &statement.op);
        for param in statement.op.params() {
            let name = join_path(path, &block.param_of(param).name);
            spots.entry(name).or_insert(Spot { part, layer });
        }
    }
}

/// The part that the weights of an operation belong to.
fn part_of(model: &Model, block: &Block, op: &Op) -> Option<Part> {
    let has = |param: Option<ParamId>, wanted: &[Role]| {
        let axes = param.map(|param| block.param_of(param).ty.axes());
        let role = |axis: AxisId| model.axis(axis).role;
        axes.is_some_and(|mut axes| axes.any(|axis| wanted.contains(&role(axis))))
    };
    let heads = [Role::Heads, Role::KvHeads, Role::HeadDim];
    match op {
        Op::Embed { .. } | Op::Positions { .. } => Some(Part::Embedding),
        Op::Unembed { .. } => Some(Part::Head),
        Op::LayerNorm { gain, .. } | Op::RmsNorm { gain, .. } => match has(*gain, &heads) {
            true => Some(Part::Attention),
            false => Some(Part::Norms),
        },
        Op::Linear { weight, .. } => {
            let weight = Some(*weight);
            if has(weight, &heads) {
                Some(Part::Attention)
            } else if has(weight, &[Role::Vocab]) {
                Some(Part::Head)
            } else if has(weight, &[Role::Hidden]) {
                Some(Part::Mlp)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Σ factor · term without terms of factor zero: one term of factor one is itself.
pub(crate) fn weighted(terms: impl IntoIterator<Item = (f64, Plan)>) -> Plan {
    let terms = terms.into_iter().filter(|(factor, _)| *factor != 0.0);
    let mut terms: Vec<(f64, Plan)> = terms.collect();
    match terms.as_slice() {
        [] => Plan::Zeros,
        [(1.0, _)] => terms.swap_remove(0).1,
        _ => Plan::Sum(terms),
    }
}

#[cfg(test)]
mod tests {
    use jam_ir::TokenLayout;
    use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

    use super::*;

    #[test]
    fn every_weight_has_its_part_and_its_layer() {
        let config = DecoderConfig::llama(TokenLayout::bare(10), 12, 8, 3, 2, 16);
        let model = decoder_only(&config);
        let parent = Parent {
            model: &model,
            source: "a".to_owned(),
            span: None,
        };
        let dissected = dissect(&parent).unwrap();
        let spots = spots(&dissected.model, Some(&dissected.anatomy));
        assert_eq!(spots.len(), model.weights.len());
        for (name, spot) in &spots {
            let part = match name.rsplit('.').nth(1).unwrap_or_default() {
                "attn" => Part::Attention,
                "mlp" => Part::Mlp,
                "embed" => Part::Embedding,
                "unembed" => Part::Head,
                _ => Part::Norms,
            };
            assert_eq!(spot.part, Some(part), "{name}");
            let layer = name.strip_prefix("layers.").map(|rest| &rest[..1]);
            let layer = layer.map(|layer| (layer.parse().unwrap(), 3));
            assert_eq!(spot.layer, layer, "{name}");
        }
    }
}
