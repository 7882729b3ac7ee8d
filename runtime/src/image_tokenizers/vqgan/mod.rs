//! VQGANs: image tokenizers that others trained, such as Chameleon's.
//!
//! [`VqganTokenizer`] is the network of taming-transformers (Esser et al., *Taming Transformers for
//! High-Resolution Image Synthesis*): residual blocks and attention over ever coarser levels, the nearest entry
//! of a codebook at every position of the coarsest, and the same way back. Its sizes are [`VqganSettings`].
//!
//! The parts: network (the forward pass), files (from and to folders), loss (the training loss and its gradients).
//! Settings, the structure as data, and what others call it lie in `jam_data`, which reads the files.

mod files;
mod loss;
mod network;
#[cfg(test)]
mod tests;

pub use loss::VqganLoss;

use burn::tensor::{DType, Device, Tensor, TensorData};

use jam_data::tokens::image::vqgan::VqganSettings;
use jam_data::tokens::image::vqgan::layers::Layer;

use self::network::Weights;
use super::codebook::nearest;
use crate::{Error, Result};
use jam_data::images::{Picture, from_unit};

/// A VQGAN on a device.
#[derive(Clone)]
pub struct VqganTokenizer {
    settings: VqganSettings,
    encoder: Vec<Layer>,
    /// None where its file has the encoder alone.
    decoder: Option<Vec<Layer>>,
    weights: Weights,
    /// `[codes, latent]`, f32.
    codes: Tensor<2>,
    device: Device,
}

impl VqganTokenizer {
    /// What it is.
    pub fn settings(&self) -> &VqganSettings {
        &self.settings
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether it makes pictures of codes; Chameleon's folders hold the encoder alone.
    pub fn decodes(&self) -> bool {
        self.decoder.is_some()
    }

    /// The pictures as codes, `grid * grid` each, row by row, below [`VqganSettings::codes`].
    ///
    /// # Errors
    /// When a picture is not a square of [`VqganSettings::picture`] pixels, or the device fails.
    pub fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
        // One at a time: these networks are large, and a picture's codes depend on nothing else.
        let codes = |picture| self.codes_of(&self.numbers(picture)?);
        pictures.iter().map(codes).collect()
    }

    /// Codes as pictures; the way back from [`VqganTokenizer::encode`].
    ///
    /// # Errors
    /// When there is no decoder, a list has not `grid * grid` codes or holds one that the codebook has not, or the
    /// device fails.
    pub fn decode(&self, pictures: &[&[u32]]) -> Result<Vec<Picture>> {
        let picture = |codes: &&[u32]| self.picture(&self.numbers_of(codes)?);
        pictures.iter().map(picture).collect()
    }

    /// Latents before the codebook, `[n, latent, grid, grid]`, of pictures as numbers, about -1 to 1,
    /// `[n, channels, picture, picture]`.
    ///
    /// # Errors
    /// When these are no whole pictures, or the device fails.
    pub fn latents_of(&self, pictures: &[f32]) -> Result<Vec<f32>> {
        host(self.latents(self.batch(pictures)?)?)
    }

    /// Codes of pictures as numbers, about -1 to 1, `[n, channels, picture, picture]`: `grid * grid` each, row by
    /// row.
    ///
    /// # Errors
    /// As [`VqganTokenizer::latents_of`].
    pub fn codes_of(&self, pictures: &[f32]) -> Result<Vec<u32>> {
        let latents = self.latents(self.batch(pictures)?)?;
        nearest(self.rows(latents), self.codes.clone())
    }

    /// Pictures as numbers, about -1 to 1 and not clamped, `[n, channels, picture, picture]`, of codes,
    /// `[n, grid, grid]`.
    ///
    /// # Errors
    /// As [`VqganTokenizer::decode`].
    pub fn numbers_of(&self, codes: &[u32]) -> Result<Vec<f32>> {
        let cells = self.settings.cells();
        if codes.is_empty() || !codes.len().is_multiple_of(cells) {
            return Err(Error::new(format!(
                "a picture has {cells} codes, not {}",
                codes.len()
            )));
        }
        let all = self.settings.codes;
        let code = |code: &u32| {
            let known = i32::try_from(*code).ok();
            known
                .filter(|known| (*known as usize) < all)
                .ok_or_else(|| {
                    Error::new(format!(
                        "code {code} of a picture is beyond the codebook of {all}"
                    ))
                })
        };
        let codes: Vec<i32> = codes.iter().map(code).collect::<Result<_>>()?;
        let rows = codes.len();
        let codes = Tensor::from_data(TensorData::new(codes, [rows]), (&self.device, DType::I32));
        host(self.decoded(self.cells(self.codes.clone().select(0, codes)))?)
    }

