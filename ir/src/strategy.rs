//! Signatures of fusion strategies: what the language may ask of them, as plain data.

use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SettingValue {
    /// A number.
    Number(f64),
    /// A whole number.
    Count(u64),
    /// A bare word: `copy`, `never`.
    Word(String),
    /// `yes` or `no`.
    Flag(bool),
    /// Several values.
    List(Vec<SettingValue>),
    /// A number that changes from layer to layer: these are its values at even distances from the
    /// first layer to the last, with straight lines between them (`ramp(0.2, 0.8)`).
    Ramp(Vec<f64>),
    /// A number that differs by part of the model: parts with their numbers or ramps, and that of all
    /// other parts.
    Parts(Vec<(Part, SettingValue)>, Box<SettingValue>),
    /// A parent that is given by a label, by its place among all parents: `base: origin`.
    Parent(usize),
}

/// Values with commas between them.
fn listed(values: &[impl fmt::Display]) -> String {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    values.join(", ")
}

/// A part of a model whose weights a setting can have a number for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// Maps to and from heads.
    Attention,
    /// Maps to and from hidden features.
    Mlp,
    /// Norms, but those of queries and keys.
    Norms,
    /// Tables of tokens and positions.
    Embedding,
    /// What gives logits, where it is not the table of tokens.
    Head,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 5] = [
        Part::Attention,
        Part::Mlp,
        Part::Norms,
        Part::Embedding,
        Part::Head,
    ];

    /// Its word in a program.
    pub fn word(self) -> &'static str {
        match self {
            Part::Attention => "attention",
            Part::Mlp => "mlp",
            Part::Norms => "norms",
            Part::Embedding => "embedding",
            Part::Head => "head",
        }
    }
}

impl fmt::Display for SettingValue {
    /// As in a program: `0.5`, `copy`, `yes`, `[1, 2]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingValue::Number(number) => write!(f, "{number}"),
            SettingValue::Count(count) => write!(f, "{count}"),
            SettingValue::Word(word) => f.write_str(word),
            SettingValue::Flag(true) => f.write_str("yes"),
            SettingValue::Flag(false) => f.write_str("no"),
            SettingValue::List(values) => write!(f, "[{}]", listed(values)),
            SettingValue::Ramp(values) => write!(f, "ramp({})", listed(values)),
            SettingValue::Parts(parts, rest) => {
                f.write_str("parts(")?;
                for (part, value) in parts {
                    write!(f, "{}: {value}, ", part.word())?;
                }
                write!(f, "rest: {rest})")
            }
            SettingValue::Parent(index) => write!(f, "parent {index}"),
        }
    }
}

/// Settings by name, in the order of the signature, defaults filled in.
pub type Settings = IndexMap<String, SettingValue>;

/// What a setting may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SettingKind {
    /// A number between two bounds, both allowed.
    Number {
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// A whole number of at least `min`, or one of some words (`every: 2`, `every: never`).
    Count {
        /// Least value.
        min: u64,
        /// Words allowed instead.
        words: Vec<String>,
    },
    /// One of some words.
    Word(Vec<String>),
    /// `yes` or `no`.
    Flag,
    /// A number between two bounds that may differ by layer and by part of the model.
    Graded {
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
        /// Whether it may also be a list, with one for each parent without a label.
        each: bool,
    },
    /// A parent given by a label, beside those without.
    Parent {
        /// Whether it must be given.
        required: bool,
    },
    /// For each parent without a label a run of layers, `[first, end]`, the end left out.
    Layers,
}

/// One setting of a strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingSignature {
    /// Its name in the language.
    pub name: String,
    /// What it may be.
    pub kind: SettingKind,
    /// Its value where the program is silent.
    pub default: SettingValue,
    /// One line of help.
    pub help: String,
    /// Values of this setting that only make sense with certain values of others
    /// (`start: parents` with `head: rows`): where such a value stands, the others follow, and a
    /// program that gives them another value contradicts itself.
    pub implies: Vec<(SettingValue, Settings)>,
}

impl SettingSignature {
    /// The same setting, whose value `value` wants these values of other settings.
    pub fn implying(mut self, value: SettingValue, others: Settings) -> SettingSignature {
        self.implies.push((value, others));
        self
    }
}

