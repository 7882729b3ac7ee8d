//! Inputs to begin with are made of the repository's own files, so that none is stored twice.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest seed, in bytes.
const LONGEST: usize = 4096;

/// Seeds, each once, the long ones left out.
pub(crate) fn tidy(mut seeds: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    seeds.retain(|seed| seed.len() <= LONGEST);
    seeds.sort();
    seeds.dedup();
    seeds
}

/// Files below a folder of the repository whose names end so, in the order of their names.
///
/// # Panics
/// When the repository is not where it was compiled.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    // Compiled as a crate in `fuzz/` and into a test of the repository.
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = match env!("CARGO_PKG_NAME") {
        "jam-fuzz" => own.join(".."),
        _ => own.to_owned(),
    };
    let (mut found, mut folders) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the repository has its folders") {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The bytes of such files.
pub(crate) fn contents(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let read = |path| fs::read(path).expect("a file of the repository");
    files(folder, ending).into_iter().map(read).collect()
}
