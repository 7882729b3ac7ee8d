//! Settings of strategies that differ by parent, by layer and by part of the model.

use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::{Part, SettingValue, Span};

use crate::given::{Given, as_call, as_count, as_number, wrong_kind};
use crate::value::{Spanned, Value};

/// What a number of this kind may be written as.
const WANTED: &str = "a number, `ramp(…)` or `parts(…)`";

/// A setting that is read.
#[derive(Clone, Copy)]
pub(crate) struct Graded<'s> {
    /// Its name.
    pub(crate) name: &'s str,
    /// Least and greatest number.
    pub(crate) bounds: (f64, f64),
    /// Parents without a label, where each may have a value of its own.
    pub(crate) each: Option<usize>,
    /// Where nothing is said.
    pub(crate) default: &'s SettingValue,
}

impl Graded<'_> {
    /// `0.3`, `ramp(0.2, 0.8)`, `parts(mlp: 0.2, rest: ramp(0, 1))`, or a list of these.
    pub(crate) fn read(
        self,
        value: &Spanned,
        diagnostics: &mut Diagnostics,
    ) -> Option<SettingValue> {
        let (Value::List(list), Some(parents)) = (&value.value, self.each) else {
            return self.one(value, true, diagnostics);
        };
        if list.len() != parents {
            diagnostics.push(counted(self.name, list.len(), parents, value.span));
            return None;
        }
        let values: Vec<_> = list
            .iter()
            .map(|value| self.one(value, true, diagnostics))
            .collect();
        Some(SettingValue::List(
            values.into_iter().collect::<Option<_>>()?,
        ))
    }

    fn one(
        self,
        value: &Spanned,
        parts: bool,
        diagnostics: &mut Diagnostics,
    ) -> Option<SettingValue> {
        match &value.value {
            Value::Number(_) => {
                as_number(self.name, value, self.bounds, diagnostics).map(SettingValue::Number)
            }
            Value::Call(_) => {
                let names: &[&'static str] = if parts { &["ramp", "parts"] } else { &["ramp"] };
                match as_call(self.name, value.clone(), names, diagnostics)? {
                    ("ramp", given) => self.ramp(given, diagnostics),
                    (_, given) => self.parts(given, diagnostics),
                }
            }
            Value::Broken => None,
            _ => {
                let report = wrong_kind(self.name, value, WANTED);
                diagnostics.push(match (&value.value, self.each) {
                    (Value::List(_), None) => {
                        report.help("it holds for all parents; by layers it is `ramp(…)`")
                    }
                    _ => report,
                });
                None
            }
        }
    }

    fn ramp(self, mut given: Given, diagnostics: &mut Diagnostics) -> Option<SettingValue> {
        let place = given.place;
        let mut values = Vec::new();
        while let Some(value) = given.next() {
            values.push(as_number("ramp", &value, self.bounds, diagnostics));
        }
        given.finish(diagnostics);
        if values.len() < 2 {
            diagnostics.push(
                Diagnostic::error(place, "`ramp` goes from a number to another")
                    .code("missing")
                    .label(place, format!("{} given", values.len()))
                    .help("write `ramp(0.2, 0.8)`: the first layer's, then the last layer's"),
            );
            return None;
        }
        Some(SettingValue::Ramp(
            values.into_iter().collect::<Option<_>>()?,
        ))
    }

    fn parts(self, mut given: Given, diagnostics: &mut Diagnostics) -> Option<SettingValue> {
        let mut parts = Vec::new();
        let mut sound = true;
        for part in Part::ALL {
            if let Some(value) = given.take(part.word()) {
                match self.one(&value, false, diagnostics) {
                    Some(value) => parts.push((part, value)),
                    None => sound = false,
                }
            }
        }
        let rest = match given.take("rest") {
            Some(value) => self.one(&value, false, diagnostics),
            None => Some(self.default.clone()),
        };
        given.finish(diagnostics);
        let parts = SettingValue::Parts(parts, Box::new(rest?));
        sound.then_some(parts)
    }
}

/// Runs of layers, `[[0, 2], [1, 3]]`, one for each of some parents.
pub(crate) fn as_layers(
    name: &str,
    value: &Spanned,
    parents: usize,
    diagnostics: &mut Diagnostics,
) -> Option<SettingValue> {
    let wanted = "a list with `[first, end]` for each parent";
    let Value::List(list) = &value.value else {
        if !matches!(value.value, Value::Broken) {
            diagnostics.push(wrong_kind(name, value, wanted).help(
                "write `layers: [[0, 2], [1, 3]]`: the first layer of each parent, and the one \
                 after its last",
            ));
        }
        return None;
    };
    if list.len() != parents {
        diagnostics.push(counted(name, list.len(), parents, value.span));
        return None;
    }
    let mut run = |value: &Spanned| match &value.value {
        Value::List(ends) if ends.len() == 2 => {
            let first = as_count(name, &ends[0], 0, diagnostics)?;
            let end = as_count(name, &ends[1], 0, diagnostics)?;
            if end <= first {
                diagnostics.push(ends_early(name, (first, end), value.span));
                return None;
            }
            let ends = [first, end].map(SettingValue::Count);
            Some(SettingValue::List(ends.to_vec()))
        }
        Value::Broken => None,
        _ => {
            diagnostics.push(wrong_kind(name, value, "`[first, end]`"));
            None
        }
    };
    let runs: Vec<_> = list.iter().map(&mut run).collect();
    Some(SettingValue::List(runs.into_iter().collect::<Option<_>>()?))
}

/// The report of a run that has no layer in it.
fn ends_early(name: &str, (first, end): (u64, u64), span: Span) -> Diagnostic {
    let (message, meant) = match first == end {
        true => (
            format!("a run of `{name}` has no layer in it"),
            format!("layer {first} alone is"),
        ),
        false => (
            format!("a run of `{name}` ends before it begins"),
            format!("layers {end} to {first} are"),
        ),
    };
    let after = first.saturating_add(1);
    Diagnostic::error(span, message)
        .code("range")
        .label(span, format!("from {first} up to {end}, which is left out"))
        .help(format!(
            "a run is the first layer and the one after the last: {meant} `[{end}, {after}]`"
        ))
}

/// The report of a list that is not as long as there are parents.
fn counted(name: &str, values: usize, parents: usize, span: Span) -> Diagnostic {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    Diagnostic::error(
        span,
        format!(
            "`{name}` has {values} value{} for {parents} parent{}",
            plural(values),
            plural(parents)
        ),
    )
    .code("parents")
    .label(span, "one for each parent, in their order")
    .help(format!("give {parents}"))
}
