//! Normalisation on GPUs: one launch for each part of the rows.

use super::seam::{Norm, NormOps, Shape, statistics_len};
use crate::kernels::cube::{alike, arg, as_type, column_sums, element, fresh, in_order, zeros};
use burn::tensor::{DType, Shape as Dims};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use jam_cube::norm::{Backward, Forward, Kind, Stretch, backward, forward};

/// The parts of rows of `x`.
fn stretches(x: &CubeTensor, shape: &Shape) -> Vec<Stretch> {
    let width = shape.width();
    let mut from = 0;
    let parts = shape.parts.iter().enumerate().map(|(part, &len)| {
        from += len;
        Stretch {
            rows: x.meta.num_elements() / width,
            width,
            from: from - len,
            len,
            part: (part, shape.parts.len()),
            kind: match shape.kind {
                Norm::Layer => Kind::Layer,
                Norm::Rms => Kind::Rms,
            },
            eps: shape.eps,
        }
    });
    parts.collect()
}

impl NormOps for CubeBackend {
    fn norm(
        x: CubeTensor,
        gain: CubeTensor,
        bias: CubeTensor,
        shape: Shape,
    ) -> (CubeTensor, CubeTensor) {
        let x = in_order(x);
        let [gain, bias] = [gain, bias].map(|t| as_type(in_order(t), x.dtype));
        let out = alike(&x);
        let len = statistics_len(&shape, x.meta.num_elements());
        let statistics = fresh(&x, Dims::new([len]), DType::F32);
        for stretch in stretches(&x, &shape) {
            let buffers = Forward {
                x: arg(&x),
                residual: None,
                gain: shape.gain.then(|| arg(&gain)),
                bias: shape.bias.then(|| arg(&bias)),
                out: arg(&out),
                sum: None,
                statistics: arg(&statistics),
            };
            forward(&x.client, stretch, buffers, element(x.dtype));
        }
        (out, statistics)
    }

    fn norm_backward(
        x: CubeTensor,
        gain: CubeTensor,
        statistics: CubeTensor,
        grad: CubeTensor,
        shape: Shape,
        affine: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [x, statistics, grad] = [x, statistics, grad].map(in_order);
        let given = gain.dtype;
        let gain = as_type(in_order(gain), x.dtype);
        let out = alike(&x);
        let stretches = stretches(&x, &shape);
        let width = shape.width();
        let pieces = stretches.first().map_or(1, Stretch::pieces);
        let sums = || fresh(&x, Dims::new([pieces, width]), DType::F32);
        let sums = affine.then(|| (sums(), sums()));
        for stretch in stretches {
            let buffers = Backward {
                x: arg(&x),
                gain: shape.gain.then(|| arg(&gain)),
                statistics: arg(&statistics),
                dy: arg(&grad),
                dsum: None,
                dx: arg(&out),
                affine: sums.as_ref().map(|(gain, bias)| (arg(gain), arg(bias))),
            };
            backward(&x.client, stretch, buffers, element(x.dtype));
        }
        let total = |parts: CubeTensor| as_type(column_sums(&parts), given);
        let (gain, bias) = match sums {
            Some((gain, bias)) => (total(gain), total(bias)),
            None => {
                let nothing = zeros(&x, Dims::new([width]), given);
                (nothing.clone(), nothing)
            }
        };
        (out, gain, bias)
    }
}
