//! Where the rows of a weight come from: its plan read along one axis.
//!
//! ```text
//! rows [4, 2] from { load(llm, e), load(img, e) }     4  llm e 0..4
//!                                                     2  img e 4..6
//! ```

use std::fmt;

use crate::Plan;
use crate::plan_shape::ShapedPlan;

/// Consecutive entries along an axis that come from one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Number of entries.
    pub len: u64,
    /// Where they come from.
    pub from: From,
}

/// Where entries come from.
#[derive(Clone, Debug, PartialEq)]
pub enum From {
    /// Consecutive entries of a weight of a source, from `start` on.
    Weight {
        /// The source.
        source: String,
        /// The weight there.
        name: String,
        /// First entry.
        start: u64,
    },
    /// A sum of entries, each times its factor.
    Sum(Vec<(f64, From)>),
    /// Entries of several weights beside one another.
    Beside(Vec<From>),
    /// Of no model: zeros, random draws.
    Fresh,
}

impl From {
    /// The same from `by` entries later on.
    fn later(&self, by: u64) -> From {
        match self {
            From::Weight {
                source,
                name,
                start,
            } => From::Weight {
                source: source.clone(),
                name: name.clone(),
                start: start + by,
            },
            From::Sum(terms) => From::Sum(terms.iter().map(|(f, x)| (*f, x.later(by))).collect()),
            From::Beside(parts) => From::Beside(parts.iter().map(|x| x.later(by)).collect()),
            From::Fresh => From::Fresh,
        }
    }

    /// A sum, made simple: equal terms are one, a term times zero is none, and neither is one of no model.
    fn sum(terms: Vec<(f64, From)>) -> From {
        let mut simple: Vec<(f64, From)> = Vec::new();
        let counts = |(factor, from): &(f64, From)| *factor != 0.0 && *from != From::Fresh;
        for (factor, from) in terms.into_iter().filter(counts) {
            match simple.iter_mut().find(|(_, known)| *known == from) {
                Some((known, _)) => *known += factor,
                None => simple.push((factor, from)),
            }
        }
        match simple.as_slice() {
            [] => From::Fresh,
            [(factor, from)] if (factor - 1.0).abs() < 1e-12 => from.clone(),
            _ => From::Sum(simple),
        }
    }

    /// As text, for `len` entries: `llm embed.table 0..4`.
    pub fn text(&self, len: u64) -> String {
        match self {
            From::Weight {
                source,
                name,
                start,
            } => format!("{source} {name} {start}..{}", start + len),
            From::Sum(terms) => {
                let terms = terms.iter();
                let terms: Vec<String> = terms
                    .map(|(factor, from)| format!("{factor} * {}", from.text(len)))
                    .collect();
                terms.join(" + ")
            }
            From::Beside(parts) => {
                let parts: Vec<String> = parts.iter().map(|from| from.text(len)).collect();
                format!("[{}]", parts.join(" | "))
            }
            From::Fresh => "fresh".to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.from.text(self.len))
    }
}

/// Where the entries of a plan along an axis come from, in order. `None` where a size along that axis
/// is not known, or the plan mixes entries of different places.
pub fn origins(plan: &ShapedPlan<'_>, axis: usize) -> Option<Vec<Origin>> {
    read(plan, axis, None)
}

