//! Settings of a strategy: completed, checked, and read.

use jam_ir::diagnostic::Severity;
use jam_ir::{Diagnostic, SettingKind, SettingSignature, SettingValue, Settings, Signature};

use crate::graded::Graded;

/// The settings in the order of the signature, what they imply and defaults filled in, every value
/// of its kind.
///
/// # Errors
/// Every setting that is unknown, of another kind, or ruled out by another. Values from a program
/// were checked with their places before; these errors are for other callers.
pub(crate) fn complete(
    signature: &Signature,
    given: &Settings,
) -> Result<Settings, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    for name in given.keys() {
        if !signature.settings.iter().any(|s| s.name == *name) {
            let names: Vec<&str> = signature.settings.iter().map(|s| s.name.as_str()).collect();
            let message = format!("`{name}` is not a setting of `{}`", signature.word);
            problems.push(
                Diagnostic::placeless(Severity::Error, message)
                    .help(format!("its settings are {}", names.join(", "))),
            );
        }
    }
    let mut known = Settings::new();
    for setting in &signature.settings {
        let Some(value) = given.get(&setting.name) else {
            continue;
        };
        match of_kind(&setting.kind, value) {
            Some(value) => {
                known.insert(setting.name.clone(), value);
            }
            None => {
                let message = format!(
                    "setting `{}` of `{}` is {}, not `{value}`",
                    setting.name,
                    signature.word,
                    setting.kind.wanted()
                );
                problems.push(Diagnostic::placeless(Severity::Error, message));
            }
        }
    }
    let settings = signature.complete(&known).unwrap_or_else(|contradictions| {
        let reports = contradictions.iter().map(|found| {
            Diagnostic::placeless(Severity::Error, found.to_string()).help(format!(
                "leave out one of `{}` and `{}`",
                found.by, found.setting
            ))
        });
        problems.extend(reports);
        Settings::new()
    });
    match problems.is_empty() {
        true => Ok(settings),
        false => Err(problems),
    }
}

/// The value in the form that the kind calls for.
fn of_kind(kind: &SettingKind, value: &SettingValue) -> Option<SettingValue> {
    let within = |value: &SettingValue, min: f64, max: f64| match value {
        SettingValue::Number(number) => (min..=max).contains(number).then_some(*number),
        SettingValue::Count(count) => {
            Some(*count as f64).filter(|count| (min..=max).contains(count))
        }
        _ => None,
    };
    let is_word = |value: &SettingValue, words: &[String]| matches!(value, SettingValue::Word(word) if words.contains(word));
    let all = |value: &SettingValue, fits: &dyn Fn(&SettingValue) -> bool| match value {
        SettingValue::List(values) => values.iter().all(fits),
        _ => false,
    };
    let fits = match kind {
        SettingKind::Number { min, max } => {
            return within(value, *min, *max).map(SettingValue::Number);
        }
        SettingKind::Count { min, max, words } => match value {
            SettingValue::Count(count) => (min..=max).contains(&count),
            SettingValue::Number(number) => {
                let whole = number.fract() == 0.0 && *number >= 0.0 && *number < 2f64.powi(53);
                let count = *number as u64;
                return (whole && (min..=max).contains(&&count))
                    .then_some(SettingValue::Count(count));
            }
            other => is_word(other, words),
        },
        SettingKind::OneOf(counts) => {
            matches!(value, SettingValue::Count(count) if counts.contains(count))
        }
        SettingKind::Seed => matches!(value, SettingValue::Count(_)),
        SettingKind::Word(words) => is_word(value, words),
        SettingKind::Words(words) => all(value, &|value| is_word(value, words)),
        SettingKind::Flag => matches!(value, SettingValue::Flag(_)),
        SettingKind::Text => matches!(value, SettingValue::Text(_)),
        SettingKind::Pair { min, max } => {
            let two = matches!(value, SettingValue::List(values) if values.len() == 2);
            two && all(value, &|value| within(value, *min, *max).is_some())
        }
        SettingKind::Graded { min, max, each } => {
            let fits = |value: &SettingValue| {
                Graded::of(value).is_some_and(|graded| graded.within(*min, *max))
            };
            match value {
                SettingValue::List(values) => *each && values.iter().all(fits),
                value => fits(value),
            }
        }
        SettingKind::Parent => match value {
            SettingValue::Word(word) => word == NO_PARENT,
            value => matches!(value, SettingValue::Parent(_)),
        },
        SettingKind::Layers => match value {
            SettingValue::Word(word) => word == ALL_LAYERS,
            value => all(value, &|run| layers(run).is_some()),
        },
        SettingKind::Data { list: true, .. } => {
            all(value, &|value| matches!(value, SettingValue::Data(_)))
        }
        SettingKind::Data { list: false, .. } => matches!(value, SettingValue::Data(_)),
        SettingKind::Decode => matches!(value, SettingValue::Decode(_)),
        SettingKind::Model => matches!(value, SettingValue::Model(_)),
    };
    fits.then(|| value.clone())
}

