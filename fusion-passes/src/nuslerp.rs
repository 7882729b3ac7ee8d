//! NuSLERP: SLERP by weights, between the parents or, with a base, between what they add to it
//! (mergekit's method of this name, whole tensors as vectors).

use jam_ir::{Diagnostic, Settings, Signature, StrategySignature};

use crate::merge::{merge, weighted};
use crate::reports::{Place, warning};
use crate::settings::{Read, base, weight};
use crate::slerp::arc;
use crate::{Fused, Parent, Strategy};

/// Weights that add up to less than this are taken for equal, as in mergekit, with a warning.
const LEAST_SUM: f64 = 1e-6;

/// The strategy.
pub(crate) struct NuSlerp;

impl Strategy for NuSlerp {
    fn signature(&self) -> StrategySignature {
        StrategySignature {
            signature: Signature::new(
                "nuslerp",
                "every weight lies on the arc between the parents' weights, or between what \
                   they add to a base",
            )
            .with([weight(), base(false, "the model that both were tuned from")]),
            min_parents: 2,
            max_parents: 2,
        }
    }

    fn fuse(
        &self,
        name: &str,
        parents: &[Parent<'_>],
        settings: &Settings,
    ) -> Result<Fused, Vec<Diagnostic>> {
        let weights = Read(settings).each("weight", 2)?;
        let mut cancelled = false;
        let mut fused = merge(name, parents, settings, |found| {
            let weights = weights.iter().map(|weight| weight.at(found.spot));
            let weights: Vec<f64> = weights.collect();
            let sum: f64 = weights.iter().sum();
            let t = match sum.abs() < LEAST_SUM {
                true => {
                    cancelled = true;
                    0.5
                }
                false => weights[1] / sum,
            };
            let arc = arc(t, 1.0, found.differences())?;
            Ok(match found.base {
                Some(base) => weighted([(1.0, base.clone()), (1.0, arc)]),
                None => arc,
            })
        })?;
        if cancelled {
            let message = "the weights of `nuslerp` add up to zero: both parents count alike there";
            let places = parents.iter().map(|parent| Place::new(parent, ""));
            let report = warning(message, &places.collect::<Vec<_>>())
                .note("with a sum, the second's share of the arc is its weight divided by it");
            fused
                .notes
                .push(report.help("give weights whose sum is not zero"));
        }
        Ok(fused)
    }
}
