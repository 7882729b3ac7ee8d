//! The forward pass of a VQGAN: layers over pictures, `[n, features, side, side]`.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, activation, module};
use indexmap::IndexMap;

use crate::{Error, Result};
use jam_data::tokens::image::vqgan::layers::{Attention, Block, Convolution, GROUPS, Layer, Norm};

/// What a norm adds to the variance.
const EPSILON: f64 = 1e-6;

/// Weights by name, f32, on one device.
#[derive(Debug, Clone, Default)]
pub(super) struct Weights {
    /// `[outputs, inputs, kernel, kernel]`
    pub(super) kernels: IndexMap<String, Tensor<4>>,
    /// Gains and biases, `[features]`.
    pub(super) vectors: IndexMap<String, Tensor<1>>,
}

impl Weights {
    fn kernel(&self, name: &str) -> Result<Tensor<4>> {
        let name = format!("{name}.weight");
        let found = self.kernels.get(&name).cloned();
        found.ok_or_else(|| missing(&name))
    }

    fn vector(&self, name: &str, part: &str) -> Result<Tensor<1>> {
        let name = format!("{name}.{part}");
        let found = self.vectors.get(&name).cloned();
        found.ok_or_else(|| missing(&name))
    }

    /// `x` through all layers.
    ///
    /// # Errors
    /// When a weight is missing.
    pub(super) fn pass(&self, layers: &[Layer], mut x: Tensor<4>) -> Result<Tensor<4>> {
        for layer in layers {
            x = match layer {
                Layer::Convolution(conv) => self.convolve(conv, x, 1)?,
                Layer::Block(block) => self.block(block, x)?,
                Layer::Attention(attention) => self.attention(attention, x)?,
                // The side is even, and stride 2 never sees what a row of zeros above would add.
                Layer::Halve(conv) => self.convolve(conv, x.pad([(0, 1), (0, 1)], 0.0), 2)?,
                Layer::Double(conv) => self.convolve(conv, doubled(x), 1)?,
                Layer::Norm(norm) => activation::silu(self.norm(norm, x)?),
            };
        }
        Ok(x)
    }

    /// A convolution: of stride 1 with the padding that keeps the side, of stride 2 with none.
    fn convolve(&self, conv: &Convolution, x: Tensor<4>, stride: usize) -> Result<Tensor<4>> {
        let padding = if stride == 1 { conv.kernel / 2 } else { 0 };
        let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
        let (weight, bias) = (self.kernel(&conv.name)?, self.vector(&conv.name, "bias")?);
        Ok(module::conv2d(x, weight, Some(bias), options))
    }

    /// Mean 0 and variance 1 over every group of features of a picture, then gain and bias.
    fn norm(&self, norm: &Norm, x: Tensor<4>) -> Result<Tensor<4>> {
        let [n, features, height, width] = x.dims();
        let groups = x.reshape([n, GROUPS, features / GROUPS * height * width]);
        let centred = groups.clone() - groups.mean_dim(2);
        let variance = centred.clone().square().mean_dim(2);
        let normed = (centred / (variance + EPSILON).sqrt()).reshape([n, features, height, width]);
        let (gain, bias) = (
            self.vector(&norm.name, "gain")?,
            self.vector(&norm.name, "bias")?,
        );
        let each = |vector: Tensor<1>| vector.reshape([1, features, 1, 1]);
        Ok(normed * each(gain) + each(bias))
    }

    fn block(&self, block: &Block, x: Tensor<4>) -> Result<Tensor<4>> {
        let mut inner = x.clone();
        for (norm, conv) in std::iter::zip(&block.norms, &block.convolutions) {
            inner = self.convolve(conv, activation::silu(self.norm(norm, inner)?), 1)?;
        }
        let x = match &block.shortcut {
            Some(conv) => self.convolve(conv, x, 1)?,
            None => x,
        };
        Ok(x + inner)
    }

    fn attention(&self, attention: &Attention, x: Tensor<4>) -> Result<Tensor<4>> {
        let [n, features, height, width] = x.dims();
        let normed = self.norm(&attention.norm, x.clone())?;
        let read = |conv: &Convolution| -> Result<Tensor<3>> {
            let read = self.convolve(conv, normed.clone(), 1)?;
            Ok(read.reshape([n, features, height * width])) // [n, features, positions]
        };
        let (query, key, value) = (
            read(&attention.query)?,
            read(&attention.key)?,
            read(&attention.value)?,
        );
        let scores = query.transpose().matmul(key); // [n, positions, positions read]
        let shares = activation::softmax(scores.mul_scalar((features as f64).powf(-0.5)), 2);
        let read = value.matmul(shares.transpose()); // [n, features, positions]
        let read = read.reshape([n, features, height, width]);
        Ok(x + self.convolve(&attention.out, read, 1)?)
    }
}

/// Every position as a square of four.
fn doubled(x: Tensor<4>) -> Tensor<4> {
    let [n, features, height, width] = x.dims();
    x.reshape([n, features, height, 1, width, 1])
        .expand([n, features, height, 2, width, 2])
        .reshape([n, features, 2 * height, 2 * width])
}

fn missing(name: &str) -> Error {
    Error::new(format!("the image tokenizer has no weight `{name}`"))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn doubling_repeats_every_position() {
        let x = Tensor::<4>::from_data([[[[1.0, 2.0], [3.0, 4.0]]]], &Device::flex());
        let x: Vec<f32> = doubled(x).try_into_vec_as().unwrap();
        let rows = [[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]];
        assert_eq!(x, [rows[0], rows[0], rows[1], rows[1]].concat());
    }
}
