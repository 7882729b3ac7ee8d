//! The program's own image tokenizer as an encoder of documents' pictures.

use super::PictureEncoder;
use crate::Result;
use crate::images::{Fit, Picture, Resample};
use crate::tokens::image::VqTokenizer;

/// A [`VqTokenizer`] for pictures of any size: the middle square of each, resized.
#[derive(Debug)]
pub struct VqPictures<'a> {
    tokenizer: &'a VqTokenizer,
    hash: String,
}

impl<'a> VqPictures<'a> {
    /// `hash` is that of the tokenizer's files: the codes on the disk belong to it.
    pub fn new(tokenizer: &'a VqTokenizer, hash: impl Into<String>) -> Self {
        Self {
            tokenizer,
            hash: hash.into(),
        }
    }
}

impl PictureEncoder for VqPictures<'_> {
    fn content_hash(&self) -> String {
        format!("{} crop bicubic", self.hash)
    }

    fn codes_per_picture(&self) -> usize {
        self.tokenizer.tokens_per_picture()
    }

    fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
        let side = self.tokenizer.settings().picture;
        let squares: Vec<Picture> = pictures
            .iter()
            .map(|picture| picture.squared(side, Fit::Crop, Resample::Bicubic))
            .collect::<Result<_>>()?;
        self.tokenizer.encode(&squares)
    }
}
