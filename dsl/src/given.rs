//! What a record or a call gives, read by key and checked for kind.
//!
//! A reader asks for each key that it knows; whatever is left at the end is unknown, and the keys
//! that were asked for are what may have been meant. A mistake is reported, and the reader goes
//! on with a default, so that one run finds all of them.

use indexmap::IndexMap;
use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::{DType, SettingSignature, Span};

use crate::number;
use crate::suggest;
use crate::syntax::Name;
use crate::value::{Call, Spanned, Value};

/// The values that a record or a call gives.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// What errors call the whole: "`adamw`", "train `align`".
    pub(crate) what: String,
    /// Where it is.
    pub(crate) place: Span,
    /// Whether keys are written `key = value`, and not `key: value`.
    pub(crate) is_record: bool,
    /// Values without a key, of a call.
    pub(crate) positional: Vec<Spanned>,
    /// Values by key.
    pub(crate) keyed: IndexMap<String, (Name, Spanned)>,
    /// Keys that somebody asked for.
    asked: Vec<String>,
    /// Whether parts of it could not be read, so that nothing is reported as missing.
    pub(crate) partial: bool,
}

impl Given {
    /// What a record gives.
    pub(crate) fn record(what: String, place: Span) -> Self {
        Self {
            what,
            place,
            is_record: true,
            positional: Vec::new(),
            keyed: IndexMap::new(),
            asked: Vec::new(),
            partial: false,
        }
    }

    /// What a call gives; a label given twice is reported.
    pub(crate) fn call(call: Call, diagnostics: &mut Diagnostics) -> Self {
        let name = crate::syntax::dotted(&call.name);
        let mut given = Self::record(format!("`{name}`"), call.span);
        given.is_record = false;
        for argument in call.arguments {
            match argument.label {
                None => given.positional.push(argument.value),
                Some(label) => given.insert(label, argument.value, diagnostics),
            }
        }
        given
    }

    /// Adds a value; a key given twice is reported.
    pub(crate) fn insert(&mut self, key: Name, value: Spanned, diagnostics: &mut Diagnostics) {
        if let Some((first, _)) = self.keyed.get(&key.text) {
            diagnostics.push(twice(&key, first.span));
            return;
        }
        self.keyed.insert(key.text.clone(), (key, value));
    }

    /// Takes the value of a key out, if it is there.
    pub(crate) fn take(&mut self, key: &str) -> Option<Spanned> {
        self.asked.push(key.to_owned());
        self.keyed.shift_remove(key).map(|(_, value)| value)
    }

    /// Takes the value of a key out; its absence is reported.
    pub(crate) fn require(&mut self, key: &str, diagnostics: &mut Diagnostics) -> Option<Spanned> {
        self.required(key, None, diagnostics)
    }

    /// Takes the value of a setting out; the absence of one that must be given is reported, with what it is.
    pub(crate) fn setting(
        &mut self,
        setting: &SettingSignature,
        diagnostics: &mut Diagnostics,
    ) -> Option<Spanned> {
        match setting.is_required() {
            true => self.required(&setting.name, Some(&setting.help), diagnostics),
            false => self.take(&setting.name),
        }
    }

