//! The rotation by plain tensor operations.

use super::{RotaryLayout, RotaryTable};
use burn::tensor::Tensor;

/// [`rotary`](super::rotary) by plain tensor operations.
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
