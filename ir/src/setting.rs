//! Settings: what the language may be given for anything that it calls by a word, as plain data.

use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::recipe::{DataRef, ModelRef};

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
    /// A text: a path, the name of a field.
    Text(String),
    /// A split of a data set: `pairs.val`.
    Data(DataRef),
    /// The name of a way of sampling.
    Decode(String),
    /// A model, a fusion or a state of a training: `tune.best`.
    Model(ModelRef),
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
            SettingValue::Text(text) => write!(f, "\"{text}\""),
            SettingValue::Data(data) => write!(f, "{data}"),
            SettingValue::Decode(name) => f.write_str(name),
            SettingValue::Model(model) => write!(f, "{model}"),
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
    /// A whole number between two bounds, both allowed, or one of some words (`every: 2`, `every: never`).
    Count {
        /// Least value.
        min: u64,
        /// Greatest value; [`u64::MAX`] for any.
        max: u64,
        /// Words allowed instead.
        words: Vec<String>,
    },
    /// One of some whole numbers.
    OneOf(Vec<u64>),
    /// A whole number that everything random depends on; the program's `seed` where it is silent.
    Seed,
    /// Two numbers between two bounds, both allowed: `[0.9, 0.95]`.
    Pair {
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// A text in quotation marks.
    Text,
    /// A split of a data set, or a list of them.
    Data {
        /// What its records must hold.
        holds: Holds,
        /// Whether it may be a list.
        list: bool,
    },
    /// A way of sampling.
    Decode,
    /// A model, a fusion or a state of a training.
    Model,
    /// One of some words.
    Word(Vec<String>),
    /// Some of some words, as a list, or one of them.
    Words(Vec<String>),
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
    Parent,
    /// For each parent without a label a run of layers, `[first, end]`, the end left out.
    Layers,
}

impl SettingKind {
    /// What a value must be, for the sentence "`name` is …, not `value`".
    pub fn wanted(&self) -> String {
        match self {
            SettingKind::Number { min, max } if *max == f64::MAX => {
                format!("a number of at least {min}")
            }
            SettingKind::Number { min, max } => format!("a number from {min} to {max}"),
            SettingKind::Count { min, max, words } => {
                let count = match *max {
                    u64::MAX => format!("a whole number of at least {min}"),
                    max => format!("a whole number from {min} to {max}"),
                };
                match words.as_slice() {
                    [] => count,
                    words => format!("{count}, or {}", words.join(", or ")),
                }
            }
            SettingKind::OneOf(counts) => format!("one of {}", listed(counts)),
            SettingKind::Seed => "a whole number".to_owned(),
            SettingKind::Pair { min, max } => format!("two numbers from {min} to {max}"),
            SettingKind::Text => "a text in quotation marks".to_owned(),
            SettingKind::Data { holds, list: false } => holds.wanted().to_owned(),
            SettingKind::Data { holds, list: true } => format!("{}, also a list", holds.wanted()),
            SettingKind::Decode => "a way of sampling".to_owned(),
            SettingKind::Model => "a model".to_owned(),
            SettingKind::Word(words) => format!("one of {}", words.join(", ")),
            SettingKind::Words(words) => format!("a list of some of {}", words.join(", ")),
            SettingKind::Flag => "`yes` or `no`".to_owned(),
            SettingKind::Graded { min, max, each } => {
                let one = format!("a number from {min} to {max}, also by layer or part");
                match each {
                    true => format!("{one}, or a list with one for each parent"),
                    false => one,
                }
            }
            SettingKind::Parent => "a parent".to_owned(),
            SettingKind::Layers => "a list with `[first, end]` for each parent".to_owned(),
        }
    }
}

/// What the records of a data set hold, as far as others ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// Documents that can be learned.
    Documents,
    /// Documents with pictures among them.
    Pictures,
    /// Documents that answer a question.
    Questions,
    /// Pictures, each with a caption.
    Captions,
    /// Captioned pictures that may say what they show, as those of drawing lessons do.
    Scenes,
    /// Questions with options, one of them right.
    Choices,
}

