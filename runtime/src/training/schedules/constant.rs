//! The peak throughout.

use jam_ir::{Called, Signature};

use super::schedule::{At, Schedule, climbing, climbs};
use crate::Result;

/// The schedule.
#[derive(Debug)]
pub(super) struct Constant;

impl Schedule for Constant {
    fn signature(&self) -> Signature {
        climbs("constant", "the peak throughout, after the warm-up")
    }

    fn rate(&self, called: &Called, at: At) -> Result<f64> {
        Ok(climbing(called, at)?.unwrap_or(at.peak))
    }
}
