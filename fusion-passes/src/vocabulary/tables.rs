//! Tables of parents in the order of the joint ids.

use std::collections::BTreeMap;

use jam_ir::{AxisId, Diagnostic, Model, Op, ParamId, Plan, Role, WeightType};

use crate::Parent;
use crate::reports::{Place, error};

/// Where a joint id's row of a parent's table comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// A row of its own.
    Own(u64),
    /// A row of the parent at this place, which has the token.
    Of(usize, u64),
    /// Of no parent.
    None,
}

impl Row {
    /// The parent's own row.
    pub(super) fn own(&self) -> Option<u64> {
        match self {
            Row::Own(row) => Some(*row),
            _ => None,
        }
    }

    /// The row that is `by` further on.
    fn later(self, by: u64) -> Row {
        match self {
            Row::Own(row) => Row::Own(row + by),
            Row::Of(parent, row) => Row::Of(parent, row + by),
            Row::None => Row::None,
        }
    }
}

/// A parent's weight with a vocabulary axis.
struct Table {
    axis: usize,
    /// The parent's rows.
    rows: u64,
    /// First row and number of rows that follow one another, by joint id.
    runs: Vec<(Row, u64)>,
    /// The weight that stands for it in each parent, where that is of the same shape beside the
    /// vocabulary.
    donors: Vec<Option<Donor>>,
}

/// A weight of another parent that gives rows.
#[derive(Clone, Debug)]
struct Donor {
    source: String,
    name: String,
    /// Its rows.
    rows: u64,
}

/// Tables of parents whose ids have moved, by source and name.
#[derive(Default)]
pub(super) struct Tables(BTreeMap<(String, String), Table>);

/// What a weight with a vocabulary axis is to a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Embed,
    Unembed,
    UnembedBias,
}

/// The weights of the main block that read or give tokens.
fn parts(model: &Model) -> Vec<(Part, String)> {
    let main = &model.main;
    let name = |id: &ParamId| main.param_of(*id).name.clone();
    let mut parts = Vec::new();
    for statement in &main.body {
        match &statement.op {
            Op::Embed { table, .. } => parts.push((Part::Embed, name(table))),
            Op::Unembed { table, .. } => parts.push((Part::Unembed, name(table))),
            Op::Linear { weight, bias, .. } => {
                let last = main.value_of(statement.result).ty.axes.last();
                if last.is_some_and(|axis| model.axis(*axis).role == Role::Vocab) {
                    parts.push((Part::Unembed, name(weight)));
                    parts.extend(bias.iter().map(|bias| (Part::UnembedBias, name(bias))));
                }
            }
            _ => {}
        }
    }
    parts
}

/// Sizes of a weight's other axes.
fn beside(model: &Model, ty: &WeightType, axis: usize) -> Option<Vec<u64>> {
    let mut shape = model.weight_shape(ty)?;
    (axis < shape.len()).then(|| shape.remove(axis))?;
    Some(shape)
}

