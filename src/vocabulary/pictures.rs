//! The image tokenizer of an imported checkpoint, and what its codes are called in the vocabulary.

use std::path::Path;

use jam_data::tokens::image::vqgan::{VqganCheckpoint, ids_of_codes};
use jam_ir::Error;
use jam_ir::TokenKind;
use jam_weights::checkpoints::import::{CONFIG_FILE, ImportedConfig};
use serde_json::Value;

use crate::console::Console;
use crate::failure::Failure;

/// The name of the token that stands before a picture in Chameleon's documents.
const BREAK: &str = "<racm3:break>";

/// Says in the vocabulary of a model which ids are pictures: those that the image tokenizer of its checkpoint has
/// codes for. `path` is the checkpoint as the program names it. Without an image tokenizer nothing changes.
pub(super) fn set(
    config: &mut ImportedConfig,
    checkpoint: &Path,
    path: &str,
    console: &Console,
) -> Result<(), Failure> {
    let file = checkpoint.join(CONFIG_FILE);
    if !file.is_file() {
        return Ok(());
    }
    let Some(found) = VqganCheckpoint::find(checkpoint)?.map(|found| found.file()) else {
        return Ok(());
    };
    let told = std::fs::read(&file).map_err(|error| Error::io("read", &file, error))?;
    let told: Value = serde_json::from_slice(&told)
        .map_err(|error| Error::new(format!("not JSON: {error}")).with_path(&file))?;
    let names = &told["vocabulary_map"];
    let (codes, grid) = (found.settings.codes, found.settings.grid() as u64);
    let size = config.decoder.tokens.room(TokenKind::Text);
    let first = first_of(names, codes, size).and_then(|first| {
        match config.set_pictures(path, codes as u64, grid, first) {
            true => Ok(()),
            false => Err("a mark is among the ids of its codes".to_owned()),
        }
    });
    if let Err(why) = first {
        // The text model is as good without.
        console.remark(&format!("the image tokenizer is left out: {why}"));
        return Ok(());
    }
    if !found.decodes {
        console.remark("the image tokenizer has no decoder: pictures can be read, not drawn");
    }
    if let Some(id) = names[BREAK].as_u64() {
        config.set_mark("break", id);
    }
    Ok(())
}

/// The id of image code 0 in a vocabulary of `size` ids, which the others follow in order.
fn first_of(names: &Value, codes: usize, size: u64) -> Result<u64, String> {
    let names = names
        .as_object()
        .ok_or("no `vocabulary_map` says which ids its codes have")?;
    let names = names.iter();
    let known = names.filter_map(|(name, id)| Some((name.as_str(), id.as_u64()?)));
    let ids = ids_of_codes(known, codes).map_err(|error| error.to_string())?;
    let first = ids.first().copied().unwrap_or_default();
    let first = u64::from(first);
    let in_order = ids
        .iter()
        .zip(first..)
        .all(|(id, wanted)| u64::from(*id) == wanted);
    match in_order && first + codes as u64 <= size {
        true => Ok(first),
        false => Err("the ids of its codes do not follow one another in the vocabulary".to_owned()),
    }
}
