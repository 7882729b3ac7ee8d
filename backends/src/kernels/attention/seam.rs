//! The function, and the operations that a backend has to offer for it.

use super::attention_reference;
use crate::kernels::served::{Kernel, served};
#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Bool, Int, Tensor};

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
    if !served(Kernel::Attention, &q) {
        return attention_reference(q, k, v, options);
    }
    let device = q.device();
    let settings = Settings {
        causal: options.causal,
        scale: options.scale_for(q.dims()[3]) as f32,
        offset: options.query_offset,
        masked: options.key_mask.is_some(),
        keep: false,
    };
    // An operation of a backend takes no optional tensors; this one is not looked at where it is not given.
    let mask: Tensor<2, Int> = match &options.key_mask {
        Some(keep) => keep.clone().int(),
        None => Tensor::zeros([1, 1], &device),
    };
    let (out, _) = Dispatch::attend(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        mask.into_dispatch(),
        settings,
    );
    Tensor::from_dispatch(out)
}

/// The settings of one call, as kernels take them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Whether queries see only keys up to their own place.
    pub(super) causal: bool,
    /// The factor of the scores.
    pub(super) scale: f32,
    /// Keys before the first query's own.
    pub(super) offset: usize,
    /// Whether the mask counts.
    pub(super) masked: bool,
    /// Whether a backward pass comes, which needs the second result.
    #[cfg_attr(
        not(feature = "gpu"),
        expect(dead_code, reason = "the processor forms it anyway")
    )]
    pub(super) keep: bool,
}

/// Attention and its gradient as backend operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait AttentionOps: Backend {
    /// See [`attention`]; `mask [batch, s]` is 1 where a key may be seen. The second result is the logarithm of
    /// every row's sum of exponentials, `[batch, heads, t]` in f32, infinity for a row that sees nothing; without
    /// `keep` it may hold anything.
    #[fusion(meta = forward_shapes)]
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: IntTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of q, k and v from the results of the forward pass.
    #[fusion(meta = backward_shapes)]
    #[allow(
        clippy::too_many_arguments,
        reason = "a backend operation takes its tensors one by one"
    )]
    fn attend_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        mask: IntTensor<Self>,
        out: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(feature = "gpu")]
fn forward_shapes(
    q: &TensorSpec,
    _k: &TensorSpec,
    v: &TensorSpec,
    _mask: &TensorSpec,
    _settings: &Settings,
) -> (TensorSpec, TensorSpec) {
    use burn::tensor::{DType, Shape};
    let [batch, queries, heads] = [0, 1, 2].map(|axis| q.shape[axis]);
    let out = Shape::new([batch, queries, heads, v.shape[3]]);
    let sums = Shape::new([batch, heads, queries]);
    (
        TensorSpec::new(out, q.dtype),
        TensorSpec::new(sums, DType::F32),
    )
}

#[cfg(feature = "gpu")]
#[allow(
    clippy::too_many_arguments,
    reason = "the arguments of the operation that it describes"
)]
fn backward_shapes(
    q: &TensorSpec,
    k: &TensorSpec,
    v: &TensorSpec,
    _mask: &TensorSpec,
    _out: &TensorSpec,
    _sums: &TensorSpec,
    _grad: &TensorSpec,
    _settings: &Settings,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (q.clone(), k.clone(), v.clone())
}
