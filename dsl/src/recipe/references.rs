//! References by name to what a program defines: definitions of a kind, data sets and their splits, models and
//! states of trainings. Every recipe reads them, and so do the settings of uses; nothing here reads a recipe.

use std::collections::BTreeSet;

use jam_ir::diagnostic::Diagnostic;
use jam_ir::recipe::{Checkpoint, DataRef};
use jam_ir::{Holds, ModelRef, Span};

use crate::checker::{Checker, Kind};
use crate::given::{as_list, wrong_kind};
use crate::suggest;
use crate::syntax::{Name, dotted};
use crate::value::{Spanned, Value};

impl Checker<'_> {
    /// Reports a word that stands where a definition of some kinds is asked for, and names none.
    pub(crate) fn undefined(&mut self, word: &str, span: Span, kinds: &[Kind]) {
        let name = Name {
            text: word.to_owned(),
            span,
        };
        self.defined(&name, kinds);
    }

    /// The name of a definition of a kind.
    pub(crate) fn named(&mut self, what: &str, value: &Spanned, kind: Kind) -> Option<String> {
        match &value.value {
            Value::Named(path) if path.len() == 1 => {
                self.defined(&path[0], &[kind])?;
                Some(path[0].text.clone())
            }
            Value::Word { word, .. } => {
                self.undefined(word, value.span, &[kind]);
                None
            }
            Value::Broken => None,
            _ => {
                self.diagnostics.push(wrong_kind(what, value, kind.noun()));
                None
            }
        }
    }

    /// `pairs`, or a split of it: `pairs.val`.
    pub(crate) fn data_ref(&mut self, what: &str, value: &Spanned) -> Option<DataRef> {
        let path = match &value.value {
            Value::Named(path) => path.clone(),
            Value::Broken => return None,
            Value::Word { word, .. } => {
                self.undefined(word, value.span, &[Kind::Data]);
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

    /// One data set or a list of them, whose records hold what is asked for here.
    pub(crate) fn data_refs(&mut self, what: &str, value: Spanned, holds: Holds) -> Vec<DataRef> {
        let mut found = Vec::new();
        for value in as_list(value) {
            if let Some(data) = self.data_ref(what, &value) {
                self.data_holds(what, &data, &value, holds);
                found.push(data);
            }
        }
        found
    }

    /// Reports data whose records do not hold what is asked for here.
    pub(crate) fn data_holds(&mut self, what: &str, data: &DataRef, value: &Spanned, holds: Holds) {
        let Some(recipe) = self.program.data.get(&data.name) else {
            return;
        };
        let mut formats = self.options.words.formats.iter();
        let format = formats.find(|format| format.signature.word == recipe.format.name);
        if format.is_none_or(|format| format.holds.contains(&holds)) {
            return;
        }
        let wanted = holds.wanted();
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

    /// A model, a fusion, or a state of a training: `llm`, `align.last`, `tune.best`.
    pub(crate) fn model_ref(&mut self, what: &str, value: &Spanned) -> Option<ModelRef> {
        let kinds = [Kind::Model, Kind::Fuse, Kind::Train];
        let path = match &value.value {
            Value::Named(path) => path.clone(),
            Value::Broken => return None,
            Value::Word { word, .. } => {
                self.undefined(word, value.span, &kinds);
                return None;
            }
            _ => {
                self.diagnostics.push(wrong_kind(what, value, "a model"));
                return None;
            }
        };
        let head = path.first()?;
        let kind = self.defined(head, &kinds)?;
        let state = dotted(&path[1..]);
        let checkpoint = match (kind, state.as_str()) {
            (_, "") | (Kind::Train, "last") => Checkpoint::Last,
            (Kind::Train, "best") => Checkpoint::Best,
            _ => {
                let place = path.get(1).map_or(value.span, |name| name.span);
                let report =
                    Diagnostic::error(place, format!("`{}` has no state `{state}`", head.text))
                        .code("unknown-name")
                        .label(place, "not known here");
                let states = ["last", "best"];
                self.diagnostics.push(if kind == Kind::Train {
                    report.maybe_help(suggest::help(&state, "the states are", states))
                } else {
                    report.help(format!("only trainings have states; write `{}`", head.text))
                });
                return None;
            }
        };
        if checkpoint == Checkpoint::Best {
            let validated = self
                .program
                .trainings
                .get(&head.text)
                .is_some_and(|train| !train.validate.is_empty());
            if !validated {
                let defined = self
                    .definitions
                    .get(&head.text)
                    .map(|found| found.name_span);
                let place = path.get(1).map_or(value.span, |name| name.span);
                let mut report = Diagnostic::error(
                    place,
                    format!("`{}` is not validated and has no best state", head.text),
                )
                .code("missing")
                .label(place, "best by which data?");
                if let Some(defined) = defined {
                    report = report.label(defined, "has no `validate`");
                }
                let help = format!(
                    "add `validate = data.val` to it, or write `{}.last`",
                    head.text
                );
                self.diagnostics.push(report.help(help));
                return None;
            }
        }
        Some(ModelRef {
            name: head.text.clone(),
            checkpoint,
        })
    }

    /// The longest sequence of a model, where it has a bound: of a fusion the shortest of its parents'. `None` for a
    /// model with a mistake in it.
    pub(crate) fn context_of(&self, reference: &ModelRef) -> Option<Option<u64>> {
        let mut least: Option<u64> = None;
        let mut names = vec![reference.name.as_str()];
        let mut seen = BTreeSet::new();
        while let Some(name) = names.pop() {
            if !seen.insert(name) {
                continue;
            }
            if let Some(model) = self.program.models.get(name) {
                let contexts = [least, model.model.context].into_iter();
                least = contexts.flatten().min();
            } else if let Some(train) = self.program.trainings.get(name) {
                names.push(&train.model.name);
            } else {
                let parents = &self.program.fusions.get(name)?.parents;
                names.extend(parents.iter().map(|parent| parent.name.as_str()));
            }
        }
        Some(least)
    }
}
