//! Shapes of plans: what every part of a plan is shaped like, and whether it adds up.
//!
//! Fresh tensors (`zeros`, `normal`, …) have no shape of their own: they take it from where they
//! stand. So shapes flow up from loaded tensors and down from the weight that is planned; what
//! neither way settles stays unknown.

use std::fmt;

use crate::Plan;

/// Deepest nesting of a plan.
pub const MAX_PLAN_DEPTH: usize = 64;

/// Why a plan does not add up: one sentence, understandable alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError(pub String);

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlanError {}

type Result<T> = std::result::Result<T, PlanError>;

fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(PlanError(message.into()))
}

/// A plan with the shape of each of its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct ShapedPlan<'p> {
    /// The plan.
    pub plan: &'p Plan,
    /// Sizes of its axes as far as they are known; `None` where not even their number is.
    pub shape: Option<Vec<Option<u64>>>,
    /// Its operands in the order in which [`Plan::for_each`] visits them.
    pub parts: Vec<ShapedPlan<'p>>,
}

impl ShapedPlan<'_> {
    /// Its sizes when all are known.
    pub fn known(&self) -> Option<Vec<u64>> {
        self.shape.as_ref()?.iter().copied().collect()
    }

    /// Whether the sizes of all its parts are known.
    pub fn is_known(&self) -> bool {
        self.known().is_some() && self.parts.iter().all(ShapedPlan::is_known)
    }
}

/// The shapes of a plan for a weight of shape `wanted`.
///
/// `lookup` gives the shape of a weight of a source, or `None` where it is not known (yet): then
/// all that can be checked without it is checked.
///
/// # Errors
/// Says what does not fit: shapes that differ, a grid with ragged rows, runs that do not cover, an
/// order that is no permutation, an axis that is not there, nesting deeper than
/// [`MAX_PLAN_DEPTH`].
pub fn plan_shape<'p>(
    plan: &'p Plan,
    wanted: &[u64],
    lookup: &dyn Fn(&str, &str) -> Option<Vec<u64>>,
) -> Result<ShapedPlan<'p>> {
    let mut shaped = climb(plan, lookup, 0)?;
    let wanted = wanted.iter().map(|size| Some(*size)).collect();
    descend(&mut shaped, Some(wanted))?;
    Ok(shaped)
}

/// Sizes as far as they are known.
type Partial = Option<Vec<Option<u64>>>;

fn shape_text(shape: &[Option<u64>]) -> String {
    let size = |size: &Option<u64>| size.map_or("?".to_owned(), |size| size.to_string());
    let sizes: Vec<String> = shape.iter().map(size).collect();
    format!("[{}]", sizes.join(", "))
}

fn unify_size(a: Option<u64>, b: Option<u64>) -> Option<Option<u64>> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => None,
        _ => Some(a.or(b)),
    }
}

/// What both shapes say together.
fn unify(a: Partial, b: Partial, what: &str) -> Result<Partial> {
    let (Some(left), Some(right)) = (&a, &b) else {
        return Ok(a.or(b));
    };
    let sizes = left.iter().zip(right).map(|(a, b)| unify_size(*a, *b));
    match sizes.collect::<Option<Vec<_>>>() {
        Some(shape) if left.len() == right.len() => Ok(Some(shape)),
        _ => fail(format!(
            "{what}: {} and {} do not agree",
            shape_text(left),
            shape_text(right)
        )),
    }
}

/// The size of an axis; `Err` when the shape is known and has no such axis.
fn size_of(shape: &Partial, axis: usize, what: &str) -> Result<Option<u64>> {
    match shape {
        None => Ok(None),
        Some(sizes) => match sizes.get(axis) {
            Some(size) => Ok(*size),
            None => fail(format!(
                "{what}: there is no axis {axis} in {}",
                shape_text(sizes)
            )),
        },
    }
}

/// The shape with an axis of another size.
fn with_size(shape: Partial, axis: usize, size: Option<u64>) -> Partial {
    let mut shape = shape?;
    if let Some(slot) = shape.get_mut(axis) {
        *slot = size;
    }
    Some(shape)
}

fn sum(sizes: &[Option<u64>], what: &str) -> Result<Option<u64>> {
    let mut total = Some(0u64);
    for size in sizes {
        total = match (total, size) {
            (Some(total), Some(size)) => match total.checked_add(*size) {
                Some(total) => Some(total),
                None => return fail(format!("{what}: the sizes add up to more than 64 bits")),
            },
            _ => None,
        };
    }
    Ok(total)
}

