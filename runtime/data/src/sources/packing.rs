//! What the ending of a file's name says of how it is packed.

use std::path::Path;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

/// Endings of packed files. The ending before it says what is packed.
const PACKINGS: [(&str, Packing); 2] = [("gz", Packing::Gzip), ("zst", Packing::Zstd)];

/// How a file is packed, by the last ending of its name.
pub(super) fn packing(path: &Path) -> Option<Packing> {
    let ending = ending(path)?;
    let found = PACKINGS.iter().find(|(known, _)| *known == ending);
    found.map(|(_, packing)| *packing)
}

/// The last ending of a name, in small letters.
pub(super) fn ending(path: &Path) -> Option<String> {
    let ending = path.extension()?;
    Some(ending.to_string_lossy().to_lowercase())
}
