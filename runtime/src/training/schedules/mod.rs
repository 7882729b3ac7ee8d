//! Schedules: the course of the learning rate, a file each, with the arithmetic of `transformers`.
//!
//! A new one is a file here and a line in [`SCHEDULES`].

mod constant;
mod cosine;
mod linear;
mod schedule;

use jam_ir::signature;
use jam_ir::{Called, Signature};

pub use schedule::{At, Schedule};

use crate::Result;

/// Every schedule, in the order in which help lists them; the first is the default.
pub const SCHEDULES: [&dyn Schedule; 3] = [&constant::Constant, &linear::Linear, &cosine::Cosine];

/// Signatures of every schedule, for the language.
pub fn schedules() -> Vec<Signature> {
    SCHEDULES.iter().map(|of| of.signature()).collect()
}

/// The schedule that a recipe calls.
///
/// # Errors
/// When there is none of this name; the language has checked it, a stored program may lie.
pub fn schedule_of(called: &Called) -> Result<&'static dyn Schedule> {
    signature::find(&SCHEDULES, "a schedule", &called.name, |of| {
        of.signature().word
    })
}

#[cfg(test)]
mod tests {
    use jam_ir::SettingValue;

    use super::*;

    /// The rate of a step of 20 at a peak of 1e-3, four of them to climb.
    fn rate(word: &str, floor: f64, step: u64) -> f64 {
        let schedules = schedules();
        let signature = schedules.iter().find(|of| of.word == word).unwrap();
        let mut given = vec![("warmup", SettingValue::Count(4))];
        if signature.setting("floor").is_some() {
            given.push(("floor", SettingValue::Number(floor)));
        }
        let at = At {
            peak: 1e-3,
            step,
            steps: 20,
        };
        let called = signature.called(given);
        schedule_of(&called).unwrap().rate(&called, at).unwrap()
    }

    /// The numbers are those of transformers' `get_linear_schedule_with_warmup` and
    /// `get_cosine_schedule_with_warmup`.
    #[test]
    fn rates_are_those_of_transformers() {
        let linear = [
            (0, 0.0),
            (1, 2.5e-4),
            (3, 7.5e-4),
            (4, 1e-3),
            (5, 9.375e-4),
            (10, 6.25e-4),
            (19, 6.25e-5),
            (20, 0.0),
            (24, 0.0),
        ];
        let cosine = [
            (0, 0.0),
            (2, 5e-4),
            (4, 1e-3),
            (5, 9.903926402016153e-4),
            (10, 6.91341716182545e-4),
            (19, 9.607359798384786e-6),
            (20, 0.0),
        ];
        for (step, expected) in linear {
            let off = rate("linear", 0.0, step) - expected;
            assert!(off.abs() < 1e-15, "step {step}");
        }
        for (step, expected) in cosine {
            let off = rate("cosine", 0.0, step) - expected;
            assert!(off.abs() < 1e-15, "step {step}");
        }
    }

    #[test]
    fn a_floor_is_reached_and_kept() {
        for word in ["linear", "cosine"] {
            assert!((rate(word, 0.1, 20) - 1e-4).abs() < 1e-15);
            assert!((rate(word, 0.1, 100) - 1e-4).abs() < 1e-15);
            assert!((rate(word, 0.1, 4) - 1e-3).abs() < 1e-15);
        }
        assert_eq!(rate("constant", 0.1, 20), 1e-3);
    }
}
