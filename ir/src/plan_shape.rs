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

/// The shape of a plan from the tensors it reads alone, as far as it is known.
///
/// # Errors
/// As [`plan_shape`].
pub fn own_shape(
    plan: &Plan,
    lookup: &dyn Fn(&str, &str) -> Option<Vec<u64>>,
) -> Result<Option<Vec<u64>>> {
    Ok(climb(plan, lookup, 0)?.known())
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
    let children: Vec<&Plan> = match plan {
        Plan::Sum(terms) => terms.iter().map(|(_, plan)| plan).collect(),
        Plan::Grid { rows, .. } => rows.iter().flatten().collect(),
        Plan::Concat { parts, .. } => parts.iter().collect(),
        Plan::Rows { sources, .. } => sources.iter().collect(),
        Plan::Slice { of, .. }
        | Plan::Permute { of, .. }
        | Plan::Scale { of, .. }
        | Plan::Cast { of, .. } => vec![of.as_ref()],
        _ => Vec::new(),
    };
    let parts = children
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
        Plan::Slice { axis, .. } => {
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
pub(crate) fn plan_word(plan: &Plan) -> &'static str {
    match plan {
        Plan::Load { .. } => "load",
        Plan::Sum(_) => "sum",
        Plan::Grid { .. } => "grid",
        Plan::Concat { .. } => "concat",
        Plan::Slice { .. } => "slice",
        Plan::Rows { .. } => "rows",
        Plan::Permute { .. } => "permute",
        Plan::Scale { .. } => "scale",
        Plan::Cast { .. } => "cast",
        Plan::Normal { .. } => "normal",
        Plan::TruncatedNormal { .. } => "truncated_normal",
        Plan::Zeros => "zeros",
        Plan::Ones => "ones",
        Plan::Identity => "identity",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `m` is [4, 6], `n` is [4, 2], `v` is [6].
    fn lookup(_: &str, name: &str) -> Option<Vec<u64>> {
        match name {
            "m" => Some(vec![4, 6]),
            "n" => Some(vec![4, 2]),
            "v" => Some(vec![6]),
            _ => None,
        }
    }

    fn load(name: &str) -> Plan {
        Plan::load("llm", name)
    }

    fn slice(axis: usize, start: u64, len: u64) -> Plan {
        let of = Box::new(load("m"));
        Plan::Slice {
            axis,
            start,
            len,
            of,
        }
    }

    fn grid(rows: Vec<Vec<Plan>>) -> Plan {
        Plan::Grid {
            row_axis: 0,
            column_axis: 1,
            rows,
        }
    }

    fn concat(axis: usize, parts: Vec<Plan>) -> Plan {
        Plan::Concat { axis, parts }
    }

    #[test]
    fn fresh_blocks_take_their_shape_from_their_neighbours() {
        let plan = grid(vec![
            vec![load("m"), Plan::Zeros],
            vec![Plan::Normal { sd: 1.0 }, load("n")],
        ]);
        let shaped = plan_shape(&plan, &[8, 8], &lookup).unwrap();
        let shapes: Vec<_> = shaped.parts.iter().map(ShapedPlan::known).collect();
        let of = |shape: [u64; 2]| Some(shape.to_vec());
        assert_eq!(shapes, [of([4, 6]), of([4, 2]), of([4, 6]), of([4, 2])]);
        assert_eq!(own_shape(&plan, &lookup), Ok(of([8, 8])));

        let plan = concat(1, vec![load("n"), Plan::Ones, load("m")]);
        let shaped = plan_shape(&plan, &[4, 11], &lookup).unwrap();
        assert_eq!(shaped.parts[1].known(), of([4, 3]));
        assert!(shaped.is_known());
        assert_eq!(own_shape(&plan, &lookup), Ok(None));
    }

    #[test]
    fn shapes_flow_through_permutations_slices_and_runs() {
        let plan = Plan::Permute {
            order: vec![1, 0],
            of: Box::new(slice(1, 2, 3)),
        };
        let shaped = plan_shape(&plan, &[3, 4], &lookup).unwrap();
        assert_eq!(shaped.parts[0].known(), Some(vec![4, 3]));
        let plan = Plan::Rows {
            runs: vec![(1, 0), (2, 1), (1, 0)],
            sources: vec![load("m"), Plan::Zeros],
        };
        let shaped = plan_shape(&plan, &[4, 6], &lookup).unwrap();
        assert!(shaped.is_known());
    }

    #[test]
    fn what_is_not_known_stays_unknown() {
        let plan = concat(0, vec![load("?"), load("?")]);
        let shaped = plan_shape(&plan, &[4, 6], &lookup).unwrap();
        assert_eq!(shaped.parts[0].shape, Some(vec![None, Some(6)]));
        assert!(!shaped.is_known());
        assert!(shaped.parts[0].known().is_none());
    }

    #[test]
    fn what_does_not_add_up_is_said() {
        let rows = |runs: Vec<(u64, usize)>| Plan::Rows {
            runs,
            sources: vec![load("m"), load("m")],
        };
        let permute = |order: Vec<usize>| Plan::Permute {
            order,
            of: Box::new(load("m")),
        };
        let mut deep = load("m");
        for _ in 0..MAX_PLAN_DEPTH {
            deep = Plan::Sum(vec![(1.0, deep)]);
        }
        for (plan, wanted, words) in [
            (
                load("m"),
                vec![4, 7],
                "load: [4, 7] and [4, 6] do not agree",
            ),
            (load("m"), vec![4], "load: [4] and [4, 6] do not agree"),
            (Plan::Sum(vec![]), vec![4], "nothing to add"),
            (
                Plan::Sum(vec![(1.0, load("m")), (1.0, load("n"))]),
                vec![4, 6],
                "sum: [4, 6] and [4, 2] do not agree",
            ),
            (
                Plan::Sum(vec![(f64::NAN, load("m"))]),
                vec![4, 6],
                "not finite",
            ),
            (grid(vec![]), vec![4, 6], "rows must be of one length"),
            (
                grid(vec![vec![load("m"), load("m")], vec![load("m")]]),
                vec![8, 12],
                "rows must be of one length",
            ),
            (
                grid(vec![vec![load("m")], vec![load("n")]]),
                vec![8, 6],
                "row 1, column 0 is [4, 2]",
            ),
            (
                Plan::Grid {
                    row_axis: 1,
                    column_axis: 1,
                    rows: vec![vec![load("m")]],
                },
                vec![4, 6],
                "the same axis",
            ),
            (grid(vec![vec![load("v")]]), vec![6], "no axis 1 in [6]"),
            (concat(0, vec![]), vec![4], "nothing to put"),
            (
                concat(0, vec![load("m"), load("n")]),
                vec![8, 6],
                "do not agree",
            ),
            (
                concat(0, vec![load("m"), Plan::Ones]),
                vec![4, 6],
                "add up to 4",
            ),
            (concat(0, vec![load("m")]), vec![5, 6], "do not agree"),
            (
                concat(2, vec![load("m")]),
                vec![4, 6],
                "no axis 2 in [4, 6]",
            ),
            (slice(1, 4, 3), vec![4, 3], "3 entries from 4 on"),
            (slice(1, u64::MAX, 3), vec![4, 3], "are not in axis 1"),
            (slice(1, 0, 0), vec![4, 0], "0 entries"),
            (slice(2, 0, 1), vec![4, 6], "no axis 2"),
            (rows(vec![(3, 0)]), vec![4, 6], "cover 3 rows, not 4"),
            (rows(vec![(4, 2)]), vec![4, 6], "no source 2"),
            (rows(vec![(4, 0), (0, 1)]), vec![4, 6], "a run is empty"),
            (rows(vec![(u64::MAX, 0), (5, 0)]), vec![4, 6], "64 bits"),
            (permute(vec![0, 0]), vec![4, 6], "no permutation"),
            (permute(vec![0, 2]), vec![4, 6], "no permutation"),
            (permute(vec![0]), vec![4], "permute: [4, 6] and [?]"),
            (permute(vec![1, 0]), vec![4, 6], "do not agree"),
            (Plan::Identity, vec![4, 6], "[4, 6] is not square"),
            (Plan::Identity, vec![6], "do not agree"),
            (Plan::Normal { sd: -1.0 }, vec![6], "not negative"),
            (
                Plan::TruncatedNormal { sd: 1.0, cut: 0.0 },
                vec![6],
                "positive",
            ),
            (
                Plan::Cast {
                    dtype: crate::DType::U32,
                    of: Box::new(load("v")),
                },
                vec![6],
                "float types",
            ),
            (
                Plan::Scale {
                    by: f64::INFINITY,
                    of: Box::new(load("v")),
                },
                vec![6],
                "not finite",
            ),
            (deep, vec![4, 6], "nested deeper than 64"),
        ] {
            let error = plan_shape(&plan, &wanted, &lookup).unwrap_err().to_string();
            assert!(error.contains(words), "{words:?} is not in {error:?}");
        }
    }
}
