//! SLERP: every weight lies on the arc between the parents' weights, each tensor one vector
//! (Shoemake, 1985; a tensor whose ends have |cos| > 0.9995 is mixed straight, as in mergekit).

use jam_ir::{Diagnostic, Plan, Settings, Signature, StrategySignature};

use crate::merge::merge;
use crate::settings::{Read, graded};
use crate::{Fused, Parent, Strategy};

/// Cosine above which the arc is taken for straight.
const STRAIGHT: f64 = 0.9995;

/// The strategy.
pub(crate) struct Slerp;

impl Strategy for Slerp {
    fn signature(&self) -> StrategySignature {
        StrategySignature {
            signature: Signature::new(
                "slerp",
                "every weight lies on the arc between the parents' weights",
            )
            .with([graded(
                "t",
                (0.0, 1.0),
                0.5,
                false,
                "how far from the first parent to the second",
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
        let t = Read(settings).graded("t")?;
        merge(name, parents, settings, |found| {
            let ends = || found.of.iter().cloned();
            arc(t.at(found.spot), STRAIGHT, ends())
        })
    }
}

/// The arc between two tensors; each end is itself.
pub(crate) fn arc(
    t: f64,
    straight: f64,
    ends: impl IntoIterator<Item = Plan>,
) -> Result<Plan, String> {
    let mut ends = ends.into_iter();
    let (Some(from), Some(to), None) = (ends.next(), ends.next(), ends.next()) else {
        return Err("an arc has two ends".to_owned());
    };
    Ok(match t {
        0.0 => from,
        1.0 => to,
        _ => Plan::Slerp {
            t,
            straight,
            from: Box::new(from),
            to: Box::new(to),
        },
    })
}
