//! JAM-Uniform (eq. 1): every weight is a mean of the parents' weights.
//!
//! The parents have one structure and one size; weights are paired by what they are to the graph,
//! so that parents may name them differently. The fused graph is the first parent's.

use jam_ir::{Diagnostic, Model, Plan, Settings, StrategySignature};

use crate::anatomy::dissect;
use crate::matching::{Side, match_parents};
use crate::parents::{check_layouts, one_element_type, shorter_context, two};
use crate::passes::dead_code;
use crate::reports::{Errors, Place, error};
use crate::settings::{Read, number};
use crate::{Fused, Parent, Strategy};

/// The strategy.
pub(crate) struct Uniform;

impl Strategy for Uniform {
    fn signature(&self) -> StrategySignature {
        StrategySignature {
            name: "uniform".to_owned(),
            help: "every weight is a mean of the parents' weights; the size of one parent"
                .to_owned(),
            min_parents: 2,
            max_parents: 2,
            settings: vec![number(
                "share",
                0.0,
                1.0,
                0.5,
                "share of the first parent in the mean",
            )],
        }
    }

    fn fuse(
        &self,
        name: &str,
        parents: &[Parent<'_>],
        settings: &Settings,
    ) -> Result<Fused, Vec<Diagnostic>> {
        let [first, second] = two(parents)?;
        let share = Read(settings).number("share")?;
        let mut errors = Errors::default();
        check_layouts(first, second, &mut errors);

        let mut notes = Vec::new();
        // Models that are no single stack (fused ones, say) are paired as a whole.
        let (mut left, mut right, parts) = match (dissect(first), dissect(second)) {
            (Ok(a), Ok(b)) => (a.model, b.model, Some((a.anatomy, b.anatomy))),
            _ => (living(first), living(second), None),
        };
        notes.extend(one_element_type([first, second], [&mut left, &mut right]));
        let matching = errors.take(match_parents(
            Side {
                parent: first,
                model: &left,
                anatomy: parts.as_ref().map(|(a, _)| a),
            },
            Side {
                parent: second,
                model: &right,
                anatomy: parts.as_ref().map(|(_, b)| b),
            },
            &[],
        ));
        errors.check()?;
        let matching = matching.unwrap_or_default();

        let mut model = left;
        model.name = name.to_owned();
        model.context = shorter_context(first, second, &mut notes);
        for (name, weight) in &mut model.weights {
            let Some(partner) = matching.weights.get(name) else {
                let message = format!("weight `{name}` has no partner in `{}`", second.source);
                return Err(vec![error(message, &[Place::new(first, "")])]);
            };
            let a = Plan::load(first.source.clone(), name.clone());
            let b = Plan::load(second.source.clone(), partner.clone());
            weight.plan = mean(share, a, b);
        }
        Ok(Fused { model, notes })
    }
}

/// The graph of a parent without what does not reach its logits.
fn living(parent: &Parent<'_>) -> Model {
    let mut model = parent.model.clone();
    dead_code::run(&mut model);
    model
}

/// share · a + (1 − share) · b.
fn mean(share: f64, a: Plan, b: Plan) -> Plan {
    match share {
        1.0 => a,
        0.0 => b,
        _ => Plan::Sum(vec![(share, a), (1.0 - share, b)]),
    }
}
