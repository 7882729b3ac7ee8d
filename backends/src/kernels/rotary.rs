//! Rotary positions: pairs of elements of every head turned by an angle that grows with the position.

use super::buffer::{Flat, PIECE, floats, on_flex, owned};
use super::tape::{Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped};
use burn::backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;

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

/// Turns x `[batch, time, head, key]` by `table`; key is even.
pub fn rotary(x: Tensor<4>, table: &RotaryTable, layout: RotaryLayout) -> Tensor<4> {
    if !on_flex(&x) {
        return rotary_reference(x, table, layout);
    }
    Tensor::from_dispatch(Dispatch::rotary(
        x.into_dispatch(),
        table.cos.clone().into_dispatch(),
        table.sin.clone().into_dispatch(),
        layout,
    ))
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

/// The rotation as a backend operation.
#[backend_extension(Flex, Autodiff)]
trait RotaryOps: Backend {
    /// See [`rotary`]; cosines and sines get no gradient.
    fn rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        layout: RotaryLayout,
    ) -> FloatTensor<Self>;
}

impl RotaryOps for Flex {
    fn rotary(x: Flat, cos: Flat, sin: Flat, layout: RotaryLayout) -> Flat {
        turn(x, &cos, &sin, layout, 1.0)
    }
}

impl<C: CheckpointStrategy> RotaryOps for Autodiff<Flex, C> {
    fn rotary(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        layout: RotaryLayout,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Turn;

        impl Backward<Flex, 1> for Turn {
            type State = (Flat, Flat, RotaryLayout);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<Flex>(&ops.node);
                let (cos, sin, layout) = ops.state;
                if let [Some(node)] = ops.parents {
                    // The transpose of a rotation turns back.
                    grads.register::<Flex>(node.id, turn(grad, &cos, &sin, layout, -1.0));
                }
            }
        }

        let nodes = [x.node()];
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let out = turn(x.into_primitive(), &cos, &sin, layout, 1.0);
        taped!(C, Turn, nodes, (cos, sin, layout), out)
    }
}

/// Turns every pair by its angle times `sign`, in place where nobody else holds x.
fn turn(x: Flat, cos: &Flat, sin: &Flat, layout: RotaryLayout, sign: f32) -> Flat {
    let dims = [0, 1, 2, 3].map(|axis| x.layout().shape()[axis]);
    let [batch, time, heads, key] = dims;
    let half = key / 2;
    let tables = cos.layout().shape()[0];
    let (cos, sin) = (floats(cos), floats(sin));
    assert!(
        key.is_multiple_of(2)
            && (tables == 1 || tables == batch)
            && cos.len() == tables * time * half
            && sin.len() == cos.len(),
        "rotary: the table does not fit x {dims:?}"
    );
    let mut x = owned(x);
    let row = (heads * key).max(1);
    let rows = (PIECE / row).max(1);
    let pieces = x.storage_mut::<f32>().par_chunks_mut(rows * row);
    pieces.enumerate().for_each(|(piece, x)| {
        for (i, x) in x.chunks_exact_mut(row).enumerate() {
            let step = piece * rows + i;
            let at = (if tables == 1 { step % time } else { step }) * half;
            let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
            for x in x.chunks_exact_mut(key) {
                turn_head(x, cos, sin, layout, sign);
            }
        }
    });
    x
}

fn turn_head(x: &mut [f32], cos: &[f32], sin: &[f32], layout: RotaryLayout, sign: f32) {
    match layout {
        RotaryLayout::Half => {
            let (left, right) = x.split_at_mut(cos.len());
            let pairs = left.iter_mut().zip(right);
            for ((a, b), (&c, &s)) in pairs.zip(cos.iter().zip(sin)) {
                (*a, *b) = (*a * c - *b * (sign * s), *b * c + *a * (sign * s));
            }
        }
        RotaryLayout::Interleaved => {
            for (pair, (&c, &s)) in x.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
                let (a, b) = (pair[0], pair[1]);
                pair[0] = a * c - b * (sign * s);
                pair[1] = b * c + a * (sign * s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::comparison::*;

    #[test]
    fn matches_the_reference() {
        let [batch, time, heads, key] = [2, 37, 3, 10];
        let frequencies = inverse_frequencies(key, 10_000.0);
        let device = device();
        let positions: Vec<usize> = (0..batch * time).map(|i| i * 5 % 41).collect();
        let tables = [
            RotaryTable::range(3, time, &frequencies, &device),
            RotaryTable::of(&positions, batch, &frequencies, &device),
        ];
        for layout in [RotaryLayout::Half, RotaryLayout::Interleaved] {
            for table in &tables {
                assert_same(
                    &format!("rotary {layout:?}"),
                    vec![AnyTensor::Four(random([batch, time, heads, key], 1))],
                    |i| rotary(i[0].four(), table, layout),
                    |i| rotary_reference(i[0].four(), table, layout),
                    1e-6,
                );
            }
        }
    }

    #[test]
    fn scores_depend_on_distances_alone() {
        let frequencies = inverse_frequencies(8, 100.0);
        let x = constant([1, 6, 1, 8], 1);
        let score = |first: usize, i: usize, j: usize| {
            let table = RotaryTable::range(first, 6, &frequencies, &device());
            let same = x.clone().narrow(1, 0, 1).expand([1, 6, 1, 8]);
            let turned = rotary(same, &table, RotaryLayout::Half);
            let at = |i| turned.clone().narrow(1, i, 1);
            (at(i) * at(j)).sum().into_scalar::<f32>()
        };
        assert!((score(0, 1, 4) - score(17, 2, 5)).abs() < 1e-4);
        assert!((score(0, 1, 4) - score(0, 1, 5)).abs() > 1e-3);
    }

    #[test]
    fn positions_in_a_tensor_give_the_same_table() {
        let frequencies = inverse_frequencies(4, 10.0);
        let positions = Tensor::<2, Int>::from_ints([[2, 3, 4]], &device());
        let table = RotaryTable::of_tensor(positions, &frequencies);
        let range = RotaryTable::range(2, 3, &frequencies, &device());
        assert_close("cos", table.cos.into_data(), range.cos.into_data(), 0.0);
        assert_close("sin", table.sin.into_data(), range.sin.into_data(), 0.0);
    }
}
