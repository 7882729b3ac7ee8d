//! Keys of steps: a step is done when the key of its recipe, inputs and format is the one on disk.
//!
//! A key is a BLAKE3 hash, so that a change anywhere upstream (a number in a recipe, a file of the
//! data, the format of a folder) changes every key that depends on it, and nothing else does.
//! Spans are left out: moving a line does not train a model again. Files count by name, size and
//! time, the pictures that articles and lists of captions name by their contents.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use jam_ir::recipe::{
    DataKind, DataRef, DataSource, DecodeRecipe, EvalRecipe, Measure, PageRecipe, TokenizerRecipe,
    TrainRecipe,
};
use jam_ir::{Block, ImageTokens, Model, ModelRef, TextTokens, TokenLayout};
use serde::Serialize;

use super::Workload;
use super::listed::picture_contents;
use crate::{Error, Result};

/// Counts up when the result of a step means something else than before.
const FORMAT: u32 = 2;

/// Keys of everything in a workload, each worked out once.
pub(super) struct Keys<'w> {
    work: &'w Workload,
    known: RefCell<BTreeMap<String, String>>,
    /// Data whose lists name pictures that are not there.
    without_pictures: RefCell<Vec<DataRef>>,
    /// Whether hashes of pictures are kept on the disk.
    remembers: bool,
}