/// `[first, end]`.
fn layers(run: &SettingValue) -> Option<(u64, u64)> {
    let SettingValue::List(ends) = run else {
        return None;
    };
    match ends.as_slice() {
        [SettingValue::Count(first), SettingValue::Count(end)] if first < end => {
            Some((*first, *end))
        }
        _ => None,
    }
}

/// A setting that is one of some words; the first is the default.
pub(crate) fn word(name: &str, words: &[&str], help: &str) -> SettingSignature {
    SettingSignature::word(name, words, help)
}

/// A setting that is a number.
pub(crate) fn number(name: &str, min: f64, max: f64, default: f64, help: &str) -> SettingSignature {
    SettingSignature::number(name, (min, max), default, help)
}

/// A setting that is `yes` or `no`.
pub(crate) fn flag(name: &str, default: bool, help: &str) -> SettingSignature {
    SettingSignature::flag(name, default, help)
}

/// The setting `start`: how new weights begin. `start: parents` wants `others`.
pub(crate) fn start(others: &[(&str, SettingValue)]) -> SettingSignature {
    let others = others.iter();
    let others = others.map(|(name, value)| ((*name).to_owned(), value.clone()));
    word(
        "start",
        &["paper", "parents"],
        "how new weights begin: as in the paper, or so that logits of text rows are the first \
         parent's and logits of image rows the second's",
    )
    .implying(SettingValue::Word("parents".to_owned()), others.collect())
}

/// A setting that is a number, also by layer or part, and where `each`, also one for each parent.
pub(crate) fn graded(
    name: &str,
    (min, max): (f64, f64),
    default: f64,
    each: bool,
    help: &str,
) -> SettingSignature {
    let kind = SettingKind::Graded { min, max, each };
    SettingSignature::new(name, kind, Some(SettingValue::Number(default)), help)
}

/// A parent with a label that is not given.
const NO_PARENT: &str = "none";
/// Runs of layers that are not given.
pub(crate) const ALL_LAYERS: &str = "all";

/// The setting `base`: a parent that the others were tuned from.
pub(crate) fn base(required: bool, help: &str) -> SettingSignature {
    let default = (!required).then(|| SettingValue::Word(NO_PARENT.to_owned()));
    SettingSignature::new("base", SettingKind::Parent, default, help)
}

/// Weights and factors: no more is of use, and no more is a slip.
pub(crate) const WEIGHTS: (f64, f64) = (-1e6, 1e6);

/// The setting `weight`: how much each parent counts.
pub(crate) fn weight() -> SettingSignature {
    graded("weight", WEIGHTS, 1.0, true, "how much each parent counts")
}

/// Complete settings, read by name.
pub(crate) struct Read<'s>(pub(crate) &'s Settings);

