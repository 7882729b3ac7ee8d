//! The optimizer step of the image tokenizer: Adam without weight decay.
//!
//! The codebook learns by averages and not by gradients, the network is small, and its state has to
//! come back bit for bit: a list of plain tensors per moment serves that best.

use burn::tensor::Tensor;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;
const EPSILON: f64 = 1e-8;

/// First and second moments (Kingma and Ba, *Adam*, algorithm 1), in the order of the weights.
#[derive(Debug, Clone)]
pub(super) struct Adam {
    pub(super) first: Vec<Tensor<2>>,
    pub(super) second: Vec<Tensor<2>>,
}

impl Adam {
    /// Moments of zero for these weights.
    pub(super) fn new(weights: &[Tensor<2>]) -> Self {
        let zeros: Vec<_> = weights.iter().map(Tensor::zeros_like).collect();
        Self {
            first: zeros.clone(),
            second: zeros,
        }
    }

    /// Moves the weights against their gradients. `step` counts from 0; a weight without a gradient
    /// stays where it is.
    pub(super) fn step(
        &mut self,
        rate: f64,
        step: usize,
        weights: &mut [Tensor<2>],
        gradients: Vec<Option<Tensor<2>>>,
    ) {
        let power = i32::try_from(step + 1).unwrap_or(i32::MAX);
        let scale = rate / (1.0 - BETA1.powi(power));
        let correction = 1.0 - BETA2.powi(power);
        let moments = std::iter::zip(&mut self.first, &mut self.second);
        for ((weight, gradient), (first, second)) in
            std::iter::zip(std::iter::zip(weights, gradients), moments)
        {
            let Some(gradient) = gradient else { continue };
            *first = first.clone().mul_scalar(BETA1) + gradient.clone().mul_scalar(1.0 - BETA1);
            *second = second.clone().mul_scalar(BETA2) + gradient.square().mul_scalar(1.0 - BETA2);
            let spread = second
                .clone()
                .div_scalar(correction)
                .sqrt()
                .add_scalar(EPSILON);
            *weight = weight.clone() - first.clone().mul_scalar(scale) / spread;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::matrix;
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn steps_are_those_of_the_paper() {
        let device = Device::flex();
        let start = [0.5f32, -2.0, 1e-3];
        let mut weights = vec![matrix(start.to_vec(), [1, 3], &device)];
        let mut adam = Adam::new(&weights);
        let mut expected = start.map(f64::from);
        let (mut m, mut v) = ([0.0f64; 3], [0.0f64; 3]);
        for step in 0..20 {
            let gradient: Vec<f32> = (0..3).map(|i| ((step * 3 + i) as f32).sin()).collect();
            for i in 0..3 {
                let g = f64::from(gradient[i]);
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.99 * v[i] + 0.01 * g * g;
                let t = step as i32 + 1;
                let (m, v) = (
                    m[i] / (1.0 - 0.9f64.powi(t)),
                    v[i] / (1.0 - 0.99f64.powi(t)),
                );
                expected[i] -= 0.05 * m / (v.sqrt() + 1e-8);
            }
            let gradient = matrix(gradient, [1, 3], &device);
            adam.step(0.05, step, &mut weights, vec![Some(gradient)]);
        }
        let found: Vec<f32> = weights[0].clone().try_into_vec_as().unwrap();
        for (found, expected) in std::iter::zip(found, expected) {
            assert!(
                (f64::from(found) - expected).abs() < 1e-5,
                "{found} {expected}"
            );
        }
    }
}
