//! Drawing lessons and data sets.

use indexmap::IndexMap;
use jam_ir::diagnostic::Diagnostic;
use jam_ir::recipe::{DataRecipe, DataSource, LessonsRecipe};

use crate::checker::{Checker, Kind};
use crate::given::{as_list, as_text};
use crate::limits;
use crate::suggest;
use crate::syntax::{Name, Statement, dotted};
use crate::value::{Spanned, Value};
use crate::world::{folder_of, join};

impl<'a> Checker<'a> {
    pub(crate) fn lessons(&mut self, name: &'a Name) {
        let mut given = self.given(Kind::Lessons, name);
        let seed = self.program.seed;
        let diagnostics = &mut self.diagnostics;
        let records = (1, limits::RECORDS);
        let recipe = LessonsRecipe {
            seed: given.count("seed", Some(seed), 0, diagnostics),
            texts: given.count_within("texts", None, records, diagnostics),
            pairs: given.count_within("pairs", None, records, diagnostics),
            articles: given.count_within("articles", None, records, diagnostics),
            choices: given.count_within("choices", None, records, diagnostics),
        };
        given.finish(diagnostics);
        self.program.lessons.insert(name.text.clone(), recipe);
    }

    pub(crate) fn data(&mut self, name: &'a Name, statement: &'a Statement) {
        let Some(value) = self.value(statement) else {
            return;
        };
        let formats = &self.options.words.formats;
        let place = value.span;
        let signatures = formats.iter().map(|format| &format.signature);
        let Some((signature, mut given)) = self.call_of("data", signatures, value) else {
            return;
        };
        let word = signature.word.as_str();
        self.set(name, &mut given);
        let what = format!("what `{word}` reads");
        let Some(first) = given.require_next(&what, &mut self.diagnostics) else {
            return;
        };
        let mut splits = IndexMap::new();
        let lessons = matches!(first.value, Value::Named(_));
        if lessons {
            self.lessons_part(word, &first, &mut splits);
        } else {
            let train = self.files(word, first);
            splits.insert("train".to_owned(), DataSource::Files(train));
            for split in ["val", "test"] {
                if let Some(value) = given.take(split) {
                    let files = self.files(split, value);
                    splits.insert(split.to_owned(), DataSource::Files(files));
                }
            }
        }
        let divides = formats
            .iter()
            .any(|format| format.signature.word == word && format.held_out);
        let held_out = if divides && !lessons && !splits.contains_key("val") {
            given.number("held_out", Some(0.05), (0.0, 0.9), &mut self.diagnostics)
        } else {
            0.0
        };
        let format = self.use_of(signature, &mut given);
        given.finish(&mut self.diagnostics);
        let recipe = DataRecipe {
            format,
            splits,
            held_out,
            span: Some(place),
        };
        self.program.data.insert(name.text.clone(), recipe);
    }

    /// Patterns of files, relative to the folder of the main file.
    fn files(&mut self, what: &str, value: Spanned) -> Vec<String> {
        let mut files = Vec::new();
        for item in as_list(value) {
            if let Some(text) = as_text(what, &item, &mut self.diagnostics) {
                files.push(join(folder_of(&self.folders, item.span.file), &text));
            }
        }
        files
    }

    fn lessons_part(
        &mut self,
        variant: &str,
        value: &Spanned,
        splits: &mut IndexMap<String, DataSource>,
    ) {
        let Value::Named(path) = &value.value else {
            return;
        };
        let parts = &self.options.words.lessons;
        let Some(head) = path.first() else { return };
        if self.defined(head, &[Kind::Lessons]).is_none() {
            return;
        }
        let rest = dotted(&path[1..]);
        let Some(part) = parts.iter().find(|part| part.name == rest) else {
            let parts = parts.iter().map(|part| part.name.as_str());
            let place = path.get(1).map_or(value.span, |name| name.span);
            let message = if rest.is_empty() {
                format!("`{}` has several parts", head.text)
            } else {
                format!("`{}` has no part `{rest}`", head.text)
            };
            self.diagnostics.push(
                Diagnostic::error(place, message)
                    .code("unknown-name")
                    .label(place, "which part of the lessons?")
                    .maybe_help(suggest::help(&rest, "its parts are", parts)),
            );
            return;
        };
        let reader = &part.format;
        if reader != variant {
            let message = format!("`{variant}` does not read `{rest}`");
            self.diagnostics.push(
                Diagnostic::error(value.span, message)
                    .code("wrong-kind")
                    .label(value.span, format!("this part is read by `{reader}`"))
                    .help(format!("write `{reader}({})`", dotted(path))),
            );
            return;
        }
        for split in &part.splits {
            let source = DataSource::Lessons {
                lessons: head.text.clone(),
                part: part.name.clone(),
                split: split.clone(),
            };
            splits.insert(split.clone(), source);
        }
    }
}
