//! VQGANs in files: those of others, through name tables, and JAM's own folder.
//!
//! ```text
//! vq.safetensors   encoder.*, decoder.*, codebook [codes, latent]; f32, convolutions [outputs, inputs, side, side]
//! vq.json          format, architecture, settings, and the checksum of the other file
//! ```
//!
//! Names and shapes of all tensors are compared with the settings before a number is read.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::super::{SETTINGS_FILE, WEIGHTS_FILE};
use super::layers::{self, CODEBOOK, DECODER, Weight};
use super::names::Naming;
use super::settings::VqganSettings;
use crate::{Error, ErrorKind, Result};
use jam_weights::checkpoints::atomic::write_file;
use jam_weights::checkpoints::bounded::{JsonLimits, open, read_json};
use jam_weights::checkpoints::import::CONFIG_FILE;
use jam_weights::checkpoints::{CheckpointReader, SINGLE_FILE};

/// The layout of JAM's folder; raised when it changes.
const FORMAT: u32 = 1;
/// What [`SETTINGS_FILE`] calls this architecture.
const ARCHITECTURE: &str = "vqgan";
/// What is read of a configuration; vocabularies inside it count.
const CONFIGURATION: JsonLimits = JsonLimits {
    bytes: 16_000_000,
    commas: 500_000,
};
/// What is read of [`SETTINGS_FILE`].
const SETTINGS: JsonLimits = JsonLimits {
    bytes: 1_000_000,
    commas: 10_000,
};
/// The convolution before the decoder, which files without one have all the same.
const BEFORE_DECODER: &str = "decoder.latent.";

/// What [`SETTINGS_FILE`] holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u32,
    architecture: String,
    settings: VqganSettings,
    /// BLAKE3 of the weights file, in hexadecimal.
    blake3: String,
}

/// An image tokenizer of other software, as its headers describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct VqganFile {
    /// What it is.
    pub settings: VqganSettings,
    /// Whether it has a decoder.
    pub decodes: bool,
    /// JAM's names of its weights, each with the name in the file.
    pub weights: Vec<(String, String)>,
}

/// A VQGAN in files whose headers were compared with its settings.
#[derive(Debug)]
pub struct VqganCheckpoint {
    settings: VqganSettings,
    reader: CheckpointReader,
    /// Every weight, the codes last, with its name in the file.
    weights: Vec<(Weight, String)>,
    decodes: bool,
}

