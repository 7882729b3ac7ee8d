//! Signatures of fusion strategies: what the language may ask of them, as plain data.

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
}

/// A strategy as the language sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrategySignature {
    /// Its name in the language.
    pub name: String,
    /// One line of help.
    pub help: String,
    /// Least number of parents.
    pub min_parents: usize,
    /// Greatest number of parents.
    pub max_parents: usize,
    /// Settings in the order in which help lists them.
    pub settings: Vec<SettingSignature>,
}

impl StrategySignature {
    /// The value of every setting where the program is silent.
    pub fn defaults(&self) -> Settings {
        self.settings
            .iter()
            .map(|s| (s.name.clone(), s.default.clone()))
            .collect()
    }
}
