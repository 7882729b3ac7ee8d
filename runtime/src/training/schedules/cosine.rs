//! Half a cosine to the floor.

use std::f64::consts::PI;

use jam_ir::{Called, Signature};

use super::schedule::{At, Schedule, climbs, falling, floor};
use crate::Result;

/// The schedule.
#[derive(Debug)]
pub(super) struct Cosine;

impl Schedule for Cosine {
    fn signature(&self) -> Signature {
        climbs(
            "cosine",
            "half a cosine from the peak to the floor at the last step",
        )
        .with([floor()])
    }

    fn rate(&self, called: &Called, at: At) -> Result<f64> {
        falling(called, at, |gone| 0.5 * (1.0 + (PI * gone).cos()))
    }
}
