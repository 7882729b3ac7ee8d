//! Shapes of the parts of a plan, found from its sources upwards.

use jam_ir::Plan;

use super::PlanSources;
use crate::Result;

/// The shape that a plan has by itself; `None` where only its surroundings say it (zeros, draws).
///
/// # Errors
/// When a source is missing.
pub fn plan_shape(plan: &Plan, sources: &dyn PlanSources) -> Result<Option<Vec<u64>>> {
    Ok(match plan {
        Plan::Load { source, name } => sources.source(source)?.shape(name),
        // Operands of one shape, which is the result's.
        Plan::Sum(_)
        | Plan::Rows { .. }
        | Plan::Scale { .. }
        | Plan::Cast { .. }
        | Plan::Slerp { .. }
        | Plan::Stock { .. }
        | Plan::Trim { .. }
        | Plan::Keep { .. }
        | Plan::Elect { .. } => first_known(plan.operands().into_iter(), sources)?,
        Plan::Slice { axis, len, of, .. } => plan_shape(of, sources)?.and_then(|mut shape| {
            *shape.get_mut(*axis)? = *len;
            Some(shape)
        }),
        Plan::Take { axis, runs, of } => plan_shape(of, sources)?.and_then(|mut shape| {
            let lengths = runs.iter().map(|(_, len)| *len);
            *shape.get_mut(*axis)? = lengths.sum();
            Some(shape)
        }),
        Plan::Permute { order, of } => plan_shape(of, sources)?
            .and_then(|shape| order.iter().map(|axis| shape.get(*axis).copied()).collect()),
        Plan::Concat { axis, parts } => {
            let shapes = parts.iter().map(|part| plan_shape(part, sources));
            join(*axis, &shapes.collect::<Result<Vec<_>>>()?)
        }
        Plan::Grid {
            row_axis,
            column_axis,
            rows,
        } => {
            let blocks = grid_blocks(*row_axis, *column_axis, rows, None, sources)?;
            let rows = blocks.map(|blocks| {
                blocks
                    .iter()
                    .map(|row| join(*column_axis, &wrap(row)))
                    .collect::<Vec<_>>()
            });
            rows.and_then(|rows| join(*row_axis, &rows))
        }
        Plan::Bernoulli { .. }
        | Plan::Normal { .. }
        | Plan::TruncatedNormal { .. }
        | Plan::Zeros
        | Plan::Ones
        | Plan::Identity => None,
    })
}

fn wrap(shapes: &[Vec<u64>]) -> Vec<Option<Vec<u64>>> {
    shapes.iter().cloned().map(Some).collect()
}

fn first_known<'p>(
    plans: impl Iterator<Item = &'p Plan>,
    sources: &dyn PlanSources,
) -> Result<Option<Vec<u64>>> {
    for plan in plans {
        if let Some(shape) = plan_shape(plan, sources)? {
            return Ok(Some(shape));
        }
    }
    Ok(None)
}

/// Shape of tensors put one after the other along `axis`.
fn join(axis: usize, shapes: &[Option<Vec<u64>>]) -> Option<Vec<u64>> {
    let mut joined = shapes.first()?.clone()?;
    for shape in &shapes[1..] {
        *joined.get_mut(axis)? += shape.as_ref()?.get(axis)?;
    }
    Some(joined)
}

/// Shapes of the parts of a concatenation of shape `whole`: known ones as they are, one unknown
/// part takes what the others leave. `None` where that does not come out.
pub(super) fn concat_parts(
    axis: usize,
    parts: &[Plan],
    whole: &[u64],
    sources: &dyn PlanSources,
) -> Result<Option<Vec<Vec<u64>>>> {
    let known = parts
        .iter()
        .map(|part| plan_shape(part, sources))
        .collect::<Result<Vec<_>>>()?;
    let Some(total) = whole.get(axis) else {
        return Ok(None);
    };
    let taken = known
        .iter()
        .flatten()
        .try_fold(0u64, |sum, shape| sum.checked_add(*shape.get(axis)?));
    let unknown = known.iter().filter(|shape| shape.is_none()).count();
    let rest = taken.and_then(|taken| total.checked_sub(taken));
    Ok(match (unknown, rest) {
        (0, Some(0)) => known.into_iter().collect(),
        (1, Some(rest)) => {
            let mut missing = whole.to_vec();
            missing[axis] = rest;
            Some(
                known
                    .into_iter()
                    .map(|shape| shape.unwrap_or_else(|| missing.clone()))
                    .collect(),
            )
        }
        _ => None,
    })
}

/// Shapes of the blocks of a grid; a block without a shape of its own takes its height from its
/// block row and its width from its block column. `None` where that does not come out.
pub(super) fn grid_blocks(
    row_axis: usize,
    column_axis: usize,
    rows: &[Vec<Plan>],
    whole: Option<&[u64]>,
    sources: &dyn PlanSources,
) -> Result<Option<Vec<Vec<Vec<u64>>>>> {
    let mut known = Vec::new();
    for row in rows {
        let shapes = row.iter().map(|block| plan_shape(block, sources));
        known.push(shapes.collect::<Result<Vec<_>>>()?);
    }
    let columns = rows.first().map_or(0, Vec::len);
    let template = known.iter().flatten().flatten().next().cloned();
    let Some(template) = template.or_else(|| whole.map(<[u64]>::to_vec)) else {
        return Ok(None);
    };
    let even = |axis: usize, count: usize| {
        let size = *whole?.get(axis)?;
        size.is_multiple_of(count as u64)
            .then(|| size / count as u64)
    };
    let size_along = |axis: usize, shapes: &mut dyn Iterator<Item = &Option<Vec<u64>>>| {
        shapes
            .flatten()
            .next()
            .and_then(|shape| shape.get(axis).copied())
    };
    let mut blocks = Vec::new();
    for row in &known {
        let height = size_along(row_axis, &mut row.iter()).or_else(|| even(row_axis, rows.len()));
        let mut shapes = Vec::new();
        for (column, shape) in row.iter().enumerate() {
            let width = size_along(
                column_axis,
                &mut known.iter().filter_map(|row| row.get(column)),
            )
            .or_else(|| even(column_axis, columns));
            let (Some(height), Some(width)) = (height, width) else {
                return Ok(None);
            };
            let mut filled = shape.clone().unwrap_or_else(|| template.clone());
            if row_axis.max(column_axis) >= filled.len() {
                return Ok(None);
            }
            if shape.is_none() {
                filled[row_axis] = height;
                filled[column_axis] = width;
            }
            shapes.push(filled);
        }
        blocks.push(shapes);
    }
    Ok(Some(blocks))
}
