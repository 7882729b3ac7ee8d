//! The one graph of steps: what each needs, in what order, and the key of what it makes.
//!
//! A kind of step states its inputs once ([`Kind::inputs`](super::kind::Kind::inputs)); everything that has to do
//! with them is derived here.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use indexmap::{IndexMap, IndexSet};
use jam_data::tokens::image::ImageTokenizerPlace;
use jam_data::tokens::text::TextTokenizer;
use jam_ir::recipe::{Checkpoint, DataRecipe, DataRef, DataSource, DecodeRecipe, Step};
use jam_ir::{Block, Called, ImageTokens, Model, ModelRef, Reference, TextTokens, TokenLayout};
use jam_weights::checkpoints::import::files_of;
use serde::Serialize;

use super::Workload;
use super::kind::KindOf;
use super::look::Look;
use crate::folders::COMPANIONS;
use crate::results::{Hashes, Ingredients, RESULT_FILE, Record, lines, read_optional};
use crate::{Error, Result};

/// Counts up when the result of a step means something else than before.
const FORMAT: u32 = 3;

/// Files of one source that are ingredients of their own; of more, one hash of all is.
const FILES: usize = 200;

/// What a step is made from.
#[derive(Debug)]
pub(crate) enum Input {
    /// Something that the program says, by its path in the recipe.
    Said(String, String),
    /// What an earlier step makes; of a training, in the state that is named.
    Step(Step, Option<Checkpoint>),
    /// Files of records of a data set, by the name of the ingredient's group.
    Records {
        /// Whose the files are, as their ingredients say.
        owner: String,
        /// What the records are.
        format: Called,
        /// The data set, in the split that was asked for.
        data: DataRef,
        /// The split that the files are.
        split: String,
        /// Patterns of their names, from the program's folder.
        patterns: Vec<String>,
    },
    /// A checkpoint of others, and whose.
    Weights(String, PathBuf),
    /// An image tokenizer of others, and whose.
    ImageTokenizer(String, PathBuf),
    /// A text tokenizer of others, and whose.
    TextTokenizer(String, PathBuf),
}

/// The inputs of a step, as its kind states them.
#[derive(Debug)]
pub(crate) struct Inputs<'w> {
    work: &'w Workload,
    all: Vec<Input>,
    group: &'static str,
}

impl<'w> Inputs<'w> {
    /// What is stated from now on does not change what is made, but what is told of it: `validate`.
    pub(crate) fn group(&mut self, group: &'static str) {
        self.group = group;
    }

    fn named(&self, name: &str) -> String {
        match self.group {
            "" => name.to_owned(),
            group => format!("{group} {name}"),
        }
    }

    /// Something that the program says.
    pub(crate) fn said(&mut self, name: &str, value: impl Into<String>) {
        let name = self.named(name);
        self.all.push(Input::Said(name, value.into()));
    }

    /// A recipe with all its values, but for those of `except`.
    pub(crate) fn recipe(
        &mut self,
        prefix: &str,
        recipe: &impl Serialize,
        except: &[&str],
    ) -> Result<()> {
        let value = serde_json::to_value(recipe)
            .map_err(|error| Error::new(format!("a recipe cannot be written: {error}")))?;
        for (name, value) in lines(prefix, &value) {
            if !except.contains(&name.as_str()) {
                self.said(&name, value);
            }
        }
        Ok(())
    }

    /// What an earlier step makes.
    pub(crate) fn step(&mut self, step: Step) {
        self.all.push(Input::Step(step, None));
    }

    /// A data set: what its recipe says, and where its records come from.
    pub(crate) fn data(&mut self, data: &DataRef) -> Result<()> {
        let recipe = self.work.data(&data.name)?;
        let name = format!("data {}", data.name);
        let bare = DataRecipe {
            splits: IndexMap::new(),
            span: None,
            ..recipe.clone()
        };
        self.recipe(&name, &bare, &[])?;
        for (split, source) in &recipe.splits {
            match source {
                // Patterns are spellings: what they find counts.
                DataSource::Files(patterns) => self.all.push(Input::Records {
                    owner: self.named(&format!("{name}.{split}")),
                    format: recipe.format.clone(),
                    data: data.clone(),
                    split: split.clone(),
                    patterns: patterns.clone(),
                }),
                DataSource::Lessons {
                    lessons,
                    part,
                    split: of,
                } => {
                    self.said(&format!("{name}.{split}"), format!("{lessons}.{part}.{of}"));
                    self.step(Step::Lessons(lessons.clone()));
                }
            }
        }
        Ok(())
    }

