//! Attention on GPUs: on tensor cores where the device has them for the element type, else by multiply-adds; a few
//! queries against a cache by a kernel that reads the cache once.

use super::seam::{AttentionOps, Settings};
use crate::kernels::cube::{alike, arg, arg_with_gaps, as_type, element, fresh, in_order};
use burn::tensor::{DType, Shape as Dims};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use jam_cube::attention::decode::{self, Decode};
use jam_cube::attention::{Backward, Forward, Shape, mma, plain};
use jam_cube::cubecl::prelude::BufferArg;

/// Queries of a sequence that are served by reading the cache once for all of them.
const FEW: usize = 8;

/// Keys or values, whose sequences may lie apart from each other (a cache that is longer than what is seen of it), and
/// the elements from one sequence to the next.
fn sequences(tensor: CubeTensor) -> (CubeTensor, usize) {
    let [batch, time, heads, size] = [0, 1, 2, 3].map(|axis| tensor.meta.shape()[axis]);
    let strides = [0, 1, 2, 3].map(|axis| tensor.meta.strides()[axis]);
    let (whole, inner) = (time * heads * size, [heads * size, size, 1]);
    // One sequence has no next, wherever a cache would put it: it is not copied.
    let apart = if batch == 1 { whole } else { strides[0] };
    if strides[1..] == inner && apart >= whole {
        return (tensor, apart);
    }
    (in_order(tensor), whole)
}

struct Operands {
    q: CubeTensor,
    k: CubeTensor,
    v: CubeTensor,
    mask: Option<CubeTensor>,
    shape: Shape,
}

impl Operands {
    fn of(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        mask: CubeTensor,
        settings: Settings,
    ) -> Operands {
        let dtype = q.dtype;
        let q = in_order(q);
        let (k, k_batch) = sequences(as_type(k, dtype));
        let (v, v_batch) = sequences(as_type(v, dtype));
        let [batch, queries, heads, key] = [0, 1, 2, 3].map(|axis| q.meta.shape()[axis]);
        let [_, keys, kv_heads, value] = [0, 1, 2, 3].map(|axis| v.meta.shape()[axis]);
        let shape = Shape {
            batch,
            queries,
            keys,
            heads,
            kv_heads,
            key,
            value,
            causal: settings.causal,
            offset: settings.offset,
            scale: settings.scale,
            k_batch,
            v_batch,
        };
        // 32 bits wide, as the kernels read it.
        let mask = settings.masked.then(|| as_type(in_order(mask), DType::I32));
        Operands {
            q,
            k,
            v,
            mask,
            shape,
        }
    }

    fn mask(&self) -> Option<BufferArg> {
        self.mask.as_ref().map(arg)
    }
}

impl AttentionOps for CubeBackend {
    fn attend(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        mask: CubeTensor,
        settings: Settings,
    ) -> (CubeTensor, CubeTensor) {
        let operands = Operands::of(q, k, v, mask, settings);
        let Operands { q, k, v, shape, .. } = &operands;
        let (client, dtype) = (&q.client, element(q.dtype));
        let [batch, queries, heads] = [shape.batch, shape.queries, shape.heads];
        let out = Dims::new([batch, queries, heads, shape.value]);
        let out = fresh(q, out, q.dtype);
        let sums = fresh(q, Dims::new([batch, heads, queries]), DType::F32);
        if !settings.keep && queries <= FEW {
            let count = decode::parts(client, shape, dtype);
            let parts = Dims::new([decode::scratch(shape, count)]);
            let parts = fresh(q, parts, DType::F32);
            let buffers = Decode {
                q: arg(q),
                k: arg_with_gaps(k),
                v: arg_with_gaps(v),
                key_mask: operands.mask(),
                out: arg(&out),
                parts: arg(&parts),
                count,
            };
            decode::forward(client, shape, buffers, dtype);
            return (out, sums);
        }
        let buffers = Forward {
            q: arg(q),
            k: arg_with_gaps(k),
            v: arg_with_gaps(v),
            key_mask: operands.mask(),
            out: arg(&out),
            lse: arg(&sums),
        };
        if mma::supports(client, shape, dtype) {
            mma::forward(client, shape, buffers, dtype);
        } else {
            plain::forward(client, shape, buffers, dtype);
        }
        (out, sums)
    }

    fn attend_backward(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        mask: CubeTensor,
        out: CubeTensor,
        sums: CubeTensor,
        grad: CubeTensor,
        settings: Settings,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let operands = Operands::of(q, k, v, mask, settings);
        let [out, sums, grad] = [out, sums, grad].map(in_order);
        let Operands { q, k, v, shape, .. } = &operands;
        let (client, dtype) = (&q.client, element(q.dtype));
        let (dq, dk, dv) = (alike(q), alike(k), alike(v));
        let delta = fresh(q, sums.meta.shape().clone(), DType::F32);
        let buffers = Backward {
            q: arg(q),
            k: arg_with_gaps(k),
            v: arg_with_gaps(v),
            key_mask: operands.mask(),
            out: arg(&out),
            lse: arg(&sums),
            dout: arg(&grad),
            delta: arg(&delta),
            dq: arg(&dq),
            dk: arg(&dk),
            dv: arg(&dv),
        };
        if mma::supports(client, shape, dtype) {
            mma::backward(client, shape, buffers, dtype);
        } else {
            plain::backward(client, shape, buffers, dtype);
        }
        (dq, dk, dv)
    }
}
