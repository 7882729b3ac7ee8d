//! Data sets as `jamc run` will find them: files of their kind, records that can be read, splits that are not empty.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use jam_data::sources::{
    Document, SplitDocuments, absent_pictures, divided_documents, format_of, holds_out,
    matching_files, split_documents,
};
use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::recipe::{DataRecipe, DataRef, DataSource, PageRecipe};
use jam_ir::{Called, Error, Holds, Program, Reference, Result, SettingKind};
use jam_lessons::PairRecord;

use crate::program::Loaded;
use crate::words::words;

/// Bytes of files that are looked through: what has more is not empty by chance, and takes its time.
const MOST_BYTES: u64 = 64 << 20;
/// Bytes of shards, most of which are pictures, that are not read.
const MOST_SHARD_BYTES: u64 = 4 << 30;

/// What was seen of the documents of splits.
#[derive(Debug, Default)]
pub(super) struct Seen(IndexMap<(String, String), Contents>);

impl Seen {
    /// Whether a split has documents with pictures; `None` where nobody has looked.
    pub(super) fn pictures(&self, data: &DataRef) -> Option<bool> {
        let key = (data.name.clone(), data.split.clone());
        self.0.get(&key).map(|contents| contents.pictures)
    }
}

/// What the documents of one split are.
#[derive(Clone, Copy, Debug)]
struct Contents {
    /// Whether any has a picture.
    pictures: bool,
    /// Whether any has a question.
    prompts: bool,
    /// Whether all say what their picture shows.
    scenes: bool,
}

impl Contents {
    fn of(documents: &[Document]) -> Contents {
        let scene = |document: &Document| {
            serde_json::from_value::<PairRecord>(document.meta.clone()).is_ok()
        };
        Contents {
            pictures: documents.iter().any(|document| document.pictures() > 0),
            prompts: documents.iter().any(|document| document.prompt.is_some()),
            scenes: documents.iter().all(scene),
        }
    }
}

/// Adds notes on what is absent and errors on what will be refused.
pub(super) fn check(loaded: &Loaded, diagnostics: &mut Diagnostics) -> Seen {
    let program = &loaded.program;
    let used = used(program);
    let mut seen = Seen::default();
    for (name, recipe) in &program.data {
        let mut there = true;
        for (split, source) in &recipe.splits {
            let DataSource::Files(patterns) = source else {
                there = false;
                continue;
            };
            if let Err(error) = matching_files(&loaded.folder, patterns) {
                there = false;
                let message = format!("data `{name}`, {split}: {}", error.message);
                diagnostics.push(absent(recipe, message));
            }
        }
        let reference = |split: &str| DataRef {
            name: name.clone(),
            split: split.to_owned(),
        };
        let is_used = |split: &str| there && used.contains(&reference(split).to_string());
        let mut files = Files {
            folder: &loaded.folder,
            together: is_used("train") && is_used("val"),
            val: None,
        };
        for split in ["train", "val", "test"] {
            if !is_used(split) {
                continue;
            }
            let reference = reference(split);
            match look(&mut files, recipe, &reference, diagnostics) {
                Ok(Some(contents)) => {
                    let key = (name.clone(), split.to_owned());
                    seen.0.insert(key, contents);
                }
                Ok(None) => {}
                Err(error) => diagnostics.push(refused(recipe, &reference, error)),
            }
        }
    }
    drawn(program, &seen, diagnostics);
    pages(program, &seen, diagnostics);
    seen
}

/// The files of a data set.
struct Files<'l> {
    /// Where the patterns of their names start.
    folder: &'l Path,
    /// Whether `train` and `val` are both asked for.
    together: bool,
    /// The `val` that is held out of `train`, which was read with it.
    val: Option<Result<SplitDocuments>>,
}

impl Files<'_> {
    fn find(&self, source: &DataSource) -> Result<Vec<PathBuf>> {
        match source {
            DataSource::Files(patterns) => matching_files(self.folder, patterns),
            DataSource::Lessons { .. } => Ok(Vec::new()),
        }
    }

    /// The documents of a split; what is divided is read once.
    fn split(&mut self, recipe: &DataRecipe, reference: &DataRef) -> Result<SplitDocuments> {
        let split = reference.split.as_str();
        if split == "val"
            && let Some(val) = self.val.take()
        {
            return val;
        }
        if split == "train" && self.together && holds_out(recipe, split) {
            let [train, val] =
                divided_documents(recipe, &reference.name, &|source| self.find(source))?;
            self.val = Some(val);
            return train;
        }
        split_documents(recipe, reference, &|source| self.find(source))
    }
}

/// Reads the documents of a split whose files are there, as far as they are few; `None` where nothing was read.
fn look(
    data: &mut Files<'_>,
    recipe: &DataRecipe,
    reference: &DataRef,
    diagnostics: &mut Diagnostics,
) -> Result<Option<Contents>> {
    let source = recipe.splits.get(&reference.split);
    let Some(source) = source.or_else(|| recipe.splits.get("train")) else {
        return Ok(None);
    };
    let files = data.find(source)?;
    if !are_few(&files) {
        return Ok(None);
    }
    let format = format_of(&recipe.format)?;
    if format.signature().holds.contains(&Holds::Choices) {
        return format.items(&recipe.format, &files).map(|_| None);
    }
    let split = data.split(recipe, reference)?;
    for note in split.notes {
        diagnostics.push(match recipe.span {
            Some(span) => Diagnostic::note_at(span, note).label(span, "read here"),
            None => continue,
        });
    }
    if let Err(error) = absent_pictures(reference, &split.documents) {
        let path = error.path.map(|path| format!(": {}", path.display()));
        let message = format!("{}{}", error.message, path.unwrap_or_default());
        diagnostics.push(absent(recipe, message));
    }
    Ok(Some(Contents::of(&split.documents)))
}