impl Read<'_> {
    /// A number.
    pub(crate) fn number(&self, name: &str) -> Result<f64, Vec<Diagnostic>> {
        match self.0.get(name) {
            Some(SettingValue::Number(number)) => Ok(*number),
            _ => missing(name),
        }
    }

    /// A word.
    pub(crate) fn word(&self, name: &str) -> Result<&str, Vec<Diagnostic>> {
        match self.0.get(name) {
            Some(SettingValue::Word(word)) => Ok(word),
            _ => missing(name),
        }
    }

    /// `yes` or `no`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Vec<Diagnostic>> {
        match self.0.get(name) {
            Some(SettingValue::Flag(flag)) => Ok(*flag),
            _ => missing(name),
        }
    }

    /// A number that may differ by layer and part.
    pub(crate) fn graded(&self, name: &str) -> Result<Graded, Vec<Diagnostic>> {
        let found = self.0.get(name).and_then(Graded::of);
        found.map_or_else(|| missing(name), Ok)
    }

    /// A number for each of `parents` parents.
    pub(crate) fn each(&self, name: &str, parents: usize) -> Result<Vec<Graded>, Vec<Diagnostic>> {
        match self.0.get(name) {
            Some(SettingValue::List(values)) if values.len() == parents => {
                let values = values.iter().map(Graded::of).collect::<Option<_>>();
                values.map_or_else(|| missing(name), Ok)
            }
            Some(SettingValue::List(values)) => {
                let message = format!(
                    "setting `{name}` has {} values for {parents} parents",
                    values.len()
                );
                Err(vec![Diagnostic::placeless(Severity::Error, message)])
            }
            _ => Ok(vec![self.graded(name)?; parents]),
        }
    }

    /// A parent with a label, by its place among all; `None` where it is not given.
    pub(crate) fn parent(&self, name: &str) -> Option<usize> {
        match self.0.get(name) {
            Some(SettingValue::Parent(index)) => Some(*index),
            _ => None,
        }
    }

    /// Runs of layers; `None` where all are meant.
    pub(crate) fn layers(&self, name: &str) -> Option<Vec<(u64, u64)>> {
        match self.0.get(name) {
            Some(SettingValue::List(runs)) => runs.iter().map(layers).collect(),
            _ => None,
        }
    }

    /// Whether any setting changes from layer to layer.
    pub(crate) fn is_by_layer(&self) -> bool {
        let by_layer = |value| Graded::of(value).is_some_and(|graded| graded.is_by_layer());
        self.0.values().any(|value| match value {
            SettingValue::List(values) => values.iter().any(by_layer),
            value => by_layer(value),
        })
    }

    /// A whole number, or `None` for a word instead of one.
    pub(crate) fn count(&self, name: &str) -> Result<Option<u64>, Vec<Diagnostic>> {
        match self.0.get(name) {
            Some(SettingValue::Count(count)) => Ok(Some(*count)),
            Some(SettingValue::Word(_)) => Ok(None),
            _ => missing(name),
        }
    }
}

fn missing<T>(name: &str) -> Result<T, Vec<Diagnostic>> {
    let message = format!("setting `{name}` has no value of its kind");
    Err(vec![Diagnostic::placeless(Severity::Error, message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        Signature::new("s", "").with([
            SettingSignature::number("share", (0.0, 1.0), 0.5, ""),
            word("at", &["first", "last"], ""),
            flag("norm", false, ""),
            SettingSignature::new(
                "every",
                SettingKind::Count {
                    min: 1,
                    max: u64::MAX,
                    words: vec!["never".to_owned()],
                },
                Some(SettingValue::Count(2)),
                "",
            ),
        ])
    }

    fn given(values: &[(&str, SettingValue)]) -> Settings {
        let values = values.iter();
        values
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    #[test]
    fn what_is_silent_takes_its_default_and_whole_numbers_fit_both_kinds() {
        let settings = complete(
            &signature(),
            &given(&[
                ("every", SettingValue::Number(3.0)),
                ("share", SettingValue::Count(1)),
            ]),
        )
        .unwrap();
        let read = Read(&settings);
        assert_eq!(read.number("share"), Ok(1.0));
        assert_eq!(read.count("every"), Ok(Some(3)));
        assert_eq!(read.word("at"), Ok("first"));
        assert_eq!(read.flag("norm"), Ok(false));
        let names: Vec<&String> = settings.keys().collect();
        assert_eq!(names, ["share", "at", "norm", "every"]);
        let never = given(&[("every", SettingValue::Word("never".to_owned()))]);
        let settings = complete(&signature(), &never).unwrap();
        assert_eq!(Read(&settings).count("every"), Ok(None));
    }

    #[test]
    fn every_wrong_setting_is_reported() {
        let wrong = given(&[
            ("share", SettingValue::Number(1.5)),
            ("at", SettingValue::Word("middle".to_owned())),
            ("norm", SettingValue::Count(1)),
            ("every", SettingValue::Number(2.5)),
            ("shares", SettingValue::Count(1)),
        ]);
        let problems = complete(&signature(), &wrong).unwrap_err();
        assert_eq!(problems.len(), 5);
        assert!(problems[0].message.contains("`shares`"));
        assert!(problems[1].message.contains("a number from 0 to 1"));
        let zero = given(&[("every", SettingValue::Count(0))]);
        assert!(complete(&signature(), &zero).is_err());
    }
}
