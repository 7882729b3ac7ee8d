//! Linear: every weight is a weighted sum of the parents' weights (model soups, Wortsman et al., 2022,
//! arXiv 2203.05482): Σ wᵢθᵢ / Σ wᵢ, or without the division.

use jam_ir::{Diagnostic, Settings, Signature, StrategySignature};

use crate::merge::{merge, weighted};
use crate::settings::{Read, flag, weight};
use crate::{Fused, Parent, Strategy};

/// A sum of weights below this divides nothing.
const LEAST_SUM: f64 = 1e-8;

/// The strategy.
pub(crate) struct Linear;

impl Strategy for Linear {
    fn signature(&self) -> StrategySignature {
        StrategySignature {
            signature: Signature::new(
                "linear",
                "every weight is a weighted sum of the parents' weights",
            )
            .with([
                weight(),
                flag("normalize", true, "divide by the sum of the weights"),
            ]),
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
        let read = Read(settings);
        let weights = read.each("weight", parents.len())?;
        let normalize = read.flag("normalize")?;
        merge(name, parents, settings, |found| {
            let weights = weights.iter().map(|weight| weight.at(found.spot));
            let weights: Vec<f64> = weights.collect();
            let by = match normalize {
                true => weights.iter().sum(),
                false => 1.0,
            };
            if by.abs() < LEAST_SUM {
                return Err("the weights add up to zero, which nothing is divided by".to_owned());
            }
            let terms = weights.iter().map(|weight| weight / by);
            Ok(weighted(terms.zip(found.of.iter().cloned())))
        })
    }
}
