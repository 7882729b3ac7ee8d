//! JAM-Uniform (eq. 1): every weight is a mean of the parents' weights.
//!
//! The parents have one structure and one size; weights are paired by what they are to the graph,
//! so that parents may name them differently. The fused graph is the first parent's.

use jam_ir::{Diagnostic, Settings, Signature, StrategySignature};

use crate::merge::{merge, weighted};
use crate::settings::{Read, graded};
use crate::{Fused, Parent, Strategy};

/// The strategy.
pub(crate) struct Uniform;

impl Strategy for Uniform {
    fn signature(&self) -> StrategySignature {
        StrategySignature {
            signature: Signature::new(
                "uniform",
                "every weight is a mean of the parents' weights; the size of one parent",
            )
            .with([graded(
                "share",
                (0.0, 1.0),
                0.5,
                false,
                "share of the first parent in the mean",
            )]),
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
        let share = Read(settings).graded("share")?;
        // share · a + (1 − share) · b
        merge(name, parents, settings, |found| {
            let share = share.at(found.spot);
            let shares = [share, 1.0 - share];
            Ok(weighted(shares.into_iter().zip(found.of.iter().cloned())))
        })
    }
}
