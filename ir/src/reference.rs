//! The reference of words: tables for the page of the language, and help for one word, from signatures.

use std::fmt::Write;

use crate::signature::{LessonsPart, Makes, Signature};
use crate::{Holds, SettingKind, SettingSignature, SettingValue, StrategySignature, Words};

/// What some words are words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Their name, which marks their table.
    pub name: &'static str,
    /// One of them, in a sentence.
    pub one: &'static str,
    /// Where a program has them.
    pub place: &'static str,
}

/// Every section, in the order in which a program has them.
pub const SECTIONS: [Section; 7] = [
    Section {
        name: "formats",
        one: "a format of data",
        place: "data NAME = ",
    },
    Section {
        name: "tokenizers",
        one: "a tokenizer",
        place: "tokenizer NAME = ",
    },
    Section {
        name: "strategies",
        one: "a strategy of fusion",
        place: "fuse NAME = ",
    },
    Section {
        name: "objectives",
        one: "an objective of training",
        place: "objective = ",
    },
    Section {
        name: "optimizers",
        one: "an optimizer",
        place: "optimizer = ",
    },
    Section {
        name: "schedules",
        one: "a schedule of the learning rate",
        place: "schedule = ",
    },
    Section {
        name: "measures",
        one: "a measure of models",
        place: "measure = ",
    },
];

/// A word with all that is told of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is a word for.
    pub section: Section,
    /// How it is called: `perplexity(data, …)`.
    pub call: String,
    /// Its settings, and what it is.
    pub signature: Signature,
    /// What else is to be said.
    pub notes: Vec<String>,
}

impl Words {
    /// Every word, section by section, in the order of the tables.
    pub fn entries(&self) -> Vec<Entry> {
        let plain = |all: &[Signature]| -> Vec<_> {
            let all = all.iter().map(|of| (of.clone(), None, Vec::new()));
            all.collect()
        };
        let mut entries = Vec::new();
        for section in SECTIONS {
            let found = match section.name {
                "formats" => {
                    let formats = self.formats.iter().map(|format| {
                        let notes = format_notes(&format.holds, format.held_out, &self.lessons);
                        let signature = format.signature.clone();
                        let parts = notes(&signature.word);
                        (signature, Some("files, …".to_owned()), parts)
                    });
                    formats.collect()
                }
                "tokenizers" => {
                    let tokenizers = self.tokenizers.iter().map(|tokenizer| {
                        let notes = vec![makes_note(&tokenizer.makes)];
                        (tokenizer.signature.clone(), None, notes)
                    });
                    tokenizers.collect()
                }
                "strategies" => {
                    let strategies = self.strategies.iter().map(|strategy| {
                        let notes = vec![format!("takes {} parents", strategy.parents_text())];
                        let parents = parents(strategy);
                        (strategy.signature.clone(), Some(parents), notes)
                    });
                    strategies.collect()
                }
                "objectives" => plain(&self.objectives),
                "optimizers" => plain(&self.optimizers),
                "schedules" => plain(&self.schedules),
                _ => plain(&self.measures),
            };
            entries.extend(found.into_iter().map(|(signature, first, notes)| Entry {
                section,
                call: call(&signature, first),
                signature,
                notes,
            }));
        }
        entries
    }

    /// The table of a section in Markdown, without a line break at its end.
    pub fn table(&self, section: Section) -> String {
        let one = section.one.split(' ').nth(1).unwrap_or(section.one);
        let mut text = format!("| {one} | is | settings, with their defaults |\n|---|---|---|");
        for entry in self.entries() {
            if entry.section != section {
                continue;
            }
            let settings = entry.signature.settings.iter().map(setting_cell);
            let settings: Vec<String> = settings.collect();
            let _ = write!(
                text,
                "\n| `{}` | {} | {} |",
                entry.call,
                in_table(&entry.signature.help),
                settings.join("; "),
            );
        }
        text
    }
}

impl Entry {
    /// All that is told of the word, as text with a line break at its end.
    pub fn help(&self) -> String {
        let Signature { word, help, .. } = &self.signature;
        let mut text = format!(
            "`{word}` is {}: {help}.\n\n    {}{}\n",
            self.section.one, self.section.place, self.call
        );
        let given = self.signature.each.iter().map(|of| (of, of.name.clone()));
        let labelled = self.signature.settings.iter();
        let labelled = labelled.map(|of| (of, format!("{}:", of.name)));
        let all: Vec<_> = given.chain(labelled).collect();
        let width = all.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
        if !all.is_empty() {
            text.push('\n');
        }
        for (setting, name) in all {
            let default = match (&setting.default, setting.is_required()) {
                (_, true) => "must be given".to_owned(),
                (Some(value), _) => format!("{} where it is not given", shown(value)),
                (None, _) => "the program's seed where it is not given".to_owned(),
            };
            let _ = writeln!(
                text,
                "  {name:<width$}  {}; {}; {default}",
                setting.help,
                setting.kind.wanted()
            );
            for (word, means) in &setting.meanings {
                let _ = writeln!(text, "  {:width$}    {word}: {means}", "");
            }
            for (value, others) in &setting.implies {
                let others = others.iter();
                let others: Vec<String> = others
                    .map(|(name, value)| format!("{name}: {value}"))
                    .collect();
                let others = others.join(", ");
                let _ = writeln!(text, "  {:width$}    {value} means {others}", "");
            }
        }
        if !self.notes.is_empty() {
            let _ = writeln!(text, "\nIt {}.", self.notes.join("; it "));
        }
        text
    }
}