    /// The entries of the codebook. `[codes, latent]`
    ///
    /// # Errors
    /// When the device fails.
    pub fn codebook(&self) -> Result<Vec<f32>> {
        host(self.codes.clone())
    }

    /// A picture as numbers. `[channels, picture, picture]`
    fn numbers(&self, picture: &Picture) -> Result<Vec<f32>> {
        let side = self.settings.picture;
        if (picture.width(), picture.height()) != (side, side) {
            return Err(Error::new(format!(
                "the image tokenizer takes {side}×{side} pictures, not {}×{}",
                picture.width(),
                picture.height()
            )));
        }
        let number = |byte: f32| (f64::from(byte) * self.settings.scale - 1.0) as f32;
        let pixels = || picture.pixels().chunks_exact(3);
        Ok(match self.settings.channels {
            1 => pixels().map(|pixel| number(brightness(pixel))).collect(),
            _ => (0..3)
                .flat_map(|channel| pixels().map(move |pixel| number(f32::from(pixel[channel]))))
                .collect(),
        })
    }

    /// A picture from its numbers, clamped.
    fn picture(&self, numbers: &[f32]) -> Result<Picture> {
        let side = self.settings.picture;
        let plane = side * side;
        let mut pixels = Vec::with_capacity(3 * plane);
        for place in 0..plane {
            for channel in 0..3 {
                let channel = channel % self.settings.channels;
                pixels.push(from_unit(numbers[channel * plane + place]));
            }
        }
        Picture::from_pixels(side, side, pixels)
    }

    /// Numbers as pictures on the device. `[n, channels, picture, picture]`
    fn batch(&self, numbers: &[f32]) -> Result<Tensor<4>> {
        let each = self.settings.numbers();
        if numbers.is_empty() || !numbers.len().is_multiple_of(each) {
            return Err(Error::new(format!(
                "a picture is {each} numbers; {} were given",
                numbers.len()
            )));
        }
        let (side, channels) = (self.settings.picture, self.settings.channels);
        let shape = [numbers.len() / each, channels, side, side];
        let data = TensorData::new(numbers.to_vec(), shape);
        Ok(Tensor::from_data(data, (&self.device, DType::F32)))
    }

    /// `[n, channels, picture, picture]` to `[n, latent, grid, grid]`
    fn latents(&self, pictures: Tensor<4>) -> Result<Tensor<4>> {
        self.weights.pass(&self.encoder, pictures)
    }

    /// `[n, latent, grid, grid]` to `[n, channels, picture, picture]`
    fn decoded(&self, latents: Tensor<4>) -> Result<Tensor<4>> {
        let decoder = self.decoder.as_ref().ok_or_else(|| {
            Error::new("the image tokenizer has no decoder: it makes codes of pictures, not pictures of codes")
                .with_help("take a file that has both; folders of transformers hold the encoder alone")
        })?;
        self.weights.pass(decoder, latents)
    }

    /// Every cell as a row. `[n, latent, grid, grid]` to `[n * cells, latent]`
    fn rows(&self, latents: Tensor<4>) -> Tensor<2> {
        let [n, latent, height, width] = latents.dims();
        latents
            .permute([0, 2, 3, 1])
            .reshape([n * height * width, latent])
    }

    /// Rows as cells again. `[n * cells, latent]` to `[n, latent, grid, grid]`
    fn cells(&self, rows: Tensor<2>) -> Tensor<4> {
        let [all, latent] = rows.dims();
        let grid = self.settings.grid();
        rows.reshape([all / (grid * grid), grid, grid, latent])
            .permute([0, 3, 1, 2])
    }
}

impl std::fmt::Debug for VqganTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "VqganTokenizer({:?} on {:?})",
            self.settings, self.device
        )
    }
}

/// Brightness of a colour, 0 to 255, by the weights of ITU-R BT.601.
fn brightness(pixel: &[u8]) -> f32 {
    let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// The numbers of a tensor, row-major.
fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .without_autodiff()
        .try_into_vec_as::<f32>()
        .map_err(|error| Error::new(format!("cannot read numbers from the device: {error:?}")))
}
