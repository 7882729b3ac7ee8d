//! Image tokenizers: pictures to codes of a learned codebook, and codes to pictures.
//!
//! [`ImageTokenizer`] is one of two architectures: [`VqTokenizer`], which JAM trains, and
//! [`vqgan::VqganTokenizer`], which others trained.
//!
//! [`VqTokenizer`] is a vector-quantising autoencoder (van den Oord et al., *Neural Discrete
//! Representation Learning*): a picture is cut into a grid of cells, each cell becomes the nearest
//! entry of a codebook, and the numbers of these entries, row by row, are the picture's tokens.
//! [`train`] makes one from pictures; [`VqTokenizer::save`] and [`VqTokenizer::load`] keep it in a
//! folder; [`VqTokenizer::measure`] says how good it is.
//!
//! The parts: patches (pictures to rows of numbers), network (encoder and decoder),
//! codebook (how codes learn), training (the loop, resumable to the bit), files, measure. Settings and the folder's
//! format are `jam_data::tokens::image`.

mod architecture;
mod codebook;
mod files;
mod measure;
mod network;
mod optimizer;
mod patches;
#[cfg(test)]
mod tests;
mod training;
pub mod vqgan;

pub use architecture::ImageTokenizer;
pub use files::TRAINING_FILE;
pub use measure::{VqMeasure, psnr};
pub use training::{Checkpoints, PictureSet, PictureSource, VqRun, VqStep, train};

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::{Error, ErrorKind, Result};
use jam_data::images::Picture;
use jam_data::tokens::image::VqSettings;

/// Pictures that go through the network at once. Always as many, the last ones filled up, so that a
/// picture gets the same codes alone as among others: the order in which a matrix product sums may
/// depend on its size.
const TOGETHER: usize = 16;

/// A trained image tokenizer on a device.
#[derive(Clone)]
pub struct VqTokenizer {
    settings: VqSettings,
    /// In the order of `network::layers`, f32.
    weights: Vec<Tensor<2>>,
    /// `[codes, latent]`, f32.
    codes: Tensor<2>,
    device: Device,
}

impl VqTokenizer {
    /// What it was made with.
    pub fn settings(&self) -> &VqSettings {
        &self.settings
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Tokens of a picture: `grid * grid`.
    pub fn tokens_per_picture(&self) -> usize {
        self.settings.cells()
    }

    /// The pictures as codes, `grid * grid` each, row by row, below [`VqSettings::codes`].
    ///
    /// # Errors
    /// When a picture is not a square of [`VqSettings::picture`] pixels.
    pub fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
        let cells = self.settings.cells();
        let mut encoded = Vec::with_capacity(pictures.len());
        for some in pictures.chunks(TOGETHER) {
            let mut rows = patches::to_patches(&self.settings, some)?;
            let shape = [
                TOGETHER * self.settings.patches(),
                self.settings.patch_values(),
            ];
            rows.resize(shape[0] * shape[1], 0.0);
            let rows = network::matrix(rows, shape, &self.device);
            let latents = network::encode(&self.settings, &self.weights, rows)?;
            let codes = codebook::nearest(latents, self.codes.clone())?;
            encoded.extend(
                codes
                    .chunks_exact(cells)
                    .take(some.len())
                    .map(<[u32]>::to_vec),
            );
        }
        Ok(encoded)
    }

    /// Codes as pictures; the way back from [`VqTokenizer::encode`].
    ///
    /// # Errors
    /// When a list has not `grid * grid` codes, or holds one that the codebook has not.
    pub fn decode(&self, pictures: &[&[u32]]) -> Result<Vec<Picture>> {
        let cells = self.settings.cells();
        let mut decoded = Vec::with_capacity(pictures.len());
        for some in pictures.chunks(TOGETHER) {
            let mut codes = Vec::with_capacity(TOGETHER * cells);
            for picture in some {
                if picture.len() != cells {
                    return Err(Error::new(format!(
                        "a picture has {cells} codes, not {}",
                        picture.len()
                    )));
                }
                for code in *picture {
                    let known = usize::try_from(*code).is_ok_and(|code| code < self.settings.codes);
                    let code = i32::try_from(*code).ok().filter(|_| known).ok_or_else(|| {
                        Error::new(format!(
                            "code {code} of a picture is beyond the codebook of {}",
                            self.settings.codes
                        ))
                    })?;
                    codes.push(code);
                }
            }
            codes.resize(TOGETHER * cells, 0);
            let codes = TensorData::new(codes, [TOGETHER * cells]);
            let codes = Tensor::from_data(codes, (&self.device, DType::I32));
            let latents = self.codes.clone().select(0, codes); // [TOGETHER * cells, latent]
            let rows = network::decode(&self.settings, &self.weights, latents)?;
            let rows = host(rows)?;
            let mut pictures = patches::from_patches(&self.settings, &rows)?;
            pictures.truncate(some.len());
            decoded.append(&mut pictures);
        }
        Ok(decoded)
    }

    /// The pictures as they come back from their codes.
    ///
    /// # Errors
    /// As [`VqTokenizer::encode`].
    pub fn reconstruct(&self, pictures: &[Picture]) -> Result<Vec<Picture>> {
        let codes = self.encode(pictures)?;
        let codes: Vec<&[u32]> = codes.iter().map(Vec::as_slice).collect();
        self.decode(&codes)
    }
}

impl std::fmt::Debug for VqTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VqTokenizer({:?} on {:?})", self.settings, self.device)
    }
}

/// A matrix as its numbers, row by row.
fn host(matrix: Tensor<2>) -> Result<Vec<f32>> {
    matrix.try_into_vec_as::<f32>().map_err(|error| {
        Error::of(
            ErrorKind::Device,
            format!("cannot read numbers from the device: {error:?}"),
        )
    })
}
