//! A plan evaluated for a run of rows.

use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use jam_ir::{DType, Plan};

use super::PlanSources;
use super::fresh::DrawSeed;
use super::group::{Group, Member};
use super::merging::{Measures, Merge};
use super::shape::{concat_parts, grid_blocks, plan_shape};
use crate::{Error, Result};

/// One weight whose plan is carried out row by row.
///
/// What a plan needs of whole tensors (the angle of a slerp, the threshold of a trim) is measured
/// when the first rows are asked for, and kept: one `PlanRows` should give all rows of its weight, or
/// several share their [`Measures`].
#[derive(Clone)]
pub struct PlanRows<'a> {
    plan: &'a Plan,
    name: &'a str,
    shape: &'a [u64],
    seed: u64,
    sources: &'a dyn PlanSources,
    pub(super) measures: Arc<Measures>,
    pub(super) group: Option<&'a Group<'a>>,
}

impl<'a> PlanRows<'a> {
    /// The weight `name` of this shape (JAM layout), in a program with this seed.
    pub fn new(
        plan: &'a Plan,
        name: &'a str,
        shape: &'a [u64],
        seed: u64,
        sources: &'a dyn PlanSources,
    ) -> PlanRows<'a> {
        PlanRows {
            plan,
            name,
            shape,
            seed,
            sources,
            measures: Arc::default(),
            group: None,
        }
    }

    /// The same with measures that others of this weight share.
    pub fn with_measures(mut self, measures: &Arc<Measures>) -> PlanRows<'a> {
        self.measures = Arc::clone(measures);
        self
    }

    /// The same, measured together with the others of a group that the weight is in; measures are shared by all
    /// of them.
    pub fn in_group(mut self, group: Option<&'a Group<'a>>) -> PlanRows<'a> {
        self.group = group;
        self
    }

    /// The rows of another weight of the same group.
    pub(super) fn of_member<'m>(&self, member: &'m Member<'_>) -> PlanRows<'m>
    where
        'a: 'm,
    {
        PlanRows {
            plan: member.plan,
            name: &member.name,
            shape: &member.shape,
            seed: self.seed,
            sources: self.sources,
            measures: Arc::clone(&self.measures),
            group: self.group,
        }
    }

    /// Whether these are rows of the same weight.
    pub(super) fn is_of(&self, other: &PlanRows<'_>) -> bool {
        self.name == other.name
    }

    /// All its numbers, row-major.
    ///
    /// # Errors
    /// As [`PlanRows::rows`].
    pub fn all(&self) -> Result<Vec<f32>> {
        self.rows(0..self.shape.first().copied().unwrap_or(1))
    }

    /// The numbers of some rows of the first axis, row-major.
    ///
    /// # Errors
    /// When a source is missing or cannot be read, or the plan does not give this shape.
    pub fn rows(&self, rows: Range<u64>) -> Result<Vec<f32>> {
        self.eval(self.plan, self.shape, rows, &mut String::new())
    }

    fn eval(
        &self,
        plan: &Plan,
        shape: &[u64],
        rows: Range<u64>,
        place: &mut String,
    ) -> Result<Vec<f32>> {
        let width = count(shape.get(1..).unwrap_or(&[]))?;
        let count_rows = (rows.end - rows.start) as usize;
        let draws = |place: &str| DrawSeed::new(self.seed, self.name, place);
        Ok(match plan {
            Plan::Load { source, name } => {
                let found = self.sources.source(source)?;
                let found_shape = found.shape(name);
                if found_shape.as_deref() != Some(shape) {
                    let found = match found_shape {
                        Some(found) => format!("is {found:?}"),
                        None => "is missing".to_owned(),
                    };
                    return Err(self.wrong(format!(
                        "`{name}` of `{source}` {found}, and {shape:?} is needed"
                    )));
                }
                found.rows(name, rows)?
            }
            Plan::Sum(terms) => {
                let mut sum = vec![0.0; width * count_rows];
                for (index, (factor, term)) in terms.iter().enumerate() {
                    let numbers = self.nested(term, shape, rows.clone(), place, index)?;
                    let factor = *factor as f32;
                    sum.iter_mut()
                        .zip(numbers)
                        .for_each(|(sum, x)| *sum += factor * x);
                }
                sum
            }
            Plan::Concat { axis, parts } => {
                let shapes = concat_parts(*axis, parts, shape, self.sources)?
                    .ok_or_else(|| self.misfit("concatenation", shape))?;
                let parts: Vec<_> = parts.iter().zip(&shapes).collect();
                self.concat(
                    *axis,
                    shape,
                    rows,
                    parts.len(),
                    |index, rows| {
                        let (part, shape) = parts[index];
                        Ok((
                            shape.clone(),
                            self.nested(part, shape, rows, &mut place.clone(), index)?,
                        ))
                    },
                    &shapes,
                )?
            }
            Plan::Grid {
                row_axis,
                column_axis,
                rows: blocks,
            } => {
                let shapes =
                    grid_blocks(*row_axis, *column_axis, blocks, Some(shape), self.sources)?
                        .ok_or_else(|| self.misfit("grid", shape))?;
                let mut row_shapes = Vec::new();
                for row in &shapes {
                    let mut joined = row.first().cloned().unwrap_or_default();
                    joined[*column_axis] = row.iter().map(|block| block[*column_axis]).sum();
                    row_shapes.push(joined);
                }
                self.concat(
                    *row_axis,
                    shape,
                    rows,
                    blocks.len(),
                    |r, rows| {
                        let whole = row_shapes[r].clone();
                        let numbers = self.concat(
                            *column_axis,
                            &whole,
                            rows,
                            blocks[r].len(),
                            |c, rows| {
                                let index = r * blocks[r].len() + c;
                                let block = &blocks[r][c];
                                let shape = &shapes[r][c];
                                Ok((
                                    shape.clone(),
                                    self.nested(block, shape, rows, &mut place.clone(), index)?,
                                ))
                            },
                            &shapes[r],
                        )?;
                        Ok((whole, numbers))
                    },
                    &row_shapes,
                )?
            }
            Plan::Slice {
                axis,
                start,
                len,
                of,
            } => {
                let whole =
                    plan_shape(of, self.sources)?.ok_or_else(|| self.misfit("slice", shape))?;
                let fits = whole
                    .get(*axis)
                    .is_some_and(|size| start.checked_add(*len).is_some_and(|end| end <= *size));
                if !fits || whole.len() != shape.len() {
                    return Err(self.misfit("slice", shape));
                }
                if *axis == 0 {
                    self.nested(of, &whole, rows.start + start..rows.end + start, place, 0)?
                } else {
                    let numbers = self.nested(of, &whole, rows, place, 0)?;
                    let outer = count_rows * count(&whole[1..*axis])?;
                    let inner = count(&whole[*axis + 1..])?;
                    let (from, take) = (*start as usize * inner, *len as usize * inner);
                    let step = whole[*axis] as usize * inner;
                    (0..outer)
                        .flat_map(|i| &numbers[i * step + from..][..take])
                        .copied()
                        .collect()
                }
            }
            Plan::Take { axis, runs, of } => self.take(*axis, runs, of, (shape, rows), place)?,
            Plan::Rows { runs, sources } => {
                let mut numbers = Vec::with_capacity(width * count_rows);
                let mut begin = 0;
                for (len, source) in runs {
                    let end = begin + len;
                    let (from, to) = (rows.start.max(begin), rows.end.min(end));
                    if from < to {
                        let plan = sources
                            .get(*source)
                            .ok_or_else(|| self.misfit("choice of rows", shape))?;
                        numbers.extend(self.nested(plan, shape, from..to, place, *source)?);
                    }
                    begin = end;
                }
                numbers
            }
            Plan::Permute { order, of } => self.permute(order, of, shape, rows, place)?,
            Plan::Scale { by, of } => {
                let mut numbers = self.nested(of, shape, rows, place, 0)?;
                let by = *by as f32;
                numbers.iter_mut().for_each(|x| *x *= by);
                numbers
            }
            Plan::Cast { dtype, of } => {
                let mut numbers = self.nested(of, shape, rows, place, 0)?;
                round_to(*dtype, &mut numbers);
                numbers
            }
            Plan::Slerp { .. }
            | Plan::Stock { .. }
            | Plan::Trim { .. }
            | Plan::Keep { .. }
            | Plan::Elect { .. } => Merge {
                rows: self,
                shape,
                place,
            }
            .eval(plan, rows)?,
            Plan::Bernoulli { p } => draws(place).bernoulli(rows, width, *p),
            Plan::Normal { sd } => draws(place).normal(rows, width, *sd, f64::INFINITY),
            Plan::TruncatedNormal { sd, cut } => draws(place).normal(rows, width, *sd, *cut),
            Plan::Zeros => vec![0.0; width * count_rows],
            Plan::Ones => vec![1.0; width * count_rows],
            Plan::Identity => {
                let mut numbers = vec![0.0; width * count_rows];
                for (index, row) in rows.enumerate() {
                    if (row as usize) < width {
                        numbers[index * width + row as usize] = 1.0;
                    }
                }
                numbers
            }
        })
    }

    /// Evaluates part `index` of a plan; draws in it get a seed of their own.
    pub(super) fn nested(
        &self,
        plan: &Plan,
        shape: &[u64],
        rows: Range<u64>,
        place: &mut String,
        index: usize,
    ) -> Result<Vec<f32>> {
        let len = place.len();
        place.push_str(&format!("/{index}"));
        let numbers = self.eval(plan, shape, rows, place);
        place.truncate(len);
        numbers
    }

    /// Parts one after the other along `axis`, for some rows of the whole.
    fn concat(
        &self,
        axis: usize,
        whole: &[u64],
        rows: Range<u64>,
        parts: usize,
        part: impl Fn(usize, Range<u64>) -> Result<(Vec<u64>, Vec<f32>)>,
        shapes: &[Vec<u64>],
    ) -> Result<Vec<f32>> {
        let fits = shapes.iter().all(|shape| {
            shape.len() == whole.len()
                && (0..whole.len()).all(|i| i == axis || shape[i] == whole[i])
        });
        let total = shapes
            .iter()
            .try_fold(0u64, |sum, shape| sum.checked_add(*shape.get(axis)?));
        if !fits || total != whole.get(axis).copied() {
            return Err(self.misfit("row of parts", whole));
        }
        if axis == 0 {
            let room = (rows.end - rows.start) as usize * count(&whole[1..])?;
            let (mut numbers, mut begin) = (Vec::with_capacity(room), 0);
            for (index, shape) in shapes.iter().enumerate() {
                let end = begin + shape[0];
                let (from, to) = (rows.start.max(begin), rows.end.min(end));
                if from < to {
                    numbers.extend(part(index, from - begin..to - begin)?.1);
                }
                begin = end;
            }
            return Ok(numbers);
        }
        let outer = (rows.end - rows.start) as usize * count(&whole[1..axis])?;
        let mut evaluated = Vec::with_capacity(parts);
        for index in 0..parts {
            let (shape, numbers) = part(index, rows.clone())?;
            evaluated.push((count(&shape[axis..])?, numbers));
        }
        let mut numbers = Vec::with_capacity(outer * count(&whole[axis..])?);
        for i in 0..outer {
            for (len, part) in &evaluated {
                numbers.extend_from_slice(&part[i * len..][..*len]);
            }
        }
        Ok(numbers)
    }

    /// Runs of entries along an axis. The operand's row is evaluated once, however many runs are
    /// taken from it.
    fn take(
        &self,
        axis: usize,
        runs: &[(u64, u64)],
        of: &Plan,
        (shape, rows): (&[u64], Range<u64>),
        place: &mut String,
    ) -> Result<Vec<f32>> {
        let misfit = || self.misfit("taking of runs", shape);
        let whole = plan_shape(of, self.sources)?.ok_or_else(misfit)?;
        let size = whole.get(axis).copied().ok_or_else(misfit)?;
        let inside =
            |(start, len): &(u64, u64)| start.checked_add(*len).is_some_and(|end| end <= size);
        if whole.len() != shape.len() || !runs.iter().all(inside) {
            return Err(misfit());
        }
        let room = (rows.end - rows.start) as usize * count(&shape[1..])?;
        let mut numbers = Vec::with_capacity(room);
        if axis == 0 {
            let mut begin = 0;
            for (start, len) in runs {
                let end = begin + len;
                let (from, to) = (rows.start.max(begin), rows.end.min(end));
                if from < to {
                    let taken = start + (from - begin)..start + (to - begin);
                    numbers.extend(self.nested(of, &whole, taken, place, 0)?);
                }
                begin = end;
            }
            return Ok(numbers);
        }
        let outer = (rows.end - rows.start) as usize * count(&whole[1..axis])?;
        let inner = count(&whole[axis + 1..])?;
        let step = size as usize * inner;
        let all = self.nested(of, &whole, rows, place, 0)?;
        for line in all.chunks_exact(step.max(1)).take(outer) {
            for (start, len) in runs {
                numbers
                    .extend_from_slice(&line[*start as usize * inner..][..*len as usize * inner]);
            }
        }
        Ok(numbers)
    }

    /// Axes in another order. Where the first axis moves, the whole operand passes through, in
    /// blocks of its rows.
    fn permute(
        &self,
        order: &[usize],
        of: &Plan,
        shape: &[u64],
        rows: Range<u64>,
        place: &mut String,
    ) -> Result<Vec<f32>> {
        let mut seen = order.to_vec();
        seen.sort_unstable();
        if order.len() != shape.len() || seen.iter().enumerate().any(|(i, axis)| i != *axis) {
            return Err(self.misfit("permutation", shape));
        }
        let mut whole = vec![0; shape.len()];
        for (axis, from) in order.iter().enumerate() {
            whole[*from] = shape[axis];
        }
        let mut sizes: Vec<usize> = shape.iter().map(|size| *size as usize).collect();
        if let Some(size) = sizes.first_mut() {
            *size = (rows.end - rows.start) as usize;
        }
        // The result as it is asked for: where the operand's entries go in it.
        let mut steps = vec![1usize; sizes.len()];
        for axis in (0..sizes.len().saturating_sub(1)).rev() {
            steps[axis] = steps[axis + 1] * sizes[axis + 1];
        }
        let mut permuted =
            vec![0.0; count(shape.get(1..).unwrap_or(&[]))? * sizes.first().copied().unwrap_or(1)];
        // By axis of the operand: the step in the result, and the first entry and number of entries
        // that are wanted.
        let mut wanted = vec![(1usize, 0usize, 1usize); whole.len()];
        for (axis, from) in order.iter().enumerate() {
            let first = if axis == 0 { rows.start as usize } else { 0 };
            wanted[*from] = (steps[axis], first, sizes[axis]);
        }
        let Some((row_step, row_first, row_count)) = wanted.first().copied() else {
            return self.nested(of, &whole, rows, place, 0);
        };
        let width = count(&whole[1..])?;
        let block = (PASSING / width.max(1)).max(1);
        let end = row_first + row_count;
        let mut start = row_first;
        while start < end {
            let stop = end.min(start + block);
            let numbers = self.nested(of, &whole, start as u64..stop as u64, place, 0)?;
            for row in start..stop {
                let source = &numbers[(row - start) * width..][..width];
                scatter(
                    source,
                    &whole[1..],
                    &wanted[1..],
                    &mut permuted,
                    (row - row_first) * row_step,
                );
            }
            start = stop;
        }
        Ok(permuted)
    }

    fn misfit(&self, what: &str, shape: &[u64]) -> Error {
        self.wrong(format!("a {what} in its plan does not give {shape:?}"))
    }

    fn wrong(&self, why: String) -> Error {
        Error::new(format!("weight `{}`: {why}", self.name))
    }
}

