//! Weights: that the graph and the weight plan agree.

use indexmap::IndexMap;

use super::{Place, Problems};
use crate::plan_shape::plan_shape;
use crate::{Block, Model, Op, Param, join_path};

/// Every weight against the parameter that asks for it. Calls must be known to end.
pub(super) fn check_weights(model: &Model, problems: &mut Problems) {
    let mut uses: IndexMap<String, &Param> = IndexMap::new();
    let mut clashes: IndexMap<String, &Param> = IndexMap::new();
    collect(model, &model.main, "", &mut uses, &mut clashes);
    for (name, param) in clashes {
        let message = "two different parameters ask for this weight";
        problems.add(Place::Weight(name), param.span, message);
    }
    let mut total: u64 = 0;
    let mut fits = true;
    for (name, param) in &uses {
        let span = model.weights.get(name).and_then(|weight| weight.span);
        let span = span.or(param.span);
        let mut report = |message: String| problems.add(Place::Weight(name.clone()), span, message);
        let shape = model.weight_shape(&param.ty);
        if let Some(shape) = &shape {
            let elements = shape.iter().try_fold(1u64, |n, size| n.checked_mul(*size));
            let bytes = elements.and_then(|n| n.checked_mul(param.ty.dtype.bytes()));
            match bytes {
                None => report(format!("its size {shape:?} does not fit 64 bits")),
                Some(bytes) => match total.checked_add(bytes) {
                    Some(sum) => total = sum,
                    None => fits = false,
                },
            }
        }
        match model.weights.get(name) {
            None => report("the graph asks for it, but it has no plan".to_owned()),
            Some(weight) => {
                let shape = shape.unwrap_or_default();
                if !shape.is_empty()
                    && let Err(error) = plan_shape(&weight.plan, &shape, &|_, _| None)
                {
                    report(format!("its plan does not give shape {shape:?}: {error}"));
                }
            }
        }
    }
    if !fits {
        let message = "the bytes of all weights together do not fit 64 bits";
        problems.add(Place::Model, None, message);
    }
    for (name, weight) in &model.weights {
        if !uses.contains_key(name) {
            let message = "it has a plan, but nothing in the graph asks for it";
            problems.add(Place::Weight(name.clone()), weight.span, message);
        }
    }
}

/// Every weight with its parameter, and those that a second parameter asks for.
fn collect<'m>(
    model: &'m Model,
    block: &'m Block,
    path: &str,
    uses: &mut IndexMap<String, &'m Param>,
    clashes: &mut IndexMap<String, &'m Param>,
) {
    for statement in &block.body {
        if let Op::Call { block, at, .. } = &statement.op
            && let Some(callee) = model.blocks.get(block)
        {
            collect(model, callee, &join_path(path, at), uses, clashes);
        }
        for id in statement.op.params() {
            let Some(param) = block.params.get(id.0 as usize) else {
                continue; // Reported with the block.
            };
            let name = join_path(path, &param.name);
            match uses.get(&name) {
                Some(other) if !std::ptr::eq(*other, param) => {
                    clashes.insert(name, param);
                }
                Some(_) => {}
                None => {
                    uses.insert(name, param);
                }
            }
        }
    }
}
