//! Data sets as `jamc run` will find them: files of their kind, records that can be read, splits that are not empty.

use std::collections::BTreeSet;
use std::path::PathBuf;

use indexmap::IndexMap;
use jam_data::sources::{DataSet, Document, choices, is_held_out, matching_files};
use jam_ir::Program;
use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::recipe::{
    DataKind, DataRecipe, DataRef, DataSource, Measure, PageRecipe, TokenizerRecipe,
};
use jam_lessons::PairRecord;

use crate::program::Loaded;

/// Bytes of files that are looked through, shards of pictures not counted: what has more is not empty by chance.
const MOST_BYTES: u64 = 64 << 20;
/// Records of a split that are read.
const MOST_RECORDS: usize = 20_000;

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
    documents: usize,
    /// Whether any has a picture.
    pictures: bool,
    /// Whether any has a question.
    prompts: bool,
    /// Whether all say what their picture shows.
    scenes: bool,
}

impl Default for Contents {
    fn default() -> Contents {
        Contents {
            documents: 0,
            pictures: false,
            prompts: false,
            scenes: true,
        }
    }
}

impl Contents {
    fn add(&mut self, document: &Document) {
        self.documents += 1;
        self.pictures |= document.pictures() > 0;
        self.prompts |= document.prompt.is_some();
        self.scenes &= serde_json::from_value::<PairRecord>(document.meta.clone()).is_ok();
    }
}

/// Adds notes on what is absent and errors on what will be refused.
pub(super) fn check(loaded: &Loaded, diagnostics: &mut Diagnostics) -> Seen {
    let program = &loaded.program;
    let used = used(program);
    let mut seen = Seen::default();
    for (name, recipe) in &program.data {
        for (split, source) in &recipe.splits {
            let DataSource::Files(patterns) = source else {
                continue;
            };
            let whole = format!("data `{name}`, {split}");
            match matching_files(&loaded.folder, patterns) {
                Ok(files) => {
                    let read = look(name, split, recipe, &files, &mut seen);
                    if let Err(error) = read {
                        let message = match &error.path {
                            Some(path) => {
                                format!("{whole}: {}: {}", path.display(), error.message)
                            }
                            None => format!("{whole}: {}", error.message),
                        };
                        let report = at(recipe, message, "read here").code("data");
                        diagnostics.push(report.maybe_help(error.help));
                    }
                }
                Err(error) => {
                    let Some(span) = recipe.span else { continue };
                    let message = format!("{whole}: {}", error.message);
                    let note = Diagnostic::note_at(span, message).code("absent");
                    diagnostics.push(note.label(span, "needed to run, not to check"));
                }
            }
        }
        for ((of, split), contents) in &seen.0 {
            let reference = DataRef {
                name: of.clone(),
                split: split.clone(),
            };
            let wanted = of == name && contents.documents == 0;
            if wanted && used.contains(&reference.to_string()) {
                diagnostics.push(empty(recipe, &reference));
            }
        }
    }
    drawn(program, &seen, diagnostics);
    pages(program, &seen, diagnostics);
    seen
}

/// Reads the documents of the files of a split, as far as they are few.
fn look(
    name: &str,
    split: &str,
    recipe: &DataRecipe,
    files: &[PathBuf],
    seen: &mut Seen,
) -> jam_ir::Result<()> {
    let is_shard = |path: &&PathBuf| path.extension().is_some_and(|ending| ending == "tar");
    let sizes = files.iter().filter(|path| !is_shard(path));
    let sizes = sizes.filter_map(|path| std::fs::metadata(path).ok());
    if sizes.map(|meta| meta.len()).sum::<u64>() > MOST_BYTES {
        return Ok(());
    }
    if let DataKind::Choice { format } = &recipe.kind {
        return choices(format, files).map(drop);
    }
    let divided = split != "test" && !recipe.splits.contains_key("val") && recipe.held_out > 0.0;
    let set = DataSet::open(&recipe.kind, files)?;
    let mut found = [Contents::default(), Contents::default()];
    for index in 0..set.len().min(MOST_RECORDS) {
        let document = set.document(index)?;
        let pictures = document.pictures() as u64;
        if recipe.max_pictures > 0 && pictures > recipe.max_pictures {
            continue;
        }
        let held_out = divided && is_held_out(&document.id, recipe.held_out);
        found[usize::from(held_out)].add(&document);
    }
    let whole = set.len() <= MOST_RECORDS;
    let mut keep = |split: &str, contents: Contents| {
        if whole || contents.documents > 0 {
            seen.0.insert((name.to_owned(), split.to_owned()), contents);
        }
    };
    keep(split, found[0]);
    if divided {
        keep("val", found[1]);
    }
    Ok(())
}

