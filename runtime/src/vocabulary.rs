//! The vocabulary of a model, opened with its tokenizers on a device.

use std::path::Path;
use std::sync::Arc;

use jam_data::tokens::text::TextTokenizer;
use jam_data::tokens::{Codec, PictureTokenizer};
use jam_ir::{Model, TokenLayout};

use crate::Result;
use crate::folders::{IMAGE_TOKENIZER, TEXT_TOKENIZER};
use crate::image_tokenizers::ImageTokenizer;

/// Opens the tokenizers that lie in folders (a model folder has both).
///
/// # Errors
/// When a file is damaged, or as [`Codec::new`].
pub fn open_codec(
    layout: TokenLayout,
    text: Option<&Path>,
    image: Option<&Path>,
    device: &jam_backends::Device,
) -> Result<Codec> {
    let text = text.map(TextTokenizer::open).transpose()?;
    let image = match image {
        Some(folder) => {
            let opened = ImageTokenizer::open(folder, device)?;
            Some(Arc::new(opened) as Arc<dyn PictureTokenizer>)
        }
        None => None,
    };
    Codec::new(layout, text, image)
}

/// The vocabulary of a model folder, with the tokenizers that lie in it.
///
/// # Errors
/// As [`open_codec`].
pub fn codec_of_folder(
    model: &Model,
    folder: &Path,
    device: &jam_backends::Device,
) -> Result<Codec> {
    let there = |name: &str| folder.join(name).exists().then_some(folder);
    let (text, image) = (there(TEXT_TOKENIZER), there(IMAGE_TOKENIZER[0]));
    open_codec(model.tokens.clone(), text, image, device)
}
