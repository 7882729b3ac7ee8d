//! What a VQGAN is trained to lower, critics left out, and its gradients.

use burn::tensor::{DType, Tensor, TensorData};
use indexmap::IndexMap;

use super::network::Weights;
use super::{VqganTokenizer, host, nearest};
use crate::{Error, Result};
use jam_data::tokens::image::vqgan::layers::CODEBOOK;

/// The share of the distance between latents and codes that moves the codes.
const BETA: f64 = 0.25;

/// A loss and its gradients.
#[derive(Debug, Clone)]
pub struct VqganLoss {
    /// The mean squared error of the pictures, plus `quantisation`.
    pub total: f64,
    /// The mean squared distance of latents from their codes, once with its gradient to the latents and a quarter
    /// of it once more with its gradient to the codes: `quantize.py` of taming-transformers, in the form that its
    /// published models were trained with.
    pub quantisation: f64,
    /// Of `total`, by JAM's names and in the shapes of the weights, row-major; zeros where the loss does not
    /// depend on a weight.
    pub gradients: IndexMap<String, Vec<f32>>,
}

impl VqganTokenizer {
    /// The loss on pictures as numbers, about -1 to 1, `[n, channels, picture, picture]`, and its gradients. The
    /// gradient passes the choice of a code unchanged (straight through).
    ///
    /// # Errors
    /// When these are no whole pictures, there is no decoder, or the device fails.
    pub fn loss(&self, pictures: &[f32]) -> Result<VqganLoss> {
        let pictures = self.batch(pictures)?;
        let learning = VqganTokenizer {
            weights: self.weights.learning(),
            codes: self.codes.clone().autodiff().require_grad(),
            ..self.clone()
        };
        let latents = learning.rows(learning.latents(pictures.clone())?);
        let plain = latents.clone().without_autodiff();
        let chosen = nearest(plain.clone(), self.codes.clone())?;
        let rows = chosen.len();
        let chosen: Vec<i32> = chosen.into_iter().map(|code| code as i32).collect();
        let chosen = Tensor::from_data(TensorData::new(chosen, [rows]), (&self.device, DType::I32));
        let met = self.codes.clone().select(0, chosen.clone());
        let moved = learning.codes.clone().select(0, chosen);
        let quantisation = (latents.clone() - met.clone()).square().mean()
            + (moved - plain.clone()).square().mean().mul_scalar(BETA);
        // Forward the code, backward the latent.
        let passed = learning.cells(latents + (met - plain));
        let error = (learning.decoded(passed)? - pictures).square().mean();
        let total = error + quantisation.clone();
        let [value, quantisation] = [total.clone(), quantisation].map(scalar);
        let mut gradients = total.backward();
        let mut read = IndexMap::new();
        for (name, weight) in &learning.weights.kernels {
            let gradient = weight.grad_remove(&mut gradients);
            let gradient =
                gradient.unwrap_or_else(|| weight.clone().without_autodiff().zeros_like());
            read.insert(name.clone(), host(gradient)?);
        }
        for (name, weight) in &learning.weights.vectors {
            let gradient = weight.grad_remove(&mut gradients);
            let gradient =
                gradient.unwrap_or_else(|| weight.clone().without_autodiff().zeros_like());
            read.insert(name.clone(), host(gradient)?);
        }
        let gradient = learning.codes.grad_remove(&mut gradients);
        let gradient = gradient.unwrap_or_else(|| self.codes.zeros_like());
        read.insert(CODEBOOK.to_owned(), host(gradient)?);
        Ok(VqganLoss {
            total: value?,
            quantisation: quantisation?,
            gradients: read,
        })
    }
}

impl Weights {
    /// The same weights, with gradients.
    fn learning(&self) -> Weights {
        fn each<const D: usize>(all: &IndexMap<String, Tensor<D>>) -> IndexMap<String, Tensor<D>> {
            let one = |(name, weight): (&String, &Tensor<D>)| {
                (name.clone(), weight.clone().autodiff().require_grad())
            };
            all.iter().map(one).collect()
        }
        Weights {
            kernels: each(&self.kernels),
            vectors: each(&self.vectors),
        }
    }
}

fn scalar(tensor: Tensor<1>) -> Result<f64> {
    tensor
        .without_autodiff()
        .try_into_scalar::<f32>()
        .map(f64::from)
        .map_err(|error| Error::new(format!("cannot read a loss from the device: {error:?}")))
}