/// Fills in the one unknown length of a row of parts whose total is known.
fn complete(lengths: &mut [Option<u64>], total: Option<u64>, what: &str) -> Result<()> {
    let Some(total) = total else { return Ok(()) };
    let known: Vec<Option<u64>> = lengths
        .iter()
        .filter(|len| len.is_some())
        .copied()
        .collect();
    let Some(known_total) = sum(&known, what)? else {
        return Ok(());
    };
    let missing = lengths.len() - known.len();
    if known_total > total || (missing == 0) != (known_total == total) {
        return fail(format!(
            "{what}: the parts add up to {known_total}, not {total}"
        ));
    }
    if missing == 1 {
        for len in lengths.iter_mut().filter(|len| len.is_none()) {
            *len = Some(total - known_total);
        }
    }
    Ok(())
}

/// Heights of block rows, widths of block columns, and the shape that blocks share elsewhere.
struct GridLines {
    heights: Vec<Option<u64>>,
    widths: Vec<Option<u64>>,
    rest: Partial,
}

fn grid_lines(
    parts: &[ShapedPlan<'_>],
    columns: usize,
    row_axis: usize,
    column_axis: usize,
) -> Result<GridLines> {
    let mut heights = vec![None; parts.len() / columns.max(1)];
    let mut widths = vec![None; columns];
    let mut rest = None;
    for (index, part) in parts.iter().enumerate() {
        let (row, column) = (index / columns, index % columns);
        let height = size_of(&part.shape, row_axis, "grid")?;
        let width = size_of(&part.shape, column_axis, "grid")?;
        let (Some(height), Some(width)) = (
            unify_size(heights[row], height),
            unify_size(widths[column], width),
        ) else {
            return fail(format!(
                "grid: the block in row {row}, column {column} is {}, which does not fit its \
                 neighbours",
                shape_text(part.shape.as_deref().unwrap_or_default())
            ));
        };
        heights[row] = height;
        widths[column] = width;
        let others = with_size(part.shape.clone(), row_axis, None);
        rest = unify(rest, with_size(others, column_axis, None), "grid")?;
    }
    Ok(GridLines {
        heights,
        widths,
        rest,
    })
}

/// Shapes from the leaves up.
fn climb<'p>(
    plan: &'p Plan,
    lookup: &dyn Fn(&str, &str) -> Option<Vec<u64>>,
    depth: usize,
) -> Result<ShapedPlan<'p>> {
    if depth >= MAX_PLAN_DEPTH {
        return fail(format!("the plan is nested deeper than {MAX_PLAN_DEPTH}"));
    }
    let parts = plan
        .operands()
        .into_iter()
        .map(|child| climb(child, lookup, depth + 1))
        .collect::<Result<Vec<_>>>()?;
    let shape = own(plan, &parts, lookup)?;
    Ok(ShapedPlan { plan, shape, parts })
}

