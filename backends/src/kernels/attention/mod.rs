//! Scaled dot-product attention with grouped keys and values, never a `T × T` matrix in memory.
//!
//! All operands are `[batch, time, head, key]`: what a linear layer's `[batch, time, head * key]` is
//! without a copy. Query head `h` reads key/value head `h / (heads / kv_heads)`.

mod decode;
mod flex;
mod reference;

pub use reference::attention_reference;

use super::buffer::{Flat, flat, floats, on_flex};
use super::tape::{Autodiff, Backward, CheckpointStrategy, Checkpointer, Gradients, Ops, taped};
use burn::backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::{Bool, Tensor};
use flex::Settings;

/// What an attention looks at, and how.
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    /// Whether query `i` sees only keys `j ≤ i + query_offset`.
    pub causal: bool,
    /// The factor of the scores; `None` is `1 / √key`.
    pub scale: Option<f64>,
    /// `[batch, key time]`, true where a key may be seen; `None` is everywhere. (Left padding.)
    pub key_mask: Option<Tensor<2, Bool>>,
    /// How many keys stand before the first query's own: with a cache, the number of cached steps.
    pub query_offset: usize,
}

impl AttentionOptions {
    /// Causal attention of a sequence over itself.
    pub fn causal() -> Self {
        Self {
            causal: true,
            ..Self::default()
        }
    }

    /// The factor of the scores for heads of `key` elements.
    pub fn scale_for(&self, key: usize) -> f64 {
        self.scale.unwrap_or_else(|| 1.0 / (key as f64).sqrt())
    }
}

/// `softmax(scale · q kᵀ + mask) v`: q `[batch, t, heads, key]`, k and v `[batch, s, kv_heads, key]`,
/// result `[batch, t, heads, key]`. Queries that may see no key at all get zeros.
///
/// For decoding, k and v may be slices of a preallocated cache: they are read in place.
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    options: &AttentionOptions,
) -> Tensor<4> {
    if !on_flex(&q) || !on_flex(&k) || !on_flex(&v) {
        return attention_reference(q, k, v, options);
    }
    let device = q.device();
    let has_bias = options.key_mask.is_some();
    // 0 where a key may be seen, minus infinity elsewhere; without a mask it is not looked at.
    let bias: Tensor<2> = match &options.key_mask {
        Some(keep) => Tensor::zeros(keep.dims(), &device)
            .mask_fill(keep.clone().bool_not(), f32::NEG_INFINITY),
        None => Tensor::zeros([1, 1], &device),
    };
    let settings = Settings {
        causal: options.causal,
        scale: options.scale_for(q.dims()[3]) as f32,
        offset: options.query_offset,
    };
    Tensor::from_dispatch(Dispatch::attention(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        bias.into_dispatch(),
        has_bias,
        settings,
    ))
}

/// Attention as a backend operation.
#[backend_extension(Flex, Autodiff)]
trait AttentionOps: Backend {
    /// See [`attention`]; `bias [batch, s]` counts where `has_bias`, and gets no gradient.
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        has_bias: bool,
        settings: Settings,
    ) -> FloatTensor<Self>;
}

impl AttentionOps for Flex {
    fn attention(
        q: Flat,
        k: Flat,
        v: Flat,
        bias: Flat,
        has_bias: bool,
        settings: Settings,
    ) -> Flat {
        let bias = floats(&bias);
        flex::forward(&q, &k, &v, has_bias.then_some(&*bias), settings).0
    }
}

impl<C: CheckpointStrategy> AttentionOps for Autodiff<Flex, C> {
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        has_bias: bool,
        settings: Settings,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Attention;

        /// Inputs, result, and the logarithms of the rows' sums.
        #[derive(Debug, Clone)]
        struct Kept {
            inputs: [Flat; 3],
            bias: Option<Flat>,
            out: Flat,
            sums: Flat,
            settings: Settings,
        }

        impl Backward<Flex, 3> for Attention {
            type State = Kept;

            fn backward(
                self,
                ops: Ops<Kept, 3>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let grad = grads.consume::<Flex>(&ops.node);
                let kept = ops.state;
                let [q, k, v] = &kept.inputs;
                let bias = kept.bias.as_ref().map(floats);
                let inputs = flex::backward(
                    (q, k, v),
                    bias.as_deref(),
                    (&kept.out, &floats(&kept.sums)),
                    &grad,
                    kept.settings,
                );
                for (node, grad) in ops.parents.into_iter().zip(inputs) {
                    if let Some(node) = node {
                        grads.register::<Flex>(node.id, grad);
                    }
                }
            }
        }

        let nodes = [q.node(), k.node(), v.node()];
        let inputs = [q, k, v].map(|x| x.into_primitive());
        let bias = has_bias.then(|| bias.into_primitive());
        let [q, k, v] = &inputs;
        let values = bias.as_ref().map(floats);
        let (out, sums) = flex::forward(q, k, v, values.as_deref(), settings);
        drop(values);
        let keep = |sums: Vec<f32>, out: &Flat| {
            let len = sums.len();
            Kept {
                inputs,
                bias,
                out: out.clone(),
                sums: flat(sums, [len]),
                settings,
            }
        };
        taped!(C, Attention, nodes, keep(sums, &out), out)
    }
}

#[cfg(test)]
mod tests;