    /// Everything of the program that the settings of a use name.
    pub(crate) fn called(&mut self, called: &Called) -> Result<()> {
        let mut references = called.references().into_iter();
        references.try_for_each(|reference| match reference {
            Reference::Data(data) => self.data(data),
            Reference::Decode(name) => self.decode(name),
            Reference::Model(model) => self.model(model),
        })
    }

    /// A way of sampling.
    pub(crate) fn decode(&mut self, name: &str) -> Result<()> {
        let recipe = DecodeRecipe {
            span: None,
            ..self.work.decoding(name)?.clone()
        };
        self.recipe(&format!("decode {name}"), &recipe, &[])
    }

    /// A model with its vocabulary: what a training or fusion makes, or what the program describes or reads.
    pub(crate) fn model(&mut self, model: &ModelRef) -> Result<()> {
        let program = &self.work.program;
        let name = &model.name;
        if program.trainings.contains_key(name) {
            let step = Step::Train(name.clone());
            self.all.push(Input::Step(step, Some(model.checkpoint)));
        } else if program.fusions.contains_key(name) {
            self.step(Step::Fuse(name.clone()));
        } else {
            self.graph(name)?;
            let recipe = program.models.get(name);
            match recipe.and_then(|recipe| recipe.weights.as_ref()) {
                Some(weights) => {
                    let owner = self.named(&format!("model {name}"));
                    self.all
                        .push(Input::Weights(owner, self.work.path(weights)));
                }
                None => self.said("seed", program.seed.to_string()),
            }
        }
        self.vocabulary(name)
    }

    /// The graph of a model.
    pub(crate) fn graph(&mut self, name: &str) -> Result<()> {
        let graph = without_places(self.work.model(name)?);
        let hash = hash_of(&graph)?;
        self.said(&format!("graph {name}"), hash);
        Ok(())
    }

    /// The vocabulary of a model and the tokenizers behind it.
    pub(crate) fn vocabulary(&mut self, model: &str) -> Result<()> {
        let tokens = &self.work.model(model)?.tokens;
        self.tokens(&format!("vocabulary {model}"), tokens)
    }

    fn tokens(&mut self, name: &str, tokens: &TokenLayout) -> Result<()> {
        self.said(name, hash_of(&without_paths(tokens))?);
        match &tokens.text {
            TextTokens::Tokenizer(name) => self.step(Step::Tokenizer(name.clone())),
            TextTokens::Files(path) => {
                let path = self.work.path(path);
                self.all.push(Input::TextTokenizer(self.named(name), path));
            }
            TextTokens::Joint(paths) => {
                for path in paths {
                    let path = self.work.path(path);
                    self.all.push(Input::TextTokenizer(self.named(name), path));
                }
            }
            TextTokens::Ids => {}
        }
        match &tokens.image {
            ImageTokens::Tokenizer(name) => self.step(Step::Tokenizer(name.clone())),
            ImageTokens::Files(path) => {
                let owner = format!("{} (pictures)", self.named(name));
                let path = self.work.path(path);
                self.all.push(Input::ImageTokenizer(owner, path));
            }
            ImageTokens::Ids => {}
        }
        Ok(())
    }
}

fn hash_of(recipe: &impl Serialize) -> Result<String> {
    let text = ron::to_string(recipe)
        .map_err(|error| Error::new(format!("a recipe cannot be written: {error}")))?;
    Ok(blake3::hash(text.as_bytes()).to_hex()[..32].to_owned())
}

/// A vocabulary that no longer knows where its tokenizers lie: their contents count.
fn without_paths(tokens: &TokenLayout) -> TokenLayout {
    let mut tokens = tokens.clone();
    match &mut tokens.text {
        TextTokens::Files(path) => path.clear(),
        TextTokens::Joint(paths) => paths.iter_mut().for_each(String::clear),
        TextTokens::Tokenizer(_) | TextTokens::Ids => {}
    }
    if let ImageTokens::Files(path) = &mut tokens.image {
        path.clear();
    }
    tokens
}

