//! Plans that need something of whole tensors (an angle, a threshold, a sum) before their first row:
//! a pass over blocks of rows measures it, and rows follow from the measure and their own numbers.
//!
//! A pass works through pieces of a size that only the shape decides, several at once; sums of
//! pieces are f64 and are added in the order of the pieces. So the same bits come out whatever the
//! number of threads, and memory is that of the pieces under way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use jam_ir::Plan;

use super::group::Member;
use super::rows::{PlanRows, count};
use crate::{Error, Result};

/// Numbers of a tensor in one piece of a pass (1 MiB of f32 for each operand).
#[cfg(not(test))]
const PIECE: usize = 1 << 18;
/// Small enough that the tensors of tests have several.
#[cfg(test)]
const PIECE: usize = 5;
/// Most pieces under way at once.
const MOST_AT_ONCE: usize = 4;
/// Values of sixteen bits of a magnitude.
const DIGITS: usize = 1 << 16;
/// Sums of magnitudes below this are not scaled by.
const LEAST_SUM: f64 = 1e-7;
/// A vector that is no longer than this has no direction.
const LEAST_LENGTH: f64 = 1e-8;
/// Sine of an angle that is none.
const LEAST_SINE: f64 = 1e-8;
/// Least product of two lengths that a cosine is taken by.
const LEAST_PRODUCT: f64 = 1e-6;

/// What was measured of the operands of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Measure {
    /// Factors of the ends of an arc.
    Arc { from: f32, to: f32 },
    /// Factor of the mean of the others; one minus it is the base's.
    Ratio(f32),
    /// Which entries stay, and what they are multiplied by.
    Largest { limit: Limit, factor: f32 },
    /// What masked entries are multiplied by.
    Factor(f32),
}

/// The entries of a tensor that are larger than the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// Bits of the least magnitude that stays.
    magnitude: u32,
    /// Entries of that magnitude stay before this place.
    until: u64,
}

impl Limit {
    /// All entries stay.
    const ALL: Limit = Limit {
        magnitude: 0,
        until: u64::MAX,
    };
    /// None does.
    const NONE: Limit = Limit {
        magnitude: u32::MAX,
        until: 0,
    };

    fn keeps(self, x: f32, place: u64) -> bool {
        let magnitude = magnitude(x);
        magnitude > self.magnitude || (magnitude == self.magnitude && place < self.until)
    }
}

/// Magnitudes of floats are in the order of their bits without the sign.
fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// What was measured for one weight or one group of them, by the place in the plan, each worked out once:
/// to be shared by all who give rows of them.
#[derive(Debug)]
pub struct Measures {
    threads: usize,
    slots: Mutex<BTreeMap<String, Slot>>,
}

/// A measure, once it is known.
type Slot = Arc<Mutex<Option<Measure>>>;

impl Default for Measures {
    /// With as many threads as the machine runs at once.
    fn default() -> Measures {
        Measures::new(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

impl Measures {
    /// Nothing measured yet; passes work on this many pieces at once.
    pub fn new(threads: usize) -> Measures {
        Measures {
            threads: threads.clamp(1, MOST_AT_ONCE),
            slots: Mutex::default(),
        }
    }

    /// Whether anything is measured for a plan.
    pub(super) fn are_needed(plan: &Plan) -> bool {
        let mut needed = false;
        plan.for_each(&mut |part| needed |= Measures::is_needed(part));
        needed
    }

    /// Whether anything is measured for a plan itself, its operands left out.
    pub(super) fn is_needed(plan: &Plan) -> bool {
        matches!(
            plan,
            Plan::Slerp { .. }
                | Plan::Stock { .. }
                | Plan::Trim { .. }
                | Plan::Keep { rescale: true, .. }
        )
    }

    /// Bytes that a pass takes, for rows of `width` entries that take `row` bytes each.
    pub(super) fn pass_bytes(&self, width: u64, row: u64) -> u64 {
        let piece = row.saturating_mul(piece_rows(width));
        let counts = (DIGITS * size_of::<u64>()) as u64;
        piece
            .saturating_add(counts)
            .saturating_mul(self.threads as u64)
    }

    /// The measure at a place; `measure` works it out the first time.
    fn at(&self, place: &str, measure: impl FnOnce() -> Result<Measure>) -> Result<Measure> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(place.to_owned()).or_default())
        };
        // Who comes second waits; measuring inside has places of its own, further down.
        let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(measure) = *known {
            return Ok(measure);
        }
        let measure = measure()?;
        *known = Some(measure);
        Ok(measure)
    }
}

