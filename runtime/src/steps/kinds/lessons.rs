//! `lessons NAME`: the drawing lessons, written in the formats that the ordinary readers read.

use jam_lessons::LessonsSettings;
use jam_weights::progress::Ended;

use super::{Kind, Task};
use crate::Result;
use crate::steps::graph::Inputs;
use crate::steps::{Runner, Workload};

/// The kind.
pub(super) struct Lessons;

impl Kind for Lessons {
    fn inputs(&self, work: &Workload, name: &str, inputs: &mut Inputs<'_>) -> Result<()> {
        inputs.said("world", jam_lessons::FORMAT);
        inputs.recipe("", work.lessons(name)?, &[])
    }

    fn make(&self, runner: &Runner<'_>, task: &Task<'_>) -> Result<Ended> {
        let recipe = runner.work.lessons(task.name)?;
        let part = recipe.choices as usize;
        let settings = LessonsSettings {
            seed: recipe.seed,
            texts: recipe.texts as usize,
            pairs: recipe.pairs as usize,
            articles: recipe.articles as usize,
            choices: part,
            val_texts: part,
            val_pairs: part,
            test_pairs: part,
            val_articles: part.div_ceil(4),
            test_articles: part.div_ceil(4),
            val_choices: part,
            ..LessonsSettings::default()
        };
        let label = format!("lessons {}", task.name);
        let mut bar = runner.progress.begin(&label, settings.records());
        task.write(&runner.hashes, &mut |folder| {
            jam_lessons::write(&settings, folder, &mut |done, _| bar.at(done, "")).map(drop)
        })?;
        Ok(Ended::Complete)
    }
}