/// As [`origins`]; where the plan does not know its length it is `length`.
fn read(plan: &ShapedPlan<'_>, axis: usize, length: Option<u64>) -> Option<Vec<Origin>> {
    let known = plan.shape.as_ref().and_then(|shape| *shape.get(axis)?);
    let known = known.or(length);
    // As long as what it is made of.
    if let (Plan::Scale { by, .. }, None) = (plan.plan, known) {
        let of = read(plan.parts.first()?, axis, None)?;
        let scaled = of.into_iter().map(|origin| Origin {
            from: From::sum(vec![(*by, origin.from)]),
            ..origin
        });
        return Some(joined(scaled.collect()));
    }
    let len = match plan.plan {
        Plan::Slice {
            axis: along, len, ..
        } if *along == axis => *len,
        Plan::Take {
            axis: along, runs, ..
        } if *along == axis => runs
            .iter()
            .try_fold(0u64, |sum, (_, len)| sum.checked_add(*len))?,
        _ => known?,
    };
    let one = |from| vec![Origin { len, from }];
    let found = match plan.plan {
        Plan::Load { source, name } => one(From::Weight {
            source: source.clone(),
            name: name.clone(),
            start: 0,
        }),
        Plan::Sum(terms) => {
            let factors: Vec<f64> = terms.iter().map(|(factor, _)| *factor).collect();
            together(&plan.parts, (axis, len), |parts| {
                From::sum(factors.iter().copied().zip(parts).collect())
            })?
        }
        Plan::Scale { by, .. } => {
            together(&plan.parts, (axis, len), |mut parts| match parts.pop() {
                Some(from) => From::sum(vec![(*by, from)]),
                None => From::Fresh,
            })?
        }
        Plan::Cast { .. } => read(plan.parts.first()?, axis, Some(len))?,
        Plan::Concat { axis: along, .. } if *along == axis => {
            one_after_the_other(&plan.parts, axis)?
        }
        Plan::Concat { .. } => together(&plan.parts, (axis, len), From::Beside)?,
        Plan::Grid {
            row_axis,
            column_axis,
            rows,
        } => {
            let columns = rows.first()?.len();
            let block = |i: usize, j: usize| &plan.parts[i * columns + j];
            // Lines of the grid along the axis; the blocks of a line stand beside one another.
            let lines: Vec<Vec<&ShapedPlan<'_>>> = if *row_axis == axis {
                (0..rows.len())
                    .map(|i| (0..columns).map(|j| block(i, j)).collect())
                    .collect()
            } else if *column_axis == axis {
                (0..columns)
                    .map(|j| (0..rows.len()).map(|i| block(i, j)).collect())
                    .collect()
            } else {
                vec![plan.parts.iter().collect()]
            };
            let mut found = Vec::new();
            for line in lines {
                found.extend(side_by_side(&line, (axis, None), From::Beside)?);
            }
            found
        }
        Plan::Slice {
            axis: along, start, ..
        } => {
            let of = plan.parts.first()?;
            match *along == axis {
                true => cut(&read(of, axis, start.checked_add(len))?, *start, len),
                false => read(of, axis, Some(len))?,
            }
        }
        Plan::Take {
            axis: along, runs, ..
        } => {
            let of = plan.parts.first()?;
            if *along == axis {
                let end = runs.iter().map(|(start, len)| start.checked_add(*len));
                let of = read(of, axis, end.max().flatten())?;
                let runs = runs.iter();
                runs.flat_map(|(start, len)| cut(&of, *start, *len))
                    .collect()
            } else {
                read(of, axis, Some(len))?
            }
        }
        Plan::Rows { runs, .. } if axis == 0 => {
            let sources: Option<Vec<_>> =
                plan.parts.iter().map(|p| read(p, 0, Some(len))).collect();
            let (sources, mut start, mut found) = (sources?, 0, Vec::new());
            for (len, source) in runs {
                found.extend(cut(sources.get(*source)?, start, *len));
                start += len;
            }
            found
        }
        Plan::Permute { order, .. } => read(plan.parts.first()?, *order.get(axis)?, Some(len))?,
        _ if plan.parts.is_empty() => one(From::Fresh),
        _ => return None,
    };
    Some(joined(found))
}