impl<'w> Keys<'w> {
    pub(super) fn new(work: &'w Workload) -> Keys<'w> {
        Keys {
            work,
            known: RefCell::default(),
            without_pictures: RefCell::default(),
            remembers: true,
        }
    }

    /// The same keys, without writing anything.
    pub(super) fn reading(work: &'w Workload) -> Keys<'w> {
        Keys {
            remembers: false,
            ..Keys::new(work)
        }
    }

    /// Data, among those of the keys worked out so far, whose lists name pictures that are not there.
    pub(super) fn without_pictures(&self) -> Vec<DataRef> {
        self.without_pictures.borrow().clone()
    }

    /// Works out a key once; `make` adds everything that the key depends on.
    fn once(
        &self,
        name: String,
        make: impl FnOnce(&mut KeyHasher) -> Result<()>,
    ) -> Result<String> {
        if let Some(key) = self.known.borrow().get(&name) {
            return Ok(key.clone());
        }
        let mut hasher = KeyHasher::default();
        hasher.text(&FORMAT.to_string());
        make(&mut hasher)?;
        let key = hasher.0.finalize().to_hex()[..32].to_owned();
        self.known.borrow_mut().insert(name, key.clone());
        Ok(key)
    }

    pub(super) fn lessons(&self, name: &str) -> Result<String> {
        self.once(format!("lessons {name}"), |hasher| {
            hasher.text(jam_lessons::FORMAT);
            hasher.recipe(self.work.lessons(name)?)
        })
    }

    pub(super) fn data(&self, data: &DataRef) -> Result<String> {
        self.once(format!("data {data}"), |hasher| {
            let mut recipe = self.work.data(&data.name)?.clone();
            recipe.span = None;
            let sources = std::mem::take(&mut recipe.splits);
            hasher.recipe(&recipe)?;
            hasher.text(&data.split);
            for (split, source) in &sources {
                hasher.text(split);
                match source {
                    DataSource::Files(patterns) => {
                        let found = jam_data::sources::matching_files(&self.work.folder, patterns);
                        let files = found.map_err(|error| Error {
                            message: format!("data `{}`, {split}: {}", data.name, error.message),
                            ..error
                        })?;
                        for file in &files {
                            hasher.file(file)?;
                        }
                        if matches!(recipe.kind, DataKind::ImageText | DataKind::Interleaved) {
                            self.pictures(&recipe.kind, data, &files, hasher)?;
                        }
                    }
                    DataSource::Lessons {
                        lessons,
                        part,
                        split,
                    } => {
                        hasher.text(&self.lessons(lessons)?);
                        hasher.text(part);
                        hasher.text(split);
                    }
                }
            }
            Ok(())
        })
    }

    /// Contents of the pictures that lists name.
    fn pictures(
        &self,
        kind: &DataKind,
        data: &DataRef,
        files: &[PathBuf],
        hasher: &mut KeyHasher,
    ) -> Result<()> {
        let names = format!("{files:?}");
        let name = blake3::hash(names.as_bytes()).to_hex();
        let memory = format!("{}.pictures.json", &name[..32]);
        let memory = self.work.out.join("cache").join(memory);
        let files = jam_data::sources::unfolded(kind, files)?;
        let mut absent = false;
        picture_contents(kind, &files, &memory, self.remembers, |path, content| {
            hasher.text(&path.to_string_lossy());
            hasher.text(content.unwrap_or("missing"));
            absent |= content.is_none();
        })?;
        let mut without = self.without_pictures.borrow_mut();
        if absent && !without.contains(data) {
            without.push(data.clone());
        }
        Ok(())
    }

    pub(super) fn tokenizer(&self, name: &str) -> Result<String> {
        self.once(format!("tokenizer {name}"), |hasher| {
            let recipe = self.work.tokenizer(name)?;
            hasher.recipe(recipe)?;
            let data = match recipe {
                TokenizerRecipe::Bpe { train, .. } => train,
                TokenizerRecipe::Vq(vq) => &vq.train,
            };
            for data in data {
                hasher.text(&self.data(data)?);
            }
            Ok(())
        })
    }

    /// Key of a vocabulary: its layout and the tokenizers behind it.
    pub(super) fn tokens(&self, layout: &TokenLayout) -> Result<String> {
        self.once(format!("tokens {layout:?}"), |hasher| {
            hasher.recipe(layout)?;
            match &layout.text {
                TextTokens::Tokenizer(name) => hasher.text(&self.tokenizer(name)?),
                TextTokens::Files(path) => hasher.file(&self.work.path(path))?,
                TextTokens::Joint(paths) => {
                    for path in paths {
                        hasher.file(&self.work.path(path))?;
                    }
                }
                TextTokens::Ids => {}
            }
            match &layout.image {
                ImageTokens::Tokenizer(name) => hasher.text(&self.tokenizer(name)?),
                ImageTokens::Files(path) => hasher.file(&self.work.path(path))?,
                ImageTokens::Ids => {}
            }
            Ok(())
        })
    }

    pub(super) fn model(&self, model: &ModelRef) -> Result<String> {
        let work = self.work;
        let program = &work.program;
        if program.trainings.contains_key(&model.name) {
            let key = self.train(&model.name)?;
            return Ok(format!("{key}:{:?}", model.checkpoint));
        }
        self.once(format!("model {}", model.name), |hasher| {
            let graph = work.model(&model.name)?;
            hasher.recipe(&without_spans(graph))?;
            hasher.text(&self.tokens(&graph.tokens)?);
            if let Some(fusion) = program.fusions.get(&model.name) {
                hasher.text(&program.seed.to_string());
                for parent in &fusion.parents {
                    hasher.text(&self.model(parent)?);
                }
                return Ok(());
            }
            match program
                .models
                .get(&model.name)
                .and_then(|recipe| recipe.weights.as_ref())
            {
                Some(weights) => hasher.file(&work.path(weights))?,
                None => hasher.text(&program.seed.to_string()),
            }
            Ok(())
        })
    }

    pub(super) fn train(&self, name: &str) -> Result<String> {
        self.once(format!("train {name}"), |hasher| {
            let recipe = self.work.training(name)?;
            // How often a run saves does not change what it learns.
            let bare = TrainRecipe {
                span: None,
                save_every: 0,
                ..recipe.clone()
            };
            hasher.recipe(&bare)?;
            hasher.text(&self.model(&recipe.model)?);
            hasher.text(&self.tokens(&self.work.model(&recipe.model.name)?.tokens)?);
            let data = recipe
                .data
                .iter()
                .map(|(_, data)| data)
                .chain(&recipe.validate);
            for data in data {
                hasher.text(&self.data(data)?);
            }
            Ok(())
        })
    }

    fn decode(&self, name: &str, hasher: &mut KeyHasher) -> Result<()> {
        hasher.recipe(&DecodeRecipe {
            span: None,
            ..self.work.decoding(name)?.clone()
        })
    }

    pub(super) fn eval(&self, name: &str) -> Result<String> {
        self.once(format!("eval {name}"), |hasher| {
            let recipe = self.work.evaluation(name)?;
            hasher.recipe(&EvalRecipe {
                span: None,
                ..recipe.clone()
            })?;
            for model in &recipe.models {
                hasher.text(&self.model(model)?);
                hasher.text(&self.tokens(&self.work.model(&model.name)?.tokens)?);
            }
            for measure in &recipe.measures {
                let (Measure::Perplexity { data, .. }
                | Measure::Choice { data, .. }
                | Measure::Drawn { data, .. }) = measure;
                hasher.text(&self.data(data)?);
                if let Measure::Drawn { decode, .. } = measure {
                    self.decode(decode, hasher)?;
                }
            }
            Ok(())
        })
    }

    pub(super) fn page(&self, name: &str) -> Result<String> {
        self.once(format!("page {name}"), |hasher| {
            let recipe = self.work.page(name)?;
            hasher.recipe(&PageRecipe {
                span: None,
                ..recipe.clone()
            })?;
            hasher.text(&self.data(&recipe.questions)?);
            self.decode(&recipe.decode, hasher)?;
            for model in &recipe.models {
                hasher.text(&self.model(model)?);
            }
            for report in &recipe.reports {
                hasher.text(&self.eval(report)?);
            }
            for (tokenizer, data) in &recipe.tokenizers {
                hasher.text(&self.tokenizer(tokenizer)?);
                hasher.text(&self.data(data)?);
            }
            for run in &recipe.curves {
                hasher.text(&self.train(run)?);
            }
            Ok(())
        })
    }
}

/// A model that no longer knows where it was written.
fn without_spans(model: &Model) -> Model {
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
    model
}

/// Hashes parts with their lengths, so that no two lists of parts run together.
#[derive(Default)]
struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    fn text(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    fn recipe(&mut self, recipe: &impl Serialize) -> Result<()> {
        let text = ron::to_string(recipe)
            .map_err(|error| Error::new(format!("a recipe cannot be written: {error}")))?;
        self.text(&text);
        Ok(())
    }

    /// Names, sizes and times of a file, or of every file of a folder.
    fn file(&mut self, path: &Path) -> Result<()> {
        let meta = path
            .metadata()
            .map_err(|error| Error::io("read", path, error))?;
        self.entry(path, &meta)
    }

    fn entry(&mut self, path: &Path, meta: &Metadata) -> Result<()> {
        self.text(&path.to_string_lossy());
        if meta.is_dir() {
            let failed = |error| Error::io("list", path, error);
            let mut entries = Vec::new();
            for entry in path.read_dir().map_err(failed)? {
                entries.push(entry.map_err(failed)?.path());
            }
            entries.sort();
            for entry in &entries {
                match entry.metadata() {
                    Ok(meta) => self.entry(entry, &meta)?,
                    // A link that leads nowhere need not be one that is read.
                    Err(_) => self.text(&format!("missing {}", entry.display())),
                }
            }
            return Ok(());
        }
        self.text(&meta.len().to_string());
        let time = meta
            .modified()
            .ok()
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        self.text(&time.map_or(0, |time| time.as_nanos()).to_string());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use indexmap::IndexMap;
    use jam_ir::Program;
    use jam_ir::recipe::DataRecipe;

    use super::*;

    #[test]
    fn a_picture_of_an_article_is_part_of_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        let article = r#"{"segments": [{"text": "a house"}, {"image": "house.png"}]}"#;
        fs::write(place.join("a.jsonl"), article).unwrap();
        let mut program = Program::default();
        let patterns = DataSource::Files(vec!["*.jsonl".to_owned()]);
        let recipe = DataRecipe {
            kind: DataKind::Interleaved,
            splits: [("train".to_owned(), patterns)].into(),
            held_out: 0.0,
            max_pictures: 0,
            span: None,
        };
        program.data.insert("articles".to_owned(), recipe);
        let work = Workload {
            program,
            models: IndexMap::new(),
            source: String::new(),
            folder: place.to_owned(),
            out: place.join("out"),
        };
        let key = || {
            let data = DataRef {
                name: "articles".to_owned(),
                split: "train".to_owned(),
            };
            Keys::new(&work).data(&data).unwrap()
        };
        let missing = key();
        fs::write(place.join("house.png"), b"red").unwrap();
        let red = key();
        assert_eq!(key(), red, "nothing has changed");
        fs::write(place.join("house.png"), b"blue").unwrap();
        let blue = key();
        assert!(missing != red && red != blue && blue != missing);
        fs::write(place.join("house.png"), b"red").unwrap();
        assert_eq!(key(), red, "the content counts, not the time");
    }
}