/// The shape of a plan from those of its parts, with everything checked that needs no more.
fn own(
    plan: &Plan,
    parts: &[ShapedPlan<'_>],
    lookup: &dyn Fn(&str, &str) -> Option<Vec<u64>>,
) -> Result<Partial> {
    let only = || parts.first().and_then(|part| part.shape.clone());
    match plan {
        Plan::Load { source, name } => {
            let shape = lookup(source, name);
            Ok(shape.map(|sizes| sizes.into_iter().map(Some).collect()))
        }
        Plan::Sum(terms) => {
            if terms.is_empty() {
                return fail("sum: there is nothing to add");
            }
            if terms.iter().any(|(weight, _)| !weight.is_finite()) {
                return fail("sum: a factor is not finite");
            }
            agreed(parts, "sum")
        }
        Plan::Grid {
            row_axis,
            column_axis,
            rows,
        } => {
            let columns = rows.first().map_or(0, Vec::len);
            if columns == 0 || rows.iter().any(|row| row.len() != columns) {
                return fail("grid: rows must be of one length and not empty");
            }
            if row_axis == column_axis {
                return fail("grid: rows and columns run along the same axis");
            }
            let lines = grid_lines(parts, columns, *row_axis, *column_axis)?;
            let shape = with_size(lines.rest, *row_axis, sum(&lines.heights, "grid")?);
            Ok(with_size(shape, *column_axis, sum(&lines.widths, "grid")?))
        }
        Plan::Concat { axis, .. } => {
            if parts.is_empty() {
                return fail("concat: there is nothing to put side by side");
            }
            let (lengths, rest) = concat_lines(parts, *axis)?;
            Ok(with_size(rest, *axis, sum(&lengths, "concat")?))
        }
        Plan::Slice {
            axis, start, len, ..
        } => {
            let size = size_of(&only(), *axis, "slice")?;
            let end = start.checked_add(*len);
            if *len == 0 || end.is_none() || size.is_some_and(|size| end > Some(size)) {
                return fail(format!(
                    "slice: {len} entries from {start} on are not in axis {axis} of size {}",
                    size.map_or("?".to_owned(), |size| size.to_string())
                ));
            }
            Ok(with_size(only(), *axis, Some(*len)))
        }
        Plan::Take { axis, runs, .. } => {
            let size = size_of(&only(), *axis, "take")?;
            for (start, len) in runs {
                let end = start.checked_add(*len);
                if *len == 0 || end.is_none() || size.is_some_and(|size| end > Some(size)) {
                    return fail(format!(
                        "take: {len} entries from {start} on are not in axis {axis} of size {}",
                        size.map_or("?".to_owned(), |size| size.to_string())
                    ));
                }
            }
            if runs.is_empty() {
                return fail("take: there is no run");
            }
            let lengths: Vec<Option<u64>> = runs.iter().map(|(_, len)| Some(*len)).collect();
            Ok(with_size(only(), *axis, sum(&lengths, "take")?))
        }
        Plan::Rows { runs, .. } => {
            if let Some((_, index)) = runs.iter().find(|(_, index)| *index >= parts.len()) {
                return fail(format!("rows: there is no source {index}"));
            }
            if parts.is_empty() || runs.iter().any(|(len, _)| *len == 0) {
                return fail("rows: a run is empty, or there is no source");
            }
            let lengths: Vec<Option<u64>> = runs.iter().map(|(len, _)| Some(*len)).collect();
            let total = sum(&lengths, "rows")?;
            let shape = agreed(parts, "rows")?;
            let rows = size_of(&shape, 0, "rows")?;
            if unify_size(rows, total).is_none() {
                return fail(format!(
                    "rows: the runs cover {} rows, not {}",
                    total.unwrap_or(0),
                    rows.unwrap_or(0)
                ));
            }
            Ok(with_size(shape, 0, total))
        }
        Plan::Permute { order, .. } => {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if sorted
                .iter()
                .enumerate()
                .any(|(index, axis)| index != *axis)
            {
                return fail(format!("permute: {order:?} is no permutation"));
            }
            let unknown = vec![None; order.len()];
            let shape = unify(only(), Some(unknown), "permute")?;
            Ok(shape.map(|sizes| order.iter().map(|axis| sizes[*axis]).collect()))
        }
        Plan::Scale { by, .. } => match by.is_finite() {
            true => Ok(only()),
            false => fail("scale: the factor is not finite"),
        },
        Plan::Cast { dtype, .. } => match dtype.is_float() {
            true => Ok(only()),
            false => fail("cast: weights are of float types"),
        },
        Plan::Slerp { t, straight, .. } => {
            match t.is_finite() && *straight > 0.0 && *straight <= 1.0 {
                true => agreed(parts, "slerp"),
                false => fail("slerp: `t` must be finite, and the bound of its cosine in (0, 1]"),
            }
        }
        Plan::Stock { of, .. } => match of.len() {
            0 | 1 => fail("stock: there are no two tensors beside the base"),
            _ => agreed(parts, "stock"),
        },
        Plan::Trim { density, .. } => match (0.0..=1.0).contains(density) {
            true => Ok(only()),
            false => fail("trim: the density must be between 0 and 1"),
        },
        Plan::Keep { .. } => agreed(parts, "keep"),
        Plan::Elect { terms, .. } => {
            if terms.is_empty() {
                return fail("elect: there is nothing to elect from");
            }
            if terms.iter().any(|(weight, _)| !weight.is_finite()) {
                return fail("elect: a weight is not finite");
            }
            agreed(parts, "elect")
        }
        Plan::Bernoulli { p } => match (0.0..=1.0).contains(p) {
            true => Ok(None),
            false => fail("bernoulli: the probability must be between 0 and 1"),
        },
        Plan::Normal { sd } => match sd.is_finite() && *sd >= 0.0 {
            true => Ok(None),
            false => fail("normal: the standard deviation must be finite and not negative"),
        },
        Plan::TruncatedNormal { sd, cut } => {
            match sd.is_finite() && *sd >= 0.0 && cut.is_finite() && *cut > 0.0 {
                true => Ok(None),
                false => fail("truncated_normal: deviation and cut must be finite and positive"),
            }
        }
        Plan::Zeros | Plan::Ones => Ok(None),
        Plan::Identity => Ok(Some(vec![None, None])),
    }
}

/// The shape that all parts share.
fn agreed(parts: &[ShapedPlan<'_>], what: &str) -> Result<Partial> {
    let mut shape = None;
    for part in parts {
        shape = unify(shape, part.shape.clone(), what)?;
    }
    Ok(shape)
}

/// Lengths along the axis, and the shape shared elsewhere.
fn concat_lines(parts: &[ShapedPlan<'_>], axis: usize) -> Result<(Vec<Option<u64>>, Partial)> {
    let mut lengths = Vec::with_capacity(parts.len());
    let mut rest = None;
    for part in parts {
        lengths.push(size_of(&part.shape, axis, "concat")?);
        rest = unify(rest, with_size(part.shape.clone(), axis, None), "concat")?;
    }
    Ok((lengths, rest))
}

/// Shapes from the weight down.
fn descend(shaped: &mut ShapedPlan<'_>, wanted: Partial) -> Result<()> {
    let what = plan_word(shaped.plan);
    let shape = unify(wanted, shaped.shape.take(), what)?;
    match shaped.plan {
        Plan::Grid {
            row_axis,
            column_axis,
            rows,
        } => {
            let columns = rows.first().map_or(0, Vec::len);
            let GridLines {
                mut heights,
                mut widths,
                ..
            } = grid_lines(&shaped.parts, columns, *row_axis, *column_axis)?;
            complete(&mut heights, size_of(&shape, *row_axis, what)?, what)?;
            complete(&mut widths, size_of(&shape, *column_axis, what)?, what)?;
            for (index, part) in shaped.parts.iter_mut().enumerate() {
                let block = with_size(shape.clone(), *row_axis, heights[index / columns]);
                descend(
                    part,
                    with_size(block, *column_axis, widths[index % columns]),
                )?;
            }
        }
        Plan::Concat { axis, .. } => {
            let (mut lengths, _) = concat_lines(&shaped.parts, *axis)?;
            complete(&mut lengths, size_of(&shape, *axis, what)?, what)?;
            for (part, len) in shaped.parts.iter_mut().zip(lengths) {
                descend(part, with_size(shape.clone(), *axis, len))?;
            }
        }
        Plan::Slice { axis, .. } | Plan::Take { axis, .. } => {
            size_of(&shape, *axis, what)?;
            for part in &mut shaped.parts {
                let len = size_of(&part.shape, *axis, what)?;
                descend(part, with_size(shape.clone(), *axis, len))?;
            }
        }
        Plan::Permute { order, .. } => {
            let mut operand = shape.clone();
            if let (Some(operand), Some(shape)) = (&mut operand, &shape) {
                // `unify` with the own shape made the lengths equal.
                for (axis, size) in order.iter().zip(shape) {
                    operand[*axis] = *size;
                }
            }
            for part in &mut shaped.parts {
                descend(part, operand.clone())?;
            }
        }
        Plan::Identity => {
            if let Some([Some(rows), Some(columns)]) = shape.as_deref()
                && rows != columns
            {
                return fail(format!("identity: [{rows}, {columns}] is not square"));
            }
        }
        Plan::Rows { .. } => {
            size_of(&shape, 0, what)?;
            for part in &mut shaped.parts {
                descend(part, shape.clone())?;
            }
        }
        _ => {
            for part in &mut shaped.parts {
                descend(part, shape.clone())?;
            }
        }
    }
    shaped.shape = shape;
    Ok(())
}

/// The word of the text form.
pub fn plan_word(plan: &Plan) -> &'static str {
    match plan {
        Plan::Load { .. } => "load",
        Plan::Sum(_) => "sum",
        Plan::Grid { .. } => "grid",
        Plan::Concat { .. } => "concat",
        Plan::Slice { .. } => "slice",
        Plan::Take { .. } => "take",
        Plan::Rows { .. } => "rows",
        Plan::Permute { .. } => "permute",
        Plan::Scale { .. } => "scale",
        Plan::Cast { .. } => "cast",
        Plan::Slerp { .. } => "slerp",
        Plan::Stock { .. } => "stock",
        Plan::Trim { .. } => "trim",
        Plan::Keep { .. } => "keep",
        Plan::Elect { .. } => "elect",
        Plan::Bernoulli { .. } => "bernoulli",
        Plan::Normal { .. } => "normal",
        Plan::TruncatedNormal { .. } => "truncated_normal",
        Plan::Zeros => "zeros",
        Plan::Ones => "ones",
        Plan::Identity => "identity",
    }
}

#[cfg(test)]
mod tests;
