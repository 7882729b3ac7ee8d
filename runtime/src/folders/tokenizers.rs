//! The tokenizers that travel along with a model.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use jam_data::tokens::text::TextTokenizer;

use super::{COMPANIONS, IMAGE_TOKENIZER, TEXT_TOKENIZER};
use crate::image_tokenizers::ImageTokenizer;
use crate::{Error, ErrorKind, Result};

/// Where the tokenizers of a model lie. The folder of one may hold another of the other kind too, which is not the
/// model's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokenizers {
    /// File or folder of the text tokenizer; `None` for bare ids.
    pub text: Option<PathBuf>,
    /// File or folder of the image tokenizer; `None` for bare ids.
    pub image: Option<PathBuf>,
}

impl Tokenizers {
    /// Both kinds, as far as they are there, of one file or folder.
    pub fn of(path: &Path) -> Tokenizers {
        Tokenizers {
            text: Some(path.to_owned()),
            image: Some(path.to_owned()),
        }
    }

    /// Writes what is there into a model folder, text as `tokenizer.json` whatever its form; an image tokenizer in
    /// another form than ours only where it is `wanted`.
    ///
    /// # Errors
    /// When files that are a tokenizer are damaged, or cannot be copied.
    pub(super) fn write(&self, to: &Path, wanted: bool) -> Result<()> {
        if let Some(from) = &self.text {
            write_text(from, to)?;
        }
        let Some(from) = &self.image else {
            return Ok(());
        };
        let mut own = false;
        for name in IMAGE_TOKENIZER {
            own |= copy(from, name, to)?;
        }
        if wanted && !own && from.exists() {
            ImageTokenizer::open(from, &Device::flex())?.save(to)?;
        }
        Ok(())
    }
}

/// A folder need not have a text tokenizer; files that are one must be sound.
fn write_text(from: &Path, to: &Path) -> Result<()> {
    if copy(from, TEXT_TOKENIZER, to)? {
        return Ok(());
    }
    match TextTokenizer::open(from) {
        Ok(tokenizer) => tokenizer.save(&to.join(TEXT_TOKENIZER)),
        Err(error) if error.kind == ErrorKind::Absent => Ok(()),
        Err(error) => Err(error),
    }
}

/// Copies what a folder says of its tokenizer and of sampling.
pub(super) fn copy_companions(from: &Path, to: &Path) -> Result<()> {
    for name in COMPANIONS {
        copy(from, name, to)?;
    }
    Ok(())
}

/// Copies a file of a folder; false where it is not there.
fn copy(from: &Path, name: &str, to: &Path) -> Result<bool> {
    let file = from.join(name);
    if !file.is_file() {
        return Ok(false);
    }
    let copied = std::fs::copy(&file, to.join(name));
    copied.map_err(|error| Error::io("copy", &file, error))?;
    Ok(true)
}
