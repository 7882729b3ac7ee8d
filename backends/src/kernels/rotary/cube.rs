//! The rotation on GPUs.

use super::RotaryLayout;
use super::seam::RotaryOps;
use crate::kernels::cube::{alike, arg, as_type, element, in_order};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use jam_cube::rotary::{Buffers, Heads, Layout, Shape, Turn, apply};

impl RotaryOps for CubeBackend {
    fn rotary(
        x: CubeTensor,
        cos: CubeTensor,
        sin: CubeTensor,
        layout: RotaryLayout,
        back: bool,
    ) -> CubeTensor {
        let x = in_order(x);
        let [cos, sin] = [cos, sin].map(|table| as_type(in_order(table), DType::F32));
        let [batch, time, heads, size] = [0, 1, 2, 3].map(|axis| x.meta.shape()[axis]);
        let shape = Shape {
            batch,
            time,
            size,
            tables: cos.meta.shape()[0],
        };
        let layout = match layout {
            RotaryLayout::Half => Layout::Half,
            RotaryLayout::Interleaved => Layout::Interleaved,
        };
        let turn = if back { Turn::Inverse } else { Turn::Forward };
        // What nobody else holds is turned where it lies.
        let (out, given) = if x.can_mut() {
            (x.clone(), None)
        } else {
            (alike(&x), Some(arg(&x)))
        };
        let buffers = Buffers {
            x: given,
            out: arg(&out),
            cos: arg(&cos),
            sin: arg(&sin),
        };
        let heads = Heads::whole(heads, size);
        apply(
            &x.client,
            shape,
            heads,
            (layout, turn),
            buffers,
            element(x.dtype),
        );
        out
    }
}
