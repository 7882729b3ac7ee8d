//! `fuse NAME`: the weight plan of a fusion carried out, as a model folder.

use std::path::Path;

use jam_ir::ModelRef;
use jam_weights::checkpoints::{CheckpointWriter, WriteOptions};
use jam_weights::memory;
use jam_weights::plans::{Limits, WeightStream};
use jam_weights::progress::{Bar, Ended};

use super::{Kind, Task};
use crate::folders::{ModelDraft, ModelFolder, model_card, write_model};
use crate::results::{Hashes, RESULT_FILE};
use crate::steps::graph::Inputs;
use crate::steps::{Runner, Workload};
use crate::{Error, Result};

/// The kind.
pub(super) struct Fuse;

impl Kind for Fuse {
    fn inputs(&self, work: &Workload, name: &str, inputs: &mut Inputs<'_>) -> Result<()> {
        let fusion = work.fusion(name)?;
        inputs.graph(name)?;
        inputs.vocabulary(name)?;
        inputs.said("seed", work.program.seed.to_string());
        let parents = |parent: &ModelRef| inputs.model(parent);
        fusion.parents.iter().try_for_each(parents)
    }

    fn sound(&self, hashes: &Hashes, folder: &Path) -> Result<()> {
        ModelFolder::open(folder)?;
        hashes.verify(folder)
    }

    fn make(&self, runner: &Runner<'_>, task: &Task<'_>) -> Result<Ended> {
        let work = runner.work;
        let model = work.model(task.name)?;
        let fusion = work.fusion(task.name)?;
        let sources = runner.plan_sources(model)?;
        let parents: Vec<_> = fusion
            .parents
            .iter()
            .map(|parent| format!("`{parent}`"))
            .collect();
        let made_by = format!("Fusion `{}` of {}.", fusion.strategy, parents.join(" and "));
        let draft = ModelDraft {
            model,
            source: &work.source,
            card: model_card(model, &made_by),
            tokenizers: runner.tokenizers(model)?,
            files: vec![(RESULT_FILE.to_owned(), task.record.done().bytes()?)],
            replace: false,
        };
        let stream = WeightStream::new(model, work.program.seed, &sources)?;
        let limits = runner.limits.map_or_else(Limits::default, |limits| Limits {
            memory: limits.memory + memory::held().saturating_sub(runner.held),
            ..limits
        });
        let mut write = |writer: &mut CheckpointWriter, bar: &mut dyn Bar| {
            let complete = stream.write(writer, limits, bar, &runner.stop)?;
            (task.unchanged)()?;
            Ok(complete)
        };
        let options = WriteOptions::default();
        if !write_model(&task.folder, &draft, options, &mut write, runner.progress)? {
            return Ok(Ended::Stopped);
        }
        runner.hashes.trust(&task.folder);
        Ok(Ended::Complete)
    }
}

impl Workload {
    /// A fusion.
    fn fusion(&self, name: &str) -> Result<&jam_ir::recipe::FusionRecipe> {
        let found = self.program.fusions.get(name);
        found.ok_or_else(|| Error::new(format!("`{name}` is not a fusion")))
    }
}