impl Tables {
    /// Adds the tables of the parent at `index`, whose row for every joint id is given.
    ///
    /// # Errors
    /// When a weight has two vocabulary axes.
    pub(super) fn add(
        &mut self,
        parents: &[Parent<'_>],
        index: usize,
        rows: &[Row],
    ) -> Result<(), Vec<Diagnostic>> {
        let parent = &parents[index];
        let mut runs: Vec<(Row, u64)> = Vec::new();
        for row in rows {
            match runs.last_mut() {
                Some((first, len)) if first.later(*len) == *row => *len += 1,
                _ => runs.push((*row, 1)),
            }
        }
        let all_parts: Vec<_> = parents.iter().map(|parent| parts(parent.model)).collect();
        for (name, param) in parent.model.weight_uses() {
            let axes: Vec<AxisId> = param.ty.axes().collect();
            let is_vocab = |axis: &usize| parent.model.axis(axes[*axis]).role == Role::Vocab;
            let mut vocab = (0..axes.len()).filter(is_vocab);
            let Some(axis) = vocab.next() else {
                continue;
            };
            if vocab.next().is_some() {
                let message = format!(
                    "`{name}` of `{}` has two vocabulary axes, and the parents' vocabularies differ",
                    parent.source
                );
                let place = Place::new(parent, "this weight").inside(param.span);
                return Err(vec![error(message, &[place])]);
            }
            let part = all_parts[index].iter().find(|(_, own)| *own == name);
            let donor = |(other, parts): (&Parent<'_>, &Vec<(Part, String)>)| {
                let (part, _) = part?;
                let (_, donor) = parts.iter().find(|(of, _)| of == part)?;
                let uses = other.model.weight_uses();
                let ty = &uses.get(donor)?.ty;
                let there = ty.axes().nth(axis)?;
                let fits = other.model.axis(there).role == Role::Vocab
                    && beside(other.model, ty, axis) == beside(parent.model, &param.ty, axis);
                fits.then(|| Donor {
                    source: other.source.clone(),
                    name: donor.clone(),
                    rows: other.model.tokens.size,
                })
            };
            let table = Table {
                axis,
                rows: parent.model.tokens.size,
                runs: runs.clone(),
                donors: parents.iter().zip(&all_parts).map(donor).collect(),
            };
            self.0.insert((parent.source.clone(), name), table);
        }
        Ok(())
    }

    /// Loads every table of a plan in the order of the joint ids.
    pub(super) fn reorder(&self, plan: &mut Plan) {
        match plan {
            Plan::Load { source, name } => {
                if let Some(table) = self.0.get(&(source.clone(), name.clone())) {
                    let load = plan.clone();
                    *plan = table.plan(load);
                }
            }
            _ => {
                let operands = plan.operands_mut().into_iter();
                operands.for_each(|operand| self.reorder(operand));
            }
        }
    }
}

impl Table {
    /// The table that `load` gives, in the order of the joint ids. Rows that are not there are the
    /// donor's, or zeros where there is none.
    fn plan(&self, load: Plan) -> Plan {
        let axis = self.axis;
        let own_rows = self.rows.max(1);
        // All of a table; said as a run, so that its length is known without its header.
        let whole = |of: Plan, len: u64| Plan::Slice {
            axis,
            start: 0,
            len,
            of: Box::new(of),
        };
        // Everything that gives rows, one after the other, and where each begins.
        let mut parts = vec![whole(load.clone(), own_rows)];
        let mut end = own_rows;
        let mut begins: BTreeMap<Option<usize>, u64> = BTreeMap::new();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (row, len) in &self.runs {
            let given = match row {
                Row::Own(own) => {
                    runs.push((*own, *len));
                    continue;
                }
                Row::Of(parent, row) => self.donors[*parent].as_ref().map(|of| (*parent, of, *row)),
                Row::None => None,
            };
            let begin = *begins
                .entry(given.map(|(parent, ..)| parent))
                .or_insert_with(|| {
                    let begin = end;
                    let (part, rows) = match given {
                        Some((_, donor, _)) => {
                            let load = Plan::load(donor.source.clone(), donor.name.clone());
                            (whole(load, donor.rows), donor.rows)
                        }
                        // Zeros have no length of their own: rows that are there, times zero, have.
                        None => {
                            let of = Box::new(whole(load.clone(), own_rows));
                            (Plan::Scale { by: 0.0, of }, own_rows)
                        }
                    };
                    parts.push(part);
                    end += rows;
                    begin
                });
            match given {
                Some((_, _, row)) => runs.push((begin + row, *len)),
                None => {
                    let mut left = *len;
                    while left > 0 {
                        let len = left.min(own_rows);
                        runs.push((begin, len));
                        left -= len;
                    }
                }
            }
        }
        let of = match parts.len() {
            1 => load,
            _ => Plan::Concat { axis, parts },
        };
        let of = Box::new(of);
        Plan::Take { axis, runs, of }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_the_joint_ids() {
        let mut table = Table {
            axis: 0,
            rows: 4,
            runs: vec![(Row::Own(0), 1), (Row::Own(3), 1), (Row::Of(1, 2), 6)],
            donors: vec![
                None,
                Some(Donor {
                    source: "img".to_owned(),
                    name: "e".to_owned(),
                    rows: 9,
                }),
            ],
        };
        let load = Plan::load("llm", "e");
        let whole = |of: Plan, len| Plan::Slice {
            axis: 0,
            start: 0,
            len,
            of: Box::new(of),
        };
        let take = |runs: &[(u64, u64)], other: Plan| Plan::Take {
            axis: 0,
            runs: runs.to_vec(),
            of: Box::new(Plan::Concat {
                axis: 0,
                parts: vec![whole(load.clone(), 4), other],
            }),
        };
        let donated = whole(Plan::load("img", "e"), 9);
        assert_eq!(
            table.plan(load.clone()),
            take(&[(0, 1), (3, 1), (6, 6)], donated)
        );
        table.donors[1] = None;
        let zeros = Plan::Scale {
            by: 0.0,
            of: Box::new(whole(load.clone(), 4)),
        };
        assert_eq!(
            table.plan(load.clone()),
            take(&[(0, 1), (3, 1), (4, 4), (4, 2)], zeros)
        );
        table.runs.pop();
        let own = Plan::Take {
            axis: 0,
            runs: vec![(0, 1), (3, 1)],
            of: Box::new(load.clone()),
        };
        assert_eq!(table.plan(load), own);
    }
}
