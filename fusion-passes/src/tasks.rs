//! Task vectors: what parents add to the base that they were tuned from, thinned out, weighed, and
//! added up (what task arithmetic, TIES and DARE have in common).

use jam_ir::{Diagnostic, Plan, SettingSignature, Settings};

use crate::graded::Graded;
use crate::merge::{Candidates, merge, weighted};
use crate::settings::{Read, WEIGHTS, base, flag, graded, weight};
use crate::{Fused, Parent};

/// A sum of weights below this divides nothing.
const LEAST_SUM: f64 = 1e-8;

/// The settings `base`, `weight`, `lambda` and `normalize`.
pub(crate) fn settings(normalize: bool) -> Vec<SettingSignature> {
    vec![
        base(true, "the model that all were tuned from"),
        weight(),
        graded(
            "lambda",
            WEIGHTS,
            1.0,
            false,
            "factor on what is added to the base",
        ),
        flag(
            "normalize",
            normalize,
            "divide what is added by the sum of its weights",
        ),
    ]
}

/// The setting `density`.
pub(crate) fn density(help: &str) -> SettingSignature {
    graded("density", (0.0, 1.0), 1.0, true, help)
}

/// How task vectors are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consensus {
    /// All of each.
    All,
    /// Entries that agree with the sign of the weighted sum.
    Sign,
}

/// base + λ Σ wᵢ thin(θᵢ − base), as `consensus` adds up; `thin` gets a task vector and the density for
/// it.
///
/// # Errors
/// As [`merge`].
pub(crate) fn add_tasks(
    name: &str,
    parents: &[Parent<'_>],
    settings: &Settings,
    consensus: Consensus,
    thin: impl Fn(Plan, f64) -> Plan,
) -> Result<Fused, Vec<Diagnostic>> {
    let read = Read(settings);
    let count = parents.len().saturating_sub(1);
    let weights = read.each("weight", count)?;
    let densities = match settings.contains_key("density") {
        true => read.each("density", count)?,
        false => vec![Graded::Number(1.0); count],
    };
    let lambda = read.graded("lambda")?;
    let normalize = read.flag("normalize")?;
    merge(name, parents, settings, |found: &Candidates<'_>| {
        let base = found.base.ok_or("there is no base")?;
        let lambda = lambda.at(found.spot);
        let vectors = found.differences().into_iter().zip(&densities);
        let vectors = vectors.map(|(vector, density)| thin(vector, density.at(found.spot)));
        let weights: Vec<f64> = weights.iter().map(|weight| weight.at(found.spot)).collect();
        let terms = weights.iter().copied().zip(vectors);
        if consensus == Consensus::Sign {
            let terms = terms.filter(|(weight, vector)| *weight != 0.0 && *vector != Plan::Zeros);
            let terms: Vec<(f64, Plan)> = terms.collect();
            if terms.is_empty() || lambda == 0.0 {
                return Ok(base.clone());
            }
            let mean = normalize;
            let added = Plan::Elect { mean, terms };
            return Ok(weighted([(1.0, base.clone()), (lambda, added)]));
        }
        let sum: f64 = weights.iter().sum();
        let by = match normalize && sum.abs() >= LEAST_SUM {
            true => sum,
            false => 1.0,
        };
        let terms: Vec<(f64, Plan)> = terms
            .map(|(weight, vector)| (lambda * weight / by, vector))
            .collect();
        Ok(weighted(flat(base, terms)))
    })
}

/// base + Σ factor · vector; differences to the base are resolved, so that each tensor is read once.
fn flat(base: &Plan, vectors: Vec<(f64, Plan)>) -> Vec<(f64, Plan)> {
    let mut own = 1.0;
    let mut terms = Vec::new();
    for (factor, vector) in vectors {
        match vector {
            _ if factor == 0.0 => {}
            Plan::Zeros => {}
            Plan::Sum(difference) => {
                for (sign, plan) in difference {
                    match plan == *base {
                        true => own += factor * sign,
                        false => terms.push((factor * sign, plan)),
                    }
                }
            }
            vector => terms.push((factor, vector)),
        }
    }
    terms.insert(0, (own, base.clone()));
    terms
}
