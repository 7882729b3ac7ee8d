//! JAM's image tokenizer in a folder.
//!
//! ```text
//! vq.safetensors        encoder.*, decoder.* [inputs, outputs], codebook [codes, latent]; f32
//! vq.json               format, settings, and the checksum of the other file
//! ```
//!
//! Each is written under a temporary name, flushed, and renamed. `vq.json` comes last and names the
//! checksum of `vq.safetensors`: two files that do not belong together are refused.

use std::path::Path;

use jam_weights::checkpoints::atomic::write_file;
use serde::{Deserialize, Serialize};

use super::layers::layers;
use super::matrices::{Matrices, Named, to_bytes};
use super::settings::VqSettings;
use super::{SETTINGS_FILE, WEIGHTS_FILE};
use crate::{Error, Result};

/// The layout of the files; raised when it changes.
const FORMAT: u32 = 1;

/// What `vq.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u32,
    settings: VqSettings,
    /// BLAKE3 of the weights file, in hexadecimal.
    blake3: String,
}

/// The numbers of a trained image tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub struct VqWeights {
    /// The matrices of the network, in the order of [`layers`], row by row.
    pub layers: Vec<Vec<f32>>,
    /// `[codes, latent]`, row by row.
    pub codes: Vec<f32>,
}

/// Writes a tokenizer into a folder, which is made if it is not there.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn save_vq(folder: &Path, settings: &VqSettings, weights: &VqWeights) -> Result<()> {
    let mut matrices: Vec<Named> = std::iter::zip(layers(settings), &weights.layers)
        .map(|(layer, values)| Named {
            name: layer.name,
            shape: layer.shape,
            values: values.clone(),
        })
        .collect();
    matrices.push(Named {
        name: "codebook".to_owned(),
        shape: [settings.codes, settings.latent],
        values: weights.codes.clone(),
    });
    let bytes = to_bytes(&matrices, None)?;
    let description = Description {
        format: FORMAT,
        settings: settings.clone(),
        blake3: blake3::hash(&bytes).to_hex().to_string(),
    };
    let mut text = serde_json::to_vec_pretty(&description).map_err(not_json)?;
    text.push(b'\n');
    write_file(&folder.join(WEIGHTS_FILE), &bytes)?;
    write_file(&folder.join(SETTINGS_FILE), &text)
}

/// The settings of the tokenizer in a folder.
///
/// # Errors
/// When they are missing, damaged or of another format.
pub fn vq_settings_in(folder: &Path) -> Result<VqSettings> {
    Ok(description(folder)?.settings)
}

/// Reads a tokenizer from a folder.
///
/// # Errors
/// When a file is missing, damaged, of another format, does not belong to the other one, or does
/// not hold what the settings ask for.
pub fn load_vq(folder: &Path) -> Result<(VqSettings, VqWeights)> {
    let description = description(folder)?;
    let settings = description.settings;
    let path = folder.join(WEIGHTS_FILE);
    let bytes = read(&path)?;
    if blake3::hash(&bytes).to_hex().as_str() != description.blake3 {
        return Err(Error::damaged(format!(
            "the file is damaged, or not the one that {SETTINGS_FILE} was written with"
        ))
        .with_path(path));
    }
    let weights = || -> Result<VqWeights> {
        let file = Matrices::read(&bytes)?;
        let layers = layers(&settings).into_iter();
        Ok(VqWeights {
            layers: layers
                .map(|layer| file.values(&layer.name, layer.shape))
                .collect::<Result<_>>()?,
            codes: file.values("codebook", [settings.codes, settings.latent])?,
        })
    };
    let weights = weights().map_err(|error| error.with_path(path))?;
    Ok((settings, weights))
}

/// What a folder says of its tokenizer, checked.
fn description(folder: &Path) -> Result<Description> {
    let path = folder.join(SETTINGS_FILE);
    let description: Description =
        serde_json::from_slice(&read(&path)?).map_err(|error| not_json(error).with_path(&path))?;
    if description.format != FORMAT {
        let message = format!(
            "format {} of an image tokenizer is not known; this program reads {FORMAT}",
            description.format
        );
        return Err(Error::new(message).with_path(&path));
    }
    let checked = description.settings.check();
    checked.map_err(|error| error.with_path(&path))?;
    Ok(description)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::io("read", path, error))
}

fn not_json(error: serde_json::Error) -> Error {
    Error::new(format!(
        "not the description of an image tokenizer: {error}"
    ))
}
