//! What the fuzz targets run, a module each: `run` takes any bytes and panics where something that must hold
//! does not; `seeds` are inputs to begin with. The smoke test of the repository (`tests/fuzz.rs`) compiles the
//! same files.

use std::fs;
use std::path::PathBuf;

pub mod ir_text;
pub mod jam;
mod seeds;

#[cfg(feature = "checkpoints")]
pub mod config;
#[cfg(feature = "checkpoints")]
pub mod index;
#[cfg(feature = "checkpoints")]
pub mod pickle;
#[cfg(feature = "checkpoints")]
pub mod safetensors;

/// Writes seeds into the folder that `JAM_SEEDS` names, if it does.
///
/// # Panics
/// When the folder cannot be written.
pub fn write_seeds(seeds: fn() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("JAM_SEEDS") else {
        return;
    };
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).expect("the folder of seeds can be made");
    for (number, seed) in seeds().iter().enumerate() {
        let path = folder.join(format!("seed-{number}"));
        fs::write(path, seed).expect("a seed can be written");
    }
}
