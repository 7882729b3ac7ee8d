//! One case: what its `case.json` says, the tolerances it states, and what came of running it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use jam_backends::ExecError;
use jam_ir::{Diagnostic, SettingValue, Settings};
use serde_json::Value;

/// A folder with a `case.json`.
pub(crate) struct Case {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// The folder as seen from the root of all cases.
    pub(crate) label: String,
    json: Value,
}

/// Why a case did not run to its end.
pub(crate) enum Stop {
    /// It asks for what is not built here.
    LeftOut(String),
    /// It should have run.
    Wrong(String),
}

/// A result on the way through a case.
pub(crate) type Checked<T> = Result<T, Stop>;

impl From<String> for Stop {
    fn from(reason: String) -> Stop {
        Stop::Wrong(reason)
    }
}

impl From<jam_ir::Error> for Stop {
    fn from(error: jam_ir::Error) -> Stop {
        Stop::Wrong(error.to_string())
    }
}

impl From<ExecError> for Stop {
    fn from(error: ExecError) -> Stop {
        Stop::Wrong(error.to_string())
    }
}

/// Several diagnostics as one reason.
pub(crate) fn told(problems: &[Diagnostic]) -> String {
    let texts: Vec<&str> = problems
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    texts.join("; ")
}

/// How far a number may be off.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    /// Share of the expected number.
    pub(crate) relative: f64,
    /// Distance from it.
    pub(crate) absolute: f64,
}

impl Tolerance {
    /// A distance.
    pub(crate) fn of(absolute: f64) -> Tolerance {
        Tolerance {
            relative: 0.0,
            absolute,
        }
    }

    /// `0.0002`, `"rel 1e-3 or abs 1e-5"`, `"exact"`.
    fn parse(value: &Value) -> Option<Tolerance> {
        if let Some(absolute) = value.as_f64() {
            return Some(Tolerance::of(absolute));
        }
        let mut found = Tolerance::of(0.0);
        let words: Vec<&str> = value.as_str()?.split_whitespace().collect();
        for pair in words.windows(2) {
            match (pair[0], pair[1].parse()) {
                ("rel", Ok(number)) => found.relative = number,
                ("abs", Ok(number)) => found.absolute = number,
                _ => {}
            }
        }
        Some(found)
    }

    fn allows(self, found: f64, expected: f64) -> bool {
        let off = (found - expected).abs();
        off <= self.absolute || off <= self.relative * expected.abs()
    }
}

impl Case {
    /// Reads `folder/case.json`.
    pub(crate) fn open(folder: &Path, root: &Path) -> Result<Case, String> {
        let path = folder.join("case.json");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let json = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let label = folder.strip_prefix(root).unwrap_or(folder);
        Ok(Case {
            folder: folder.to_owned(),
            label: label.display().to_string(),
            json,
        })
    }

    /// A field of the file.
    pub(crate) fn field(&self, name: &str) -> &Value {
        &self.json[name]
    }

    /// `kind`.
    pub(crate) fn kind(&self) -> &str {
        self.json["kind"].as_str().unwrap_or("")
    }

    /// Folders of `parents`, in order.
    pub(crate) fn parents(&self) -> Checked<Vec<PathBuf>> {
        let wrong = || Stop::Wrong("`parents` is not a list of folders".to_owned());
        let names = self.json["parents"].as_array().ok_or_else(wrong)?;
        let folders = names
            .iter()
            .map(|name| name.as_str().map(|name| self.folder.join(name)));
        folders.collect::<Option<_>>().ok_or_else(wrong)
    }

    /// `settings`.
    pub(crate) fn settings(&self) -> Checked<Settings> {
        let mut settings = Settings::new();
        let Some(given) = self.json["settings"].as_object() else {
            return Ok(settings);
        };
        for (name, value) in given {
            let Some(value) = setting(value) else {
                return Err(Stop::LeftOut(format!("setting `{name}` is {value}")));
            };
            settings.insert(name.clone(), value);
        }
        Ok(settings)
    }

    /// The tolerance stated for `name`, or what the README states for all cases.
    pub(crate) fn tolerance(&self, name: &str, default: Tolerance) -> Tolerance {
        let stated = &self.json["tolerance"];
        Tolerance::parse(&stated[name]).unwrap_or(default)
    }

    /// `grad_table` of a set of inputs: per tensor the L2 norm, the sum and the largest size.
    pub(crate) fn grad_table(&self, set: &str) -> BTreeMap<String, [f64; 3]> {
        let name = format!("{set}grad_table");
        let table = match &self.json["meta"][&name] {
            Value::Null => &self.json[&name],
            table => table,
        };
        let rows = table.as_object().into_iter().flatten();
        let row = |(name, row): (&String, &Value)| {
            let number = |i: usize| row[i].as_f64().unwrap_or(f64::NAN);
            (name.clone(), [number(0), number(1), number(2)])
        };
        rows.map(row).collect()
    }
}

