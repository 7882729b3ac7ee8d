//! An image tokenizer in a folder, and the state of a training run in one file.
//!
//! ```text
//! vq.safetensors        encoder.*, decoder.* [inputs, outputs], codebook [codes, latent]; f32
//! vq.json               format, settings, and the checksum of the other file
//! vq-training.safetensors   weight.*, first.*, second.*, codebook.*; settings and step in its header
//! ```
//!
//! Each is written under a temporary name, flushed, and renamed. `vq.json` comes last and names the
//! checksum of `vq.safetensors`: two files that do not belong together are refused.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::codebook::Codebook;
use super::optimizer::Adam;
use super::settings::VqSettings;
use super::training::State;
use super::{VqTokenizer, host, network};
use crate::checkpoints::atomic::write_file;
use crate::error::{Error, Result};

/// The weights of a tokenizer.
pub const WEIGHTS_FILE: &str = "vq.safetensors";
/// Its settings.
pub const SETTINGS_FILE: &str = "vq.json";
/// The state of a training run.
pub const TRAINING_FILE: &str = "vq-training.safetensors";

/// The layout of the files; raised when it changes.
const FORMAT: u32 = 1;

/// The key under which a training file's header keeps its [`Progress`].
const HEADER: &str = "vq";

/// What `vq.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u32,
    settings: VqSettings,
    /// BLAKE3 of the weights file, in hexadecimal.
    blake3: String,
}

/// What the header of a training file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    format: u32,
    settings: VqSettings,
    step: usize,
}

/// A matrix by name.
struct Named {
    name: String,
    shape: [usize; 2],
    values: Vec<f32>,
}

impl VqTokenizer {
    /// Writes the tokenizer into a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut tensors = named("", &self.settings, &self.weights)?;
        tensors.push(Named {
            name: "codebook".into(),
            shape: self.codes.dims(),
            values: host(self.codes.clone())?,
        });
        let bytes = to_bytes(&tensors, None)?;
        let description = Description {
            format: FORMAT,
            settings: self.settings.clone(),
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
    pub fn settings_in(folder: &Path) -> Result<VqSettings> {
        Ok(description(folder)?.settings)
    }

    /// Reads a tokenizer from a folder onto a device.
    ///
    /// # Errors
    /// When a file is missing, damaged, of another format, does not belong to the other one, or does
    /// not hold what the settings ask for.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        let description = description(folder)?;
        let settings = description.settings;
        let path = folder.join(WEIGHTS_FILE);
        let bytes = read(&path)?;
        if blake3::hash(&bytes).to_hex().as_str() != description.blake3 {
            return Err(Error::new(format!(
                "the file is damaged, or not the one that {SETTINGS_FILE} was written with"
            ))
            .with_path(path));
        }
        let tokenizer = || -> Result<Self> {
            let file = SafeTensors::deserialize(&bytes).map_err(unreadable)?;
            let weights = weights(&file, "", &settings, device)?;
            let shape = [settings.codes, settings.latent];
            let codes = network::matrix(values(&file, "codebook", shape)?, shape, device);
            Ok(Self {
                weights,
                codes,
                device: device.clone(),
                settings: settings.clone(),
            })
        };
        tokenizer().map_err(|error| error.with_path(path))
    }
}

/// What a folder says of its tokenizer, checked.
fn description(folder: &Path) -> Result<Description> {
    let path = folder.join(SETTINGS_FILE);
    let description: Description =
        serde_json::from_slice(&read(&path)?).map_err(|error| not_json(error).with_path(&path))?;
    check(description.format, &description.settings).map_err(|error| error.with_path(&path))?;
    Ok(description)
}

/// Writes the state of a run into its folder, over an older one.
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
        &to_bytes(&tensors, Some(header))?,
    )
}

