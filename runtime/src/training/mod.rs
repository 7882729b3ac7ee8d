//! Training: an objective, an optimizer, a schedule, checkpoints that resume to the same bits.
//!
//! ```text
//! training/NAME/
//!   log.jsonl      a line a step
//!   state/STEP/    weights, moments and place of the run, of the last two saves; gone at the end
//!   best/ last/    model folders
//! ```

mod log;
pub mod schedules;
mod state;

use std::path::Path;
use std::time::Instant;

use jam_backends::{Executable, Optimizer, Targets, Tokens};
use jam_ir::Model;
use jam_ir::recipe::TrainRecipe;

pub use log::{LogLine, read_log};

use crate::evaluation::{Reading, mean_loss};
use crate::folders::{ModelDraft, Tokenizers, write_by_rows, write_model};
use crate::results::{Slots, whole};
use crate::{Error, ErrorKind, Result};
use jam_data::batches::{Batch, BatchOptions, BatchStream, EncodedSet, objective_of};
use jam_weights::checkpoints::{CheckpointWriter, WriteOptions};
use jam_weights::progress::{Bar, Ended, Progress, Silent, Stop};
use log::Log;
use schedules::{At, schedule_of};
use state::RunState;

/// A training run with everything it reads.
pub struct Training<'a> {
    /// Name, for progress.
    pub name: &'a str,
    /// What is asked for.
    pub recipe: &'a TrainRecipe,
    /// The graph; its plans say where the first weights came from.
    pub model: &'a Model,
    /// Training data by weight.
    pub data: Vec<(f64, &'a EncodedSet)>,
    /// Validation data by name.
    pub validate: Vec<(String, &'a EncodedSet)>,
    /// The program, for model folders.
    pub source: &'a str,
    /// Sentence of the model card.
    pub made_by: String,
    /// The tokenizers that go into model folders.
    pub tokenizers: Tokenizers,
    /// Key of what may not change while the run goes on; a state with another key is refused.
    pub key: &'a str,
    /// The record of the result, which is saved with every state.
    pub record: &'a [u8],
}

impl Training<'_> {
    /// Runs to the last step, or until `stop` is asked; then the next call goes on from there.
    ///
    /// # Errors
    /// When data or weights do not fit, a loss is not a number, or a file cannot be written.
    pub fn run(
        &self,
        folder: &Path,
        executable: &mut Executable,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<Ended> {
        let recipe = self.recipe;
        let pad = self
            .model
            .tokens
            .marks
            .get("pad")
            .or(self.model.tokens.marks.get("eos"));
        let options = BatchOptions {
            form: recipe.form,
            size: recipe.batch,
            length: recipe.length as usize,
            objective: objective_of(&recipe.objective)?,
            seed: recipe.seed,
            pad: pad.copied().unwrap_or(0) as u32,
        };
        self.check_data()?;
        self.tell_limits(progress);
        let mut stream = BatchStream::new(self.data.clone(), options)?;
        let mut optimizer = Optimizer::new(executable, &recipe.optimizer)?;
        let peak = Optimizer::peak(&recipe.optimizer)?;
        let schedule = schedule_of(&recipe.schedule)?;
        let slots = Slots::of_result(folder);
        let note = |text: &str| progress.note(text);
        let mut state = RunState::open(&slots, self.key, executable, &mut optimizer, &note)?;
        if state.best.is_some()
            && let Err(damage) = whole(&folder.join("best"))
        {
            if damage.kind == ErrorKind::Io {
                return Err(damage);
            }
            progress.note(&format!(
                "{damage}: the best state is looked for from here on"
            ));
            state.best = None;
        }
        if state.step > 0 {
            progress.note(&format!("{}: goes on from step {}", self.name, state.step));
            stream.skip_to(state.step);
        }
        let mut log = Log::resume(&folder.join("log.jsonl"), state.step, &note)?;
        let mut bar = progress.begin(self.name, recipe.steps);
        bar.at(state.step, "");
        while state.step < recipe.steps {
            let begun = Instant::now();
            let batch = stream.next_batch();
            // A row inside of one long question is read, and nothing is learnt from it.
            let mut learnt = None;
            let at = At {
                peak,
                step: state.step,
                steps: recipe.steps,
            };
            let lr = schedule.rate(&recipe.schedule, at)?;
            if batch.learned() > 0 {
                learnt = Some(self.step(executable, &mut optimizer, &batch, lr)?);
            }
            let rate = batch.learned() as f64 / begun.elapsed().as_secs_f64();
            state.step += 1;
            state.tokens += batch.learned();
            match learnt {
                Some((loss, _)) => {
                    bar.at(state.step, &format!("loss {loss:.3}  {rate:.0} tokens/s"))
                }
                None => bar.at(state.step, "nothing to learn"),
            }
            let validates = !self.validate.is_empty()
                && (state.step.is_multiple_of(recipe.validate_every.max(1))
                    || state.step == recipe.steps);
            let validation = if validates {
                self.validation(executable)?
            } else {
                Vec::new()
            };
            log.add(&LogLine {
                step: state.step,
                tokens: state.tokens,
                loss: learnt.map(|(loss, _)| loss),
                grad_norm: learnt.map(|(_, norm)| norm),
                lr,
                tokens_per_second: rate,
                validation: validation.clone(),
            })?;
            if validates {
                let mean =
                    validation.iter().map(|(_, loss)| loss).sum::<f64>() / validation.len() as f64;
                if state.best.is_none_or(|best| mean < best) {
                    state.best = Some(mean);
                    self.write(&folder.join("best"), executable)?;
                }
            }
            let last = state.step == recipe.steps;
            if !last && (stop.asked() || state.step.is_multiple_of(recipe.save_every.max(1))) {
                state.save(&slots, self.record, executable, &optimizer)?;
            }
            if !last && stop.asked() {
                return Ok(Ended::Stopped);
            }
        }
        drop(bar);
        self.tell_empty_steps(&folder.join("log.jsonl"), progress)?;
        self.write(&folder.join("last"), executable)?;
        if state.best.is_none() {
            self.write(&folder.join("best"), executable)?;
        }
        state.save(&slots, self.record, executable, &optimizer)?;
        Ok(Ended::Complete)
    }

    /// One optimizer step: loss and norm of the gradients before clipping.
    fn step(
        &self,
        executable: &mut Executable,
        optimizer: &mut Optimizer,
        batch: &Batch,
        lr: f64,
    ) -> Result<(f64, f64)> {
        let tokens = Tokens::new(&batch.tokens, batch.rows);
        let targets = Targets {
            ids: &batch.targets,
            weights: &batch.weights,
        };
        let step = executable.train_step(&[(tokens, targets)], self.recipe.recompute)?;
        let loss = step.loss.mean;
        if !loss.is_finite() {
            let help =
                "the rate is too high, or a weight is damaged: lower `lr`, or lengthen the warm-up";
            let message = format!("the loss of `{}` is {loss}", self.name);
            return Err(Error::of(ErrorKind::NotFinite, message).with_help(help));
        }
        let norm = optimizer.step(executable, step.gradients, lr)?;
        Ok((loss, norm))
    }

    fn validation(&self, executable: &Executable) -> Result<Vec<(String, f64)>> {
        let reading = Reading {
            limit: self.recipe.validate_limit as usize,
            length: self.recipe.length as usize,
            objective: objective_of(&self.recipe.objective)?,
        };
        let mut losses = Vec::new();
        for (name, set) in &self.validate {
            let loss = mean_loss(executable, &self.model.tokens, set, &reading);
            let loss = loss.map_err(|error| Error {
                message: format!("validation on `{name}`: {}", error.message),
                ..error
            })?;
            losses.push((name.clone(), loss.all.mean()));
        }
        Ok(losses)
    }

    /// Refuses data of which nothing would be learnt, or nothing could be validated.
    fn check_data(&self) -> Result<()> {
        let objective = objective_of(&self.recipe.objective)?;
        let learns = |set: &EncodedSet, documents: usize| {
            let read = |index| objective.read(set, index).max(1);
            (0..documents).any(|index| read(index) < set.document(index).len())
        };
        let lacking = objective.lacking();
        let limit = match self.recipe.validate_limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let learnt = self.data.iter().any(|(_, set)| learns(set, set.len()));
        let empty = self
            .validate
            .iter()
            .find(|(_, set)| !learns(set, set.len().min(limit)));
        let message = match (learnt, empty) {
            (false, _) => format!(
                "`{}` has nothing to learn: its data has {lacking}",
                self.name
            ),
            (true, Some((name, _))) => format!("the validation data `{name}` has {lacking}"),
            (true, None) => return Ok(()),
        };
        let signature = objective.signature();
        let help = format!("`objective = {}`: {}", signature.word, signature.help);
        Err(Error::new(message).with_help(help))
    }

    /// Tells which validation sets are not read whole.
    fn tell_limits(&self, progress: &dyn Progress) {
        let limit = self.recipe.validate_limit;
        for (name, set) in &self.validate {
            if limit > 0 && set.len() as u64 > limit {
                progress.note(&format!(
                    "{}: validation reads the first {limit} of {} documents of {name}",
                    self.name,
                    set.len()
                ));
            }
        }
    }

    /// Tells how many steps had nothing to learn.
    fn tell_empty_steps(&self, log: &Path, progress: &dyn Progress) -> Result<()> {
        let empty = read_log(log)?
            .iter()
            .filter(|line| line.loss.is_none())
            .count();
        if empty > 0 {
            progress.note(&format!(
                "{}: {empty} of {} steps had nothing to learn, since every token of their batches was of a \
                 question; larger batches or a longer `length` help",
                self.name, self.recipe.steps
            ));
        }
        Ok(())
    }

    fn write(&self, target: &Path, executable: &Executable) -> Result<()> {
        let draft = ModelDraft {
            model: self.model,
            source: self.source,
            card: crate::folders::model_card(self.model, &self.made_by),
            tokenizers: self.tokenizers.clone(),
            files: Vec::new(),
            // The state before it.
            replace: true,
        };
        // One weight at a time is on the host.
        let mut held: (String, Vec<f32>, usize) = Default::default();
        let mut rows = |name: &str, rows: std::ops::Range<u64>| {
            if held.0 != name {
                let numbers = executable.read(name)?;
                let shape = executable
                    .parameters()
                    .iter()
                    .find(|p| p.name() == name)
                    .map(|p| p.shape());
                let width = shape.map_or(1, |shape| shape.iter().skip(1).product());
                held = (name.to_owned(), numbers, width);
            }
            let (_, numbers, width) = &held;
            Ok(numbers[rows.start as usize * width..rows.end as usize * width].to_vec())
        };
        let mut write = |writer: &mut CheckpointWriter, bar: &mut dyn Bar| {
            write_by_rows(self.model, &mut rows, writer, bar)
        };
        write_model(target, &draft, WriteOptions::default(), &mut write, &Silent)?;
        Ok(())
    }
}
