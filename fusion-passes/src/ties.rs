//! TIES (Yadav et al., 2023, arXiv 2306.01708): of what each parent adds to the base the largest
//! entries stay; entry by entry the sign with more weight is elected, and those that agree are merged.
//! The mean is over the weights that agree, as in mergekit.

use jam_ir::{Diagnostic, Plan, Settings, Signature, StrategySignature};

use crate::settings::{Read, word};
use crate::tasks::{self, Consensus, add_tasks, density};
use crate::{Fused, Parent, Strategy};

/// The strategy.
pub(crate) struct Ties;

impl Strategy for Ties {
    fn signature(&self) -> StrategySignature {
        let mut settings = tasks::settings(true);
        settings.push(density("share of the entries that stay, the largest"));
        settings.push(word(
            "rescale",
            &["no", "norm"],
            "whether what stays is scaled to the sum of magnitudes of the whole",
        ));
        StrategySignature {
            signature: Signature::new(
                "ties",
                "the base, and the largest of what the parents add to it, where they agree in sign",
            )
            .with(settings),
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
        let rescale = Read(settings).word("rescale")? == "norm";
        add_tasks(
            name,
            parents,
            settings,
            Consensus::Sign,
            |of, density| match density {
                1.0 => of,
                0.0 => Plan::Zeros,
                _ => Plan::Trim {
                    density,
                    rescale,
                    of: Box::new(of),
                },
            },
        )
    }
}