/// A model that no longer knows where it was written.
fn without_places(model: &Model) -> Model {
    let mut model = model.clone();
    let clear = |block: &mut Block| {
        block.span = None;
        block.params.iter_mut().for_each(|param| param.span = None);
        block
            .body
            .iter_mut()
            .for_each(|statement| statement.span = None);
    };
    clear(&mut model.main);
    model.blocks.values_mut().for_each(clear);
    model
        .weights
        .values_mut()
        .for_each(|weight| weight.span = None);
    model.tokens = without_paths(&model.tokens);
    model
}

/// What a step is made from, as its kind states it.
fn inputs(work: &Workload, step: &Step, kind: KindOf) -> Result<Vec<Input>> {
    let mut inputs = Inputs {
        work,
        all: Vec::new(),
        group: "",
    };
    kind(step).inputs(work, step.name(), &mut inputs)?;
    Ok(inputs.all)
}

/// The steps of a program that `targets` need, themselves included: each after those it needs, and else in the order
/// of the program.
///
/// # Errors
/// When the program refers to what it does not have.
pub(super) fn needed(work: &Workload, targets: &[Step], kind: KindOf) -> Result<Vec<Step>> {
    let mut wanted: IndexSet<Step> = IndexSet::new();
    let mut waiting: Vec<Step> = targets.to_vec();
    let mut before: IndexMap<Step, Vec<Step>> = IndexMap::new();
    while let Some(step) = waiting.pop() {
        if !wanted.insert(step.clone()) {
            continue;
        }
        let mut needs = Vec::new();
        for input in inputs(work, &step, kind)? {
            if let Input::Step(step, _) = input {
                waiting.push(step.clone());
                needs.push(step);
            }
        }
        before.insert(step, needs);
    }
    let mut waiting: Vec<&Step> = work
        .program
        .steps
        .iter()
        .filter(|step| wanted.contains(*step))
        .collect();
    let mut ordered: Vec<Step> = Vec::new();
    while !waiting.is_empty() {
        let ready = |step: &&Step| before[*step].iter().all(|need| ordered.contains(need));
        let Some(next) = waiting.iter().position(ready) else {
            let names: Vec<String> = waiting.iter().map(|step| format!("`{step}`")).collect();
            let message = format!("these steps need one another: {}", names.join(", "));
            return Err(Error::new(message));
        };
        ordered.push(waiting.remove(next).clone());
    }
    Ok(ordered)
}

/// What every step of a workload is made from, each worked out once.
pub(crate) struct Graph<'w> {
    work: &'w Workload,
    hashes: &'w Hashes,
    kind: KindOf,
    look: Rc<Look>,
}