impl Holds {
    /// As a sentence asks for it.
    pub fn wanted(self) -> &'static str {
        match self {
            Holds::Documents => "documents",
            Holds::Pictures => "data with pictures",
            Holds::Questions => "questions with answers",
            Holds::Captions | Holds::Scenes => "pictures with captions",
            Holds::Choices => "multiple choice",
        }
    }
}

/// One setting of something that the language calls by a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingSignature {
    /// Its name in the language.
    pub name: String,
    /// What it may be.
    pub kind: SettingKind,
    /// Its value where the program is silent; `None` where the program must give it, but for a
    /// [`SettingKind::Seed`], which is the program's then.
    pub default: Option<SettingValue>,
    /// One line of help.
    pub help: String,
    /// Values of this setting that only make sense with certain values of others
    /// (`start: parents` with `head: rows`): where such a value stands, the others follow, and a
    /// program that gives them another value contradicts itself.
    pub implies: Vec<(SettingValue, Settings)>,
    /// What its words mean, where one line of help is not enough for all.
    pub meanings: Vec<(String, String)>,
}

impl SettingSignature {
    /// A setting that implies nothing.
    pub fn new(
        name: &str,
        kind: SettingKind,
        default: Option<SettingValue>,
        help: &str,
    ) -> SettingSignature {
        SettingSignature {
            name: name.to_owned(),
            kind,
            default,
            help: help.to_owned(),
            implies: Vec::new(),
            meanings: Vec::new(),
        }
    }

    /// A number between two bounds; without a default it must be given.
    pub fn number(
        name: &str,
        (min, max): (f64, f64),
        default: impl Into<Option<f64>>,
        help: &str,
    ) -> SettingSignature {
        let default = default.into().map(SettingValue::Number);
        SettingSignature::new(name, SettingKind::Number { min, max }, default, help)
    }

    /// A whole number between two bounds; without a default it must be given.
    pub fn count(
        name: &str,
        (min, max): (u64, u64),
        default: impl Into<Option<u64>>,
        help: &str,
    ) -> SettingSignature {
        let words = Vec::new();
        let default = default.into().map(SettingValue::Count);
        SettingSignature::new(name, SettingKind::Count { min, max, words }, default, help)
    }

    /// One of some words; the first is the default.
    pub fn word(name: &str, words: &[&str], help: &str) -> SettingSignature {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let default = words.first().cloned().map(SettingValue::Word);
        SettingSignature::new(name, SettingKind::Word(words), default, help)
    }

    /// `yes` or `no`.
    pub fn flag(name: &str, default: bool, help: &str) -> SettingSignature {
        let default = Some(SettingValue::Flag(default));
        SettingSignature::new(name, SettingKind::Flag, default, help)
    }

    /// A text with a default.
    pub fn text(name: &str, default: &str, help: &str) -> SettingSignature {
        let default = Some(SettingValue::Text(default.to_owned()));
        SettingSignature::new(name, SettingKind::Text, default, help)
    }

    /// The seed of what is random; the program's where it is silent.
    pub fn seed(help: &str) -> SettingSignature {
        SettingSignature::new("seed", SettingKind::Seed, None, help)
    }

    /// Data that must be given: one set, or where `list`, also several.
    pub fn data(name: &str, holds: Holds, list: bool, help: &str) -> SettingSignature {
        SettingSignature::new(name, SettingKind::Data { holds, list }, None, help)
    }

    /// The same setting, whose value `value` wants these values of other settings.
    pub fn implying(mut self, value: SettingValue, others: Settings) -> SettingSignature {
        self.implies.push((value, others));
        self
    }

    /// The same setting, whose words mean this.
    pub fn meaning(mut self, meanings: &[(&str, &str)]) -> SettingSignature {
        let meanings = meanings.iter();
        let owned = meanings.map(|(word, means)| ((*word).to_owned(), (*means).to_owned()));
        self.meanings.extend(owned);
        self
    }

    /// Whether a program must give it.
    pub fn is_required(&self) -> bool {
        self.default.is_none() && self.kind != SettingKind::Seed
    }
}

/// The defaults of settings, in their order.
pub(crate) fn defaults(settings: &[SettingSignature]) -> Settings {
    let settings = settings.iter();
    settings
        .filter_map(|setting| Some((setting.name.clone(), setting.default.clone()?)))
        .collect()
}