    fn required(
        &mut self,
        key: &str,
        note: Option<&str>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Spanned> {
        let value = self.take(key);
        if value.is_none() && !self.partial {
            // A slip in a key is one mistake, not two.
            let left = self.keyed.keys().map(String::as_str);
            let near = suggest::nearest(key, left).map(str::to_owned);
            if let Some((name, _)) = near.and_then(|near| self.keyed.shift_remove(&near)) {
                diagnostics.push(
                    Diagnostic::error(name.span, format!("{} has no `{}`", self.what, name.text))
                        .code("unknown-name")
                        .label(name.span, "not known here")
                        .help(format!("did you mean `{key}`?")),
                );
                return None;
            }
            let sign = if self.is_record { " =" } else { ":" };
            let report = Diagnostic::error(self.place, format!("{} needs `{key}`", self.what))
                .code("missing")
                .label(self.place, format!("`{key}` is not given"))
                .help(format!("add `{key}{sign} …`"));
            diagnostics.push(match note {
                Some(note) => report.note(note),
                None => report,
            });
        }
        value
    }

    /// Takes the value without a key that comes next.
    pub(crate) fn next(&mut self) -> Option<Spanned> {
        (!self.positional.is_empty()).then(|| self.positional.remove(0))
    }

    /// Takes the next value without a key; its absence is reported.
    pub(crate) fn require_next(
        &mut self,
        what: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Spanned> {
        let value = self.next();
        if value.is_none() {
            diagnostics.push(
                Diagnostic::error(self.place, format!("{} needs {what}", self.what))
                    .code("missing")
                    .label(self.place, format!("{what} is not given")),
            );
        }
        value
    }

    /// Reports what nobody asked for.
    pub(crate) fn finish(self, diagnostics: &mut Diagnostics) {
        for (name, _) in self.keyed.values() {
            let kind = if self.is_record { "keys" } else { "settings" };
            let what = format!("its {kind} are");
            let help = if self.asked.is_empty() {
                Some("remove it".to_owned())
            } else {
                suggest::help(&name.text, &what, self.asked.iter().map(String::as_str))
            };
            diagnostics.push(
                Diagnostic::error(name.span, format!("{} has no `{}`", self.what, name.text))
                    .code("unknown-name")
                    .label(name.span, "not known here")
                    .maybe_help(help),
            );
        }
        for value in &self.positional {
            if matches!(value.value, Value::Broken) {
                continue;
            }
            let report =
                Diagnostic::error(value.span, format!("{} takes no further value", self.what))
                    .code("surplus")
                    .label(value.span, "one too many");
            diagnostics.push(match self.asked.as_slice() {
                [] => report,
                asked => report.help(format!(
                    "settings are given with a label: `{}: …`",
                    asked[0]
                )),
            });
        }
    }

    /// A whole number of at least `least`; `default` where it is not given, or required.
    pub(crate) fn count(
        &mut self,
        key: &'static str,
        default: Option<u64>,
        least: u64,
        diagnostics: &mut Diagnostics,
    ) -> u64 {
        self.count_within(key, default, (least, u64::MAX), diagnostics)
    }

    /// A whole number between two bounds, both allowed.
    pub(crate) fn count_within(
        &mut self,
        key: &'static str,
        default: Option<u64>,
        bounds: (u64, u64),
        diagnostics: &mut Diagnostics,
    ) -> u64 {
        let value = match default {
            Some(_) => self.take(key),
            None => self.require(key, diagnostics),
        };
        let value = value.and_then(|value| as_count_within(key, &value, bounds, diagnostics));
        value.or(default).unwrap_or(bounds.0)
    }

    /// A number between two bounds.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        default: Option<f64>,
        bounds: (f64, f64),
        diagnostics: &mut Diagnostics,
    ) -> f64 {
        let value = match default {
            Some(_) => self.take(key),
            None => self.require(key, diagnostics),
        };
        let value = value.and_then(|value| as_number(key, &value, bounds, diagnostics));
        value.or(default).unwrap_or(bounds.0)
    }

    /// `yes` or `no`.
    pub(crate) fn flag(
        &mut self,
        key: &'static str,
        default: bool,
        diagnostics: &mut Diagnostics,
    ) -> bool {
        let value = self.take(key);
        value
            .and_then(|value| as_flag(key, &value, diagnostics))
            .unwrap_or(default)
    }

    /// One of some words; the first is the default.
    pub(crate) fn word(
        &mut self,
        key: &'static str,
        words: &[&'static str],
        diagnostics: &mut Diagnostics,
    ) -> &'static str {
        let default = words.first().copied().unwrap_or("");
        match self.take(key) {
            Some(value) => as_word(key, &value, words, diagnostics).unwrap_or(default),
            None => default,
        }
    }

    /// The float type of weights or of a run.
    pub(crate) fn precision(&mut self, diagnostics: &mut Diagnostics) -> DType {
        let word = self.word("precision", &["f32", "bf16", "f16"], diagnostics);
        DType::from_word(word).unwrap_or(DType::F32)
    }
}

/// The report of a key that is given twice.
pub(crate) fn twice(key: &Name, first: Span) -> Diagnostic {
    Diagnostic::error(key.span, format!("`{}` is given twice", key.text))
        .code("twice")
        .label(key.span, "given again here")
        .label(first, "first given here")
        .help("remove one of the two")
}

/// The report of a value that is of another kind than what is asked for.
pub(crate) fn wrong_kind(what: &str, value: &Spanned, wanted: &str) -> Diagnostic {
    if let Value::Word { word, near } = &value.value {
        let report = Diagnostic::error(value.span, format!("`{word}` is not defined"))
            .code("unknown-name")
            .label(value.span, format!("`{what}` takes {wanted}"));
        return report.maybe_help(near.as_ref().map(|near| format!("did you mean `{near}`?")));
    }
    let message = format!("`{what}` takes {wanted}, not {}", value.described());
    Diagnostic::error(value.span, message)
        .code("wrong-kind")
        .label(value.span, format!("expected {wanted}"))
}

/// Reports a value of another kind, unless it is reported already.
fn refuse<T>(
    what: &str,
    value: &Spanned,
    wanted: &str,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    if !matches!(value.value, Value::Broken) {
        diagnostics.push(wrong_kind(what, value, wanted));
    }
    None
}

/// A whole number from `least` to 2^64 - 1.
pub(crate) fn as_count(
    what: &str,
    value: &Spanned,
    least: u64,
    diagnostics: &mut Diagnostics,
) -> Option<u64> {
    as_count_within(what, value, (least, u64::MAX), diagnostics)
}

/// A whole number between two bounds, both allowed.
pub(crate) fn as_count_within(
    what: &str,
    value: &Spanned,
    (least, most): (u64, u64),
    diagnostics: &mut Diagnostics,
) -> Option<u64> {
    let Value::Number(exact) = &value.value else {
        return refuse(what, value, "a whole number", diagnostics);
    };
    let report = |message: String, label: &str| {
        Diagnostic::error(value.span, message)
            .code("size")
            .label(value.span, label)
    };
    let shown = number::shown(exact);
    match number::whole(exact) {
        Some(count) if (least..=most).contains(&count) => Some(count),
        Some(count) if count > most => {
            let message = format!("`{what}` is {shown}, but must be at most {most}");
            diagnostics.push(report(message, "too large"));
            None
        }
        Some(_) => {
            let message = format!("`{what}` is {shown}, but must be at least {least}");
            diagnostics.push(report(message, "too small"));
            None
        }
        None if !exact.is_integer() => {
            let message = format!("`{what}` must come out whole, and is {shown}");
            diagnostics.push(
                report(message, "not a whole number")
                    .help("round it to a multiple: `round_up(…, 8)`, `round_down(…, 8)`"),
            );
            None
        }
        None => {
            let negative = *exact < number::Exact::from_integer(0.into());
            let (message, label) = if negative {
                (
                    format!("`{what}` is {shown}, but must be at least {least}"),
                    "below zero",
                )
            } else {
                (
                    format!("`{what}` is {shown}, more than 64 bits hold"),
                    "too large",
                )
            };
            diagnostics.push(report(message, label));
            None
        }
    }
}

/// A number between two bounds, both allowed.
pub(crate) fn as_number(
    what: &str,
    value: &Spanned,
    (least, greatest): (f64, f64),
    diagnostics: &mut Diagnostics,
) -> Option<f64> {
    let Value::Number(exact) = &value.value else {
        return refuse(what, value, "a number", diagnostics);
    };
    match number::float(exact) {
        Some(float) if float >= least && float <= greatest => Some(float),
        _ => {
            // The least number above zero stands for all of them.
            let above_zero = least == f64::MIN_POSITIVE;
            let allowed = match (above_zero, greatest >= f64::MAX) {
                (true, true) => "above 0".to_owned(),
                (true, false) => format!("above 0 and at most {greatest}"),
                (false, true) => format!("at least {least}"),
                (false, false) => format!("between {least} and {greatest}"),
            };
            let shown = number::shown(exact);
            diagnostics.push(
                Diagnostic::error(
                    value.span,
                    format!("`{what}` is {shown}, but must be {allowed}"),
                )
                .code("range")
                .label(value.span, "out of range"),
            );
            None
        }
    }
}

/// `yes` or `no`.
pub(crate) fn as_flag(what: &str, value: &Spanned, diagnostics: &mut Diagnostics) -> Option<bool> {
    match &value.value {
        Value::Flag(flag) => Some(*flag),
        Value::Word { word, .. } if matches!(word.as_str(), "true" | "false" | "on" | "off") => {
            let meant = if matches!(word.as_str(), "true" | "on") {
                "yes"
            } else {
                "no"
            };
            diagnostics.push(
                Diagnostic::error(value.span, format!("`{word}` is not defined"))
                    .code("unknown-name")
                    .label(value.span, format!("`{what}` takes `yes` or `no`"))
                    .help(format!("write `{meant}`")),
            );
            None
        }
        _ => refuse(what, value, "`yes` or `no`", diagnostics),
    }
}

/// One of some words.
pub(crate) fn as_word(
    what: &str,
    value: &Spanned,
    words: &[&'static str],
    diagnostics: &mut Diagnostics,
) -> Option<&'static str> {
    let Some(written) = value.value.bare_word() else {
        let wanted = format!("one of {}", suggest::listed(words));
        return refuse(what, value, &wanted, diagnostics);
    };
    let found = words.iter().find(|word| **word == written).copied();
    if found.is_none() {
        diagnostics.push(
            Diagnostic::error(value.span, format!("`{what}` cannot be `{written}`"))
                .code("unknown-word")
                .label(value.span, "not known here")
                .maybe_help(suggest::help(
                    written,
                    "it is one of",
                    words.iter().copied(),
                )),
        );
    }
    found
}

/// A text.
pub(crate) fn as_text(
    what: &str,
    value: &Spanned,
    diagnostics: &mut Diagnostics,
) -> Option<String> {
    match &value.value {
        Value::Text(text) => Some(text.clone()),
        Value::Word { word, near: None } => {
            diagnostics.push(
                wrong_kind(what, value, "a text in quotation marks")
                    .help(format!("write `\"{word}\"`")),
            );
            None
        }
        _ => refuse(what, value, "a text in quotation marks", diagnostics),
    }
}

/// The values of a list; a single value is a list of one.
pub(crate) fn as_list(value: Spanned) -> Vec<Spanned> {
    match value.value {
        Value::List(list) => list,
        _ => vec![value],
    }
}

/// A call of one of some names, or the bare name where no argument is needed.
pub(crate) fn as_call<'n>(
    what: &str,
    value: Spanned,
    names: &[&'n str],
    diagnostics: &mut Diagnostics,
) -> Option<(&'n str, Given)> {
    let bare = value
        .bare_call()
        .filter(|call| names.contains(&call.name[0].text.as_str()));
    let call = match (value.value, bare) {
        (Value::Call(call), _) | (_, Some(call)) => call,
        (Value::Word { word, near }, _) => {
            let mut report = unknown_call(what, &word, value.span, names);
            let defined = near.filter(|_| suggest::nearest(&word, names.iter().copied()).is_none());
            if let Some(near) = defined {
                report = report.help(format!("did you mean `{near}`?"));
            }
            diagnostics.push(report);
            return None;
        }
        (other, None) => {
            let value = Spanned::new(other, value.span);
            let wanted = format!("one of {}", suggest::listed(names));
            return refuse(what, &value, &wanted, diagnostics);
        }
    };
    let written = crate::syntax::dotted(&call.name);
    match names.iter().find(|name| **name == written) {
        Some(name) => Some((*name, Given::call(call, diagnostics))),
        None => {
            let place = call.name.first().map_or(call.span, |name| name.span);
            diagnostics.push(unknown_call(what, &written, place, names));
            None
        }
    }
}

fn unknown_call(what: &str, written: &str, place: Span, names: &[&str]) -> Diagnostic {
    Diagnostic::error(place, format!("`{what}` cannot be `{written}`"))
        .code("unknown-word")
        .label(place, "not known here")
        .maybe_help(suggest::help(
            written,
            "it is one of",
            names.iter().copied(),
        ))
}
