//! What a schedule is, and what several share.

use std::fmt::Debug;

use jam_ir::signature::Rule;
use jam_ir::{Called, SettingSignature, Signature};

use crate::Result;

/// A step of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    /// The rate at its height.
    pub peak: f64,
    /// The step, counted from 0.
    pub step: u64,
    /// How many there are.
    pub steps: u64,
}

/// A course of the learning rate.
pub trait Schedule: Debug + Sync {
    /// What the language may ask of it.
    fn signature(&self) -> Signature;

    /// The rate of a step.
    ///
    /// # Errors
    /// When a setting is missing or of another kind; the language has checked it, a stored program may lie.
    fn rate(&self, called: &Called, at: At) -> Result<f64>;
}

/// A word with the setting `warmup`, which ends within the training.
pub(super) fn climbs(word: &str, help: &str) -> Signature {
    let name = "warmup".to_owned();
    let steps = "steps in which the rate climbs along a line; the first step does nothing then";
    Signature::new(word, help)
        .with([SettingSignature::count(&name, (0, u64::MAX), 0, steps)])
        .where_holds(Rule::WithinSteps { setting: name })
}

/// The setting `floor`.
pub(super) fn floor() -> SettingSignature {
    let help = "the rate at the end as a share of the peak";
    SettingSignature::number("floor", (0.0, 1.0), 0.0, help)
}

/// The rate while it still climbs: peak · step / warm-up, so that the first step does nothing.
pub(super) fn climbing(called: &Called, at: At) -> Result<Option<f64>> {
    let warmup = called.count("warmup")?;
    let climbs = at.step < warmup;
    Ok(climbs.then(|| at.peak * at.step as f64 / warmup as f64))
}

/// The rate that climbs, and then falls from the peak to `floor` · peak at the last step: `left` says how much
/// of the way is left when a share of it is gone.
pub(super) fn falling(called: &Called, at: At, left: impl Fn(f64) -> f64) -> Result<f64> {
    if let Some(rate) = climbing(called, at)? {
        return Ok(rate);
    }
    let (warmup, floor) = (called.count("warmup")?, called.number("floor")?);
    let length = at.steps.saturating_sub(warmup).max(1);
    let gone = ((at.step - warmup) as f64 / length as f64).min(1.0);
    Ok(at.peak * (floor + (1.0 - floor) * left(gone)))
}