/// A given setting that another given setting rules out.
#[derive(Clone, Debug, PartialEq)]
pub struct Contradiction {
    /// The setting that decides.
    pub by: String,
    /// Its value.
    pub value: SettingValue,
    /// The setting that does not fit it.
    pub setting: String,
    /// The value given.
    pub given: SettingValue,
    /// The value that fits.
    pub wanted: SettingValue,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contradiction {
            by,
            value,
            setting,
            given,
            wanted,
        } = self;
        write!(
            f,
            "`{by}: {value}` means `{setting}: {wanted}`, and `{setting}: {given}` is given"
        )
    }
}

/// A strategy as the language sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrategySignature {
    /// Its name in the language.
    pub name: String,
    /// One line of help.
    pub help: String,
    /// Least number of parents without a label.
    pub min_parents: usize,
    /// Greatest number of parents without a label; [`usize::MAX`] for any.
    pub max_parents: usize,
    /// Settings in the order in which help lists them.
    pub settings: Vec<SettingSignature>,
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

    /// The value of every setting where the program is silent.
    pub fn defaults(&self) -> Settings {
        self.settings
            .iter()
            .map(|s| (s.name.clone(), s.default.clone()))
            .collect()
    }

    /// All settings of a fusion, of which a program gives some: what these imply and, for the
    /// rest, defaults are filled in. Given values are of their kinds.
    ///
    /// # Errors
    /// Every given setting that another one rules out.
    pub fn complete(&self, given: &Settings) -> Result<Settings, Vec<Contradiction>> {
        let mut settings = self.defaults();
        let mut contradictions = Vec::new();
        for signature in &self.settings {
            let Some(value) = given.get(&signature.name) else {
                continue;
            };
            let implied = signature.implies.iter().filter(|(of, _)| of == value);
            for (name, wanted) in implied.flat_map(|(_, others)| others) {
                match given.get(name) {
                    Some(other) if other != wanted => contradictions.push(Contradiction {
                        by: signature.name.clone(),
                        value: value.clone(),
                        setting: name.clone(),
                        given: other.clone(),
                        wanted: wanted.clone(),
                    }),
                    _ => {
                        settings.insert(name.clone(), wanted.clone());
                    }
                }
            }
        }
        for (name, value) in given {
            settings.insert(name.clone(), value.clone());
        }
        match contradictions.is_empty() {
            true => Ok(settings),
            false => Err(contradictions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, words: &[&str]) -> SettingSignature {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        SettingSignature {
            name: name.to_owned(),
            default: SettingValue::Word(words[0].clone()),
            kind: SettingKind::Word(words),
            help: String::new(),
            implies: Vec::new(),
        }
    }

    fn given(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs.iter();
        pairs
            .map(|(name, word)| ((*name).to_owned(), SettingValue::Word((*word).to_owned())))
            .collect()
    }

    #[test]
    fn what_a_value_implies_stands_before_defaults_and_against_other_values() {
        let start = setting("start", &["paper", "parents"]);
        let parents = SettingValue::Word("parents".to_owned());
        let signature = StrategySignature {
            name: "s".to_owned(),
            help: String::new(),
            min_parents: 2,
            max_parents: 2,
            settings: vec![
                setting("head", &["joint", "rows"]),
                setting("at", &["first", "last"]),
                start.implying(parents, given(&[("head", "rows")])),
            ],
        };
        let complete = |pairs: &[(&str, &str)]| signature.complete(&given(pairs));
        let all = |head, at, start| Ok(given(&[("head", head), ("at", at), ("start", start)]));
        assert_eq!(complete(&[]), all("joint", "first", "paper"));
        assert_eq!(
            complete(&[("start", "parents"), ("at", "last")]),
            all("rows", "last", "parents")
        );
        let consistent = complete(&[("head", "rows"), ("start", "parents")]);
        assert_eq!(consistent, all("rows", "first", "parents"));
        assert_eq!(
            complete(&[("head", "rows")]),
            all("rows", "first", "paper"),
            "nothing is implied backwards"
        );
        let found = complete(&[("start", "parents"), ("head", "joint")]).unwrap_err();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "`start: parents` means `head: rows`, and `head: joint` is given"
        );
    }
}
