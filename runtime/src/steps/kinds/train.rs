//! `train NAME`: a training run, whose folder grows and is marked at its end.

use std::path::Path;

use jam_backends::Optimizer;
use jam_data::batches::EncodedSet;
use jam_ir::recipe::TrainRecipe;
use jam_weights::progress::Ended;

use super::{Kind, Task};
use crate::Result;
use crate::folders::ModelFolder;
use crate::inputs::Inputs as _;
use crate::memory_check::check_room;
use crate::results::{Hashes, Record, Slots, whole};
use crate::steps::graph::Inputs;
use crate::steps::{Runner, Workload};
use crate::training::Training;

/// The kind.
pub(super) struct Train;

/// What the settings of validation, which change what is told and which state is `best`, stand behind.
const VALIDATION: &str = "validate";

impl Kind for Train {
    fn inputs(&self, work: &Workload, name: &str, inputs: &mut Inputs<'_>) -> Result<()> {
        let recipe = TrainRecipe {
            span: None,
            ..work.training(name)?.clone()
        };
        // How often a run saves does not change what it learns.
        inputs.recipe("", &recipe, &["save_every"])?;
        inputs.model(&recipe.model)?;
        let data = recipe.data.iter().map(|(_, data)| data);
        data.into_iter().try_for_each(|data| inputs.data(data))?;
        inputs.group(VALIDATION);
        recipe
            .validate
            .iter()
            .try_for_each(|data| inputs.data(data))
    }

    fn may_change(&self, ingredient: &str) -> bool {
        // Of a file it counts whose it is.
        let ingredient = match ingredient.starts_with("file ") {
            true => ingredient.rsplit(" #").next().unwrap_or(ingredient),
            false => ingredient,
        };
        let of_validation = |name: &str| {
            name.strip_prefix(VALIDATION)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '_', '.']))
        };
        ingredient == "steps" || of_validation(ingredient)
    }

    fn is_learned(&self, _: &Workload, _: &str) -> bool {
        true
    }

    fn sound(&self, hashes: &Hashes, folder: &Path) -> Result<()> {
        hashes.verify(folder)?;
        for state in ["last", "best"] {
            let model = folder.join(state);
            ModelFolder::open(&model)?;
            hashes.verify(&model)?;
        }
        Ok(())
    }

    fn fits(&self, work: &Workload, name: &str, folder: &Path) -> Result<bool> {
        let steps = work.training(name)?.steps;
        let reached = Slots::of_result(folder).latest_step()?;
        Ok(reached.is_none_or(|reached| reached <= steps))
    }

    fn other_record(&self, folder: &Path) -> Result<Option<Record>> {
        let bytes = Slots::of_result(folder).record()?;
        Ok(bytes.and_then(|bytes| Record::parse(&bytes).ok()))
    }

    fn make(&self, runner: &Runner<'_>, task: &Task<'_>) -> Result<Ended> {
        let work = runner.work;
        let recipe = work.training(task.name)?;
        let model = work.model(&recipe.model.name)?;
        // The weights, a gradient of each, and what the optimizer keeps (AdamW's two moments).
        let kept = Optimizer::kept_by(&recipe.optimizer)? as u64;
        check_room(model, 2 + kept, &runner.device)?;
        let codec = runner.codec(model)?;
        let mut data: Vec<(f64, EncodedSet)> = Vec::new();
        for (weight, reference) in &recipe.data {
            data.push((*weight, runner.encoded(reference, &codec)?));
        }
        let mut validate: Vec<(String, EncodedSet)> = Vec::new();
        for reference in &recipe.validate {
            validate.push((reference.to_string(), runner.encoded(reference, &codec)?));
        }
        let record = task.record.bytes()?;
        let training = Training {
            name: task.name,
            recipe,
            model,
            data: data.iter().map(|(weight, set)| (*weight, set)).collect(),
            validate: validate
                .iter()
                .map(|(name, set)| (name.clone(), set))
                .collect(),
            source: &work.source,
            made_by: format!("Training `{}` of `{}`.", task.name, recipe.model),
            tokenizers: runner.tokenizers(model)?,
            key: &task.record.base,
            record: &record,
        };
        // All of the data are read.
        (task.unchanged)()?;
        task.begin()?;
        let mut executable = runner.load(&recipe.model, recipe.precision)?;
        let ended = training.run(&task.folder, &mut executable, runner.progress, &runner.stop)?;
        if ended == Ended::Complete {
            // What was written hours ago is read once more before the states that could make it again are gone.
            for state in ["last", "best"] {
                whole(&task.folder.join(state))?;
            }
            task.end(&runner.hashes)?;
            for state in ["last", "best"] {
                runner.hashes.trust(&task.folder.join(state));
            }
            Slots::of_result(&task.folder).remove()?;
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_measured_may_change_and_what_is_learned_may_not() {
        for name in [
            "steps",
            "validate",
            "validate_every",
            "validate data words.held_out",
            "file words.jsonl #validate data words.val",
        ] {
            assert!(Train.may_change(name), "{name}");
        }
        for name in [
            "optimizer.lr",
            "validated",
            "file validate.jsonl #data words.train",
            "step lessons validate",
        ] {
            assert!(!Train.may_change(name), "{name}");
        }
    }
}
