//! See [`jam_fuzz::pickle`].
#![no_main]

use jam_fuzz::pickle::{run, seeds};

libfuzzer_sys::fuzz_target!(init: jam_fuzz::write_seeds(seeds), |data: &[u8]| run(data));
