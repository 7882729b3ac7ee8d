//! A program with every model it names, and the folder where its results go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use jam_ir::recipe::{
    Checkpoint, DataRecipe, DecodeRecipe, EvalRecipe, LessonsRecipe, PageRecipe, Step, TrainRecipe,
};
use jam_ir::{Called, ImageTokens, Model, ModelRef, Program, TextTokens};

use crate::{Error, Result};

/// Everything that the steps of a program need to know.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The program.
    pub program: Program,
    /// The graph behind every name that a [`ModelRef`] may have: models, fusions, trainings.
    pub models: IndexMap<String, Arc<Model>>,
    /// Source text of the main file, and behind it of those it uses; goes into model folders.
    pub source: String,
    /// The file of the program, as it was given.
    pub file: PathBuf,
    /// Where relative paths of the program start.
    pub folder: PathBuf,
    /// Where results go.
    pub out: PathBuf,
    /// Where the program says a setting, `drawing.jam:45`, by step and path: `train tune.optimizer`.
    pub places: BTreeMap<String, String>,
    /// The flags that the program was read and is carried out with, as a command that a report names repeats them.
    pub flags: Vec<String>,
}

/// Folder of the result of a step in a folder of results.
pub fn result_folder(out: &Path, step: &Step) -> PathBuf {
    out.join(step.folder()).join(step.name())
}

/// A lookup that tells what is missing: the language has checked names, a stored program may lie.
fn found<'a, T>(map: &'a IndexMap<String, T>, what: &str, name: &str) -> Result<&'a T> {
    map.get(name)
        .ok_or_else(|| Error::new(format!("the program has no {what} `{name}`")))
}

impl Workload {
    /// The graph behind the name of a model, fusion or training.
    ///
    /// # Errors
    /// When the program has none of this name; so for the lookups below.
    pub fn model(&self, name: &str) -> Result<&Model> {
        found(&self.models, "model", name).map(Arc::as_ref)
    }

    /// Drawing lessons.
    ///
    /// # Errors
    /// When the program has none of this name.
    pub fn lessons(&self, name: &str) -> Result<&LessonsRecipe> {
        found(&self.program.lessons, "lessons", name)
    }

    /// A data set.
    ///
    /// # Errors
    /// When the program has none of this name.
    pub fn data(&self, name: &str) -> Result<&DataRecipe> {
        found(&self.program.data, "data", name)
    }

    /// A tokenizer trained by the program.
    ///
    /// # Errors
    /// When the program has none of this name.
    pub fn tokenizer(&self, name: &str) -> Result<&Called> {
        found(&self.program.tokenizers, "tokenizer", name)
    }

    /// A training run.
    ///
    /// # Errors
    /// When the program has none of this name.
    pub fn training(&self, name: &str) -> Result<&TrainRecipe> {
        found(&self.program.trainings, "training", name)
    }

    /// A way of sampling.
    ///
    /// # Errors
    /// When the program has none of this name.
    pub fn decoding(&self, name: &str) -> Result<&DecodeRecipe> {
        found(&self.program.decodings, "decoding", name)
    }

    /// A report.
    ///
    /// # Errors
    /// When the program has none of this name.
    pub fn evaluation(&self, name: &str) -> Result<&EvalRecipe> {
        found(&self.program.evaluations, "report", name)
    }

    /// A page.
    ///
    /// # Errors
    /// When the program has none of this name.
    pub fn page(&self, name: &str) -> Result<&PageRecipe> {
        found(&self.program.pages, "page", name)
    }

    /// A path of the program, from its folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Folder of the result of a step.
    pub fn result(&self, step: &Step) -> PathBuf {
        result_folder(&self.out, step)
    }

    /// The step that makes the weights behind a reference; `None` where the program reads or draws them.
    pub fn made_by(&self, model: &ModelRef) -> Option<Step> {
        let name = &model.name;
        if self.program.trainings.contains_key(name) {
            return Some(Step::Train(name.clone()));
        }
        let fused = self.program.fusions.contains_key(name);
        fused.then(|| Step::Fuse(name.clone()))
    }

    /// Folder with the weights behind a reference; `None` for a fresh model.
    pub fn weights(&self, model: &ModelRef) -> Option<PathBuf> {
        if let Some(step) = self.made_by(model) {
            let folder = self.result(&step);
            return Some(match (step, model.checkpoint) {
                (Step::Train(_), Checkpoint::Last) => folder.join("last"),
                (Step::Train(_), Checkpoint::Best) => folder.join("best"),
                _ => folder,
            });
        }
        let recipe = self.program.models.get(&model.name)?;
        recipe.weights.as_ref().map(|weights| self.path(weights))
    }
}

impl Workload {
    /// Where the text tokenizer of a vocabulary lies: files, or what the program trains; `None` for bare ids, and
    /// for the union of several, which is made.
    pub fn text_tokenizer(&self, text: &TextTokens) -> Option<PathBuf> {
        match text {
            TextTokens::Tokenizer(name) => Some(self.result(&Step::Tokenizer(name.clone()))),
            TextTokens::Files(path) => Some(self.path(path)),
            TextTokens::Joint(_) | TextTokens::Ids => None,
        }
    }

    /// Where the image tokenizer of a vocabulary lies; `None` for bare ids.
    pub fn image_tokenizer(&self, image: &ImageTokens) -> Option<PathBuf> {
        match image {
            ImageTokens::Tokenizer(name) => Some(self.result(&Step::Tokenizer(name.clone()))),
            ImageTokens::Files(path) => Some(self.path(path)),
            ImageTokens::Ids => None,
        }
    }
}

impl Workload {
    /// Where the program says a setting of a step: the line of the setting or, where that is not known, of what it is in.
    pub(super) fn place_of(&self, step: &Step, setting: &str) -> Option<String> {
        let mut path = format!("{step}.{setting}");
        loop {
            if let Some(place) = self.places.get(&path) {
                return Some(place.clone());
            }
            let end = path.rfind('.')?;
            path.truncate(end);
        }
    }

    /// The command that makes the result of a step anew, as a shell reads it.
    pub(super) fn restart(&self, step: &Step) -> String {
        match step {
            Step::Train(name) => self.command("train", &[name, "--restart"]),
            step => self.command("run", &["--restart", step.name()]),
        }
    }
}

impl Workload {
    /// A command on this program, with the flags that it was read with, as a shell reads it.
    pub fn command(&self, name: &str, arguments: &[&str]) -> String {
        let file = self.file.display().to_string();
        let flags = self.flags.iter().map(String::as_str);
        let words = ["jamc", name, &file].into_iter();
        let words = words.chain(arguments.iter().copied()).chain(flags);
        words.map(quoted).collect::<Vec<_>>().join(" ")
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:+,@%".contains(c);
    match word.chars().all(plain) && !word.is_empty() {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
