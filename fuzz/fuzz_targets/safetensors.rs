//! See [`jam_fuzz::safetensors`].
#![no_main]

use jam_fuzz::safetensors::{run, seeds};

libfuzzer_sys::fuzz_target!(init: jam_fuzz::write_seeds(seeds), |data: &[u8]| run(data));
