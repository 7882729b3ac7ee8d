//! Fields of a `config.json` that are not read: those that change nothing, by a table that is data
//! (`architectures/harmless.ron`), and all others, which are an error.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// The most fields that a message names.
const MOST_NAMED: usize = 4;

/// What is known of fields that are not read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Harmless {
    /// Whatever they say.
    always: BTreeSet<String>,
    /// With one of these values.
    when: BTreeMap<String, Vec<Value>>,
    /// From the context on.
    beyond: BTreeSet<String>,
    /// Lists of nothing but this.
    each: BTreeMap<String, Value>,
    /// Inside the record of rotary positions.
    rotary: BTreeSet<String>,
    /// Records of quantised weights, and their fields that say how.
    quantised: BTreeMap<String, Vec<String>>,
}

impl Harmless {
    pub(super) fn read() -> Result<Harmless> {
        let text = include_str!("architectures/harmless.ron");
        ron::from_str(text)
            .map_err(|error| Error::new(format!("a table of fields is wrong: {error}")))
    }

    /// Refuses weights that are stored as codes of other numbers.
    pub(super) fn refuse_quantised(&self, config: &Value) -> Result<()> {
        for (record, fields) in &self.quantised {
            let Some(record) = config.get(record).filter(|record| record.is_object()) else {
                continue;
            };
            let how = fields.iter().find_map(|field| record[field].as_str());
            let how = how.map_or(String::new(), |how| format!(" by `{how}`"));
            return Err(
                Error::new(format!("the weights are quantised{how}, which is not read")).with_help(
                    "take the checkpoint that it was made from, or have the tool that made it write bf16 or f32",
                ),
            );
        }
        Ok(())
    }

    /// Refuses fields that were not asked for and may change the model.
    pub(super) fn check(
        &self,
        config: &Value,
        asked: &BTreeSet<String>,
        context: u64,
    ) -> Result<()> {
        let fields = config.as_object().into_iter().flatten();
        let left = fields.filter(|(name, value)| {
            !asked.contains(*name) && !self.changes_nothing(name, value, context)
        });
        refuse("", left)
    }

    /// The same inside the record `record` of rotary positions.
    pub(super) fn check_rotary(
        &self,
        record: &str,
        config: &Value,
        asked: &BTreeSet<String>,
    ) -> Result<()> {
        let fields = config.as_object().into_iter().flatten();
        let left = fields.filter(|(name, value)| {
            !value.is_null() && !asked.contains(*name) && !self.rotary.contains(*name)
        });
        refuse(&format!(" of `{record}`"), left)
    }

    fn changes_nothing(&self, name: &str, value: &Value, context: u64) -> bool {
        let is = |known: &Value| {
            known == value || known.as_f64().is_some_and(|x| value.as_f64() == Some(x))
        };
        value.is_null()
            || self.always.contains(name)
            || self
                .when
                .get(name)
                .is_some_and(|values| values.iter().any(is))
            || (self.beyond.contains(name)
                && value.as_u64().is_some_and(|tokens| tokens >= context))
            || self.each.get(name).is_some_and(|each| {
                let entries = value.as_array();
                entries.is_some_and(|entries| entries.iter().all(|entry| entry == each))
            })
    }
}

/// Refuses fields, if there are any.
fn refuse<'f>(place: &str, left: impl Iterator<Item = (&'f String, &'f Value)>) -> Result<()> {
    let told = |(name, value): (&String, &Value)| {
        let value: String = value.to_string().chars().take(40).collect();
        format!("`{name}` ({value})")
    };
    let left: Vec<String> = left.map(told).collect();
    if left.is_empty() {
        return Ok(());
    }
    let more = match left.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = left[..left.len().min(MOST_NAMED)].join(", ");
    let message = match left.len() {
        1 => format!("{named} is a field{place} that is not read, and may change the model"),
        _ => format!("{named}{more} are fields{place} that are not read, and may change the model"),
    };
    Err(Error::new(message).with_help(
        "what changes nothing of what the model computes may be taken out of the configuration",
    ))
}
