//! From both last states to logits.
//!
//! `head: joint` concatenates the states, maps them to one (`join.weight`), and applies one final
//! norm; `towers` normalises each state with its own tower's norm before; `rows` reads each state
//! through its own parent's head and takes image rows from the second.
//!
//! What follows the norm in a parent's head is its *readout*. Towers of one width whose tables are
//! shared have one readout; others have one each, and image rows are taken from the second's.
//! Towers of unequal width have a `join` each, to their own width.
//!
//! The joint norm is a norm like the parents'; where both have weights of one shape it begins
//! as their mean, otherwise fresh: the tables it feeds were trained behind both.

use jam_ir::{
    AxisId, DType, Diagnostic, Op, ParamId, Plan, Role, TokenKind, ValueId, ValueType, WeightType,
};

use super::fusion::Fusion;
use super::settings::Head;
use super::tower::free_axis_name;
use crate::reports::no_image_rows;

impl Fusion<'_> {
    /// Appends the head; sets the result.
    pub(super) fn read_out(&mut self, states: [ValueId; 2]) -> Result<(), Vec<Diagnostic>> {
        let result = match self.settings.head {
            Head::Rows => self.rows_of_towers(states)?,
            Head::Joint => {
                let joined = self.join(states)?;
                let normed = self.joint_norm(joined);
                self.readouts(normed)
            }
            Head::Towers => {
                let mut normed = states;
                for (tower, state) in normed.iter_mut().enumerate() {
                    *state = self.own_norm(tower, *state);
                }
                let joined = self.join(normed)?;
                self.readouts(joined)
            }
        };
        self.model.main.result = result;
        Ok(())
    }

    /// Each parent's whole head; text rows from the first, image rows from the second.
    fn rows_of_towers(&mut self, states: [ValueId; 2]) -> Result<ValueId, Vec<Diagnostic>> {
        if self.model.tokens.rows(TokenKind::Image).is_empty() {
            let by = match self.settings.start_parents {
                true => "start: parents",
                false => "head: rows",
            };
            let parents = [0, 1].map(|tower: usize| self.towers[tower].parent);
            return Err(vec![no_image_rows(by, parents)]);
        }
        let mut logits = states;
        for (tower, logits) in logits.iter_mut().enumerate() {
            *logits = self.own_norm(tower, *logits);
        }
        Ok(self.readouts(logits))
    }

    /// A tower's final norm, where it has one.
    fn own_norm(&mut self, tower: usize, state: ValueId) -> ValueId {
        let anatomy = self.towers[tower].anatomy;
        self.towers[tower].values.insert(anatomy.stack_out, state);
        match anatomy.norm {
            Some(index) => self.copy_statement(tower, index),
            None => state,
        }
    }

    /// Both towers' readouts of their states; the choice of rows where they are not one.
    fn readouts(&mut self, states: [ValueId; 2]) -> ValueId {
        let mut logits = states;
        for tower in 0..2 {
            let (model, anatomy) = (self.towers[tower].model, self.towers[tower].anatomy);
            let start = match anatomy.norm {
                Some(index) => model.main.body[index].result,
                None => anatomy.stack_out,
            };
            self.towers[tower].values.insert(start, states[tower]);
            for index in anatomy
                .head
                .iter()
                .filter(|index| Some(**index) != anatomy.norm)
            {
                self.copy_statement(tower, *index);
            }
            logits[tower] = self.towers[tower].values[&model.main.result];
        }
        let second = self.model.tokens.rows(TokenKind::Image);
        if logits[0] == logits[1] || second.is_empty() {
            return logits[0];
        }
        let [a, b] = logits;
        let ty = self.model.main.value_of(a).ty.clone();
        self.model
            .main
            .push("logits", ty, Op::ChooseRows { a, b, second })
    }

    /// Concatenates the states and maps them to the width of each tower.
    fn join(&mut self, states: [ValueId; 2]) -> Result<[ValueId; 2], Vec<Diagnostic>> {
        let widths = [0, 1].map(|tower| self.towers[tower].stream());
        let sizes = widths.map(|axis| self.model.axis(axis).size.unwrap_or(0));
        let Some(size) = sizes[0].checked_add(sizes[1]) else {
            let message = "the widths of both parents together do not fit 64 bits".to_owned();
            return Err(vec![self.error(message, ["", ""])]);
        };
        let name = free_axis_name(&self.model, "joined", "cross");
        let joined = self.model.add_axis(name, Some(size), Role::Inner);
        let mut ty = self.towers[0].state_type();
        if let Some(last) = ty.axes.last_mut() {
            *last = joined;
        }
        let op = Op::Concat {
            parts: states.to_vec(),
            axis: joined,
        };
        let both = self.model.main.push("joined", ty, op);
        if widths[0] == widths[1] {
            let one = self.map_joined("join.weight", both, joined, 0);
            return Ok([one, one]);
        }
        Ok([0, 1].map(|tower| {
            let name = format!("join.{}.weight", self.towers[tower].prefix);
            self.map_joined(&name, both, joined, tower)
        }))
    }

    /// A fresh matrix `[joined -> width]`, N(0, width^-½).
    fn map_joined(&mut self, name: &str, x: ValueId, joined: AxisId, tower: usize) -> ValueId {
        let width = self.towers[tower].stream();
        let size = self.model.axis(width).size.unwrap_or(1).max(1);
        let ty = self.towers[tower].state_type();
        let init = Plan::Normal {
            sd: (size as f64).powf(-0.5),
        };
        let weight = self.fresh_param(name, (&[joined], &[width]), ty.dtype, init);
        let op = Op::Linear {
            x,
            weight,
            bias: None,
        };
        self.model.main.push("join", ty, op)
    }

    fn fresh_param(
        &mut self,
        name: &str,
        (input, output): (&[AxisId], &[AxisId]),
        dtype: DType,
        init: Plan,
    ) -> ParamId {
        let ty = WeightType {
            dtype,
            input: input.to_vec(),
            output: output.to_vec(),
        };
        self.model.main.param(name, ty, init)
    }

    /// The final norm behind `join`: one for towers of one width, otherwise each tower's own.
    fn joint_norm(&mut self, states: [ValueId; 2]) -> [ValueId; 2] {
        if states[0] != states[1] {
            return [0, 1].map(|tower| self.own_norm(tower, states[tower]));
        }
        // The first parent's kind of norm, or the second's where the first has none.
        let norm_at = |tower: usize| Some((tower, self.towers[tower].anatomy.norm?));
        let Some((tower, index)) = norm_at(0).or_else(|| norm_at(1)) else {
            return states;
        };
        let x = states[0];
        let mut op = self.towers[tower].model.main.body[index].op.clone();
        match &mut op {
            Op::LayerNorm {
                x: read,
                gain,
                bias,
                ..
            } => {
                *read = x;
                *gain = gain.map(|id| self.joint_weight("join.norm.gain", tower, id));
                *bias = bias.map(|id| self.joint_weight("join.norm.bias", tower, id));
            }
            Op::RmsNorm { x: read, gain, .. } => {
                *read = x;
                *gain = gain.map(|id| self.joint_weight("join.norm.gain", tower, id));
            }
            _ => return states,
        }
        let ty: ValueType = self.model.main.value_of(x).ty.clone();
        let id = self.model.main.push("join_norm", ty, op);
        [id, id]
    }

    /// A weight of the joint norm: the mean of both parents' where both have it, otherwise fresh.
    fn joint_weight(&mut self, name: &str, tower: usize, id: ParamId) -> ParamId {
        let own = self.towers[tower].model.main.param_of(id).clone();
        let weights = |op: &Op| match op {
            Op::LayerNorm { gain, bias, .. } => [*gain, *bias],
            Op::RmsNorm { gain, .. } => [*gain, None],
            _ => [None, None],
        };
        let slot = usize::from(name.ends_with("bias"));
        let both: Vec<Option<(Plan, WeightType)>> = [0, 1]
            .into_iter()
            .map(|index| {
                let tower = &self.towers[index];
                let norm = &tower.model.main.body[tower.anatomy.norm?].op;
                let param = tower.model.main.param_of(weights(norm)[slot]?);
                let mut ty = param.ty.clone();
                ty.output
                    .iter_mut()
                    .for_each(|axis| *axis = tower.axes[axis.0 as usize]);
                Some((
                    Plan::load(tower.parent.source.clone(), param.name.clone()),
                    ty,
                ))
            })
            .collect();
        let axes = &self.towers[tower].axes;
        let output: Vec<AxisId> = own
            .ty
            .output
            .iter()
            .map(|axis| axes[axis.0 as usize])
            .collect();
        if let [Some((a, one)), Some((b, two))] = both.as_slice()
            && one.output == two.output
        {
            let mean = Plan::Sum(vec![(0.5, a.clone()), (0.5, b.clone())]);
            self.plans.insert(name.to_owned(), mean);
        }
        self.fresh_param(name, (&[], &output), own.ty.dtype, own.init)
    }
}
