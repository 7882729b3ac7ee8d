//! Encoder and decoder of the image tokenizer: layers, their weights, and the forward pass.
//!
//! Everything is a matrix product over rows of cells, `[pictures * cells, features]`. The first
//! layer is a convolution whose stride is its size, and so a product with the numbers of a patch; a
//! convolution of stride two joins four rows that already stand together (see
//! [`super::patches`]); a 3×3 convolution gathers the nine neighbours of a cell into one row first.
//!
//! ```text
//! encoder: patch → linear → (block, join four → linear)* → block* → linear → latent
//! decoder: code  → linear → block* → (linear → split in four, block)* → linear → patch
//! block:   x + linear(relu(linear(neighbours(x))))
//! ```

use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use jam_weights::random::Random;

use jam_data::tokens::image::VqSettings;
use jam_data::tokens::image::layers::layers;

use crate::{Error, Result};

/// Fresh weights, in the order of [`layers`]. The same generator gives the same bits on any device.
pub(super) fn fresh(settings: &VqSettings, random: &mut Random, device: &Device) -> Vec<Tensor<2>> {
    layers(settings)
        .into_iter()
        .map(|layer| {
            let values = (0..layer.shape[0] * layer.shape[1])
                .map(|_| (random.within(-1.0, 1.0) * layer.bound) as f32)
                .collect();
            matrix(values, layer.shape, device)
        })
        .collect()
}

/// A matrix of f32 on a device. `values` are row by row.
pub(super) fn matrix(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// The weights being read, one layer after the other.
struct Reader<'a> {
    weights: std::slice::Iter<'a, Tensor<2>>,
    settings: &'a VqSettings,
}

impl Reader<'_> {
    /// `x` times the next matrix plus the next bias.
    ///
    /// # Errors
    /// When there is no next one: the list is not that of [`layers`] of the same settings.
    fn linear(&mut self, x: Tensor<2>) -> Result<Tensor<2>> {
        match (self.weights.next(), self.weights.next()) {
            (Some(weight), Some(bias)) => Ok(x.matmul(weight.clone()) + bias.clone()),
            _ => Err(Error::new(
                "the image tokenizer has fewer weights than its settings ask for",
            )),
        }
    }

    /// A residual block over cells alone. `[rows, width]`
    fn block(&mut self, x: Tensor<2>) -> Result<Tensor<2>> {
        let hidden = activation::relu(self.linear(x.clone())?);
        Ok(x + self.linear(hidden)?)
    }

    /// A residual block over cells of the grid and their neighbours. `[pictures * cells, width]`
    fn grid_block(&mut self, x: Tensor<2>) -> Result<Tensor<2>> {
        let near = match self.settings.kernel {
            1 => x.clone(),
            _ => neighbours(x.clone(), self.settings.grid),
        };
        let hidden = activation::relu(self.linear(near)?);
        Ok(x + self.linear(hidden)?)
    }
}

/// Every cell with the eight around it, zeros beyond the border.
/// `[pictures * cells, width]` to `[pictures * cells, 9 * width]`
fn neighbours(x: Tensor<2>, grid: usize) -> Tensor<2> {
    let [rows, width] = x.dims();
    let pictures = rows / (grid * grid);
    let padded = x
        .reshape([pictures, grid, grid, width])
        .pad([(1, 1), (1, 1), (0, 0)], 0.0); // [picture, y, x, width]
    let shifted = (0..9)
        .map(|i| {
            let (y, x) = (i / 3, i % 3);
            padded
                .clone()
                .slice([0..pictures, y..y + grid, x..x + grid])
        })
        .collect();
    Tensor::cat(shifted, 3).reshape([rows, 9 * width])
}

/// Patches to latents.
/// `[pictures * patches, patch_values]` to `[pictures * cells, latent]`
///
/// # Errors
/// When weights are missing.
pub(super) fn encode(
    settings: &VqSettings,
    weights: &[Tensor<2>],
    patches: Tensor<2>,
) -> Result<Tensor<2>> {
    let mut reader = Reader {
        weights: weights.iter(),
        settings,
    };
    let mut x = reader.linear(patches)?; // [pictures * patches, width]
    for _ in 0..settings.halvings() {
        x = reader.block(x)?;
        let rows = x.dims()[0];
        x = reader.linear(x.reshape([rows / 4, 4 * settings.width]))?;
    }
    for _ in 0..settings.depth {
        x = reader.grid_block(x)?; // [pictures * cells, width]
    }
    reader.linear(x)
}

