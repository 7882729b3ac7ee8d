//! An image tokenizer of either architecture, and where one may lie.

use std::path::Path;

use burn::tensor::Device;

use super::vqgan::{self, VqganTokenizer};
use super::{SETTINGS_FILE, VqTokenizer, WEIGHTS_FILE};
use crate::error::Result;
use crate::images::Picture;

/// An image tokenizer that JAM trained, or one that others did.
#[derive(Debug, Clone)]
pub enum ImageTokenizer {
    /// What `tokenizer … = vq(train: …)` makes.
    Own(Box<VqTokenizer>),
    /// What `image = vq("…")` reads.
    Vqgan(Box<VqganTokenizer>),
}

impl ImageTokenizer {
    /// Reads a tokenizer onto a device: a folder of JAM (a model's or a tokenizer's own), its `vq.safetensors`, or a
    /// VQGAN of other software ([`VqganTokenizer::import`]).
    ///
    /// # Errors
    /// When a file is missing, damaged, or does not hold what its settings ask for.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let folder = folder_of(path);
        if !folder.join(SETTINGS_FILE).is_file() {
            return VqganTokenizer::import(path, device).map(|it| Self::Vqgan(Box::new(it)));
        }
        match vqgan::is_own(folder) {
            true => VqganTokenizer::load(folder, device).map(|it| Self::Vqgan(Box::new(it))),
            false => VqTokenizer::load(folder, device).map(|it| Self::Own(Box::new(it))),
        }
    }

    /// Entries of the codebook and codes on a side of a picture, of the tokenizer that [`ImageTokenizer::open`] would
    /// read; from headers alone.
    ///
    /// # Errors
    /// As [`ImageTokenizer::open`], as far as headers tell.
    pub fn sizes(path: &Path) -> Result<(usize, usize)> {
        let folder = folder_of(path);
        if folder.join(SETTINGS_FILE).is_file() && !vqgan::is_own(folder) {
            let settings = VqTokenizer::settings_in(folder)?;
            return Ok((settings.codes, settings.grid));
        }
        let settings = match folder.join(SETTINGS_FILE).is_file() {
            true => VqganTokenizer::settings_in(folder)?,
            false => VqganTokenizer::import_settings(path)?,
        };
        Ok((settings.codes, settings.grid()))
    }

    /// Writes the tokenizer into a folder, as [`ImageTokenizer::open`] reads it.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        match self {
            Self::Own(it) => it.save(folder),
            Self::Vqgan(it) => it.save(folder),
        }
    }

    /// Entries of the codebook.
    pub fn codes(&self) -> usize {
        match self {
            Self::Own(it) => it.settings().codes,
            Self::Vqgan(it) => it.settings().codes,
        }
    }

    /// Side of a picture, in pixels.
    pub fn picture(&self) -> usize {
        match self {
            Self::Own(it) => it.settings().picture,
            Self::Vqgan(it) => it.settings().picture,
        }
    }

    /// Tokens of a picture: the square of its grid.
    pub fn tokens_per_picture(&self) -> usize {
        match self {
            Self::Own(it) => it.tokens_per_picture(),
            Self::Vqgan(it) => it.settings().cells(),
        }
    }

    /// Whether it makes pictures of codes: a file may hold the encoder alone.
    pub fn decodes(&self) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Vqgan(it) => it.decodes(),
        }
    }

    /// The pictures as codes, row by row.
    ///
    /// # Errors
    /// When a picture is not a square of [`ImageTokenizer::picture`] pixels, or the device fails.
    pub fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
        match self {
            Self::Own(it) => it.encode(pictures),
            Self::Vqgan(it) => it.encode(pictures),
        }
    }

    /// Codes as pictures; the way back from [`ImageTokenizer::encode`].
    ///
    /// # Errors
    /// When a list has too few or too many codes or holds one that the codebook has not, there is no decoder, or the
    /// device fails.
    pub fn decode(&self, pictures: &[&[u32]]) -> Result<Vec<Picture>> {
        match self {
            Self::Own(it) => it.decode(pictures),
            Self::Vqgan(it) => it.decode(pictures),
        }
    }
}

/// The folder of JAM that a path means, if it means one: its weights may be named.
fn folder_of(path: &Path) -> &Path {
    match path.file_name().is_some_and(|name| name == WEIGHTS_FILE) {
        true => path.parent().unwrap_or(path),
        false => path,
    }
}
