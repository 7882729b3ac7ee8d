//! DARE (Yu et al., 2023, arXiv 2311.03099): entries of what each parent adds to the base are dropped
//! at random, and the rest is scaled up; then it is added, as it is or by elected signs (TIES).
//!
//! The rest is scaled to the sum of magnitudes of the whole, as in mergekit, or by one over the density,
//! as in the paper. Masks are drawn by the program's seed and the weight's name.

use jam_ir::{Diagnostic, Plan, Settings, Signature, StrategySignature};

use crate::settings::{Read, word};
use crate::tasks::{self, Consensus, add_tasks, density};
use crate::{Fused, Parent, Strategy};

/// A strategy; both differ in how they add up.
pub(crate) struct Dare {
    /// Its name in the language.
    name: &'static str,
    help: &'static str,
    consensus: Consensus,
}

/// Sums of all that stays.
pub(crate) const DARE_LINEAR: Dare = Dare {
    name: "dare_linear",
    help: "the base, and what the parents add to it, thinned out at random",
    consensus: Consensus::All,
};

/// Sums of what agrees in sign.
pub(crate) const DARE_TIES: Dare = Dare {
    name: "dare_ties",
    help: "the base, and what the parents add to it, thinned out at random, where they agree in sign",
    consensus: Consensus::Sign,
};

impl Strategy for Dare {
    fn signature(&self) -> StrategySignature {
        let mut settings = tasks::settings(false);
        settings.push(density("share of the entries that stay, chosen at random"));
        settings.push(word(
            "rescale",
            &["norm", "density", "no"],
            "what stays is scaled to the sum of magnitudes of the whole, or by one over the density",
        ));
        StrategySignature {
            signature: Signature::new(self.name, self.help).with(settings),
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
        let rescale = Read(settings).word("rescale")?.to_owned();
        let thin = |of: Plan, density: f64| {
            if density >= 1.0 {
                return of;
            }
            if density <= 0.0 {
                return Plan::Zeros;
            }
            let kept = Plan::Keep {
                rescale: rescale == "norm",
                mask: Box::new(Plan::Bernoulli { p: density }),
                of: Box::new(of),
            };
            match rescale.as_str() {
                "density" => Plan::Scale {
                    by: 1.0 / density,
                    of: Box::new(kept),
                },
                _ => kept,
            }
        };
        add_tasks(name, parents, settings, self.consensus, thin)
    }
}