impl VqganCheckpoint {
    /// Finds the weights in a file that calls them what `file_name` says, behind one of `prefixes`; none where no
    /// tensor has such a name. The decoder may be missing as a whole.
    fn new(
        settings: VqganSettings,
        reader: CheckpointReader,
        prefixes: &[String],
        file_name: &dyn Fn(&str) -> Option<String>,
        ignores: &dyn Fn(&str) -> bool,
    ) -> Result<Option<Self>> {
        let mut wanted = layers::weights(&layers::encoder(&settings));
        wanted.extend(layers::weights(&layers::decoder(&settings)));
        wanted.push(Weight {
            name: CODEBOOK.to_owned(),
            shape: vec![settings.codes, settings.latent],
        });
        let named = |prefix: &String| -> Vec<(Weight, String)> {
            let name = |weight: &Weight| Some(format!("{prefix}{}", file_name(&weight.name)?));
            let known = wanted
                .iter()
                .filter_map(|weight| Some((weight.clone(), name(weight)?)));
            known.collect()
        };
        let there = |name: &str| reader.tensors().contains_key(name);
        let count = |prefix: &&String| named(prefix).iter().filter(|(_, name)| there(name)).count();
        // The first of equals.
        let prefix = prefixes.iter().rev().max_by_key(count);
        let Some(prefix) = prefix.filter(|prefix| count(prefix) > 0) else {
            return Ok(None);
        };
        let mut weights = named(prefix);
        let surplus = |name: &&String| {
            name.strip_prefix(prefix.as_str()).is_some_and(|short| {
                !ignores(short) && !weights.iter().any(|(_, known)| known == *name)
            })
        };
        let surplus: Vec<String> = reader
            .tensors()
            .keys()
            .filter(surplus)
            .map(|name| format!("the settings have no `{name}`"))
            .collect();
        let of_decoder = |weight: &Weight| {
            weight.name.starts_with(DECODER) && !weight.name.starts_with(BEFORE_DECODER)
        };
        let decodes = weights
            .iter()
            .any(|(weight, name)| of_decoder(weight) && there(name));
        if !decodes {
            weights.retain(|(weight, _)| !weight.name.starts_with(DECODER));
        }
        let mut wrong = Vec::new();
        for (weight, name) in &weights {
            let shape = weight.shape.iter().map(|size| *size as u64);
            let shape: Vec<u64> = shape.collect();
            match reader.tensors().get(name) {
                None => wrong.push(format!("`{name}` is missing")),
                Some(info) if info.shape != shape => wrong.push(format!(
                    "`{name}` is {:?}, the settings make it {shape:?}",
                    info.shape
                )),
                Some(_) => {}
            }
        }
        wrong.extend(surplus);
        if let Some(first) = wrong.first() {
            let more = match wrong.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more tensors are wrong"),
            };
            let message = format!(
                "the image tokenizer's weights are not those of its settings: {first}{more}"
            );
            return Err(Error::new(message).with_path(reader.path()));
        }
        Ok(Some(Self {
            settings,
            reader,
            weights,
            decodes,
        }))
    }

    /// Finds the image tokenizer in a file or folder of other software, from headers alone: a Chameleon folder of
    /// transformers, or a file or folder of taming-transformers' names. Its settings lie in the `config.json` of the
    /// folder, or beside the file under its own name with the ending `json`. None where the configuration describes
    /// none, or no tensor is one of its weights.
    ///
    /// # Errors
    /// When there is no configuration or no checkpoint, the settings are out of their range or ask for what is not
    /// built, or tensors are missing, left over or of another shape.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        let file = configuration(path);
        let text = read_json(&file, CONFIGURATION).map_err(|error| match file.exists() {
            true => error,
            false => error.with_help(format!(
                "an image tokenizer needs its settings beside its weights: a {CONFIG_FILE}"
            )),
        })?;
        let naming = serde_json::from_slice(&text)
            .map_err(|error| Error::new(format!("not JSON: {error}")))
            .and_then(|json| Naming::of(&json));
        let Some((naming, settings)) = naming.map_err(|error| error.with_path(file))? else {
            return Ok(None);
        };
        Self::new(
            settings,
            CheckpointReader::open(path)?,
            &naming.prefixes,
            &|name| naming.file_name(name),
            &|name| naming.ignores(name),
        )
    }

    /// The files that [`VqganCheckpoint::find`] reads of a path: the settings, and those with the weights.
    ///
    /// # Errors
    /// As [`CheckpointReader::files`].
    pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
        let mut files = CheckpointReader::files(path)?;
        files.push(configuration(path));
        files.sort();
        Ok(files)
    }

    /// As [`VqganCheckpoint::find`], where there must be one.
    ///
    /// # Errors
    /// As [`VqganCheckpoint::find`], and when there is none.
    pub fn foreign(path: &Path) -> Result<Self> {
        let none = || -> Result<Error> {
            Ok(
                Error::of(ErrorKind::Absent, "there is no image tokenizer here")
                    .with_path(path)
                    .with_help(format!("known are those of {}", Naming::known()?)),
            )
        };
        match Self::find(path)? {
            Some(opened) => Ok(opened),
            None => Err(none()?),
        }
    }

    /// Opens a folder of JAM, which [`save_vqgan`] wrote.
    ///
    /// # Errors
    /// When a file is missing, damaged, of another format, does not belong to the other one, or does not hold what the
    /// settings ask for.
    pub fn own(folder: &Path) -> Result<Self> {
        let path = folder.join(SETTINGS_FILE);
        let description: Description = serde_json::from_slice(&read_json(&path, SETTINGS)?)
            .map_err(|error| {
                Error::new(format!(
                    "not the description of an image tokenizer: {error}"
                ))
                .with_path(&path)
            })?;
        if (description.format, description.architecture.as_str()) != (FORMAT, ARCHITECTURE) {
            return Err(Error::new(format!(
                "format {} of a `{}` is not known; this program reads {FORMAT} of a `{ARCHITECTURE}`",
                description.format, description.architecture
            ))
            .with_path(path));
        }
        description
            .settings
            .check()
            .map_err(|error| error.with_path(&path))?;
        let path = folder.join(WEIGHTS_FILE);
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_reader(open(&path)?)
            .map_err(|error| Error::io("read", &path, error))?;
        if hasher.finalize().to_hex().as_str() != description.blake3 {
            return Err(Error::damaged(format!(
                "the file is damaged, or not the one that {SETTINGS_FILE} was written with"
            ))
            .with_path(path));
        }
        Self::new(
            description.settings,
            CheckpointReader::open(&path)?,
            &[String::new()],
            &|name| Some(name.to_owned()),
            &|_| false,
        )?
        .ok_or_else(|| Error::new("the file has no weight of an image tokenizer").with_path(path))
    }

    /// What it is.
    pub fn settings(&self) -> &VqganSettings {
        &self.settings
    }

    /// Whether it has a decoder.
    pub fn decodes(&self) -> bool {
        self.decodes
    }

    /// What its headers describe.
    pub fn file(&self) -> VqganFile {
        let names = self.weights.iter();
        VqganFile {
            settings: self.settings.clone(),
            decodes: self.decodes,
            weights: names
                .map(|(weight, name)| (weight.name.clone(), name.clone()))
                .collect(),
        }
    }

    /// Gives every weight with its numbers, row-major, the codes last.
    ///
    /// # Errors
    /// When a tensor cannot be read or holds numbers that are not finite, and what `each` fails with.
    pub fn read(&self, each: &mut dyn FnMut(&Weight, Vec<f32>) -> Result<()>) -> Result<()> {
        for (weight, name) in &self.weights {
            let numbers = self.reader.read_f32(name)?;
            if numbers.iter().any(|number| !number.is_finite()) {
                let message = format!("`{name}` holds numbers that are not finite");
                return Err(Error::of(ErrorKind::NotFinite, message).with_path(self.reader.path()));
            }
            each(weight, numbers)?;
        }
        Ok(())
    }
}