fn setting(value: &Value) -> Option<SettingValue> {
    Some(match value {
        Value::Bool(flag) => SettingValue::Flag(*flag),
        Value::Number(number) => match number.as_u64() {
            Some(count) => SettingValue::Count(count),
            None => SettingValue::Number(number.as_f64()?),
        },
        Value::String(word) => match word.as_str() {
            "yes" => SettingValue::Flag(true),
            "no" => SettingValue::Flag(false),
            _ => SettingValue::Word(word.clone()),
        },
        Value::Array(values) => {
            SettingValue::List(values.iter().map(setting).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// What was compared in a case, how far it was off at most, and what was wrong.
#[derive(Default)]
pub(crate) struct Findings {
    /// Per subject: numbers compared, the largest distance.
    compared: BTreeMap<&'static str, (usize, f64)>,
    /// Comparisons that failed.
    pub(crate) wrong: Vec<String>,
    /// What was not looked at, by the reason why.
    pub(crate) passed_over: BTreeMap<&'static str, Vec<String>>,
}

impl Findings {
    /// Compares numbers; the worst of them is told where one is off by more than is allowed.
    pub(crate) fn compare(
        &mut self,
        subject: &'static str,
        what: &str,
        found: &[f32],
        expected: &[f32],
        tolerance: Tolerance,
    ) {
        self.compare_where(subject, what, found, expected, tolerance, |_| true);
    }

    /// As [`Findings::compare`], at the places that `counts` names.
    pub(crate) fn compare_where(
        &mut self,
        subject: &'static str,
        what: &str,
        found: &[f32],
        expected: &[f32],
        tolerance: Tolerance,
        counts: impl Fn(usize) -> bool,
    ) {
        if found.len() != expected.len() {
            let (found, expected) = (found.len(), expected.len());
            self.wrong
                .push(format!("{subject} {what}: {found} numbers for {expected}"));
            return;
        }
        let entry = self.compared.entry(subject).or_default();
        let (mut off, mut worst) = (0, None::<(f64, usize)>);
        for place in (0..found.len()).filter(|&place| counts(place)) {
            let (a, b) = (f64::from(found[place]), f64::from(expected[place]));
            let distance = (a - b).abs();
            entry.0 += 1;
            entry.1 = if distance.is_nan() {
                f64::INFINITY
            } else {
                entry.1.max(distance)
            };
            if !tolerance.allows(a, b) {
                off += 1;
                if worst.is_none_or(|(known, _)| distance > known || distance.is_nan()) {
                    worst = Some((distance, place));
                }
            }
        }
        if let Some((_, place)) = worst {
            self.wrong.push(format!(
                "{subject} {what}: {off} of {} numbers are off; at {place} it is {}, not {}",
                found.len(),
                found[place],
                expected[place]
            ));
        }
    }

    /// Compares one number.
    pub(crate) fn number(
        &mut self,
        subject: &'static str,
        what: &str,
        found: f64,
        expected: f64,
        tolerance: Tolerance,
    ) {
        let distance = (found - expected).abs();
        let entry = self.compared.entry(subject).or_default();
        entry.0 += 1;
        entry.1 = if distance.is_nan() {
            f64::INFINITY
        } else {
            entry.1.max(distance)
        };
        if !tolerance.allows(found, expected) {
            self.wrong
                .push(format!("{subject} {what}: it is {found}, not {expected}"));
        }
    }

    /// Counts things that must be equal.
    pub(crate) fn equal<T: PartialEq + fmt::Debug>(
        &mut self,
        subject: &'static str,
        what: &str,
        found: &[T],
        expected: &[T],
    ) {
        self.compared.entry(subject).or_default().0 += expected.len();
        if found != expected {
            self.wrong
                .push(format!("{subject} {what}: {found:?}, not {expected:?}"));
        }
    }

    /// Names what cannot be compared, and why.
    pub(crate) fn pass_over(&mut self, what: String, why: &'static str) {
        self.passed_over.entry(why).or_default().push(what);
    }

    /// Whether anything was compared.
    pub(crate) fn is_empty(&self) -> bool {
        self.compared.values().all(|(count, _)| *count == 0)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compared = self.compared.iter().filter(|(_, (count, _))| *count > 0);
        for (index, (subject, (count, worst))) in compared.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match *worst == 0.0 {
                true => write!(f, "{comma}{subject} {count} equal")?,
                false => write!(f, "{comma}{subject} {count} within {worst:.0e}")?,
            }
        }
        Ok(())
    }
}
