//! A straight line to the floor.

use jam_ir::{Called, Signature};

use super::schedule::{At, Schedule, climbs, falling, floor};
use crate::Result;

/// The schedule.
#[derive(Debug)]
pub(super) struct Linear;

impl Schedule for Linear {
    fn signature(&self) -> Signature {
        climbs(
            "linear",
            "a straight line from the peak to the floor at the last step",
        )
        .with([floor()])
    }

    fn rate(&self, called: &Called, at: At) -> Result<f64> {
        falling(called, at, |gone| 1.0 - gone)
    }
}