/// Entries of plans that follow one another.
fn one_after_the_other(parts: &[ShapedPlan<'_>], axis: usize) -> Option<Vec<Origin>> {
    let mut found = Vec::new();
    for part in parts {
        found.extend(read(part, axis, None)?);
    }
    Some(found)
}

/// Entries of plans of one length, made one by one.
fn together(
    parts: &[ShapedPlan<'_>],
    (axis, len): (usize, u64),
    make: impl Fn(Vec<From>) -> From,
) -> Option<Vec<Origin>> {
    let parts: Vec<&ShapedPlan<'_>> = parts.iter().collect();
    side_by_side(&parts, (axis, Some(len)), make)
}

fn side_by_side(
    parts: &[&ShapedPlan<'_>],
    (axis, len): (usize, Option<u64>),
    make: impl Fn(Vec<From>) -> From,
) -> Option<Vec<Origin>> {
    let all = parts.iter().map(|part| read(part, axis, len));
    let all = all.collect::<Option<Vec<Vec<Origin>>>>()?;
    let mut places: Vec<(usize, u64)> = vec![(0, 0); all.len()];
    let mut found = Vec::new();
    loop {
        let heads: Option<Vec<(&Origin, u64)>> = all
            .iter()
            .zip(&places)
            .map(|(of, (index, done))| Some((of.get(*index)?, *done)))
            .collect();
        let Some(heads) = heads else {
            return Some(found);
        };
        let len = heads.iter().map(|(origin, done)| origin.len - done).min()?;
        let from = heads.iter().map(|(origin, done)| origin.from.later(*done));
        found.push(Origin {
            len,
            from: make(from.collect()),
        });
        for ((index, done), of) in places.iter_mut().zip(&all) {
            *done += len;
            if *done == of[*index].len {
                (*index, *done) = (*index + 1, 0);
            }
        }
    }
}

/// `len` entries from `start` on.
pub fn cut(origins: &[Origin], start: u64, len: u64) -> Vec<Origin> {
    let (mut place, end) = (0, start.saturating_add(len));
    let mut found = Vec::new();
    for origin in origins {
        let (from, to) = (place.max(start), (place + origin.len).min(end));
        if from < to {
            found.push(Origin {
                len: to - from,
                from: origin.from.later(from - place),
            });
        }
        place += origin.len;
    }
    found
}

/// Neighbours that go on from one another as one.
fn joined(origins: Vec<Origin>) -> Vec<Origin> {
    let mut found: Vec<Origin> = Vec::new();
    for origin in origins {
        match found.last_mut() {
            Some(last) if last.from.later(last.len) == origin.from => last.len += origin.len,
            _ => found.push(origin),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan_shape::plan_shape;

    fn told(plan: &Plan, shape: &[u64], axis: usize) -> Vec<String> {
        let lookup = |source: &str, _: &str| match source {
            "short" => Some(vec![4, 2]),
            _ => Some(vec![6, 2]),
        };
        let shaped = plan_shape(plan, shape, &lookup).unwrap();
        let origins = origins(&shaped, axis).unwrap();
        origins.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lengths_of_sources_need_not_be_known() {
        let load = Plan::load("a", "e");
        let zeros = Plan::Scale {
            by: 0.0,
            of: Box::new(slice(load.clone(), 0, 2)),
        };
        let parts = vec![slice(load.clone(), 2, 2), slice(load, 0, 3), zeros];
        let plan = Plan::Concat { axis: 0, parts };
        let shaped = plan_shape(&plan, &[7, 2], &|_, _| None).unwrap();
        let origins = origins(&shaped, 0).unwrap();
        let told: Vec<String> = origins.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["a e 2..4", "a e 0..3", "fresh"]);
    }

    fn slice(of: Plan, start: u64, len: u64) -> Plan {
        let of = Box::new(of);
        Plan::Slice {
            axis: 0,
            start,
            len,
            of,
        }
    }

    #[test]
    fn rows_are_followed_to_their_sources() {
        let (a, b) = (Plan::load("a", "e"), Plan::load("b", "e"));
        assert_eq!(told(&a, &[6, 2], 0), ["a e 0..6"]);
        let rows = Plan::Rows {
            runs: vec![(4, 0), (2, 1)],
            sources: vec![a.clone(), b.clone()],
        };
        assert_eq!(told(&rows, &[6, 2], 0), ["a e 0..4", "b e 4..6"]);
        assert_eq!(
            told(&slice(rows.clone(), 3, 2), &[2, 2], 0),
            ["a e 3..4", "b e 4..5"]
        );

        // A table of other ids, its last rows another's; then the mean with that one.
        let short = Plan::load("short", "e");
        let zero = Plan::Scale {
            by: 0.0,
            of: Box::new(slice(short.clone(), 0, 1)),
        };
        let parts = vec![slice(short.clone(), 2, 2), slice(short.clone(), 0, 1), zero];
        let parts = [parts, vec![slice(b.clone(), 4, 2)]].concat();
        let moved = Plan::Concat { axis: 0, parts };
        let expected = ["short e 2..4", "short e 0..1", "fresh", "b e 4..6"];
        assert_eq!(told(&moved, &[6, 2], 0), expected);
        let mean = Plan::Sum(vec![(0.5, moved), (0.5, b.clone())]);
        let expected = [
            "0.5 * short e 2..4 + 0.5 * b e 0..2",
            "0.5 * short e 0..1 + 0.5 * b e 2..3",
            "0.5 * b e 3..4",
            "b e 4..6",
        ];
        assert_eq!(told(&mean, &[6, 2], 0), expected);

        let beside = Plan::Concat {
            axis: 1,
            parts: vec![a.clone(), b.clone()],
        };
        assert_eq!(told(&beside, &[6, 4], 0), ["[a e 0..6 | b e 0..6]"]);
        assert_eq!(told(&beside, &[6, 4], 1), ["a e 0..2", "b e 0..2"]);
        let grid = Plan::Grid {
            row_axis: 0,
            column_axis: 1,
            rows: vec![vec![a.clone(), Plan::Zeros], vec![b.clone(), b]],
        };
        let expected = ["[a e 0..6 | fresh]", "[b e 0..6 | b e 0..6]"];
        assert_eq!(told(&grid, &[12, 4], 0), expected);
        let turned = Plan::Permute {
            order: vec![1, 0],
            of: Box::new(rows),
        };
        assert_eq!(told(&turned, &[2, 6], 1), ["a e 0..4", "b e 4..6"]);
    }
}