/// Reads the state of a run; none when the folder has no checkpoint.
pub(super) fn read_state(
    settings: &VqSettings,
    folder: &Path,
    device: &Device,
) -> Result<Option<State>> {
    let path = folder.join(TRAINING_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read(&path)?;
    state(settings, &bytes, device)
        .map(Some)
        .map_err(|error| error.with_path(path))
}

fn state(settings: &VqSettings, bytes: &[u8], device: &Device) -> Result<State> {
    let file = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
    let header = header
        .metadata()
        .as_ref()
        .and_then(|strings| strings.get(HEADER));
    let header = header.ok_or_else(|| Error::new("not the state of an image tokenizer's run"))?;
    let progress: Progress = serde_json::from_str(header).map_err(not_json)?;
    check(progress.format, &progress.settings)?;
    if progress.settings != *settings {
        return Err(
            Error::new("the run that was stopped here had other settings")
                .with_help("give the new run another folder, or remove this file"),
        );
    }
    let codebook = if file.names().contains(&"codebook.codes") {
        let (wide, narrow) = ([settings.codes, settings.latent], [settings.codes, 1]);
        Some(Codebook {
            latent: settings.latent,
            codes: values(&file, "codebook.codes", wide)?,
            sums: values(&file, "codebook.sums", wide)?,
            counts: values(&file, "codebook.counts", narrow)?,
            idle: values(&file, "codebook.idle", narrow)?,
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

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::io("read", path, error))
}

fn check(format: u32, settings: &VqSettings) -> Result<()> {
    if format != FORMAT {
        return Err(Error::new(format!(
            "format {format} of an image tokenizer is not known; this program reads {FORMAT}"
        )));
    }
    settings.check()
}

fn not_json(error: serde_json::Error) -> Error {
    Error::new(format!(
        "not the description of an image tokenizer: {error}"
    ))
}

fn unreadable(error: safetensors::SafeTensorError) -> Error {
    Error::new(format!("not a sound safetensors file: {error}"))
}

/// The weights with the names that files give them.
fn named(prefix: &str, settings: &VqSettings, weights: &[Tensor<2>]) -> Result<Vec<Named>> {
    std::iter::zip(network::layers(settings), weights)
        .map(|(layer, weight)| {
            Ok(Named {
                name: format!("{prefix}{}", layer.name),
                shape: layer.shape,
                values: host(weight.clone())?,
            })
        })
        .collect()
}

fn to_bytes(tensors: &[Named], header: Option<String>) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|tensor| {
            tensor
                .values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        })
        .collect();
    let views = std::iter::zip(tensors, &bytes).map(|(tensor, bytes)| {
        TensorView::new(Dtype::F32, tensor.shape.to_vec(), bytes)
            .map(|view| (tensor.name.as_str(), view))
            .map_err(unreadable)
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let header = header.map(|header| HashMap::from([(HEADER.to_owned(), header)]));
    safetensors::serialize(views, header).map_err(unreadable)
}

/// The network's weights out of a file.
fn weights(
    file: &SafeTensors<'_>,
    prefix: &str,
    settings: &VqSettings,
    device: &Device,
) -> Result<Vec<Tensor<2>>> {
    network::layers(settings)
        .into_iter()
        .map(|layer| {
            let values = values(file, &format!("{prefix}{}", layer.name), layer.shape)?;
            Ok(network::matrix(values, layer.shape, device))
        })
        .collect()
}

/// The numbers of one matrix out of a file, which must have this shape.
fn values(file: &SafeTensors<'_>, name: &str, shape: [usize; 2]) -> Result<Vec<f32>> {
    let view = file
        .tensor(name)
        .map_err(|_| Error::new(format!("the matrix `{name}` is missing")))?;
    if view.dtype() != Dtype::F32 || view.shape() != shape {
        return Err(Error::new(format!(
            "the matrix `{name}` is {:?} {:?}, but the settings ask for F32 {shape:?}",
            view.dtype(),
            view.shape()
        )));
    }
    let values: Vec<f32> = view
        .data()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::new(format!(
            "the matrix `{name}` holds numbers that are not finite"
        )));
    }
    Ok(values)
}
