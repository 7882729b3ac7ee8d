//! Uses of words that come as data: measures, objectives, formats, optimizers, schedules, tokenizers. Which
//! there are, and what their settings are, the tables say that the compiler is given; only kinds of settings
//! are known here.

use indexmap::IndexMap;
use jam_ir::diagnostic::Diagnostic;
use jam_ir::signature::Rule;
use jam_ir::span::Span;
use jam_ir::{Called, SettingKind, SettingSignature, SettingValue, Settings, Signature};

use crate::checker::{Checker, Kind};
use crate::given::{
    Given, as_call, as_count, as_count_within, as_flag, as_list, as_number, as_text, wrong_kind,
};
use crate::recipe::graded::{Graded, as_layers};
use crate::suggest;
use crate::value::{Spanned, Value};

/// Settings of a use, and where the program gives them.
struct Found {
    settings: Settings,
    places: IndexMap<String, Span>,
}

impl<'a> Checker<'a> {
    /// A call of one of the words of a table: the word, and what it is given.
    pub(crate) fn call_of<'s>(
        &mut self,
        what: &str,
        table: impl Iterator<Item = &'s Signature> + Clone,
        value: Spanned,
    ) -> Option<(&'s Signature, Given)> {
        let words: Vec<&str> = table
            .clone()
            .map(|signature| signature.word.as_str())
            .collect();
        let (word, given) = as_call(what, value, &words, &mut self.diagnostics)?;
        let mut table = table;
        let signature = table.find(|signature| signature.word == word)?;
        Some((signature, given))
    }

    /// The uses that a value makes of a word of a table: one, or one for each value without a label.
    pub(crate) fn uses(&mut self, what: &str, table: &[Signature], value: Spanned) -> Vec<Called> {
        match self.call_of(what, table.iter(), value) {
            Some((signature, given)) => self.uses_of(signature, given),
            None => Vec::new(),
        }
    }

    /// The uses that a call makes of its word.
    pub(crate) fn uses_of(&mut self, signature: &Signature, mut given: Given) -> Vec<Called> {
        let Some(each) = &signature.each else {
            let called = self.use_of(signature, &mut given);
            given.finish(&mut self.diagnostics);
            return vec![called];
        };
        if given.positional.is_empty() {
            let what = format!("a value: {}", each.help);
            given.require_next(&what, &mut self.diagnostics);
        }
        let values = std::mem::take(&mut given.positional);
        let called = self.use_of(signature, &mut given);
        given.finish(&mut self.diagnostics);
        let mut uses = Vec::new();
        for value in values {
            if let Some(value) = self.setting_value(&signature.word, each, 0, &value) {
                let first = [(each.name.clone(), value)].into_iter();
                uses.push(Called {
                    name: called.name.clone(),
                    settings: first.chain(called.settings.clone()).collect(),
                });
            }
        }
        uses
    }

    /// A use of a word with its labelled settings; what is wrong is told, and has its default.
    pub(crate) fn use_of(&mut self, signature: &Signature, given: &mut Given) -> Called {
        let mut given_settings = Settings::new();
        let mut places = IndexMap::new();
        let mut sound = true;
        for setting in &signature.settings {
            let value = given.setting(setting, &mut self.diagnostics);
            let Some(value) = value else {
                sound &= !setting.is_required();
                continue;
            };
            places.insert(setting.name.clone(), value.span);
            match self.setting_value(&signature.word, setting, 0, &value) {
                Some(value) => {
                    given_settings.insert(setting.name.clone(), value);
                }
                None => sound = false,
            }
        }
        let mut settings = self.complete(signature, &given_settings, &places, given.place);
        for setting in &signature.settings {
            if setting.kind == SettingKind::Seed && !settings.contains_key(&setting.name) {
                let seed = SettingValue::Count(self.program.seed);
                settings.insert(setting.name.clone(), seed);
            }
        }
        let found = Found { settings, places };
        if sound {
            for rule in &signature.rules {
                self.rule(rule, &found, given.place);
            }
        }
        Called {
            name: signature.word.clone(),
            settings: found.settings,
        }
    }

    /// All settings of a use, those that a program gives first: what these imply, and defaults. Settings that rule one
    /// another out are told.
    pub(crate) fn complete(
        &mut self,
        signature: &Signature,
        given: &Settings,
        places: &IndexMap<String, Span>,
        whole: Span,
    ) -> Settings {
        signature.complete(given).unwrap_or_else(|contradictions| {
            for found in contradictions {
                let span = |name: &str| places.get(name).map_or(whole, |span| *span);
                let (by, value) = (span(&found.by), span(&found.setting));
                self.diagnostics.push(
                    Diagnostic::error(value, found.to_string())
                        .code("contradiction")
                        .label(value, format!("not `{}`", found.wanted))
                        .label(by, "decides it")
                        .help(format!("leave out `{}`, or `{}`", found.setting, found.by)),
                );
            }
            signature.defaults()
        })
    }

    /// Reports settings that do not go together.
    fn rule(&mut self, rule: &Rule, found: &Found, whole: Span) {
        let Rule::PowerOfTwoTimes { setting, of } = rule else {
            // Which steps there are, the training knows.
            return;
        };
        let count = |name: &str| match found.settings.get(name) {
            Some(SettingValue::Count(count)) => Some(*count),
            _ => None,
        };
        let (Some(larger), Some(smaller)) = (count(setting), count(of)) else {
            return;
        };
        let times = larger.checked_div(smaller).unwrap_or(0);
        let (why, label) = match larger.is_multiple_of(smaller) {
            true if times.is_power_of_two() => return,
            true => (
                format!("{larger} is {times} times {smaller}"),
                format!("{larger} / {smaller}"),
            ),
            false => (
                format!("{larger} is no multiple of {smaller}"),
                format!("not {smaller}, {}, {}, …", 2 * smaller, 4 * smaller),
            ),
        };
        let message = format!("`{setting}` must be 1, 2, 4, 8, … times `{of}`, and {why}");
        let place = found.places.get(setting).copied();
        let mut report = match place.or_else(|| found.places.get(of).copied()) {
            Some(place) => Diagnostic::error(place, message).label(place, label),
            None => Diagnostic::error(whole, message).label(whole, label),
        };
        if let (Some(_), Some(other)) = (place, found.places.get(of)) {
            report = report.label(*other, "this is not a power-of-two part of it");
        }
        self.diagnostics.push(report.code("size"));
    }

    /// The value of a setting of `word`, which `parents` parents are given to without a label; `None` where it
    /// is wrong, which is told.
    pub(crate) fn setting_value(
        &mut self,
        word: &str,
        signature: &SettingSignature,
        parents: usize,
        value: &Spanned,
    ) -> Option<SettingValue> {
        let name = signature.name.as_str();
        let diagnostics = &mut self.diagnostics;
        match &signature.kind {
            SettingKind::Number { min, max } => {
                as_number(name, value, (*min, *max), diagnostics).map(SettingValue::Number)
            }
            SettingKind::Graded { min, max, each } => {
                let default = signature.default.clone();
                Graded {
                    name,
                    bounds: (*min, *max),
                    each: each.then_some(parents),
                    default: &default.unwrap_or(SettingValue::Number(*min)),
                }
                .read(value, diagnostics)
            }
            SettingKind::Layers => as_layers(name, value, parents, diagnostics),
            // Read with the parents.
            SettingKind::Parent => None,
            SettingKind::Count { min, max, words } if words.is_empty() => {
                as_count_within(name, value, (*min, *max), diagnostics).map(SettingValue::Count)
            }
            SettingKind::Count { min, max, words } => match value.value.bare_word() {
                Some(written) => {
                    self.one_word(signature, words, "a whole number or ", written, value.span)
                }
                None => {
                    as_count_within(name, value, (*min, *max), diagnostics).map(SettingValue::Count)
                }
            },
            SettingKind::Word(words) => match value.value.bare_word() {
                Some(written) => self.one_word(signature, words, "", written, value.span),
                None => {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    let wanted = format!("one of {}", suggest::listed(&words));
                    self.wrong(name, value, &wanted)
                }
            },
            SettingKind::Words(words) => self.some_words(signature, words, value),
            SettingKind::Flag => as_flag(name, value, diagnostics).map(SettingValue::Flag),
            SettingKind::OneOf(counts) => self.one_count(name, counts, value),
            SettingKind::Seed => as_count(name, value, 0, diagnostics).map(SettingValue::Count),
            SettingKind::Pair { min, max } => self.pair(signature, (*min, *max), value),
            SettingKind::Text => as_text(name, value, diagnostics).map(SettingValue::Text),
            SettingKind::Data { holds, list } => {
                let values = match list {
                    true => as_list(value.clone()),
                    false => vec![value.clone()],
                };
                let mut found = Vec::new();
                for value in &values {
                    let data = self.data_ref(name, value)?;
                    self.data_holds(word, &data, value, *holds);
                    found.push(SettingValue::Data(data));
                }
                match list {
                    true => Some(SettingValue::List(found)),
                    false => found.pop(),
                }
            }
            SettingKind::Decode => self
                .named(name, value, Kind::Decode)
                .map(SettingValue::Decode),
            SettingKind::Model => self.model_ref(name, value).map(SettingValue::Model),
        }
    }

    /// One of the words of a setting; `also` says what else it may be.
    fn one_word(
        &mut self,
        signature: &SettingSignature,
        words: &[String],
        also: &str,
        written: &str,
        place: Span,
    ) -> Option<SettingValue> {
        if words.iter().any(|known| known == written) {
            return Some(SettingValue::Word(written.to_owned()));
        }
        let near = suggest::nearest(written, words.iter().map(String::as_str));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it is {also}one of {}", suggest::listed(&words)),
        };
        let message = format!("`{}` cannot be `{written}`", signature.name);
        self.diagnostics.push(
            Diagnostic::error(place, message)
                .code("unknown-word")
                .label(place, "not known here")
                .note(signature.help.clone())
                .help(help),
        );
        None
    }

    /// Some of the words of a setting; every one that is wrong is told.
    fn some_words(
        &mut self,
        signature: &SettingSignature,
        words: &[String],
        value: &Spanned,
    ) -> Option<SettingValue> {
        let mut found = Vec::new();
        let mut sound = true;
        for value in as_list(value.clone()) {
            let word = match value.value.bare_word() {
                Some(written) => self.one_word(signature, words, "", written, value.span),
                None => {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    let wanted = format!("one of {}", suggest::listed(&words));
                    self.wrong(&signature.name, &value, &wanted)
                }
            };
            match word {
                Some(word) if !found.contains(&word) => found.push(word),
                Some(_) => {}
                None => sound = false,
            }
        }
        sound.then_some(SettingValue::List(found))
    }

    fn one_count(&mut self, name: &str, counts: &[u64], value: &Spanned) -> Option<SettingValue> {
        let found = as_count(name, value, 0, &mut self.diagnostics)?;
        if counts.contains(&found) {
            return Some(SettingValue::Count(found));
        }
        let known: Vec<String> = counts.iter().map(ToString::to_string).collect();
        let message = format!("`{name}` is {found}, but must be {}", known.join(" or "));
        self.diagnostics.push(
            Diagnostic::error(value.span, message)
                .code("range")
                .label(value.span, "not one of these"),
        );
        None
    }

    fn pair(
        &mut self,
        signature: &SettingSignature,
        bounds: (f64, f64),
        value: &Spanned,
    ) -> Option<SettingValue> {
        let name = &signature.name;
        let list = as_list(value.clone());
        if let [first, second] = list.as_slice() {
            let first = as_number(name, first, bounds, &mut self.diagnostics);
            let second = as_number(name, second, bounds, &mut self.diagnostics);
            let both = [first?, second?].map(SettingValue::Number);
            return Some(SettingValue::List(both.to_vec()));
        }
        if !matches!(value.value, Value::Broken) {
            let message = format!("`{name}` are two numbers, not {}", list.len());
            let example = signature.default.as_ref();
            let example = example.map(|default| format!("write `{name}: {default}`"));
            self.diagnostics.push(
                Diagnostic::error(value.span, message)
                    .code("wrong-kind")
                    .label(value.span, "")
                    .maybe_help(example),
            );
        }
        None
    }

    fn wrong(&mut self, name: &str, value: &Spanned, wanted: &str) -> Option<SettingValue> {
        if !matches!(value.value, Value::Broken) {
            self.diagnostics.push(wrong_kind(name, value, wanted));
        }
        None
    }
}