/// Writes a VQGAN into a folder, which is made if it is not there: each weight by JAM's name with its shape and
/// numbers.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn save_vqgan(
    folder: &Path,
    settings: &VqganSettings,
    weights: &[(String, Vec<usize>, Vec<f32>)],
) -> Result<()> {
    let unwritable = |error| Error::new(format!("the image tokenizer cannot be written: {error}"));
    let tensors: Vec<(&str, &[usize], Vec<u8>)> = weights
        .iter()
        .map(|(name, shape, numbers)| {
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
            (name.as_str(), shape.as_slice(), bytes.collect())
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?))
        })
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(unwritable)?;
    let bytes = safetensors::serialize(views, None).map_err(unwritable)?;
    let description = Description {
        format: FORMAT,
        architecture: ARCHITECTURE.to_owned(),
        settings: settings.clone(),
        blake3: blake3::hash(&bytes).to_hex().to_string(),
    };
    let mut text = serde_json::to_vec_pretty(&description)
        .map_err(|error| Error::new(format!("the settings cannot be written: {error}")))?;
    text.push(b'\n');
    write_file(&folder.join(WEIGHTS_FILE), &bytes)?;
    write_file(&folder.join(SETTINGS_FILE), &text)
}

/// Whether a folder holds an image tokenizer of JAM, and one of this architecture.
pub(in crate::tokens::image) fn is_own(folder: &Path) -> bool {
    #[derive(Deserialize)]
    struct Told {
        architecture: Option<String>,
    }
    let told = read_json(&folder.join(SETTINGS_FILE), SETTINGS).ok();
    let told: Option<Told> = told.and_then(|text| serde_json::from_slice(&text).ok());
    told.is_some_and(|told| told.architecture.as_deref() == Some(ARCHITECTURE))
}

/// Where the settings of a file or folder lie.
fn configuration(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.join(CONFIG_FILE);
    }
    let beside = path.with_extension("json");
    match beside.is_file() && path.file_name().is_none_or(|name| name != SINGLE_FILE) {
        true => beside,
        false => path.with_file_name(CONFIG_FILE),
    }
}
