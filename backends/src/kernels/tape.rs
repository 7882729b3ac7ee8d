//! What every kernel with a gradient has to do with Burn's tape.

pub(super) use burn::backend::autodiff::Autodiff;
pub(super) use burn::backend::autodiff::checkpoint::base::Checkpointer;
pub(super) use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
pub(super) use burn::backend::autodiff::grads::Gradients;
pub(super) use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};

/// The result of an operation and, where one of its operands is on the tape, what its backward
/// needs kept there: `taped!(strategy, operation, nodes, kept, result)`. What is kept is worked out
/// only where it is.
macro_rules! taped {
    ($strategy:ty, $operation:expr, $nodes:expr, $kept:expr, $result:expr $(,)?) => {
        match $operation
            .prepare::<$strategy>($nodes)
            .compute_bound()
            .stateful()
        {
            $crate::kernels::tape::OpsKind::Tracked(prep) => prep.finish($kept, $result),
            $crate::kernels::tape::OpsKind::UnTracked(prep) => prep.finish($result),
        }
    };
}
pub(super) use taped;
