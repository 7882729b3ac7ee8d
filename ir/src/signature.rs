//! Signatures of what a program calls by a word, and such a call as plain data.
//!
//! A strategy of fusion, a measure, an objective, a format of data, an optimizer, a schedule, a tokenizer: each is a
//! word with settings. What the language checks, the reference tells and `jamc help` prints of it comes
//! from its [`Signature`], which stands beside the code that carries it out; what a program asks
//! for is a [`Called`], and that code reads its settings once. So a new one is a file and a line in
//! a table, and nobody else needs to know of it.

use serde::{Deserialize, Serialize};

use crate::recipe::{DataRef, ModelRef};
use crate::{Error, Holds, Result, SettingSignature, SettingValue, Settings};

/// What the language may ask of a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// The word.
    pub word: String,
    /// What it is or does, as one sentence without its full stop.
    pub help: String,
    /// The setting that is given without a label. Where several values are given, each makes a use
    /// of its own: `perplexity(corpus.val, pairs.val)`.
    pub each: Option<SettingSignature>,
    /// Settings with a label, in the order in which help lists them.
    pub settings: Vec<SettingSignature>,
    /// What must hold among the settings.
    pub rules: Vec<Rule>,
}

/// What must hold among settings that are each of their kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rule {
    /// One count is a power of two (1, 2, 4, …) times another: a side in pixels of one in tokens.
    PowerOfTwoTimes {
        /// The setting.
        setting: String,
        /// The other setting, which it is a multiple of.
        of: String,
    },
    /// A count of steps ends within those of the training: a warm-up.
    WithinSteps {
        /// The setting.
        setting: String,
    },
}

impl Signature {
    /// A word without settings.
    pub fn new(word: &str, help: &str) -> Signature {
        Signature {
            word: word.to_owned(),
            help: help.to_owned(),
            each: None,
            settings: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// The same with this setting given without a label.
    pub fn of_each(mut self, setting: SettingSignature) -> Signature {
        self.each = Some(setting);
        self
    }

    /// The same with these settings, after those it has.
    pub fn with(mut self, settings: impl IntoIterator<Item = SettingSignature>) -> Signature {
        self.settings.extend(settings);
        self
    }

    /// The same with this rule.
    pub fn where_holds(mut self, rule: Rule) -> Signature {
        self.rules.push(rule);
        self
    }

    /// A setting by its name, also the one without a label.
    pub fn setting(&self, name: &str) -> Option<&SettingSignature> {
        let mut settings = self.each.iter().chain(&self.settings);
        settings.find(|setting| setting.name == name)
    }

    /// A use of the word: what is not given has its default.
    pub fn called<'v>(&self, given: impl IntoIterator<Item = (&'v str, SettingValue)>) -> Called {
        let all = self.each.iter().chain(&self.settings);
        let mut settings: Settings = all
            .filter_map(|setting| Some((setting.name.clone(), setting.default.clone()?)))
            .collect();
        for (name, value) in given {
            settings.insert(name.to_owned(), value);
        }
        Called {
            name: self.word.clone(),
            settings,
        }
    }
}

/// A format of data: what its records hold, and whether some of them can be held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FormatSignature {
    /// Its word and settings.
    pub signature: Signature,
    /// What its records hold.
    pub holds: Vec<Holds>,
    /// Whether a share of its records is held out for `val` where a program gives none.
    pub held_out: bool,
}

/// A strategy of fusion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrategySignature {
    /// Its word and settings.
    pub signature: Signature,
    /// Least number of parents without a label.
    pub min_parents: usize,
    /// Greatest number of parents without a label; [`usize::MAX`] for any.
    pub max_parents: usize,
}

impl StrategySignature {
    /// How many parents without a label it takes: `2`, `2 to 4`, `at least 2`.
    pub fn parents_text(&self) -> String {
        let (least, most) = (self.min_parents, self.max_parents);
        match most {
            _ if least == most => least.to_string(),
            usize::MAX => format!("at least {least}"),
            _ => format!("{least} to {most}"),
        }
    }
}

/// A part of drawing lessons: `world.pairs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LessonsPart {
    /// Its name.
    pub name: String,
    /// The word of the format that reads it.
    pub format: String,
    /// Its splits.
    pub splits: Vec<String>,
}

