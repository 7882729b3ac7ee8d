//! Data sets as `jamc run` will find them: files of their kind, records that can be read, splits that are not empty.

use std::collections::BTreeSet;
use std::path::PathBuf;

use indexmap::IndexMap;
use jam_data::sources::{DataSet, Document, format_of, is_held_out, matching_files};
use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::recipe::{DataRecipe, DataRef, DataSource, PageRecipe};
use jam_ir::{Called, Holds, Program, Reference, SettingKind};
use jam_lessons::PairRecord;

use crate::program::Loaded;
use crate::words::words;

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
    let format = format_of(&recipe.format)?;
    if format.signature().holds.contains(&Holds::Choices) {
        return format.items(&recipe.format, files).map(drop);
    }
    let divided = split != "test" && !recipe.splits.contains_key("val") && recipe.held_out > 0.0;
    let set = DataSet::open(&recipe.format, files)?;
    let mut found = [Contents::default(), Contents::default()];
    for index in 0..set.len().min(MOST_RECORDS) {
        let document = set.document(index)?;
        if !set.keeps(&document) {
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
        _ => match recipe.format.count("max_pictures") {
            Ok(most) if most > 0 => report.note(format!(
                "documents with more pictures than `max_pictures: {most}` are left out"
            )),
            _ => report,
        },
    }
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
            if known.is_some_and(|contents| contents.documents > 0 && !contents.scenes) {
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
            && known.is_none_or(|contents| contents.prompts || contents.documents == 0);
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
