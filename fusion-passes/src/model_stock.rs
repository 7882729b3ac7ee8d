//! Model Stock (Jang et al., 2024, arXiv 2403.19522): every weight lies between the base and the mean
//! of the parents, the nearer to the mean the smaller the angles between what the parents add.

use jam_ir::{Diagnostic, Plan, Settings, Signature, StrategySignature};

use crate::merge::merge;
use crate::settings::base;
use crate::{Fused, Parent, Strategy};

/// The strategy.
pub(crate) struct ModelStock;

impl Strategy for ModelStock {
    fn signature(&self) -> StrategySignature {
        StrategySignature {
            signature: Signature::new(
                "model_stock",
                "every weight lies between the base's and the mean of the parents', by the \
                   angles between what they add to it",
            )
            .with([base(true, "the model that all were tuned from")]),
            min_parents: 2,
            max_parents: usize::MAX,
        }
    }

    fn fuse(
        &self,
        name: &str,
        parents: &[Parent<'_>],
        settings: &Settings,
    ) -> Result<Fused, Vec<Diagnostic>> {
        merge(name, parents, settings, |found| {
            let base = found.base.ok_or("there is no base")?;
            Ok(Plan::Stock {
                base: Box::new(base.clone()),
                of: found.of.to_vec(),
            })
        })
    }
}
