//! VQGANs from files onto a device, and back.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use jam_data::tokens::image::vqgan::layers::{self, CODEBOOK};
use jam_data::tokens::image::vqgan::{VqganCheckpoint, save_vqgan};

use super::network::Weights;
use super::{VqganTokenizer, host};
use crate::{Error, Result};

impl VqganTokenizer {
    /// Reads the image tokenizer of other software onto a device; see [`VqganCheckpoint::find`].
    ///
    /// # Errors
    /// As [`VqganCheckpoint::foreign`], and when numbers are not finite.
    pub fn import(path: &Path, device: &Device) -> Result<Self> {
        Self::of(&VqganCheckpoint::foreign(path)?, device)
    }

    /// Reads a tokenizer from a folder that [`VqganTokenizer::save`] wrote onto a device.
    ///
    /// # Errors
    /// When a file is missing, damaged, of another format, does not belong to the other one, or does not hold what the
    /// settings ask for.
    pub fn load(folder: &Path, device: &Device) -> Result<Self> {
        Self::of(&VqganCheckpoint::own(folder)?, device)
    }

    /// Reads every number onto a device.
    fn of(checkpoint: &VqganCheckpoint, device: &Device) -> Result<Self> {
        let mut weights = Weights::default();
        let mut codes = None;
        let options = (device, DType::F32);
        checkpoint.read(&mut |weight, numbers| {
            let name = weight.name.clone();
            match weight.shape[..] {
                [a, b, c, d] => {
                    let data = TensorData::new(numbers, [a, b, c, d]);
                    let kernel = Tensor::from_data(data, options);
                    weights.kernels.insert(name, kernel);
                }
                [a, b] => {
                    codes = Some(Tensor::from_data(TensorData::new(numbers, [a, b]), options))
                }
                _ => {
                    let data = TensorData::new(numbers, weight.shape.clone());
                    let vector = Tensor::from_data(data, options);
                    weights.vectors.insert(name, vector);
                }
            }
            Ok(())
        })?;
        let settings = checkpoint.settings().clone();
        let codes = codes.ok_or_else(|| Error::new("the image tokenizer has no codes"))?;
        Ok(VqganTokenizer {
            encoder: layers::encoder(&settings),
            decoder: checkpoint.decodes().then(|| layers::decoder(&settings)),
            settings,
            weights,
            codes,
            device: device.clone(),
        })
    }

    /// Writes the tokenizer into a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut all = Vec::new();
        for (name, weight) in &self.weights.kernels {
            all.push((name.clone(), weight.dims().to_vec(), host(weight.clone())?));
        }
        for (name, weight) in &self.weights.vectors {
            all.push((name.clone(), weight.dims().to_vec(), host(weight.clone())?));
        }
        let codes = self.codes.clone();
        all.push((CODEBOOK.to_owned(), codes.dims().to_vec(), host(codes)?));
        save_vqgan(folder, &self.settings, &all)
    }
}