/// What a tokenizer makes tokens of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Makes {
    /// Texts; this setting is the number of its tokens.
    Texts {
        /// Name of the setting.
        size: String,
    },
    /// Pictures; these settings are the number of its codes and the side of a picture in tokens.
    Pictures {
        /// Name of the setting.
        codes: String,
        /// Name of the setting.
        grid: String,
    },
}

/// A tokenizer that a program can train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerSignature {
    /// Its word and settings.
    pub signature: Signature,
    /// What it makes tokens of.
    pub makes: Makes,
}

/// A use of a word with all its settings: `perplexity(pairs.val, limit: 200)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Called {
    /// The word.
    pub name: String,
    /// Settings by name, defaults filled in.
    pub settings: Settings,
}

/// Something of the program that a setting names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'s> {
    /// A split of a data set.
    Data(&'s DataRef),
    /// A way of sampling.
    Decode(&'s str),
    /// A model.
    Model(&'s ModelRef),
}

impl Called {
    /// Everything of the program that the settings name, in their order: what the use depends on.
    pub fn references(&self) -> Vec<Reference<'_>> {
        let values = self.settings.values();
        values.flat_map(SettingValue::references).collect()
    }

    /// All data that the settings name, in their order.
    pub fn data(&self) -> impl Iterator<Item = &DataRef> {
        self.references()
            .into_iter()
            .filter_map(|found| match found {
                Reference::Data(data) => Some(data),
                Reference::Decode(_) | Reference::Model(_) => None,
            })
    }

    /// A setting, read by `as_kind`.
    fn read<'s, T>(
        &'s self,
        name: &str,
        as_kind: impl FnOnce(&'s SettingValue) -> Option<T>,
    ) -> Result<T> {
        let value = self.settings.get(name);
        value.and_then(as_kind).ok_or_else(|| {
            let found = value.map_or("not given".to_owned(), |value| format!("`{value}`"));
            let message = format!("setting `{name}` of `{}` is {found}", self.name);
            Error::new(message).with_help("the language checks it: this recipe was not made by it")
        })
    }

    /// A number.
    ///
    /// # Errors
    /// When the setting is none, which the language never lets happen; so for all below.
    pub fn number(&self, name: &str) -> Result<f64> {
        self.read(name, |value| match value {
            SettingValue::Number(number) => Some(*number),
            _ => None,
        })
    }

    /// A whole number.
    ///
    /// # Errors
    /// When the setting is none.
    pub fn count(&self, name: &str) -> Result<u64> {
        self.read(name, |value| match value {
            SettingValue::Count(count) => Some(*count),
            _ => None,
        })
    }

    /// `yes` or `no`.
    ///
    /// # Errors
    /// When the setting is neither.
    pub fn flag(&self, name: &str) -> Result<bool> {
        self.read(name, |value| match value {
            SettingValue::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A word.
    ///
    /// # Errors
    /// When the setting is none.
    pub fn word(&self, name: &str) -> Result<&str> {
        self.read(name, |value| match value {
            SettingValue::Word(word) => Some(word.as_str()),
            _ => None,
        })
    }

    /// A list of words.
    ///
    /// # Errors
    /// When the setting is something else.
    pub fn words(&self, name: &str) -> Result<Vec<&str>> {
        self.read(name, |value| match value {
            SettingValue::List(values) => {
                let words = values.iter().map(|value| match value {
                    SettingValue::Word(word) => Some(word.as_str()),
                    _ => None,
                });
                words.collect()
            }
            _ => None,
        })
    }

    /// A text.
    ///
    /// # Errors
    /// When the setting is none.
    pub fn text(&self, name: &str) -> Result<&str> {
        self.read(name, |value| match value {
            SettingValue::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Two numbers.
    ///
    /// # Errors
    /// When the setting is something else.
    pub fn pair(&self, name: &str) -> Result<(f64, f64)> {
        self.read(name, |value| match value {
            SettingValue::List(values) => match values.as_slice() {
                [SettingValue::Number(first), SettingValue::Number(second)] => {
                    Some((*first, *second))
                }
                _ => None,
            },
            _ => None,
        })
    }

    /// A split of a data set.
    ///
    /// # Errors
    /// When the setting is none.
    pub fn split(&self, name: &str) -> Result<&DataRef> {
        self.read(name, |value| match value {
            SettingValue::Data(data) => Some(data),
            _ => None,
        })
    }

    /// One split of a data set or several.
    ///
    /// # Errors
    /// When the setting is something else.
    pub fn splits(&self, name: &str) -> Result<Vec<&DataRef>> {
        self.read(name, |value| {
            fn one(value: &SettingValue) -> Option<&DataRef> {
                match value {
                    SettingValue::Data(data) => Some(data),
                    _ => None,
                }
            }
            match value {
                SettingValue::List(values) => values.iter().map(one).collect(),
                value => one(value).map(|data| vec![data]),
            }
        })
    }

    /// The name of a way of sampling.
    ///
    /// # Errors
    /// When the setting is none.
    pub fn decode(&self, name: &str) -> Result<&str> {
        self.read(name, |value| match value {
            SettingValue::Decode(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// A model.
    ///
    /// # Errors
    /// When the setting is none.
    pub fn model(&self, name: &str) -> Result<&ModelRef> {
        self.read(name, |value| match value {
            SettingValue::Model(model) => Some(model),
            _ => None,
        })
    }
}

impl SettingValue {
    /// Everything of the program that the value names, to any depth.
    pub fn references(&self) -> Vec<Reference<'_>> {
        let mut found = Vec::new();
        refer(self, &mut found);
        found
    }
}

/// What a value names, to any depth.
fn refer<'s>(value: &'s SettingValue, found: &mut Vec<Reference<'s>>) {
    match value {
        SettingValue::Data(data) => found.push(Reference::Data(data)),
        SettingValue::Decode(name) => found.push(Reference::Decode(name)),
        SettingValue::Model(model) => found.push(Reference::Model(model)),
        SettingValue::List(values) => values.iter().for_each(|value| refer(value, found)),
        SettingValue::Parts(parts, rest) => {
            parts.iter().for_each(|(_, value)| refer(value, found));
            refer(rest, found);
        }
        SettingValue::Number(_)
        | SettingValue::Count(_)
        | SettingValue::Word(_)
        | SettingValue::Flag(_)
        | SettingValue::Ramp(_)
        | SettingValue::Parent(_)
        | SettingValue::Text(_) => {}
    }
}

/// The entry of a table that a use calls.
///
/// # Errors
/// When the table has none of this word; the help lists what it has.
pub fn find<'t, T: ?Sized>(
    table: &[&'t T],
    what: &str,
    word: &str,
    signature: impl Fn(&T) -> String,
) -> Result<&'t T> {
    let found = table.iter().find(|entry| signature(entry) == word);
    found.copied().ok_or_else(|| {
        let words: Vec<String> = table.iter().map(|entry| signature(entry)).collect();
        Error::new(format!("`{word}` is not {what}"))
            .with_help(format!("known are {}", words.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(name: &str) -> SettingValue {
        SettingValue::Data(DataRef {
            name: name.to_owned(),
            split: "val".to_owned(),
        })
    }

    #[test]
    fn whatever_a_use_names_is_found_at_any_depth() {
        let signature = Signature::new("compare", "")
            .of_each(SettingSignature::data("data", Holds::Documents, false, ""))
            .with([SettingSignature::count("limit", (0, u64::MAX), 0, "")]);
        let called = signature.called([
            ("data", data("a")),
            ("more", SettingValue::List(vec![data("b"), data("c")])),
            ("with", SettingValue::Model(ModelRef::last("m"))),
            ("decode", SettingValue::Decode("answer".to_owned())),
        ]);
        let names: Vec<&str> = called.data().map(|data| data.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let model = ModelRef::last("m");
        assert_eq!(
            called.references()[3..],
            [Reference::Model(&model), Reference::Decode("answer")]
        );
        assert_eq!(called.count("limit"), Ok(0));
        assert_eq!(called.splits("more").unwrap().len(), 2);
        assert_eq!(called.splits("data").unwrap().len(), 1);
    }

    #[test]
    fn a_stored_recipe_that_lies_is_an_error_that_names_the_setting() {
        let called = Signature::new("adamw", "").called([("lr", SettingValue::Flag(true))]);
        let wrong = called.number("lr").unwrap_err();
        assert_eq!(wrong.message, "setting `lr` of `adamw` is `yes`");
        let missing = called.pair("betas").unwrap_err();
        assert_eq!(missing.message, "setting `betas` of `adamw` is not given");
    }
}