/// Entries of an operand that pass through at once where the first axis moves.
pub(super) const PASSING: usize = 256 << 10;

/// Copies the wanted entries of `source`, of these sizes, to their places from `at` on; `wanted` has
/// for each axis the step in the result, the first entry and the number of entries.
fn scatter(
    source: &[f32],
    sizes: &[u64],
    wanted: &[(usize, usize, usize)],
    result: &mut [f32],
    at: usize,
) {
    match (sizes, wanted) {
        ([_], [(step, first, number)]) => {
            let places = result[at..].iter_mut().step_by(*step);
            for (place, number) in places.zip(&source[*first..first + number]) {
                *place = *number;
            }
        }
        ([_, inner @ ..], [(step, first, number), rest @ ..]) => {
            let width = inner.iter().product::<u64>() as usize;
            for index in 0..*number {
                let from = (first + index) * width;
                let to = at + index * step;
                scatter(&source[from..from + width], inner, rest, result, to);
            }
        }
        _ => {
            if let (Some(place), Some(number)) = (result.get_mut(at), source.first()) {
                *place = *number;
            }
        }
    }
}

/// Number of entries of a shape.
pub(super) fn count(shape: &[u64]) -> Result<usize> {
    let product = shape
        .iter()
        .try_fold(1u64, |product, size| product.checked_mul(*size));
    let product = product.and_then(|product| usize::try_from(product).ok());
    product.ok_or_else(|| Error::new(format!("a tensor of shape {shape:?} is too large")))
}

/// Rounds numbers to an element type.
pub(crate) fn round_to(dtype: DType, numbers: &mut [f32]) {
    match dtype {
        DType::F16 => numbers
            .iter_mut()
            .for_each(|x| *x = f16::from_f32(*x).to_f32()),
        DType::BF16 => numbers
            .iter_mut()
            .for_each(|x| *x = bf16::from_f32(*x).to_f32()),
        DType::F32 | DType::U32 => {}
    }
}
