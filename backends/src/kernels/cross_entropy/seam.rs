//! The function, and the operations that a backend has to offer for it.

use super::linear_cross_entropy_reference;
use crate::kernels::absent::or_absent;
use crate::kernels::served::{Kernel, served};
#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

/// How the last layer's weight lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadLayout {
    /// `[width, vocab]`: a linear layer.
    Linear,
    /// `[vocab, width]`: the embedding table itself (a tied head).
    Table,
}

/// The last layer: hidden states to logits.
#[derive(Debug, Clone)]
pub struct Head {
    /// The weight, see [`HeadLayout`].
    pub weight: Tensor<2>,
    /// How it lies.
    pub layout: HeadLayout,
    /// Added to the logits, `[vocab]`.
    pub bias: Option<Tensor<1>>,
    /// A constant added to the logits, `[vocab]`: minus infinity forbids an id. No gradient.
    pub mask: Option<Tensor<1>>,
}

/// What [`linear_cross_entropy`] returns.
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    /// `Σ weight · loss` over all rows, `[1]`; this is what gradients flow through.
    pub sum: Tensor<1>,
    /// The loss of every row by itself in nats, unweighted, 0 where the weight is 0; `[rows]`. A constant.
    pub rows: Tensor<1>,
}

/// Cross-entropy of `hidden [rows, width]` through `head` against `targets [rows]`, each row counted
/// `weights [rows]` times (0: left out, its target is not looked at).
///
/// Logits exist for a chunk of rows at a time. The gradients are formed in the same pass, so that the backward
/// pass only scales them.
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    head: Head,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
) -> CrossEntropy {
    if !served(Kernel::CrossEntropy, &hidden) {
        return linear_cross_entropy_reference(hidden, head, targets, weights);
    }
    let call = Call {
        layout: head.layout,
        bias: head.bias.is_some(),
        mask: head.mask.is_some(),
    };
    let bias = or_absent(head.bias, &hidden);
    let mask = or_absent(head.mask, &hidden);
    let (sum, rows, ..) = Dispatch::linear_cross_entropy(
        hidden.into_dispatch(),
        head.weight.into_dispatch(),
        bias,
        mask,
        weights.into_dispatch(),
        targets.into_dispatch(),
        call,
        Wanted::default(),
    );
    CrossEntropy {
        sum: Tensor::from_dispatch(sum),
        rows: Tensor::from_dispatch(rows),
    }
}

/// What a call holds besides tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(super) layout: HeadLayout,
    /// Whether the bias counts.
    pub(super) bias: bool,
    /// Whether the mask counts.
    pub(super) mask: bool,
}

/// Which gradients to form.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(super) hidden: bool,
    pub(super) weight: bool,
    pub(super) bias: bool,
}

/// The last layer and its loss as backend operations.
#[backend_extension(Flex, Cube: cfg(feature = "gpu"), Fusion: cfg(feature = "gpu"), Autodiff)]
pub(crate) trait CrossEntropyOps: Backend {
    /// See [`linear_cross_entropy`]: the weighted sum, the losses of the rows (a constant), and the gradients of the
    /// sum by hidden states, weight and bias; one that is not wanted has no elements, `[0, 0]` or `[0]`.
    #[fusion(meta = shapes)]
    #[allow(
        clippy::too_many_arguments,
        clippy::type_complexity,
        reason = "a backend operation takes and gives its tensors one by one"
    )]
    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        targets: IntTensor<Self>,
        call: Call,
        wanted: Wanted,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );

    /// A gradient times what came in, `factor [1]`.
    #[fusion(dtype = gradient, shape = gradient)]
    fn scaled_gradient(gradient: FloatTensor<Self>, factor: FloatTensor<Self>)
    -> FloatTensor<Self>;
}

#[cfg(feature = "gpu")]
#[allow(
    clippy::too_many_arguments,
    clippy::type_complexity,
    reason = "the arguments of the operation that it describes"
)]
fn shapes(
    hidden: &TensorSpec,
    weight: &TensorSpec,
    bias: &TensorSpec,
    _mask: &TensorSpec,
    _weights: &TensorSpec,
    _targets: &TensorSpec,
    _call: &Call,
    wanted: &Wanted,
) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
    use burn::tensor::{DType, Shape};
    let float = |shape: Shape| TensorSpec::new(shape, DType::F32);
    let of = |wanted: bool, like: &TensorSpec| {
        if wanted {
            return like.clone();
        }
        let none = vec![0; like.shape.num_dims()];
        TensorSpec::new(Shape::from(none), like.dtype)
    };
    (
        float(Shape::new([1])),
        float(Shape::new([hidden.shape[0]])),
        of(wanted.hidden, hidden),
        of(wanted.weight, weight),
        of(wanted.bias, bias),
    )
}
