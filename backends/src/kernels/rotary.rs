//! Rotary positions: pairs of elements of every head turned by an angle that grows with the position.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Which elements of a head form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RotaryLayout {
    /// Element `i` with `i + key / 2` (Hugging Face, GPT-NeoX).
    Half,
    /// Element `2 i` with `2 i + 1` (the original).
    Interleaved,
}

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

/// Turns x `[batch, time, head, key]` by `table`; key is even.
pub fn rotary(x: Tensor<4>, table: &RotaryTable, layout: RotaryLayout) -> Tensor<4> {
    rotary_reference(x, table, layout)
}

/// [`rotary`] by plain tensor operations.
pub fn rotary_reference(x: Tensor<4>, table: &RotaryTable, layout: RotaryLayout) -> Tensor<4> {
    let [batch, time, heads, key] = x.dims();
    let half = key / 2;
    let spread = |t: &Tensor<3>| t.clone().unsqueeze_dim::<4>(2);
    let (cos, sin) = (spread(&table.cos), spread(&table.sin));
    match layout {
        RotaryLayout::Half => {
            let a = x.clone().narrow(3, 0, half);
            let b = x.narrow(3, half, half);
            let left = a.clone() * cos.clone() - b.clone() * sin.clone();
            let right = b * cos + a * sin;
            Tensor::cat(vec![left, right], 3)
        }
        RotaryLayout::Interleaved => {
            let pairs = x.reshape([batch, time, heads, half, 2]);
            let part = |i| {
                pairs
                    .clone()
                    .narrow(4, i, 1)
                    .reshape([batch, time, heads, half])
            };
            let (a, b) = (part(0), part(1));
            let left = a.clone() * cos.clone() - b.clone() * sin.clone();
            let right = b * cos + a * sin;
            Tensor::stack::<5>(vec![left, right], 4).reshape([batch, time, heads, key])
        }
    }
}
