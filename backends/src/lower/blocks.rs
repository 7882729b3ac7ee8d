//! Walks blocks: operations become actions, calls become bodies of their own.

use std::collections::BTreeMap;

use jam_ir::{
    AxisId, Block, Mask, Model, Op, ParamId, Role, RotaryLayout, RotaryScaling, ValueId,
    WeightType, join_path,
};

use super::{Action, Body, Constant, ParamSpec, Program, Site, Step};
use crate::error::ExecError;
use crate::kernels::{norm, rotary};

/// Deepest nesting of calls; the verifier allows no deeper one.
const MAX_DEPTH: usize = 64;

/// What is gathered while blocks are walked.
pub(super) struct Lowering<'m> {
    model: &'m Model,
    pub(super) params: Vec<ParamSpec>,
    names: BTreeMap<String, usize>,
    pub(super) constants: Vec<Constant>,
    rotaries: Vec<(usize, f64, RotaryScaling)>,
    sites: Vec<Site>,
    vocab: Option<usize>,
    positions: Option<usize>,
}

impl<'m> Lowering<'m> {
    /// Knows the parameters of a model, in order of first use.
    pub(super) fn new(model: &'m Model) -> Result<Lowering<'m>, ExecError> {
        let mut lowering = Lowering {
            model,
            params: Vec::new(),
            names: BTreeMap::new(),
            constants: Vec::new(),
            rotaries: Vec::new(),
            sites: Vec::new(),
            vocab: None,
            positions: None,
        };
        for (name, param) in model.weight_uses() {
            let spec = lowering.spec(&name, &param.ty)?;
            lowering.names.insert(name, lowering.params.len());
            lowering.params.push(spec);
        }
        Ok(lowering)
    }

    /// Lowers the main block.
    pub(super) fn program(mut self) -> Result<Program, ExecError> {
        let classes = self.features(&self.model.main, self.model.main.result)?;
        let mut trunk = self.body(&self.model.main, "", 0)?;
        let head = self.split_head(&mut trunk, classes);
        trunk.note_last_reads();
        Ok(Program {
            vocab: self.vocab.unwrap_or(usize::MAX),
            params: self.params,
            trunk,
            head,
            constants: self.constants,
            rotaries: self.rotaries,
            sites: self.sites,
            classes,
            positions: self.positions,
        })
    }

    fn wrong(&self, block: &Block, value: ValueId, reason: impl Into<String>) -> ExecError {
        let name = block.values.get(value.0 as usize);
        ExecError::Graph {
            place: match name {
                Some(value) => format!("{} in block {}", value.name, block.name),
                None => format!("block {}", block.name),
            },
            reason: reason.into(),
        }
    }

    fn size(&self, axis: AxisId) -> Option<usize> {
        let size = self.model.axes.get(axis.0 as usize)?.size?;
        usize::try_from(size).ok()
    }

    /// Product of the sizes, `None` where one is symbolic or the product overflows.
    fn product(&self, axes: &[AxisId]) -> Option<usize> {
        axes.iter().try_fold(1usize, |product, &axis| {
            product.checked_mul(self.size(axis)?)
        })
    }

    fn spec(&self, name: &str, ty: &WeightType) -> Result<ParamSpec, ExecError> {
        let sizes: Option<Vec<usize>> = ty.axes().map(|axis| self.size(axis)).collect();
        let sides = (self.product(&ty.input), self.product(&ty.output));
        let (Some(shape), (Some(rows), Some(columns))) = (sizes, sides) else {
            return Err(ExecError::Graph {
                place: format!("weight {name}"),
                reason: "an axis has no size".to_owned(),
            });
        };
        Ok(ParamSpec {
            name: name.to_owned(),
            shape,
            matrix: (!ty.input.is_empty()).then_some([rows, columns]),
        })
    }

    /// Sizes of the axes behind batch and time.
    fn trailing(&self, block: &Block, value: ValueId) -> Result<Vec<usize>, ExecError> {
        let ty = match block.values.get(value.0 as usize) {
            Some(value) => &value.ty,
            None => return Err(self.wrong(block, value, "there is no such value")),
        };
        let role = |index: usize| {
            let axis: &AxisId = ty.axes.get(index)?;
            Some(self.model.axes.get(axis.0 as usize)?.role)
        };
        if (role(0), role(1)) != (Some(Role::Batch), Some(Role::Time)) {
            return Err(self.wrong(block, value, "its first axes must be batch and time"));
        }
        let sizes: Option<Vec<usize>> = ty.axes[2..].iter().map(|&axis| self.size(axis)).collect();
        sizes.ok_or_else(|| self.wrong(block, value, "an axis has no size"))
    }

    /// Number of features of a value: the product of its axes behind batch and time.
    fn features(&self, block: &Block, value: ValueId) -> Result<usize, ExecError> {
        Ok(self.trailing(block, value)?.iter().product())
    }

    fn last_axis(&self, block: &Block, value: ValueId) -> Result<usize, ExecError> {
        let trailing = self.trailing(block, value)?;
        trailing
            .last()
            .copied()
            .ok_or_else(|| self.wrong(block, value, "it has no feature axis"))
    }

    fn param(&self, block: &Block, path: &str, id: ParamId) -> Result<usize, ExecError> {
        let param = block.params.get(id.0 as usize);
        let name = param.map(|param| join_path(path, &param.name));
        let index = name.and_then(|name| self.names.get(&name).copied());
        index.ok_or_else(|| ExecError::Graph {
            place: format!("block {}", block.name),
            reason: format!("it has no parameter {}", id.0),
        })
    }

    fn rows(&self, param: usize) -> usize {
        self.params[param].shape.first().copied().unwrap_or(0)
    }

    fn body(&mut self, block: &Block, path: &str, depth: usize) -> Result<Body, ExecError> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(block, block.result, "calls nest too deep"));
        }
        let mut reads = vec![0usize; block.values.len()];
        for statement in &block.body {
            for operand in statement.op.operands() {
                if let Some(count) = reads.get_mut(operand.0 as usize) {
                    *count += 1;
                }
            }
        }
        if let Some(count) = reads.get_mut(block.result.0 as usize) {
            *count += 1;
        }
        let mut waiting: Vec<Option<Step>> = Vec::with_capacity(block.body.len());
        let mut activated: BTreeMap<usize, usize> = BTreeMap::new();
        for statement in &block.body {
            let result = statement.result.0 as usize;
            let operands: Vec<usize> = statement
                .op
                .operands()
                .iter()
                .map(|operand| operand.0 as usize)
                .collect();
            if let Some(&operand) = operands.iter().find(|&&v| v >= block.values.len()) {
                let reason = format!("operand {operand} does not exist");
                return Err(self.wrong(block, statement.result, reason));
            }
            // mul (act a) b, where nobody else reads act a: one step.
            if let (Op::Mul { .. }, &[left, right]) = (&statement.op, &operands[..]) {
                let gate = [(left, right), (right, left)]
                    .into_iter()
                    .find(|&(gate, _)| reads[gate] == 1 && activated.contains_key(&gate));
                if let Some((gate, other)) = gate
                    && let Some(step) = activated.remove(&gate)
                {
                    let step = &mut waiting[step];
                    if let Some(Step {
                        action: Action::Activation(kind),
                        operands,
                        ..
                    }) = step.take()
                    {
                        waiting.push(Some(Step {
                            action: Action::Gated(kind),
                            operands: vec![operands[0], other],
                            result,
                            last: Vec::new(),
                        }));
                        continue;
                    }
                }
            }
            let action = self.action(block, path, depth, statement.result, &statement.op)?;
            let Some(action) = action else {
                return Err(self.wrong(block, statement.result, "tokens cannot be computed"));
            };
            if matches!(action, Action::Activation(_)) {
                activated.insert(result, waiting.len());
            }
            waiting.push(Some(Step {
                action,
                operands,
                result,
                last: Vec::new(),
            }));
        }
        let mut body = Body {
            steps: waiting.into_iter().flatten().collect(),
            values: block.values.len(),
            inputs: block.inputs.iter().map(|input| input.0 as usize).collect(),
            results: vec![block.result.0 as usize],
        };
        body.note_last_reads();
        Ok(body)
    }

    /// The action of one operation; `None` for a cast to token ids.
    fn action(
        &mut self,
        block: &Block,
        path: &str,
        depth: usize,
        result: ValueId,
        op: &Op,
    ) -> Result<Option<Action>, ExecError> {
        let param = |this: &Self, id: ParamId| this.param(block, path, id);
        let optional = |this: &Self, id: Option<ParamId>| id.map(|id| param(this, id)).transpose();
        let action = match op {
            Op::Embed { table, .. } => {
                let table = param(self, *table)?;
                let rows = self.rows(table);
                self.vocab = Some(self.vocab.map_or(rows, |vocab| vocab.min(rows)));
                Action::Embed { table }
            }
            Op::Positions { table, offset, .. } => {
                let table = param(self, *table)?;
                let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
                let rows = self.rows(table).saturating_sub(offset);
                self.positions = Some(self.positions.map_or(rows, |known| known.min(rows)));
                Action::Positions { table, offset }
            }
            Op::Linear { x, weight, bias } => {
                let weight = param(self, *weight)?;
                let [inner, _] = self.matrix(block, result, weight)?;
                let features = self.features(block, *x)?;
                if inner == 0 || features % inner != 0 {
                    let reason = format!("{features} features meet a weight of {inner}");
                    return Err(self.wrong(block, result, reason));
                }
                let bias = optional(self, *bias)?;
                Action::Linear {
                    weight,
                    bias,
                    inner,
                }
            }
            Op::Unembed { table, .. } => Action::Unembed {
                table: param(self, *table)?,
            },
            Op::LayerNorm {
                x,
                gain,
                bias,
                norm,
            } => {
                let (gain, bias) = (optional(self, *gain)?, optional(self, *bias)?);
                self.norm(block, *x, norm::Norm::Layer, gain, bias, norm)?
            }
            Op::RmsNorm { x, gain, norm } => {
                let gain = optional(self, *gain)?;
                self.norm(block, *x, norm::Norm::Rms, gain, None, norm)?
            }
            Op::Rotary {
                x,
                base,
                layout,
                scaling,
            } => {
                let key = self.last_axis(block, *x)?;
                if key % 2 != 0 {
                    return Err(self.wrong(block, result, "rotary needs an even head size"));
                }
                let known = self
                    .rotaries
                    .iter()
                    .position(|&known| known == (key, *base, *scaling));
                let table = known.unwrap_or_else(|| {
                    self.rotaries.push((key, *base, *scaling));
                    self.rotaries.len() - 1
                });
                let layout = match layout {
                    RotaryLayout::Halves => rotary::RotaryLayout::Half,
                    RotaryLayout::Pairs => rotary::RotaryLayout::Interleaved,
                };
                Action::Rotary { table, layout, key }
            }
            Op::Attention {
                q,
                k,
                v,
                mask,
                scale,
            } => {
                let heads_and_key = |value| match self.trailing(block, value)?[..] {
                    [heads, key] if heads > 0 && key > 0 => Ok((heads, key)),
                    _ => Err(self.wrong(block, value, "attention reads [batch, time, head, key]")),
                };
                let (heads, key) = heads_and_key(*q)?;
                let (kv_heads, k_key) = heads_and_key(*k)?;
                let (v_heads, value) = heads_and_key(*v)?;
                if k_key != key || v_heads != kv_heads || heads % kv_heads != 0 {
                    return Err(self.wrong(block, result, "queries, keys and values do not fit"));
                }
                self.sites.push(Site {
                    kv_heads,
                    key,
                    value,
                });
                Action::Attention {
                    site: self.sites.len() - 1,
                    causal: *mask == Mask::Causal,
                    scale: *scale,
                    heads,
                }
            }
            Op::Activation { kind, .. } => Action::Activation(*kind),
            Op::Add { .. } => Action::Add,
            Op::Mul { .. } => Action::Mul,
            Op::Scale { by, .. } => Action::Scale(*by),
            Op::Concat { parts, .. } => {
                let lengths: Result<Vec<usize>, ExecError> = parts
                    .iter()
                    .map(|&part| self.last_axis(block, part))
                    .collect();
                Action::Concat(lengths?)
            }
            Op::Slice { x, start, axis } => {
                let last = self.last_axis(block, *x)?;
                let start = usize::try_from(*start).unwrap_or(usize::MAX);
                match self.size(*axis) {
                    Some(len) if start.checked_add(len).is_some_and(|end| end <= last) => {
                        Action::Slice { start, len, last }
                    }
                    _ => return Err(self.wrong(block, result, "the slice leaves its operand")),
                }
            }
            Op::ChooseRows { second, .. } => {
                let classes = self.last_axis(block, result)?;
                let chosen = in_ranges(second, classes);
                self.constants.push(Constant::Choice(chosen));
                Action::ChooseRows(self.constants.len() - 1)
            }
            Op::MaskRows { rows, .. } => {
                let classes = self.last_axis(block, result)?;
                self.constants
                    .push(Constant::Bias(forbidding(&in_ranges(rows, classes))));
                Action::MaskRows(self.constants.len() - 1)
            }
            Op::Cast { dtype, .. } if dtype.is_float() => Action::Round(*dtype),
            Op::Cast { .. } => return Ok(None),
            Op::Call {
                block: callee, at, ..
            } => {
                let model = self.model;
                let Some(callee) = model.blocks.get(callee) else {
                    let reason = format!("there is no block {callee}");
                    return Err(self.wrong(block, result, reason));
                };
                Action::Call(Box::new(self.body(
                    callee,
                    &join_path(path, at),
                    depth + 1,
                )?))
            }
        };
        Ok(Some(action))
    }

    fn matrix(&self, block: &Block, at: ValueId, param: usize) -> Result<[usize; 2], ExecError> {
        self.params[param]
            .matrix
            .ok_or_else(|| self.wrong(block, at, "its weight has no input side"))
    }

    fn norm(
        &self,
        block: &Block,
        x: ValueId,
        kind: norm::Norm,
        gain: Option<usize>,
        bias: Option<usize>,
        norm: &jam_ir::Norm,
    ) -> Result<Action, ExecError> {
        let last = self.last_axis(block, x)?;
        let features = self.features(block, x)?;
        let size = |param: Option<usize>| {
            param.map(|param| self.params[param].shape.iter().product::<usize>())
        };
        let wide = match size(gain).or(size(bias)) {
            None => false,
            Some(size) if size == last => false,
            Some(size) if size == features => true,
            Some(_) => return Err(self.wrong(block, x, "its gain covers some groups only")),
        };
        let parts: Vec<usize> = norm
            .parts
            .iter()
            .map(|&part| usize::try_from(part).unwrap_or(usize::MAX))
            .collect();
        let sum = parts
            .iter()
            .try_fold(0usize, |sum, &part| sum.checked_add(part));
        if !parts.is_empty() && sum != Some(last) {
            return Err(self.wrong(block, x, "the parts of its norm do not cover its last axis"));
        }
        Ok(Action::Norm {
            kind,
            gain,
            bias,
            parts,
            eps: norm.eps,
            last,
            wide,
        })
    }
}

/// For every id below `len` whether a range holds it.
fn in_ranges(ranges: &[(u64, u64)], len: usize) -> Vec<bool> {
    let mut inside = vec![false; len];
    for &(from, to) in ranges {
        let clamp = |bound: u64| usize::try_from(bound).unwrap_or(len).min(len);
        let (from, to) = (clamp(from), clamp(to));
        if from < to {
            inside[from..to].fill(true);
        }
    }
    inside
}

/// The lowest f32 where true: any logit plus it is it.
pub(super) fn forbidding(rows: &[bool]) -> Vec<f32> {
    let bias = |&masked| if masked { f32::MIN } else { 0.0 };
    rows.iter().map(bias).collect()
}