/// How a word is called: what stands first, and what must be given.
fn call(signature: &Signature, first: Option<String>) -> String {
    let each = signature.each.iter().map(|of| format!("{}, …", of.name));
    let required = signature.settings.iter().filter(|of| of.is_required());
    let required = required.map(|of| format!("{}: …", of.name));
    let parts: Vec<String> = first.into_iter().chain(each).chain(required).collect();
    match parts.is_empty() {
        true => signature.word.clone(),
        false => format!("{}({})", signature.word, parts.join(", ")),
    }
}

/// The parents of a strategy, as a call has them.
fn parents(strategy: &StrategySignature) -> String {
    let least = strategy.min_parents.clamp(1, 2);
    let mut parents = ["first", "second"][..least].join(", ");
    if strategy.max_parents > least {
        parents.push_str(", …");
    }
    parents
}

/// What is told of every format, by its word.
fn format_notes<'f>(
    holds: &'f [Holds],
    held_out: bool,
    lessons: &'f [LessonsPart],
) -> impl Fn(&str) -> Vec<String> + 'f {
    move |word| {
        let mut wanted: Vec<&str> = holds.iter().map(|holds| holds.wanted()).collect();
        wanted.dedup();
        let mut notes = vec![format!("serves where {} are asked for", wanted.join(", "))];
        let splits = match held_out {
            true => {
                "takes files of other splits by `val:` and `test:`; without `val:` a share of the \
                 records is held out for it, `held_out: 5%`"
            }
            false => "takes files of other splits by `val:` and `test:`",
        };
        notes.push(splits.to_owned());
        let parts = lessons.iter().filter(|part| part.format == word);
        notes.extend(parts.map(|part| {
            let name = &part.name;
            format!("reads the part `{name}` of drawing lessons, `{word}(world.{name})`")
        }));
        notes
    }
}

fn makes_note(makes: &Makes) -> String {
    match makes {
        Makes::Texts { .. } => "makes tokens of texts".to_owned(),
        Makes::Pictures { .. } => "makes tokens of pictures".to_owned(),
    }
}

/// A setting in a row of a table.
fn setting_cell(setting: &SettingSignature) -> String {
    let name = &setting.name;
    let (given, bounds) = match (&setting.kind, &setting.default) {
        (SettingKind::Word(words), _) => (format!("`{name}: {}`", words.join(" \\| ")), None),
        (SettingKind::Words(words), Some(default)) => {
            let words = words.join("`, `");
            (
                format!("`{name}: {}`", shown(default)),
                Some(format!("some of `{words}`")),
            )
        }
        (SettingKind::Seed, _) => (format!("`{name}:` the program's"), None),
        (SettingKind::Flag, Some(SettingValue::Flag(default))) => {
            let (first, other) = if *default {
                ("yes", "no")
            } else {
                ("no", "yes")
            };
            (format!("`{name}: {first} \\| {other}`"), None)
        }
        (SettingKind::OneOf(counts), _) => {
            let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
            (format!("`{name}: {}`", counts.join(" \\| ")), None)
        }
        (SettingKind::Parent | SettingKind::Layers, Some(_)) => (format!("`{name}:`"), None),
        (kind, Some(default)) => (format!("`{name}: {}`", shown(default)), bounds(kind)),
        (kind, None) => (format!("`{name}` must be given"), bounds(kind)),
    };
    let bounds = bounds.map_or(String::new(), |bounds| format!(" ({bounds})"));
    format!("{given}{bounds}: {}", in_table(&setting.help))
}

/// What a number may be, where that is to be said.
fn bounds(kind: &SettingKind) -> Option<String> {
    match kind {
        SettingKind::Count { min, max, words } => {
            let count = match (*min, *max) {
                (0 | 1, u64::MAX) => None,
                (min, u64::MAX) => Some(format!("from {min}")),
                (min, max) => Some(format!("{min} to {max}")),
            };
            let words = (!words.is_empty()).then(|| format!("or `{}`", words.join("`, `")));
            let parts: Vec<String> = count.into_iter().chain(words).collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        }
        SettingKind::Number { min, max } if *max < f64::MAX => {
            Some(format!("{} to {}", number(*min), number(*max)))
        }
        SettingKind::Graded { each: true, .. } => Some("graded, or a list".to_owned()),
        SettingKind::Graded { each: false, .. } => Some("graded".to_owned()),
        _ => None,
    }
}

/// A value as a program would write it.
fn shown(value: &SettingValue) -> String {
    match value {
        SettingValue::Number(value) => number(*value),
        SettingValue::List(values) => {
            let values: Vec<String> = values.iter().map(shown).collect();
            format!("[{}]", values.join(", "))
        }
        value => value.to_string(),
    }
}

/// A number, small ones with an exponent.
fn number(value: f64) -> String {
    match value != 0.0 && value.abs() < 0.01 {
        true => format!("{value:e}"),
        false => value.to_string(),
    }
}

/// A text that may stand in a cell.
fn in_table(text: &str) -> String {
    text.replace('|', "\\|")
}