/// A report on a data set.
fn at(recipe: &DataRecipe, message: String, label: &str) -> Diagnostic {
    let span = recipe.span.unwrap_or_default();
    Diagnostic::error(span, message).label(span, label)
}

/// The report on a split that stays empty.
fn empty(recipe: &DataRecipe, data: &DataRef) -> Diagnostic {
    let message = format!("data `{data}` has no documents");
    let divided = recipe.held_out > 0.0 && !recipe.splits.contains_key("val");
    let report = at(recipe, message, "nothing of it is left for this split").code("empty");
    let share = 100.0 * recipe.held_out;
    match (divided, data.split.as_str()) {
        (true, "val") => report
            .note(format!(
                "{share}% of the records are held out, drawn by their ids, and the draw took none"
            ))
            .help("hold out more (`held_out: 20%`), or give files of its own: `val: \"…\"`"),
        (true, "train") => report
            .note(format!(
                "{share}% of the records are held out, drawn by their ids, and the draw took all"
            ))
            .help("hold out less (`held_out: 0`), or give the held-out part files of its own: `val: \"…\"`"),
        _ if recipe.max_pictures > 0 => report.note(format!(
            "documents with more pictures than `max_pictures: {}` are left out",
            recipe.max_pictures
        )),
        _ => report,
    }
}

/// `drawn` compares pictures with scenes, which only records of drawing lessons have.
fn drawn(program: &Program, seen: &Seen, diagnostics: &mut Diagnostics) {
    for (name, recipe) in &program.evaluations {
        for measure in &recipe.measures {
            let Measure::Drawn { data, .. } = measure else {
                continue;
            };
            let key = (data.name.clone(), data.split.clone());
            let known = seen.0.get(&key);
            if known.is_some_and(|contents| contents.documents > 0 && !contents.scenes) {
                let span = recipe.span.unwrap_or_default();
                let message = format!(
                    "`eval {name}` measures what is drawn, and the records of `{data}` have no scene"
                );
                diagnostics.push(
                    Diagnostic::error(span, message)
                        .code("data")
                        .label(span, "asked for here")
                        .help("`drawn` needs drawing lessons"),
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
        let kind = |data: &DataRef| program.data.get(&data.name).map(|recipe| &recipe.kind);
        let key = (questions.name.clone(), questions.split.clone());
        let asks = match kind(questions) {
            Some(DataKind::Interleaved | DataKind::Instruct) => {
                let known = seen.0.get(&key);
                known.is_none_or(|contents| contents.prompts || contents.documents == 0)
            }
            _ => false,
        };
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
            if matches!(
                kind(data),
                Some(DataKind::Interleaved | DataKind::ImageText)
            ) {
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

/// Splits that a step reads, as they are printed.
fn used(program: &Program) -> BTreeSet<String> {
    let mut used: Vec<&DataRef> = Vec::new();
    for recipe in program.tokenizers.values() {
        match recipe {
            TokenizerRecipe::Bpe { train, .. } => used.extend(train),
            TokenizerRecipe::Vq(vq) => used.extend(&vq.train),
        }
    }
    for recipe in program.trainings.values() {
        used.extend(recipe.data.iter().map(|(_, data)| data));
        used.extend(&recipe.validate);
    }
    for recipe in program.evaluations.values() {
        let measures = recipe.measures.iter();
        used.extend(measures.map(|measure| match measure {
            Measure::Perplexity { data, .. }
            | Measure::Choice { data, .. }
            | Measure::Drawn { data, .. } => data,
        }));
    }
    for recipe in program.pages.values() {
        used.push(&recipe.questions);
        used.extend(recipe.tokenizers.iter().map(|(_, data)| data));
    }
    used.into_iter().map(ToString::to_string).collect()
}
