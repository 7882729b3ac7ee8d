//! See [`jam_fuzz::ir_text`].
#![no_main]

use jam_fuzz::ir_text::{run, seeds};

libfuzzer_sys::fuzz_target!(init: jam_fuzz::write_seeds(seeds), |data: &[u8]| run(data));