/// Whether files are so small that they are looked through.
fn are_few(files: &[PathBuf]) -> bool {
    let (mut texts, mut shards) = (0, 0);
    for file in files {
        let size = std::fs::metadata(file).map_or(0, |meta| meta.len());
        match file.extension().is_some_and(|ending| ending == "tar") {
            true => shards += size,
            false => texts += size,
        }
    }
    texts <= MOST_BYTES && shards <= MOST_SHARD_BYTES
}

/// A note on what is not there.
fn absent(recipe: &DataRecipe, message: String) -> Diagnostic {
    let span = recipe.span.unwrap_or_default();
    let note = Diagnostic::note_at(span, message).code("absent");
    note.label(span, "needed to run, not to check")
}

/// The report on data that a step would refuse.
fn refused(recipe: &DataRecipe, reference: &DataRef, error: Error) -> Diagnostic {
    let span = recipe.span.unwrap_or_default();
    let path = error.path.map(|path| format!("{}: ", path.display()));
    let message = format!("{}{}", path.unwrap_or_default(), error.message);
    let whole = format!("data `{reference}`");
    let message = match message.starts_with(&whole) {
        true => message,
        false => format!("{whole}: {message}"),
    };
    Diagnostic::error(span, message)
        .code("data")
        .label(span, "read here")
        .maybe_help(error.help)
}

/// `drawn` compares pictures with scenes, which only records of drawing lessons have.
fn drawn(program: &Program, seen: &Seen, diagnostics: &mut Diagnostics) {
    for (name, recipe) in &program.evaluations {
        for measure in &recipe.measures {
            let asks = |(of, data)| (of == Holds::Scenes).then_some(data);
            let Some(data) = asked_of(measure).into_iter().find_map(asks) else {
                continue;
            };
            let key = (data.name.clone(), data.split.clone());
            let known = seen.0.get(&key);
            if known.is_some_and(|contents| !contents.scenes) {
                let span = recipe.span.unwrap_or_default();
                let message = format!(
                    "`eval {name}` measures what is drawn, and the records of `{data}` have no scene"
                );
                let word = &measure.name;
                diagnostics.push(
                    Diagnostic::error(span, message)
                        .code("data")
                        .label(span, "asked for here")
                        .help(format!("`{word}` needs drawing lessons")),
                );
            }
        }
    }
}

/// The questions of a page are those of its documents.
fn pages(program: &Program, seen: &Seen, diagnostics: &mut Diagnostics) {
    for (name, recipe) in &program.pages {
        let PageRecipe {
            questions,
            tokenizers,
            span,
            ..
        } = recipe;
        let span = span.unwrap_or_default();
        let key = (questions.name.clone(), questions.split.clone());
        let known = seen.0.get(&key);
        let asks = holds(program, questions, Holds::Questions)
            && known.is_none_or(|contents| contents.prompts);
        if !asks {
            let message =
                format!("`page {name}` shows answers to questions, and `{questions}` has none");
            diagnostics.push(
                Diagnostic::error(span, message)
                    .code("data")
                    .label(span, "asked for here")
                    .help("questions are the `prompt` of articles and of questions with answers"),
            );
        }
        for (tokenizer, data) in tokenizers {
            if holds(program, data, Holds::Pictures) {
                continue;
            }
            let message = format!(
                "`page {name}` shows pictures beside what `{tokenizer}` makes of them, and `{data}` has none"
            );
            diagnostics.push(
                Diagnostic::error(span, message)
                    .code("data")
                    .label(span, "asked for here"),
            );
        }
    }
}

/// Whether the records of data hold something.
pub(super) fn holds(program: &Program, data: &DataRef, what: Holds) -> bool {
    let recipe = program.data.get(&data.name);
    let format = recipe.and_then(|recipe| format_of(&recipe.format).ok());
    format.is_some_and(|format| format.signature().holds.contains(&what))
}

/// The data of a measure, with what its settings ask them to hold.
pub(super) fn asked_of(measure: &Called) -> Vec<(Holds, &DataRef)> {
    let mut measures = words().measures.iter();
    let Some(signature) = measures.find(|signature| signature.word == measure.name) else {
        return Vec::new();
    };
    let mut asked = Vec::new();
    for (name, value) in &measure.settings {
        let kind = signature.setting(name).map(|setting| &setting.kind);
        if let (Some(SettingKind::Data { holds, .. }), found) = (kind, value.references()) {
            asked.extend(found.into_iter().filter_map(|found| match found {
                Reference::Data(data) => Some((*holds, data)),
                Reference::Decode(_) | Reference::Model(_) => None,
            }));
        }
    }
    asked
}

/// Splits that a step reads, as they are printed.
fn used(program: &Program) -> BTreeSet<String> {
    let mut used: Vec<&DataRef> = Vec::new();
    let evaluations = program.evaluations.values();
    let measures = evaluations.flat_map(|recipe| &recipe.measures);
    for called in program.tokenizers.values().chain(measures) {
        used.extend(called.data());
    }
    for recipe in program.trainings.values() {
        used.extend(recipe.data.iter().map(|(_, data)| data));
        used.extend(&recipe.validate);
    }
    for recipe in program.pages.values() {
        used.push(&recipe.questions);
        used.extend(recipe.tokenizers.iter().map(|(_, data)| data));
    }
    used.into_iter().map(ToString::to_string).collect()
}
