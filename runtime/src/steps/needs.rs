//! Which steps a step needs, in the order of the program.

use std::collections::BTreeSet;

use jam_ir::recipe::{DataRef, DataSource, Measure, Step, TokenizerRecipe};
use jam_ir::{ImageTokens, TextTokens};

use super::Workload;
use crate::Result;

/// The steps of a program that `targets` need, themselves included, in the order of the program.
///
/// # Errors
/// When the program refers to what it does not have.
pub fn needed(work: &Workload, targets: &[Step]) -> Result<Vec<Step>> {
    let mut found = Found {
        work,
        names: BTreeSet::new(),
        steps: Vec::new(),
    };
    targets.iter().try_for_each(|target| found.step(target))?;
    let steps = work
        .program
        .steps
        .iter()
        .filter(|step| found.steps.contains(step));
    Ok(steps.cloned().collect())
}

struct Found<'w> {
    work: &'w Workload,
    names: BTreeSet<String>,
    steps: Vec<Step>,
}

impl Found<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        if self.steps.contains(step) {
            return Ok(());
        }
        self.steps.push(step.clone());
        let work = self.work;
        match step {
            Step::Lessons(_) => Ok(()),
            Step::Tokenizer(name) => match work.tokenizer(name)? {
                TokenizerRecipe::Bpe { train, .. } => self.all_data(train),
                TokenizerRecipe::Vq(vq) => self.all_data(&vq.train),
            },
            Step::Fuse(name) => {
                let parents = work.program.fusions.get(name).map(|fusion| &fusion.parents);
                parents
                    .into_iter()
                    .flatten()
                    .try_for_each(|parent| self.model(&parent.name))?;
                self.tokens(name)
            }
            Step::Train(name) => {
                let recipe = work.training(name)?;
                self.model(&recipe.model.name)?;
                self.tokens(&recipe.model.name)?;
                recipe
                    .data
                    .iter()
                    .try_for_each(|(_, data)| self.data(data))?;
                self.all_data(&recipe.validate)
            }
            Step::Eval(name) => {
                let recipe = work.evaluation(name)?;
                recipe
                    .models
                    .iter()
                    .try_for_each(|model| self.model(&model.name))?;
                recipe
                    .measures
                    .iter()
                    .try_for_each(|measure| match measure {
                        Measure::Perplexity { data, .. }
                        | Measure::Choice { data, .. }
                        | Measure::Drawn { data, .. } => self.data(data),
                    })
            }
            Step::Page(name) => {
                let recipe = work.page(name)?;
                self.data(&recipe.questions)?;
                recipe
                    .models
                    .iter()
                    .try_for_each(|model| self.model(&model.name))?;
                for report in &recipe.reports {
                    self.step(&Step::Eval(report.clone()))?;
                }
                for (tokenizer, data) in &recipe.tokenizers {
                    self.step(&Step::Tokenizer(tokenizer.clone()))?;
                    self.data(data)?;
                }
                recipe
                    .curves
                    .iter()
                    .try_for_each(|run| self.step(&Step::Train(run.clone())))
            }
        }
    }

    fn all_data(&mut self, data: &[DataRef]) -> Result<()> {
        data.iter().try_for_each(|data| self.data(data))
    }

    fn data(&mut self, data: &DataRef) -> Result<()> {
        for source in self.work.data(&data.name)?.splits.values() {
            if let DataSource::Lessons { lessons, .. } = source {
                self.step(&Step::Lessons(lessons.clone()))?;
            }
        }
        Ok(())
    }

    fn model(&mut self, name: &str) -> Result<()> {
        if !self.names.insert(name.to_owned()) {
            return Ok(());
        }
        let program = &self.work.program;
        if program.trainings.contains_key(name) {
            self.step(&Step::Train(name.to_owned()))
        } else if program.fusions.contains_key(name) {
            self.step(&Step::Fuse(name.to_owned()))
        } else {
            self.tokens(name)
        }
    }

    fn tokens(&mut self, model: &str) -> Result<()> {
        let tokens = &self.work.model(model)?.tokens;
        if let TextTokens::Tokenizer(name) = &tokens.text {
            self.step(&Step::Tokenizer(name.clone()))?;
        }
        if let ImageTokens::Tokenizer(name) = &tokens.image {
            self.step(&Step::Tokenizer(name.clone()))?;
        }
        Ok(())
    }
}
