//! Task arithmetic (Ilharco et al., 2022, arXiv 2212.04089): base + λ Σ wᵢ(θᵢ − base).

use jam_ir::{Diagnostic, Settings, Signature, StrategySignature};

use crate::tasks::{self, Consensus, add_tasks};
use crate::{Fused, Parent, Strategy};

/// The strategy.
pub(crate) struct TaskArithmetic;

impl Strategy for TaskArithmetic {
    fn signature(&self) -> StrategySignature {
        StrategySignature {
            signature: Signature::new(
                "task_arithmetic",
                "the base, and a weighted sum of what the parents add to it",
            )
            .with(tasks::settings(false)),
            min_parents: 1,
            max_parents: usize::MAX,
        }
    }

    fn fuse(
        &self,
        name: &str,
        parents: &[Parent<'_>],
        settings: &Settings,
    ) -> Result<Fused, Vec<Diagnostic>> {
        add_tasks(name, parents, settings, Consensus::All, |vector, _| vector)
    }
}
