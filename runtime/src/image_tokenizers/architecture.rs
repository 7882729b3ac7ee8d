//! An image tokenizer of either architecture, and where one may lie.

use std::path::Path;

use burn::tensor::Device;

use super::VqTokenizer;
use super::vqgan::VqganTokenizer;
use crate::Result;
use jam_data::images::Picture;
use jam_data::tokens::PictureTokenizer;
use jam_data::tokens::image::ImageTokenizerPlace;

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
        let own = |it| Self::Own(Box::new(it));
        let vqgan = |it| Self::Vqgan(Box::new(it));
        match ImageTokenizerPlace::of(path) {
            ImageTokenizerPlace::Own(folder) => VqTokenizer::load(folder, device).map(own),
            ImageTokenizerPlace::Vqgan(folder) => VqganTokenizer::load(folder, device).map(vqgan),
            ImageTokenizerPlace::Foreign(path) => VqganTokenizer::import(path, device).map(vqgan),
        }
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
}

impl PictureTokenizer for ImageTokenizer {
    fn codes(&self) -> usize {
        match self {
            Self::Own(it) => it.settings().codes,
            Self::Vqgan(it) => it.settings().codes,
        }
    }

    fn picture(&self) -> usize {
        match self {
            Self::Own(it) => it.settings().picture,
            Self::Vqgan(it) => it.settings().picture,
        }
    }

    fn tokens_per_picture(&self) -> usize {
        match self {
            Self::Own(it) => it.tokens_per_picture(),
            Self::Vqgan(it) => it.settings().cells(),
        }
    }

    fn decodes(&self) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Vqgan(it) => it.decodes(),
        }
    }

    fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
        match self {
            Self::Own(it) => it.encode(pictures),
            Self::Vqgan(it) => it.encode(pictures),
        }
    }

    fn decode(&self, pictures: &[&[u32]]) -> Result<Vec<Picture>> {
        match self {
            Self::Own(it) => it.decode(pictures),
            Self::Vqgan(it) => it.decode(pictures),
        }
    }
}
