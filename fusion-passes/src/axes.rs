//! The axes that a block names.

use jam_ir::{AxisId, Block, Op};

/// Visits, and may replace, every axis that a block's types or operations name.
pub(crate) fn for_each_axis_of(block: &mut Block, visit: &mut impl FnMut(&mut AxisId)) {
    for value in &mut block.values {
        value.ty.axes.iter_mut().for_each(&mut *visit);
    }
    for param in &mut block.params {
        param.ty.input.iter_mut().for_each(&mut *visit);
        param.ty.output.iter_mut().for_each(&mut *visit);
    }
    for statement in &mut block.body {
        if let Op::Concat { axis, .. } | Op::Slice { axis, .. } = &mut statement.op {
            visit(axis);
        }
    }
}
