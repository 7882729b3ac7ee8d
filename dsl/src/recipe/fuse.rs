//! Fusions: strategies come as data, with their settings.

use indexmap::IndexMap;
use jam_ir::diagnostic::Diagnostic;
use jam_ir::recipe::FusionRecipe;
use jam_ir::{SettingKind, SettingValue, Settings, StrategySignature};

use crate::checker::Checker;
use crate::given::{Given, wrong_kind};
use crate::suggest;
use crate::syntax::{Name, Statement, dotted};
use crate::value::Value;

/// A call of a strategy with the fewest parents, and what it cannot do without: `ties(a, base: b)`.
fn example(strategy: &StrategySignature) -> String {
    let required = strategy.signature.settings.iter().filter_map(|setting| {
        let required = setting.kind == SettingKind::Parent && setting.is_required();
        required.then_some(Some(setting.name.as_str()))
    });
    let labels = std::iter::repeat_n(None, strategy.min_parents).chain(required);
    let parents = ('a'..='z').zip(labels).map(|(name, label)| match label {
        Some(label) => format!("{label}: {name}"),
        None => name.to_string(),
    });
    let parents: Vec<String> = parents.collect();
    format!("{}({})", strategy.signature.word, parents.join(", "))
}

impl<'a> Checker<'a> {
    pub(crate) fn fuse(&mut self, name: &'a Name, statement: &'a Statement) {
        let Some(value) = self.value(statement) else {
            return;
        };
        let place = value.span;
        let strategies = &self.options.words.strategies;
        let names = || {
            strategies
                .iter()
                .map(|strategy| strategy.signature.word.as_str())
        };
        let call = match value.value {
            Value::Call(call) => call,
            Value::Broken => return,
            _ => {
                let example = names().next().unwrap_or("uniform");
                self.diagnostics.push(
                    wrong_kind("fuse", &value, "a strategy with parents")
                        .help(format!("write `fuse {} = {example}(a, b)`", name.text)),
                );
                return;
            }
        };
        let written = dotted(&call.name);
        let called = call.name.first().map_or(place, |name| name.span);
        let Some(strategy) = strategies
            .iter()
            .find(|strategy| strategy.signature.word == written)
        else {
            self.diagnostics.push(
                Diagnostic::error(called, format!("`{written}` is not a strategy"))
                    .code("unknown-word")
                    .label(called, "not known here")
                    .maybe_help(suggest::help(&written, "the strategies are", names())),
            );
            return;
        };
        let mut given = Given::call(call, &mut self.diagnostics);
        self.set(name, &mut given);
        let count = given.positional.len();
        // A fusion whose parents are not as they should be is told here, and not made.
        let mut whole = true;
        if count < strategy.min_parents || count > strategy.max_parents {
            let wanted = strategy.parents_text();
            let plural = if wanted.ends_with(" 1") || wanted == "1" {
                ""
            } else {
                "s"
            };
            let message = format!("`{written}` takes {wanted} parent{plural}, not {count}");
            let report = Diagnostic::error(place, message)
                .code("parents")
                .label(place, format!("{count} given"))
                .help(format!("write `{}`", example(strategy)));
            let labelled = strategy.signature.settings.iter().find(|setting| {
                setting.kind == SettingKind::Parent && given.keyed.contains_key(&setting.name)
            });
            self.diagnostics.push(match labelled {
                Some(setting) => report.note(format!("`{}` does not count", setting.name)),
                None => report,
            });
            whole = false;
        }
        let mut parents = Vec::new();
        let mut parent_spans = Vec::new();
        for parent in std::mem::take(&mut given.positional) {
            if let Value::Weighted(..) = parent.value
                && strategy
                    .signature
                    .settings
                    .iter()
                    .any(|s| s.name == "weight")
            {
                self.diagnostics.push(
                    wrong_kind("a parent", &parent, "a model")
                        .help("weights stand beside the parents: `weight: [0.6, 0.4]`"),
                );
                whole = false;
                continue;
            }
            match self.model_ref("a parent", &parent) {
                Some(reference) => {
                    parents.push(reference);
                    parent_spans.push(Some(parent.span));
                }
                None => whole = false,
            }
        }
        let mut settings = Settings::new();
        let mut places = IndexMap::new();
        for signature in &strategy.signature.settings {
            let value = given.setting(signature, &mut self.diagnostics);
            if signature.kind == SettingKind::Parent {
                let Some(value) = value else {
                    whole &= !signature.is_required();
                    continue;
                };
                match self.model_ref(&signature.name, &value) {
                    Some(reference) => {
                        let index = SettingValue::Parent(parents.len());
                        settings.insert(signature.name.clone(), index);
                        parents.push(reference);
                        parent_spans.push(Some(value.span));
                    }
                    None => whole = false,
                }
                continue;
            }
            let Some(value) = value else {
                continue;
            };
            if let Some(found) = self.setting_value(&written, signature, count, &value) {
                settings.insert(signature.name.clone(), found);
                places.insert(signature.name.clone(), value.span);
            }
        }
        let settings = self.complete(&strategy.signature, &settings, &places, place);
        given.finish(&mut self.diagnostics);
        if !whole {
            return;
        }
        let strategy = written;
        let span = Some(name.span);
        let recipe = FusionRecipe {
            strategy,
            parents,
            parent_spans,
            settings,
            span,
        };
        self.program.fusions.insert(name.text.clone(), recipe);
    }
}
