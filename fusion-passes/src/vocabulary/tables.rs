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
    /// Source and name of the weight that stands for it in each parent, where that is of the same shape
    /// beside the vocabulary.
    donors: Vec<Option<(String, String)>>,
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
                fits.then(|| (other.source.clone(), donor.clone()))
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
        let cut = |of: &Plan, start: u64, len: u64| Plan::Slice {
            axis,
            start,
            len,
            of: Box::new(of.clone()),
        };
        let mut parts = Vec::new();
        for (row, len) in &self.runs {
            let donor = match row {
                Row::Of(parent, row) => self.donors[*parent].as_ref().map(|donor| (donor, *row)),
                _ => None,
            };
            match (row, donor) {
                (Row::Own(own), _) => parts.push(cut(&load, *own, *len)),
                (_, Some(((source, name), row))) => {
                    parts.push(cut(&Plan::load(source.clone(), name.clone()), row, *len));
                }
                _ => {
                    // Zeros have no length of their own: rows that are there, times zero, have.
                    let mut left = *len;
                    while left > 0 {
                        let len = left.min(self.rows.max(1));
                        parts.push(Plan::Scale {
                            by: 0.0,
                            of: Box::new(cut(&load, 0, len)),
                        });
                        left -= len;
                    }
                }
            }
        }
        match parts.len() {
            1 => parts.swap_remove(0),
            _ => Plan::Concat { axis, parts },
        }
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
            donors: vec![None, Some(("img".to_owned(), "e".to_owned()))],
        };
        let load = Plan::load("llm", "e");
        let slice = |of: &Plan, start, len| Plan::Slice {
            axis: 0,
            start,
            len,
            of: Box::new(of.clone()),
        };
        let zeros = |len| Plan::Scale {
            by: 0.0,
            of: Box::new(slice(&load, 0, len)),
        };
        let own = [slice(&load, 0, 1), slice(&load, 3, 1)];
        let donated = slice(&Plan::load("img", "e"), 2, 6);
        let parts = [own.as_slice(), &[donated]].concat();
        assert_eq!(table.plan(load.clone()), Plan::Concat { axis: 0, parts });
        table.donors[1] = None;
        let parts = [own.as_slice(), &[zeros(4), zeros(2)]].concat();
        assert_eq!(table.plan(load.clone()), Plan::Concat { axis: 0, parts });
    }
}
