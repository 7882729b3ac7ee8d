//! Drawing lessons and data sets.

use indexmap::IndexMap;
use jam_ir::diagnostic::Diagnostic;
use jam_ir::recipe::{DataKind, DataRecipe, DataRef, DataSource, LessonsRecipe};

use crate::checker::{Checker, Kind};
use crate::given::{Given, as_call, as_list, as_text, wrong_kind};
use crate::limits;
use crate::suggest;
use crate::syntax::{Name, Statement, dotted};
use crate::value::{Spanned, Value};
use crate::world::{folder_of, join};

/// Parts of drawing lessons: name, the variant of `data` that reads it, its splits.
const PARTS: [(&str, &str, &[&str]); 4] = [
    ("text", "text", &["train", "val"]),
    ("pairs", "image_text", &["train", "val", "test"]),
    ("articles", "interleaved", &["train", "val", "test"]),
    ("choice", "choice", &["val", "test"]),
];

/// Published formats of multiple choice.
const CHOICE_FORMATS: [&str; 7] = [
    "jsonl",
    "piqa",
    "arc",
    "winograd",
    "winogrande",
    "storycloze",
    "copa",
];

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
        let names = ["text", "image_text", "interleaved", "instruct", "choice"];
        let place = value.span;
        let Some((variant, mut given)) = as_call("data", value, &names, &mut self.diagnostics)
        else {
            return;
        };
        self.set(name, &mut given);
        let what = format!("what `{variant}` reads");
        let Some(first) = given.require_next(&what, &mut self.diagnostics) else {
            return;
        };
        let mut splits = IndexMap::new();
        let lessons = matches!(first.value, Value::Named(_));
        if lessons {
            self.lessons_part(variant, &first, &mut splits);
        } else {
            let train = self.files(variant, first);
            splits.insert("train".to_owned(), DataSource::Files(train));
            for split in ["val", "test"] {
                if let Some(value) = given.take(split) {
                    let files = self.files(split, value);
                    splits.insert(split.to_owned(), DataSource::Files(files));
                }
            }
        }
        let diagnostics = &mut self.diagnostics;
        let kind = match variant {
            "text" => DataKind::Text {
                field: match given.take("field") {
                    Some(value) => as_text("field", &value, diagnostics).unwrap_or_default(),
                    None => "text".to_owned(),
                },
            },
            "image_text" => DataKind::ImageText,
            "interleaved" => DataKind::Interleaved,
            "instruct" => DataKind::Instruct,
            _ => DataKind::Choice {
                format: given
                    .word("format", &CHOICE_FORMATS, diagnostics)
                    .to_owned(),
            },
        };
        let may_hold_out = !lessons && !splits.contains_key("val") && variant != "choice";
        let held_out = if may_hold_out {
            given.number("held_out", Some(0.05), (0.0, 0.9), diagnostics)
        } else {
            0.0
        };
        let pictures = matches!(variant, "image_text" | "interleaved");
        let max_pictures = if pictures {
            given.count("max_pictures", Some(0), 0, diagnostics)
        } else {
            0
        };
        given.finish(diagnostics);
        let recipe = DataRecipe {
            kind,
            splits,
            held_out,
            max_pictures,
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
        let parts = PARTS.map(|(part, _, _)| part);
        let Some(head) = path.first() else { return };
        if self.defined(head, &[Kind::Lessons]).is_none() {
            return;
        }
        let rest = dotted(&path[1..]);
        let Some((part, reader, names)) = PARTS.iter().find(|(part, _, _)| *part == rest) else {
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
        if *reader != variant {
            self.diagnostics.push(
                Diagnostic::error(value.span, format!("`{variant}` does not read `{part}`"))
                    .code("wrong-kind")
                    .label(value.span, format!("this part is read by `{reader}`"))
                    .help(format!("write `{reader}({})`", dotted(path))),
            );
            return;
        }
        for split in *names {
            let source = DataSource::Lessons {
                lessons: head.text.clone(),
                part: (*part).to_owned(),
                split: (*split).to_owned(),
            };
            splits.insert((*split).to_owned(), source);
        }
    }

    /// `pairs`, or a split of it: `pairs.val`.
    pub(crate) fn data_ref(&mut self, what: &str, value: &Spanned) -> Option<DataRef> {
        let path = match &value.value {
            Value::Named(path) => path.clone(),
            Value::Broken => return None,
            Value::Word { word, .. } => {
                let name = Name {
                    text: word.clone(),
                    span: value.span,
                };
                self.defined(&name, &[Kind::Data]);
                return None;
            }
            _ => {
                self.diagnostics.push(wrong_kind(what, value, "a data set"));
                return None;
            }
        };
        let head = path.first()?;
        self.defined(head, &[Kind::Data])?;
        let recipe = self.program.data.get(&head.text)?;
        let mut splits: Vec<&str> = recipe.splits.keys().map(String::as_str).collect();
        if recipe.held_out > 0.0 && !splits.contains(&"val") {
            splits.push("val");
        }
        let split = match path.get(1) {
            Some(split) if path.len() == 2 => split.text.clone(),
            Some(_) => dotted(&path[1..]),
            None if splits.contains(&"train") => "train".to_owned(),
            None => splits.last().map_or("train", |split| split).to_owned(),
        };
        if !splits.contains(&split.as_str()) {
            let place = path.get(1).map_or(value.span, |name| name.span);
            let defined = self
                .definitions
                .get(&head.text)
                .map(|found| found.name_span);
            let mut report =
                Diagnostic::error(place, format!("`{}` has no split `{split}`", head.text))
                    .code("unknown-name")
                    .label(place, "not one of its splits");
            if let Some(defined) = defined {
                report = report.label(defined, "defined here");
            }
            let help = match split.as_str() {
                "val" | "test" => {
                    Some(format!("give it one where it is defined: `{split}: \"…\"`"))
                }
                _ => suggest::help(&split, "its splits are", splits.iter().copied()),
            };
            self.diagnostics.push(report.maybe_help(help));
            return None;
        }
        Some(DataRef {
            name: head.text.clone(),
            split,
        })
    }

    /// One data set or a list of them.
    pub(crate) fn data_refs(&mut self, what: &str, value: Spanned) -> Vec<DataRef> {
        let values = as_list(value);
        values
            .iter()
            .filter_map(|value| self.data_ref(what, value))
            .collect()
    }

    /// Reports data of a kind that cannot be used here.
    pub(crate) fn data_kind(
        &mut self,
        what: &str,
        data: &DataRef,
        value: &Spanned,
        fits: impl Fn(&DataKind) -> bool,
        wanted: &str,
    ) {
        let Some(recipe) = self.program.data.get(&data.name) else {
            return;
        };
        if fits(&recipe.kind) {
            return;
        }
        let mut report = Diagnostic::error(
            value.span,
            format!("`{what}` takes {wanted}, not `{}`", data.name),
        )
        .code("wrong-kind")
        .label(value.span, format!("expected {wanted}"));
        if let Some(place) = recipe.span {
            report = report.label(place, "its records are of this kind");
        }
        self.diagnostics.push(report);
    }

    /// Most records, 0 for all.
    pub(crate) fn limit(&mut self, given: &mut Given) -> u64 {
        given.count("limit", Some(0), 0, &mut self.diagnostics)
    }
}
