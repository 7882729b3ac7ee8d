//! See [`jam_fuzz::index`].
#![no_main]

use jam_fuzz::index::{run, seeds};

libfuzzer_sys::fuzz_target!(init: jam_fuzz::write_seeds(seeds), |data: &[u8]| run(data));