impl<'w> Graph<'w> {
    /// As files are now.
    pub(crate) fn new(work: &'w Workload, hashes: &'w Hashes, kind: KindOf) -> Graph<'w> {
        Graph::seen(work, hashes, kind, Rc::new(Look::new(&work.folder)))
    }

    /// As a look at the files has seen them.
    pub(super) fn seen(
        work: &'w Workload,
        hashes: &'w Hashes,
        kind: KindOf,
        look: Rc<Look>,
    ) -> Graph<'w> {
        Graph {
            work,
            hashes,
            kind,
            look,
        }
    }

    /// Data, among the ingredients worked out so far, whose lists name pictures that are not there.
    pub(crate) fn without_pictures(&self) -> Vec<DataRef> {
        self.look.without_pictures.borrow().clone()
    }

    /// The record of a step's result as if it were begun now.
    pub(crate) fn wanted(&self, step: &Step) -> Result<Record> {
        let ingredients = self.ingredients(step)?;
        let kind = (self.kind)(step);
        let base = ingredients.key_of(&|name| !kind.may_change(name));
        let program = &self.work.program.name;
        let name = step.name();
        Ok(Record::begin(step.word(), name, program, ingredients, base))
    }

    /// What a step is made from.
    pub(crate) fn ingredients(&self, step: &Step) -> Result<Ingredients> {
        if let Some(known) = self.look.steps.borrow().get(step) {
            return Ok(known.clone());
        }
        let mut found = Ingredients::default();
        found.add("format", FORMAT.to_string());
        for input in inputs(self.work, step, self.kind)? {
            self.add(&input, &mut found)?;
        }
        self.look
            .steps
            .borrow_mut()
            .insert(step.clone(), found.clone());
        Ok(found)
    }

    fn add(&self, input: &Input, found: &mut Ingredients) -> Result<()> {
        match input {
            Input::Said(name, value) => found.add(name, value),
            Input::Step(step, checkpoint) => {
                let key = self.made_key(step)?;
                let name = match checkpoint {
                    Some(Checkpoint::Best) => format!("step {step}.best"),
                    _ => format!("step {step}"),
                };
                found.add(name, key);
            }
            Input::Records {
                owner,
                format,
                data,
                split,
                patterns,
            } => self.records(owner, format, (data, split), patterns, found)?,
            Input::Weights(owner, path) => self.weights(owner, path, &files_of, found)?,
            Input::ImageTokenizer(owner, path) => {
                let files = |path: &Path| ImageTokenizerPlace::of(path).files();
                self.weights(owner, path, &files, found)?;
            }
            Input::TextTokenizer(owner, path) => {
                let mut files = TextTokenizer::files(path)?;
                if path.is_dir() {
                    let beside = COMPANIONS.map(|name| path.join(name));
                    files.retain(|file| !beside.contains(file));
                    for file in beside {
                        if crate::results::stands(&file)? {
                            files.push(file);
                        }
                    }
                }
                for file in &files {
                    let hash = self.hashes.content(file)?;
                    found.add_file(&self.look.called(file), owner, hash);
                }
            }
        }
        Ok(())
    }

    /// The key of a step for what is made from its result, with what the one that stands in its place went on through:
    /// its bits are not those of one that was undisturbed.
    fn made_key(&self, step: &Step) -> Result<String> {
        let key = self.ingredients(step)?.key();
        let record = read_optional(&self.work.result(step).join(RESULT_FILE))?;
        let record = record.and_then(|bytes| Record::parse(&bytes).ok());
        Ok(match record {
            Some(record) if record.key == key && !record.changes.is_empty() => {
                let went_on = format!("{key}\n{}", record.changes.join("\n"));
                blake3::hash(went_on.as_bytes()).to_hex()[..key.len()].to_owned()
            }
            _ => key,
        })
    }

    /// Contents of the files that are read of weights of others.
    fn weights(
        &self,
        owner: &str,
        path: &Path,
        files: &dyn Fn(&Path) -> Result<Vec<PathBuf>>,
        found: &mut Ingredients,
    ) -> Result<()> {
        for (file, hash) in self.hashes.weights(path, files)? {
            found.add_file(&self.look.called(&file), owner, hash);
        }
        Ok(())
    }

    /// Contents of the files of a data set, and of the pictures that they name.
    fn records(
        &self,
        owner: &str,
        format: &Called,
        (data, split): (&DataRef, &str),
        patterns: &[String],
        found: &mut Ingredients,
    ) -> Result<()> {
        let whose = format!("data `{}`, {split}", data.name);
        let records = self.look.records(self.hashes, &whose, format, patterns)?;
        let mut without = self.look.without_pictures.borrow_mut();
        if records.without_pictures && !without.contains(data) {
            without.push(data.clone());
        }
        let all = &records.files;
        if all.len() <= FILES {
            for (name, hash) in all {
                found.add_file(name, owner, hash.clone());
            }
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        for (name, hash) in all {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(hash.as_bytes());
        }
        let name = format!("one of the files of {}.{split}", data.name);
        let hash = hasher.finalize().to_hex()[..32].to_owned();
        found.add_file(&name, owner, hash);
        Ok(())
    }

    /// The key of a split of a data set as ids of a vocabulary.
    pub(crate) fn encoded_key(&self, data: &DataRef, layout: &TokenLayout) -> Result<String> {
        let mut inputs = Inputs {
            work: self.work,
            all: Vec::new(),
            group: "",
        };
        inputs.said("split", data.split.clone());
        inputs.data(data)?;
        inputs.tokens("vocabulary", layout)?;
        let mut found = Ingredients::default();
        found.add("format", FORMAT.to_string());
        for input in &inputs.all {
            self.add(input, &mut found)?;
        }
        Ok(found.key())
    }
}
