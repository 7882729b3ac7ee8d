//! A trained tokenizer to and from its folder, and the state of a training run in one file.
//!
//! ```text
//! vq-training.safetensors   weight.*, first.*, second.*, codebook.*; settings and step in its header
//! ```

use std::path::Path;

use burn::tensor::{Device, Tensor};
use jam_data::tokens::image::layers::layers;
use jam_data::tokens::image::matrices::{Matrices, Named, to_bytes};
use jam_data::tokens::image::{VqSettings, VqWeights, load_vq, save_vq};
use jam_weights::checkpoints::atomic::write_file;
use serde::{Deserialize, Serialize};

use super::codebook::Codebook;
use super::optimizer::Adam;
use super::training::State;
use super::{VqTokenizer, host, network};
use crate::{Error, Result};

/// The state of a training run.
pub const TRAINING_FILE: &str = "vq-training.safetensors";

/// The layout of the file; raised when it changes.
const FORMAT: u32 = 1;

/// The key under which a training file's header keeps its [`Progress`].
const HEADER: &str = "vq";

/// What the header of a training file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    format: u32,
    settings: VqSettings,
    step: usize,
}

impl VqTokenizer {
    /// Writes the tokenizer into a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let weights = VqWeights {
            layers: self
                .weights
                .iter()
                .map(|weight| host(weight.clone()))
                .collect::<Result<_>>()?,
            codes: host(self.codes.clone())?,
        };
        save_vq(folder, &self.settings, &weights)
    }

    /// Reads a tokenizer from a folder onto a device.
    ///
    /// # Errors
    /// When a file is missing, damaged, of another format, does not belong to the other one, or does
    /// not hold what the settings ask for.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        let (settings, weights) = load_vq(folder)?;
        let matrix = |(layer, values): (jam_data::tokens::image::layers::Layer, Vec<f32>)| {
            network::matrix(values, layer.shape, device)
        };
        let shape = [settings.codes, settings.latent];
        Ok(Self {
            weights: std::iter::zip(layers(&settings), weights.layers)
                .map(matrix)
                .collect(),
            codes: network::matrix(weights.codes, shape, device),
            device: device.clone(),
            settings,
        })
    }
}

/// Writes the state of a run into a folder.
pub(super) fn write_state(settings: &VqSettings, state: &State, folder: &Path) -> Result<()> {
    let mut tensors = named("weight.", settings, &state.weights)?;
    tensors.append(&mut named("first.", settings, &state.adam.first)?);
    tensors.append(&mut named("second.", settings, &state.adam.second)?);
    if let Some(codebook) = &state.codebook {
        let codes = codebook.counts.len();
        for (name, columns, values) in [
            ("codebook.codes", codebook.latent, &codebook.codes),
            ("codebook.sums", codebook.latent, &codebook.sums),
            ("codebook.counts", 1, &codebook.counts),
            ("codebook.idle", 1, &codebook.idle),
        ] {
            tensors.push(Named {
                name: name.into(),
                shape: [codes, columns],
                values: values.clone(),
            });
        }
    }
    let progress = Progress {
        format: FORMAT,
        settings: settings.clone(),
        step: state.step,
    };
    let header = serde_json::to_string(&progress).map_err(not_json)?;
    write_file(
        &folder.join(TRAINING_FILE),
        &to_bytes(&tensors, Some((HEADER, header)))?,
    )
}

/// Reads the state of a run out of a folder.
pub(super) fn read_state(settings: &VqSettings, folder: &Path, device: &Device) -> Result<State> {
    let path = folder.join(TRAINING_FILE);
    let bytes = std::fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
    state(settings, &bytes, device).map_err(|error| error.with_path(path))
}

fn state(settings: &VqSettings, bytes: &[u8], device: &Device) -> Result<State> {
    let file = Matrices::read(bytes)?;
    let header = file.header(HEADER)?;
    let header = header.ok_or_else(|| Error::new("not the state of an image tokenizer's run"))?;
    let progress: Progress = serde_json::from_str(&header).map_err(not_json)?;
    if progress.format != FORMAT {
        return Err(Error::new(format!(
            "format {} of an image tokenizer's run is not known; this program reads {FORMAT}",
            progress.format
        )));
    }
    progress.settings.check()?;
    if progress.settings != *settings {
        return Err(
            Error::new("the run that was stopped here had other settings")
                .with_help("give the new run another folder, or remove this file"),
        );
    }
    let codebook = if file.has("codebook.codes") {
        let (wide, narrow) = ([settings.codes, settings.latent], [settings.codes, 1]);
        Some(Codebook {
            latent: settings.latent,
            codes: file.values("codebook.codes", wide)?,
            sums: file.values("codebook.sums", wide)?,
            counts: file.values("codebook.counts", narrow)?,
            idle: file.values("codebook.idle", narrow)?,
        })
    } else {
        None
    };
    Ok(State {
        step: progress.step,
        weights: weights(&file, "weight.", settings, device)?,
        adam: Adam {
            first: weights(&file, "first.", settings, device)?,
            second: weights(&file, "second.", settings, device)?,
        },
        codebook,
    })
}

fn not_json(error: serde_json::Error) -> Error {
    Error::damaged(format!(
        "not the state of an image tokenizer's run: {error}"
    ))
}

/// The weights with the names that files give them.
fn named(prefix: &str, settings: &VqSettings, weights: &[Tensor<2>]) -> Result<Vec<Named>> {
    std::iter::zip(layers(settings), weights)
        .map(|(layer, weight)| {
            Ok(Named {
                name: format!("{prefix}{}", layer.name),
                shape: layer.shape,
                values: host(weight.clone())?,
            })
        })
        .collect()
}

/// The network's weights out of a file.
fn weights(
    file: &Matrices<'_>,
    prefix: &str,
    settings: &VqSettings,
    device: &Device,
) -> Result<Vec<Tensor<2>>> {
    layers(settings)
        .into_iter()
        .map(|layer| {
            let values = file.values(&format!("{prefix}{}", layer.name), layer.shape)?;
            Ok(network::matrix(values, layer.shape, device))
        })
        .collect()
}
