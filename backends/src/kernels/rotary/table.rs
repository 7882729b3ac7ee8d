//! Cosines and sines of positions.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Cosines and sines of every position's angles, each `[batch or 1, time, key / 2]`.
#[derive(Debug, Clone)]
pub struct RotaryTable {
    /// Cosines.
    pub cos: Tensor<3>,
    /// Sines.
    pub sin: Tensor<3>,
}

/// `base^(-2 i / key)` for `i < key / 2`: the angle per position of each pair.
pub fn inverse_frequencies(key: usize, base: f64) -> Vec<f32> {
    (0..key / 2)
        .map(|i| base.powf(-2.0 * i as f64 / key as f64) as f32)
        .collect()
}

impl RotaryTable {
    /// The table of positions `first .. first + time`, one row for all sequences.
    pub fn range(first: usize, time: usize, frequencies: &[f32], device: &Device) -> Self {
        let positions: Vec<usize> = (first..first + time).collect();
        Self::of(&positions, 1, frequencies, device)
    }

    /// The table of given positions `[batch, time]`, row by row (left-padded batches).
    ///
    /// `positions` holds `batch` rows of equal length.
    pub fn of(positions: &[usize], batch: usize, frequencies: &[f32], device: &Device) -> Self {
        let shape = [batch, positions.len() / batch.max(1), frequencies.len()];
        let angles = positions
            .iter()
            .flat_map(|&p| frequencies.iter().map(move |&f| p as f32 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.cos(), a.sin())).unzip();
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), device);
        Self {
            cos: tensor(cos),
            sin: tensor(sin),
        }
    }

    /// The table with every entry times `factor`, so that what it turns is scaled too.
    pub fn scaled(self, factor: f32) -> Self {
        if factor == 1.0 {
            return self;
        }
        Self {
            cos: self.cos.mul_scalar(factor),
            sin: self.sin.mul_scalar(factor),
        }
    }

    /// The table of positions that lie in a tensor `[batch, time]`.
    pub fn of_tensor(positions: Tensor<2, Int>, frequencies: &[f32]) -> Self {
        let device = positions.device();
        let batch = positions.dims()[0];
        let positions: Vec<usize> = positions
            .into_data()
            .iter::<i64>()
            .map(|p| p.max(0) as usize)
            .collect();
        Self::of(&positions, batch, frequencies, &device)
    }
}
