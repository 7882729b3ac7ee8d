//! The graph of every model that a program names.

use std::sync::Arc;

use indexmap::IndexMap;
use jam_fusion_passes::Parent;
use jam_ir::diagnostic::Diagnostics;
use jam_ir::{Model, Program};

use super::Spelling;

/// The graph of every model, fusion and training, in an order in which each needs only those
/// before it.
pub(super) fn resolve_models(
    program: &Program,
    spelling: &Spelling,
    remarks: bool,
    diagnostics: &mut Diagnostics,
) -> IndexMap<String, Arc<Model>> {
    let mut models: IndexMap<String, Arc<Model>> = IndexMap::new();
    for (name, recipe) in &program.models {
        models.insert(name.clone(), Arc::new(recipe.model.clone()));
    }
    // A fusion may stand before the training it needs: go on until nothing new comes.
    let mut waiting: Vec<&String> = program
        .fusions
        .keys()
        .chain(program.trainings.keys())
        .collect();
    loop {
        let before = waiting.len();
        waiting.retain(|name| !resolve(program, name, spelling, &mut models, remarks, diagnostics));
        if waiting.len() == before {
            return models;
        }
    }
}

/// Resolves a fusion or training whose parents are resolved; true when there is no more to do.
fn resolve(
    program: &Program,
    name: &str,
    spelling: &Spelling,
    models: &mut IndexMap<String, Arc<Model>>,
    remarks: bool,
    diagnostics: &mut Diagnostics,
) -> bool {
    if let Some(training) = program.trainings.get(name) {
        let Some(model) = models.get(&training.model.name) else {
            return false;
        };
        models.insert(name.to_owned(), Arc::clone(model));
        return true;
    }
    let Some(fusion) = program.fusions.get(name) else {
        return true;
    };
    let mut parents = Vec::new();
    for (index, reference) in fusion.parents.iter().enumerate() {
        let Some(model) = models.get(&reference.name) else {
            return false;
        };
        let span = fusion.parent_spans.get(index).copied().flatten();
        parents.push(Parent {
            model,
            source: reference.to_string(),
            span,
        });
    }
    // The language verified the parents, or this did: it verifies what it makes.
    let (strategy, settings) = (&fusion.strategy, &fusion.settings);
    match jam_fusion_passes::fuse_verified(strategy, name, &parents, settings, spelling) {
        Ok(fused) => {
            if remarks {
                let notes = fused.notes.into_iter();
                notes.for_each(|note| diagnostics.push(note));
            }
            models.insert(name.to_owned(), Arc::new(fused.model));
        }
        Err(errors) => errors.into_iter().for_each(|error| diagnostics.push(error)),
    }
    true
}