/// Rows of a piece.
fn piece_rows(width: u64) -> u64 {
    (PIECE as u64 / width.max(1)).max(1)
}

/// A tensor that is measured: all of what is measured, or a part of it.
struct Measured<'m> {
    rows: PlanRows<'m>,
    plan: &'m Plan,
    shape: Vec<u64>,
    /// Its place among all entries that are measured together.
    first: u64,
}

/// The operands of a merging plan as rows are asked of them.
pub(super) struct Merge<'m, 'a> {
    /// The weight.
    pub(super) rows: &'m PlanRows<'a>,
    /// Its shape, which is that of every operand.
    pub(super) shape: &'m [u64],
    /// The place of the plan in the weight's.
    pub(super) place: &'m str,
}

impl Merge<'_, '_> {
    fn operand(&self, plan: &Plan, index: usize, rows: Range<u64>) -> Result<Vec<f32>> {
        let mut place = self.place.to_owned();
        self.rows.nested(plan, self.shape, rows, &mut place, index)
    }

    /// Rows of a merging plan.
    pub(super) fn eval(&self, plan: &Plan, rows: Range<u64>) -> Result<Vec<f32>> {
        let measure =
            |measure: &dyn Fn() -> Result<Measure>| self.rows.measures.at(self.place, measure);
        match plan {
            Plan::Slerp {
                t,
                straight,
                from,
                to,
            } => {
                let found = measure(&|| self.arc(*t, *straight, plan))?;
                let Measure::Arc { from: a, to: b } = found else {
                    return Err(self.confused());
                };
                let mut numbers = self.operand(from, 0, rows.clone())?;
                let ends = self.operand(to, 1, rows)?;
                let pairs = numbers.iter_mut().zip(ends);
                pairs.for_each(|(x, end)| *x = a * *x + b * end);
                Ok(numbers)
            }
            Plan::Stock { base, of } => {
                let Measure::Ratio(ratio) = measure(&|| self.stock(of.len(), plan))? else {
                    return Err(self.confused());
                };
                let base = self.operand(base, 0, rows.clone())?;
                let mut sums = vec![0.0f32; base.len()];
                for (index, plan) in of.iter().enumerate() {
                    let numbers = self.operand(plan, index + 1, rows.clone())?;
                    sums.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += x);
                }
                let count = of.len() as f32;
                let pairs = sums.iter_mut().zip(base);
                pairs.for_each(|(x, base)| *x = ratio * (*x / count) + (1.0 - ratio) * base);
                Ok(sums)
            }
            Plan::Trim {
                density,
                rescale,
                of,
            } => {
                let found = measure(&|| self.largest(*density, *rescale, plan))?;
                let Measure::Largest { limit, factor } = found else {
                    return Err(self.confused());
                };
                let first = self.first(plan)? + rows.start * self.width()? as u64;
                let mut numbers = self.operand(of, 0, rows)?;
                for (x, place) in numbers.iter_mut().zip(first..) {
                    *x = if limit.keeps(*x, place) {
                        *x * factor
                    } else {
                        0.0
                    };
                }
                Ok(numbers)
            }
            Plan::Keep { rescale, mask, of } => {
                let factor = match rescale {
                    false => Measure::Factor(1.0),
                    true => measure(&|| self.masked(plan))?,
                };
                let Measure::Factor(factor) = factor else {
                    return Err(self.confused());
                };
                let mask = self.operand(mask, 0, rows.clone())?;
                let mut numbers = self.operand(of, 1, rows)?;
                let pairs = numbers.iter_mut().zip(mask);
                pairs.for_each(|(x, mask)| *x = *x * mask * factor);
                Ok(numbers)
            }
            Plan::Elect { mean, terms } => {
                let mut weighted = Vec::with_capacity(terms.len());
                for (index, (weight, term)) in terms.iter().enumerate() {
                    let weight = *weight as f32;
                    let mut numbers = self.operand(term, index, rows.clone())?;
                    numbers.iter_mut().for_each(|x| *x *= weight);
                    weighted.push((weight, numbers));
                }
                Ok(elect(*mean, &weighted))
            }
            _ => Err(self.confused()),
        }
    }

    fn width(&self) -> Result<usize> {
        count(self.shape.get(1..).unwrap_or(&[]))
    }

    fn confused(&self) -> Error {
        Error::new(format!(
            "the plan at `{}` is not the one that was measured",
            self.place
        ))
    }

    /// The tensors that are measured with that of `plan`, in their order: those of its group, or it alone.
    fn measured<'s>(&'s self, plan: &'s Plan) -> Result<Vec<Measured<'s>>> {
        let Some(group) = self.rows.group else {
            return Ok(vec![Measured {
                rows: self.rows.clone(),
                plan,
                shape: self.shape.to_vec(),
                first: 0,
            }]);
        };
        let mut first = 0;
        let member = |member: &'s Member<'_>| {
            let (plan, shape) = member.at(self.place).ok_or_else(|| self.confused())?;
            let begin = first;
            first += count(shape)? as u64;
            Ok(Measured {
                rows: self.rows.of_member(member),
                plan,
                shape: shape.to_vec(),
                first: begin,
            })
        };
        group.members.iter().map(member).collect()
    }

    /// The place of the first entry of `plan` among those that are measured with it.
    fn first(&self, plan: &Plan) -> Result<u64> {
        let measured = self.measured(plan)?;
        let own = measured.iter().find(|found| found.rows.is_of(self.rows));
        own.map(|own| own.first).ok_or_else(|| self.confused())
    }

    /// Entries that are measured with those of `plan`.
    fn entries(&self, plan: &Plan) -> Result<u64> {
        let measured = self.measured(plan)?;
        let last = measured.last().ok_or_else(|| self.confused())?;
        Ok(last.first + count(&last.shape)? as u64)
    }

    /// What `look` says of every piece of the operands of `plan`, in order. It gets the place of the piece's
    /// first number and the numbers of each operand.
    fn pass<T: Send>(
        &self,
        plan: &Plan,
        look: impl Fn(u64, Vec<Vec<f32>>) -> T + Sync,
        mut take: impl FnMut(T),
    ) -> Result<()> {
        let measured = self.measured(plan)?;
        let piece = |found: &Measured<'_>, rows: Range<u64>| -> Result<T> {
            let width = count(found.shape.get(1..).unwrap_or(&[]))? as u64;
            let operands = found.plan.operands().into_iter().enumerate();
            let numbers = operands.map(|(index, operand)| {
                let mut place = self.place.to_owned();
                let rows = rows.clone();
                (found.rows).nested(operand, &found.shape, rows, &mut place, index)
            });
            let numbers = numbers.collect::<Result<Vec<_>>>()?;
            Ok(look(found.first + rows.start * width, numbers))
        };
        let mut pieces = Vec::new();
        for found in &measured {
            let width = count(found.shape.get(1..).unwrap_or(&[]))? as u64;
            let all = found.shape.first().copied().unwrap_or(1);
            let step = piece_rows(width);
            let starts = (0..all).step_by(step as usize);
            pieces.extend(starts.map(|start| (found, start..all.min(start + step))));
        }
        for wave in pieces.chunks(self.rows.measures.threads) {
            let found: Vec<Result<T>> = match wave {
                [(measured, rows)] => vec![piece(measured, rows.clone())],
                _ => std::thread::scope(|scope| {
                    let piece = &piece;
                    let threads = wave.iter().map(|(measured, rows)| {
                        let rows = rows.clone();
                        scope.spawn(move || piece(measured, rows))
                    });
                    let threads: Vec<_> = threads.collect();
                    let ended = || Error::new("a thread ended in the middle of its work");
                    let join = threads.into_iter().map(|thread| thread.join());
                    join.map(|found| found.unwrap_or_else(|_| Err(ended())))
                        .collect()
                }),
            };
            for found in found {
                take(found?);
            }
        }
        Ok(())
    }

    /// Products of every two of some vectors, which `vectors` makes of a piece of the operands: the
    /// rows of the upper triangle, one after the other.
    fn products(
        &self,
        plan: &Plan,
        vectors: impl Fn(Vec<Vec<f32>>) -> Vec<Vec<f32>> + Sync,
    ) -> Result<Vec<f64>> {
        let look = |_: u64, numbers: Vec<Vec<f32>>| {
            let vectors = vectors(numbers);
            let mut products = Vec::new();
            for (i, a) in vectors.iter().enumerate() {
                products.extend(vectors[i..].iter().map(|b| dot(a, b)));
            }
            products
        };
        let mut sums = Vec::new();
        self.pass(plan, look, |piece: Vec<f64>| {
            sums.resize(piece.len(), 0.0);
            sums.iter_mut().zip(piece).for_each(|(sum, x)| *sum += x);
        })?;
        Ok(sums)
    }

    /// Factors of two ends, from the angle between them.
    fn arc(&self, t: f64, straight: f64, plan: &Plan) -> Result<Measure> {
        let sums = self.products(plan, |ends| ends)?;
        let sum = |slot: usize| sums.get(slot).copied().unwrap_or(0.0);
        let (a, dot, b) = (sum(0).sqrt(), sum(1), sum(2).sqrt());
        let cosine = match a > LEAST_LENGTH && b > LEAST_LENGTH {
            true => (dot / (a * b)).clamp(-1.0, 1.0),
            false => 0.0,
        };
        let angle = cosine.acos();
        let sine = angle.sin();
        let (from, to) = match cosine.abs() > straight || sine < LEAST_SINE {
            true => (1.0 - t, t),
            false => (((1.0 - t) * angle).sin() / sine, (t * angle).sin() / sine),
        };
        Ok(Measure::Arc {
            from: from as f32,
            to: to as f32,
        })
    }

    /// The ratio of Model Stock, from the angles between what the others add to the base.
    fn stock(&self, count: usize, plan: &Plan) -> Result<Measure> {
        let differences = |numbers: Vec<Vec<f32>>| {
            let mut numbers = numbers.into_iter();
            let base = numbers.next().unwrap_or_default();
            let mut differences: Vec<_> = numbers.collect();
            for of in &mut differences {
                of.iter_mut().zip(&base).for_each(|(x, base)| *x -= base);
            }
            differences
        };
        let sums = self.products(plan, differences)?;
        let slot = |i: usize, j: usize| i * count - i * (i + 1) / 2 + j;
        let sum = |i: usize, j: usize| sums.get(slot(i, j)).copied().unwrap_or(0.0);
        let mut cosines = Vec::new();
        for i in 0..count {
            for j in i + 1..count {
                let lengths = sum(i, i).sqrt() * sum(j, j).sqrt();
                cosines.push((sum(i, j) / lengths.max(LEAST_PRODUCT)).clamp(-1.0, 1.0));
            }
        }
        let cosine = cosines.iter().sum::<f64>() / cosines.len().max(1) as f64;
        let count = count as f64;
        let below = 1.0 + (count - 1.0) * cosine;
        // Differences that cancel one another say nothing: the base stays.
        let ratio = match below > LEAST_PRODUCT {
            true => count * cosine / below,
            false => 0.0,
        };
        Ok(Measure::Ratio(ratio as f32))
    }

    /// Which entries are among the largest: the threshold is found digit by digit, in base 2^16.
    fn largest(&self, density: f64, rescale: bool, plan: &Plan) -> Result<Measure> {
        let all = self.entries(plan)?;
        let keep = (density * all as f64) as u64;
        let limit = match keep {
            0 => Limit::NONE,
            _ if keep >= all => Limit::ALL,
            _ => self.threshold(keep, plan)?,
        };
        let factor = match rescale && keep > 0 && keep < all {
            true => self.factor(plan, |first, numbers, index| {
                let x = numbers[0][index];
                (x, limit.keeps(x, first + index as u64))
            })?,
            false => 1.0,
        };
        Ok(Measure::Largest { limit, factor })
    }

    fn threshold(&self, keep: u64, plan: &Plan) -> Result<Limit> {
        let (mut prefix, mut left, mut equal) = (0u32, keep, 0);
        // The upper sixteen bits of the threshold, then the lower ones.
        for shift in [16, 0] {
            let mut counts = vec![0u64; DIGITS];
            let look = |_: u64, numbers: Vec<Vec<f32>>| {
                let mut counts = vec![0u64; DIGITS];
                for x in &numbers[0] {
                    let magnitude = magnitude(*x);
                    if shift == 16 || magnitude >> 16 == prefix >> 16 {
                        counts[(magnitude >> shift) as usize & 0xffff] += 1;
                    }
                }
                counts
            };
            self.pass(plan, look, |piece| {
                counts.iter_mut().zip(piece).for_each(|(sum, n)| *sum += n);
            })?;
            let mut digit = counts.len() - 1;
            while digit > 0 && counts[digit] < left {
                left -= counts[digit];
                digit -= 1;
            }
            prefix |= (digit as u32) << shift;
            equal = counts[digit];
        }
        let mut until = u64::MAX;
        // Zeros may stay or go.
        if equal > left && prefix > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let look = |first: u64, numbers: Vec<Vec<f32>>| {
                let places = numbers[0].iter().zip(first..);
                let equal = places.filter(|(x, _)| magnitude(**x) == prefix);
                equal.map(|(_, place)| place).take(most).collect()
            };
            self.pass(plan, look, |places: Vec<u64>| {
                for place in places {
                    if left > 0 {
                        left -= 1;
                        until = place + 1;
                    }
                }
            })?;
        }
        Ok(Limit {
            magnitude: prefix,
            until,
        })
    }

    /// The factor that gives masked entries the sum of magnitudes of the whole.
    fn masked(&self, plan: &Plan) -> Result<Measure> {
        let factor = self.factor(plan, |_, numbers, index| {
            (numbers[1][index], numbers[0][index] != 0.0)
        })?;
        Ok(Measure::Factor(factor))
    }

    /// Sum of all magnitudes over the sum of those that stay.
    fn factor(
        &self,
        plan: &Plan,
        entry: impl Fn(u64, &[Vec<f32>], usize) -> (f32, bool) + Sync,
    ) -> Result<f32> {
        let look = |first: u64, numbers: Vec<Vec<f32>>| {
            let (mut whole, mut kept) = (0.0, 0.0);
            for index in 0..numbers.first().map_or(0, Vec::len) {
                let (x, stays) = entry(first, &numbers, index);
                let x = f64::from(x.abs());
                whole += x;
                kept += if stays { x } else { 0.0 };
            }
            (whole, kept)
        };
        let (mut whole, mut kept) = (0.0, 0.0);
        self.pass(plan, look, |piece| {
            whole += piece.0;
            kept += piece.1;
        })?;
        Ok(match whole < LEAST_SUM || kept < LEAST_SUM {
            true => 1.0,
            false => (whole / kept) as f32,
        })
    }
}

/// Product of two vectors, in f64: eight sums side by side, added in order.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    sums.iter().sum()
}

/// Sums of the terms that agree with the sign of all together. Terms are weighted already.
fn elect(mean: bool, terms: &[(f32, Vec<f32>)]) -> Vec<f32> {
    let len = terms.first().map_or(0, |(_, numbers)| numbers.len());
    let entry = |place: usize| {
        let all: f32 = terms.iter().map(|(_, numbers)| numbers[place]).sum();
        let (mut sum, mut weights) = (0.0, 0.0);
        for (weight, numbers) in terms {
            let x = numbers[place];
            if (all >= 0.0 && x > 0.0) || (all < 0.0 && x < 0.0) {
                sum += x;
                weights += weight;
            }
        }
        match mean && weights != 0.0 {
            true => sum / weights,
            false => sum,
        }
    };
    (0..len).map(entry).collect()
}
