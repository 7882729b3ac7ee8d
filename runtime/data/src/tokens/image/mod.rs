//! Image tokenizers in files: what they are, from headers, and their numbers on the host.
//!
//! [`VqSettings`] describes the tokenizer that JAM trains, [`vqgan::VqganSettings`] those of others. What
//! computes with them lies above this crate.

mod files;
pub mod layers;
pub mod matrices;
mod settings;
pub mod vqgan;

use std::path::{Path, PathBuf};

pub use files::{VqWeights, load_vq, save_vq, vq_settings_in};
pub use settings::VqSettings;

use crate::Result;

/// The weights of a tokenizer.
pub const WEIGHTS_FILE: &str = "vq.safetensors";
/// Its settings.
pub const SETTINGS_FILE: &str = "vq.json";

/// Where an image tokenizer lies, and of which kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageTokenizerPlace<'p> {
    /// A folder that `tokenizer … = vq(train: …)` made.
    Own(&'p Path),
    /// A VQGAN in a folder of JAM.
    Vqgan(&'p Path),
    /// A VQGAN of other software.
    Foreign(&'p Path),
}

impl<'p> ImageTokenizerPlace<'p> {
    /// What a path means: a folder of JAM (a model's or a tokenizer's own), its `vq.safetensors`, or a file or folder
    /// of other software.
    pub fn of(path: &'p Path) -> Self {
        let folder = match path.file_name().is_some_and(|name| name == WEIGHTS_FILE) {
            true => path.parent().unwrap_or(path),
            false => path,
        };
        if !folder.join(SETTINGS_FILE).is_file() {
            return Self::Foreign(path);
        }
        match vqgan::is_own(folder) {
            true => Self::Vqgan(folder),
            false => Self::Own(folder),
        }
    }

    /// The files that are read of it.
    ///
    /// # Errors
    /// When a folder of other software has no checkpoint, or its table of shards names what is not there.
    pub fn files(self) -> Result<Vec<PathBuf>> {
        match self {
            Self::Own(folder) | Self::Vqgan(folder) => Ok([SETTINGS_FILE, WEIGHTS_FILE]
                .map(|name| folder.join(name))
                .into()),
            Self::Foreign(path) => vqgan::VqganCheckpoint::files(path),
        }
    }

    /// Entries of the codebook and codes on a side of a picture, from headers alone.
    ///
    /// # Errors
    /// When a file is missing, damaged, or does not hold what its settings ask for.
    pub fn sizes(self) -> Result<(usize, usize)> {
        let settings = match self {
            Self::Own(folder) => {
                let settings = vq_settings_in(folder)?;
                return Ok((settings.codes, settings.grid));
            }
            Self::Vqgan(folder) => vqgan::VqganCheckpoint::own(folder)?,
            Self::Foreign(path) => vqgan::VqganCheckpoint::foreign(path)?,
        };
        let settings = settings.settings();
        Ok((settings.codes, settings.grid()))
    }
}
