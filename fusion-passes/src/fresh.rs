//! How fresh parameters begin whose shape a strategy changed.

use jam_ir::plan_shape::plan_shape;
use jam_ir::{Block, Model, Plan};

/// How a matrix begins that has no way of its own: N(0, 0.02²), cut at three standard deviations.
pub(crate) const MATRIX: Plan = Plan::TruncatedNormal { sd: 0.02, cut: 3.0 };

/// Replaces the fresh values that no longer fit their parameter (an identity that is not square
/// any more): matrices begin as [`MATRIX`], others as zeros.
pub(crate) fn refit(model: &mut Model) {
    let sizes: Vec<Option<u64>> = model.axes.iter().map(|axis| axis.size).collect();
    let refit = |block: &mut Block| {
        for param in &mut block.params {
            let shape: Option<Vec<u64>> = param
                .ty
                .axes()
                .map(|axis| sizes.get(axis.0 as usize).copied().flatten())
                .collect();
            let fits = |shape: &Vec<u64>| plan_shape(&param.init, shape, &|_, _| None).is_ok();
            if shape.as_ref().is_some_and(|shape| !fits(shape)) {
                param.init = match param.ty.input.is_empty() {
                    true => Plan::Zeros,
                    false => MATRIX,
                };
            }
        }
    };
    model
        .blocks
        .values_mut()
        .chain([&mut model.main])
        .for_each(refit);
}
