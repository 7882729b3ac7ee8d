//! What a measure is, and what several share.

use std::fmt::Debug;

use jam_backends::Executable;
use jam_data::tokens::Codec;
use jam_ir::{Called, Signature};
use jam_weights::progress::Stop;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::inputs::Inputs;
use crate::{Error, ErrorKind, Result};

/// A model that is measured, and what measures read beside it.
pub struct Subject<'s> {
    /// The model on its device.
    pub executable: &'s Executable,
    /// Its vocabulary with the tokenizers.
    pub codec: &'s Codec,
    /// Its longest sequence.
    pub context: u64,
    /// Data of the program, and its ways of sampling.
    pub inputs: &'s dyn Inputs,
    /// When to stop.
    pub stop: &'s Stop,
}

/// A column of a report: its heading, and what stands in the row of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The heading.
    pub head: String,
    /// The text.
    pub text: String,
}

/// What can be measured of a model.
pub trait Measure: Debug + Sync {
    /// What the language may ask of it.
    fn signature(&self) -> Signature;

    /// Measures a model: what a report keeps of it, as JSON.
    ///
    /// # Errors
    /// When data do not fit the model, or the device fails.
    fn measure(&self, called: &Called, subject: &Subject<'_>) -> Result<Value>;

    /// How a table shows what was found.
    ///
    /// # Errors
    /// When it is not what this measure finds, or a number that is shown is none.
    fn cells(&self, found: &Value) -> Result<Vec<Cell>>;

    /// What must be known beside the table of what was found of a model: a sentence each.
    ///
    /// # Errors
    /// When it is not what this measure finds.
    fn notes(&self, _found: &Value, _model: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// What a measure found, as a report keeps it.
pub(super) fn kept(found: &impl Serialize) -> Result<Value> {
    serde_json::to_value(found)
        .map_err(|error| Error::new(format!("what was measured cannot be written: {error}")))
}

/// What a measure found, from a report.
pub(super) fn found<T: DeserializeOwned>(kept: &Value) -> Result<T> {
    T::deserialize(kept)
        .map_err(|error| Error::new(format!("the report holds something else: {error}")))
}

/// What to do about numbers that are not finite.
pub(crate) const DIVERGED: &str =
    "the model has diverged, or its weights are damaged: train it again, with a lower `lr`";

/// A number that is shown.
///
/// # Errors
/// When it is none: JSON holds no others, and a table of others misleads.
pub(super) fn finite(what: &str, data: &str, number: f64) -> Result<f64> {
    match number.is_finite() {
        true => Ok(number),
        false => {
            let message = format!("the {what} of `{data}` is {number}");
            Err(Error::of(ErrorKind::NotFinite, message).with_help(DIVERGED))
        }
    }
}

/// A share as a table shows it.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}
