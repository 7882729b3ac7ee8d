//! The peak throughout.

use jam_ir::{Called, Signature};

use super::schedule::{At, Schedule, climbing, warmup};
use crate::Result;

/// The schedule.
#[derive(Debug)]
pub(super) struct Constant;

impl Schedule for Constant {
    fn signature(&self) -> Signature {
        Signature::new("constant", "the peak throughout, after the warm-up").with([warmup()])
    }

    fn rate(&self, called: &Called, at: At) -> Result<f64> {
        Ok(climbing(called, at)?.unwrap_or(at.peak))
    }
}