/// Codes to patches, not clamped.
/// `[pictures * cells, latent]` to `[pictures * patches, patch_values]`
///
/// # Errors
/// When weights are missing.
pub(super) fn decode(
    settings: &VqSettings,
    weights: &[Tensor<2>],
    codes: Tensor<2>,
) -> Result<Tensor<2>> {
    let mut reader = Reader {
        weights: weights[encoder_len(settings).min(weights.len())..].iter(),
        settings,
    };
    let mut x = reader.linear(codes)?; // [pictures * cells, width]
    for _ in 0..settings.depth {
        x = reader.grid_block(x)?;
    }
    for _ in 0..settings.halvings() {
        x = reader.linear(x)?;
        let rows = x.dims()[0];
        x = reader.block(x.reshape([rows * 4, settings.width]))?;
    }
    reader.linear(x)
}

/// Weights that belong to the encoder: the first of the list.
fn encoder_len(settings: &VqSettings) -> usize {
    2 * (2 + 3 * settings.halvings() + 2 * settings.depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_follow_the_settings() {
        let device = Device::flex();
        for (picture, grid, stem, kernel) in [(32, 4, 0, 1), (32, 8, 2, 3), (16, 1, 4, 3)] {
            let settings = VqSettings {
                picture,
                grid,
                stem,
                kernel,
                width: 6,
                latent: 5,
                ..VqSettings::default()
            };
            settings.check().unwrap();
            let encoder = layers(&settings)
                .iter()
                .filter(|layer| layer.name.starts_with("encoder."))
                .count();
            assert_eq!(encoder, encoder_len(&settings));
            let weights = fresh(&settings, &mut Random::seeded(1, 0), &device);
            let rows = 3 * settings.patches();
            let patches = Tensor::ones([rows, settings.patch_values()], &device);
            let latents = encode(&settings, &weights, patches.clone()).unwrap();
            assert_eq!(latents.dims(), [3 * settings.cells(), 5]);
            // One weight fewer is an error, and not a layer that does nothing.
            let all = weights.len();
            let short = encode(&settings, &weights[..encoder_len(&settings) - 1], patches);
            assert!(short.unwrap_err().message.contains("fewer weights"));
            let short = decode(&settings, &weights[..all - 1], latents.clone());
            assert!(short.unwrap_err().message.contains("fewer weights"));
            let patches = decode(&settings, &weights, latents).unwrap();
            assert_eq!(patches.dims(), [rows, settings.patch_values()]);
        }
    }

    #[test]
    fn neighbours_are_those_of_a_convolution() {
        let device = Device::flex();
        let (pictures, grid, width) = (2, 3, 2);
        let value = |picture: usize, y: usize, x: usize, c: usize| {
            (1000 * picture + 100 * y + 10 * x + c + 1) as f32
        };
        let mut values = Vec::new();
        for row in 0..pictures * grid * grid {
            let (picture, y, x) = (row / 9, row / 3 % 3, row % 3);
            values.extend((0..width).map(|c| value(picture, y, x, c)));
        }
        let near = neighbours(matrix(values, [18, 2], &device), grid);
        let near: Vec<f32> = near.try_into_vec_as().unwrap();
        for row in 0..18usize {
            let (picture, y, x) = (row / 9, row / 3 % 3, row % 3);
            for i in 0..9 {
                let (ny, nx) = ((y + i / 3).wrapping_sub(1), (x + i % 3).wrapping_sub(1));
                for c in 0..width {
                    let expected = if ny < 3 && nx < 3 {
                        value(picture, ny, nx, c)
                    } else {
                        0.0
                    };
                    assert_eq!(near[row * 18 + i * 2 + c], expected);
                }
            }
        }
    }

    #[test]
    fn cells_alone_do_not_see_their_neighbours_and_three_by_three_do() {
        let device = Device::flex();
        for (kernel, changed) in [(1, 1), (3, 4)] {
            let settings = VqSettings {
                kernel,
                depth: 1,
                ..VqSettings::default()
            };
            let weights = fresh(&settings, &mut Random::seeded(2, 0), &device);
            let run = |first: f32| -> Vec<f32> {
                let mut patches = vec![0.5; 16 * 192];
                patches[..192].fill(first);
                let patches = matrix(patches, [16, 192], &device);
                encode(&settings, &weights, patches)
                    .unwrap()
                    .try_into_vec_as()
                    .unwrap()
            };
            let (a, b) = (run(0.5), run(-0.5));
            let cells = std::iter::zip(a.chunks(16), b.chunks(16));
            assert_eq!(
                cells.filter(|(a, b)| a != b).count(),
                changed,
                "kernel {kernel}"
            );
        }
    }
}
