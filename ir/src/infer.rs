//! Shape inference: the type of an operation's result from the types of its operands, with batch
//! and time symbolic.
//!
//! Types agree when they name the same axes: two axes of one size are still two axes. A weight may
//! be of any float type; the result has the element type of the operand.

use std::fmt;

use crate::{
    Axis, AxisId, Block, DType, Model, Norm, Op, Param, ParamId, Role, RotaryScaling, ValueId,
    ValueType, WeightType,
};

/// Why an operation does not fit its operands: one sentence, understandable alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferError(pub String);

impl fmt::Display for InferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InferError {}

type Result<T> = std::result::Result<T, InferError>;

fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(InferError(message.into()))
}

/// The type of the value that `op` defines in `block`, from the declared types of its operands.
///
/// # Errors
/// Says what does not fit: an id that is not there, an axis that differs, a size that does not
/// divide, a constant that is not finite. It never panics, whatever the model.
pub fn infer(model: &Model, block: &Block, op: &Op) -> Result<ValueType> {
    let scope = Scope { model, block };
    match op {
        Op::Embed { tokens, table } => scope.lookup(*tokens, *table, Role::Vocab),
        Op::Positions { tokens, table, .. } => scope.lookup(*tokens, *table, Role::Positions),
        Op::Linear { x, weight, bias } => scope.linear(*x, *weight, *bias),
        Op::Unembed { x, table } => scope.unembed(*x, *table),
        Op::LayerNorm {
            x,
            gain,
            bias,
            norm,
        } => scope.norm(*x, [*gain, *bias], norm),
        Op::RmsNorm { x, gain, norm } => scope.norm(*x, [*gain, None], norm),
        Op::Rotary {
            x, base, scaling, ..
        } => scope.rotary(*x, *base, scaling),
        Op::Attention { q, k, v, scale, .. } => scope.attention(*q, *k, *v, *scale),
        Op::Activation { x, .. } => scope.float(*x).cloned(),
        Op::Add { a, b } | Op::Mul { a, b } => scope.same(*a, *b).cloned(),
        Op::Scale { x, by } => {
            finite("the factor", *by)?;
            scope.float(*x).cloned()
        }
        Op::Concat { parts, axis } => scope.concat(parts, *axis),
        Op::Slice { x, start, axis } => scope.slice(*x, *start, *axis),
        Op::ChooseRows { a, b, second } => {
            let ty = scope.same(*a, *b)?;
            scope.row_ranges(ty, second)?;
            Ok(ty.clone())
        }
        Op::MaskRows { x, rows } => {
            let ty = scope.float(*x)?;
            scope.row_ranges(ty, rows)?;
            Ok(ty.clone())
        }
        Op::Cast { x, dtype } => {
            let axes = scope.float(*x)?.axes.clone();
            if !dtype.is_float() {
                return fail("a value can only be cast to a float type");
            }
            let dtype = *dtype;
            Ok(ValueType { dtype, axes })
        }
        Op::Call { block, args, .. } => scope.call(block, args),
    }
}

/// `bf16[b, t, width]`, with `?` for an axis that the model does not have.
pub fn type_text(model: &Model, ty: &ValueType) -> String {
    format!("{}[{}]", ty.dtype.word(), axes_text(model, &ty.axes))
}

/// `b, t, width`, with `?` for an axis that the model does not have.
pub(crate) fn axes_text(model: &Model, axes: &[AxisId]) -> String {
    let name = |id: &AxisId| match model.axes.get(id.0 as usize) {
        Some(axis) => axis.name.clone(),
        None => format!("?{}", id.0),
    };
    axes.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn finite(what: &str, number: f64) -> Result<()> {
    if number.is_finite() {
        return Ok(());
    }
    fail(format!("{what} is {number}, which is not finite"))
}

/// What an operation may refer to.
struct Scope<'m> {
    model: &'m Model,
    block: &'m Block,
}

impl<'m> Scope<'m> {
    fn value(&self, id: ValueId) -> Result<(&'m str, &'m ValueType)> {
        match self.block.values.get(id.0 as usize) {
            Some(value) => Ok((&value.name, &value.ty)),
            None => fail(format!("there is no value %{} in this block", id.0)),
        }
    }

    fn ty(&self, id: ValueId) -> Result<&'m ValueType> {
        self.value(id).map(|(_, ty)| ty)
    }

    fn float(&self, id: ValueId) -> Result<&'m ValueType> {
        let (name, ty) = self.value(id)?;
        if ty.dtype.is_float() {
            return Ok(ty);
        }
        fail(format!(
            "`{name}` is {}, where a float type is needed",
            type_text(self.model, ty)
        ))
    }

    fn param(&self, id: ParamId) -> Result<&'m Param> {
        match self.block.params.get(id.0 as usize) {
            Some(param) if param.ty.dtype.is_float() => Ok(param),
            Some(param) => fail(format!("parameter `{}` is not of a float type", param.name)),
            None => fail(format!("there is no parameter {} in this block", id.0)),
        }
    }

    fn axis(&self, id: AxisId) -> Result<&'m Axis> {
        match self.model.axes.get(id.0 as usize) {
            Some(axis) => Ok(axis),
            None => fail(format!("there is no axis {} in this model", id.0)),
        }
    }

    fn size(&self, id: AxisId) -> Result<u64> {
        let axis = self.axis(id)?;
        match axis.size {
            Some(size) => Ok(size),
            None => fail(format!("axis `{}` has no size", axis.name)),
        }
    }

    fn axes_text(&self, axes: &[AxisId]) -> String {
        axes_text(self.model, axes)
    }

    /// Axes 0 and 1 of a value are batch and time.
    fn batch_and_time(&self, name: &str, ty: &ValueType) -> Result<()> {
        let role = |index: usize| self.axis(*ty.axes.get(index)?).ok().map(|axis| axis.role);
        if role(0) == Some(Role::Batch) && role(1) == Some(Role::Time) {
            return Ok(());
        }
        fail(format!(
            "`{name}` is {}, where batch and time must come first",
            type_text(self.model, ty)
        ))
    }

    /// A table `[rows -> features]` and the role of its rows → (rows, features).
    fn table(&self, id: ParamId, role: Role) -> Result<(AxisId, AxisId, &'m WeightType)> {
        let param = self.param(id)?;
        let ty = &param.ty;
        if let ([rows], [features]) = (ty.input.as_slice(), ty.output.as_slice()) {
            let axis = self.axis(*rows)?;
            if axis.role == role {
                return Ok((*rows, *features, ty));
            }
            return fail(format!(
                "the rows of table `{}` are axis `{}` of role {}, not {}",
                param.name,
                axis.name,
                axis.role.word(),
                role.word()
            ));
        }
        fail(format!(
            "table `{}` is [{} -> {}], where one axis on each side is needed",
            param.name,
            self.axes_text(&ty.input),
            self.axes_text(&ty.output)
        ))
    }

    fn lookup(&self, tokens: ValueId, table: ParamId, role: Role) -> Result<ValueType> {
        let (name, ids) = self.value(tokens)?;
        self.batch_and_time(name, ids)?;
        if ids.dtype != DType::U32 || ids.axes.len() != 2 {
            return fail(format!(
                "`{name}` is {}, where token ids u32[b, t] are needed",
                type_text(self.model, ids)
            ));
        }
        let (_, features, ty) = self.table(table, role)?;
        let mut axes = ids.axes.clone();
        axes.push(features);
        Ok(ValueType {
            dtype: ty.dtype,
            axes,
        })
    }

    fn linear(&self, x: ValueId, weight: ParamId, bias: Option<ParamId>) -> Result<ValueType> {
        let (name, operand) = (self.value(x)?.0, self.float(x)?);
        let weight = self.param(weight)?;
        let WeightType { input, output, .. } = &weight.ty;
        if input.is_empty() || output.is_empty() {
            return fail(format!(
                "weight `{}` is not a matrix: it needs axes on both sides",
                weight.name
            ));
        }
        let Some(leading) = operand.axes.strip_suffix(input.as_slice()) else {
            return fail(format!(
                "`{name}` is {}, whose last axes are not the input side [{}] of weight `{}`",
                type_text(self.model, operand),
                self.axes_text(input),
                weight.name
            ));
        };
        if let Some(bias) = bias {
            let bias = self.param(bias)?;
            if !bias.ty.input.is_empty() || bias.ty.output != *output {
                return fail(format!(
                    "bias `{}` is [{}], not [{}], the output side of weight `{}`",
                    bias.name,
                    self.axes_text(&bias.ty.axes().collect::<Vec<_>>()),
                    self.axes_text(output),
                    weight.name
                ));
            }
        }
        Ok(ValueType {
            dtype: operand.dtype,
            axes: [leading, output.as_slice()].concat(),
        })
    }

    fn unembed(&self, x: ValueId, table: ParamId) -> Result<ValueType> {
        let (name, operand) = (self.value(x)?.0, self.float(x)?);
        let (rows, features, _) = self.table(table, Role::Vocab)?;
        let mut axes = operand.axes.clone();
        match axes.last_mut() {
            Some(last) if *last == features => *last = rows,
            _ => {
                return fail(format!(
                    "`{name}` is {}, whose last axis is not `{}`, the features of the table",
                    type_text(self.model, operand),
                    self.axes_text(&[features])
                ));
            }
        }
        Ok(ValueType {
            dtype: operand.dtype,
            axes,
        })
    }

    fn norm(&self, x: ValueId, weights: [Option<ParamId>; 2], norm: &Norm) -> Result<ValueType> {
        let (name, operand) = (self.value(x)?.0, self.float(x)?);
        let Some(last) = operand.axes.last() else {
            return fail(format!("`{name}` has no axis to normalise"));
        };
        let size = self.size(*last)?;
        for id in weights.into_iter().flatten() {
            let param = self.param(id)?;
            let WeightType { input, output, .. } = &param.ty;
            if !input.is_empty() || output.is_empty() || !operand.axes.ends_with(output) {
                return fail(format!(
                    "the axes [{}] of `{}` are not the last axes of `{name}`, which is {}",
                    self.axes_text(&param.ty.axes().collect::<Vec<_>>()),
                    param.name,
                    type_text(self.model, operand)
                ));
            }
        }
        if !(norm.eps.is_finite() && norm.eps >= 0.0) {
            return fail(format!(
                "the constant of a norm must be finite and not negative, not {}",
                norm.eps
            ));
        }
        let sum = norm
            .parts
            .iter()
            .try_fold(0u64, |sum, part| sum.checked_add(*part));
        if !norm.parts.is_empty() && (sum != Some(size) || norm.parts.contains(&0)) {
            return fail(format!(
                "the parts {:?} of a norm do not divide axis `{}` of size {size}",
                norm.parts,
                self.axes_text(&[*last])
            ));
        }
        Ok(operand.clone())
    }

    /// `[b, t, heads, key]` with heads of this role → (heads, key).
    fn per_head(&self, id: ValueId, role: Option<Role>) -> Result<(AxisId, AxisId)> {
        let (name, ty) = (self.value(id)?.0, self.float(id)?);
        self.batch_and_time(name, ty)?;
        let [_, _, heads, key] = ty.axes.as_slice() else {
            return fail(format!(
                "`{name}` is {}, where [b, t, heads, key] is needed",
                type_text(self.model, ty)
            ));
        };
        let (heads_axis, key_axis) = (self.axis(*heads)?, self.axis(*key)?);
        let heads_fit = match role {
            Some(role) => heads_axis.role == role,
            None => matches!(heads_axis.role, Role::Heads | Role::KvHeads),
        };
        if heads_fit && key_axis.role == Role::HeadDim {
            return Ok((*heads, *key));
        }
        fail(format!(
            "`{name}` is {}, whose last axes have the roles {} and {}, not {} and head_dim",
            type_text(self.model, ty),
            heads_axis.role.word(),
            key_axis.role.word(),
            role.map_or("heads or kv_heads", Role::word)
        ))
    }

    fn rotary(&self, x: ValueId, base: f64, scaling: &RotaryScaling) -> Result<ValueType> {
        let (_, key) = self.per_head(x, None)?;
        let size = self.size(key)?;
        if size % 2 != 0 {
            return fail(format!(
                "rotary positions need heads of an even size, not {size}"
            ));
        }
        if !(base.is_finite() && base > 0.0) {
            return fail(format!(
                "the base of rotary positions must be finite and positive, not {base}"
            ));
        }
        if let Some(fault) = scaling.fault() {
            return fail(format!("the scaling of rotary positions is wrong: {fault}"));
        }
        self.ty(x).cloned()
    }

    fn attention(&self, q: ValueId, k: ValueId, v: ValueId, scale: f64) -> Result<ValueType> {
        let (heads, query_key) = self.per_head(q, Some(Role::Heads))?;
        let (kv_heads, key) = self.per_head(k, Some(Role::KvHeads))?;
        self.per_head(v, Some(Role::KvHeads))?;
        let (query, keys, values) = (self.ty(q)?, self.ty(k)?, self.ty(v)?);
        if keys != values {
            return fail(format!(
                "keys {} and values {} differ in type",
                type_text(self.model, keys),
                type_text(self.model, values)
            ));
        }
        if query_key != key || query.axes[..2] != keys.axes[..2] || query.dtype != keys.dtype {
            return fail(format!(
                "queries {} and keys {} differ in more than their heads",
                type_text(self.model, query),
                type_text(self.model, keys)
            ));
        }
        let (heads, kv_heads) = (self.size(heads)?, self.size(kv_heads)?);
        if kv_heads == 0 || heads % kv_heads != 0 {
            return fail(format!(
                "{heads} query heads cannot be shared out among {kv_heads} key/value heads"
            ));
        }
        finite("the factor on the scores", scale)?;
        Ok(query.clone())
    }

    fn same(&self, a: ValueId, b: ValueId) -> Result<&'m ValueType> {
        let (left, right) = (self.float(a)?, self.float(b)?);
        if left == right {
            return Ok(left);
        }
        fail(format!(
            "the operands differ in type: `{}` is {}, `{}` is {}",
            self.value(a)?.0,
            type_text(self.model, left),
            self.value(b)?.0,
            type_text(self.model, right)
        ))
    }

    fn concat(&self, parts: &[ValueId], axis: AxisId) -> Result<ValueType> {
        let Some((first, rest)) = parts.split_first() else {
            return fail("nothing stands side by side");
        };
        let first_ty = self.float(*first)?;
        let Some((last, leading)) = first_ty.axes.split_last() else {
            return fail("a value without axes cannot stand beside others");
        };
        let mut total = self.size(*last)?;
        for id in rest {
            let ty = self.float(*id)?;
            match ty.axes.split_last() {
                Some((last, others)) if others == leading && ty.dtype == first_ty.dtype => {
                    let Some(sum) = total.checked_add(self.size(*last)?) else {
                        return fail("the sizes add up to more than 64 bits");
                    };
                    total = sum;
                }
                _ => {
                    return fail(format!(
                        "{} and {} differ in more than their last axis",
                        type_text(self.model, first_ty),
                        type_text(self.model, ty)
                    ));
                }
            }
        }
        if self.size(axis)? != total {
            return fail(format!(
                "the sizes side by side add up to {total}, but axis `{}` has {}",
                self.axes_text(&[axis]),
                self.size(axis)?
            ));
        }
        Ok(ValueType {
            dtype: first_ty.dtype,
            axes: [leading, &[axis]].concat(),
        })
    }

    fn slice(&self, x: ValueId, start: u64, axis: AxisId) -> Result<ValueType> {
        let operand = self.float(x)?;
        let Some((last, leading)) = operand.axes.split_last() else {
            return fail("a value without axes cannot be cut");
        };
        let (size, len) = (self.size(*last)?, self.size(axis)?);
        if start.checked_add(len).is_none_or(|end| end > size) {
            return fail(format!(
                "{len} features from {start} on are more than axis `{}` has ({size})",
                self.axes_text(&[*last])
            ));
        }
        Ok(ValueType {
            dtype: operand.dtype,
            axes: [leading, &[axis]].concat(),
        })
    }

    /// Ranges of rows on logits `[…, vocab]`.
    fn row_ranges(&self, ty: &ValueType, ranges: &[(u64, u64)]) -> Result<()> {
        let vocab = match ty.axes.last() {
            Some(last) => self.axis(*last)?,
            None => return fail("logits need a vocabulary axis"),
        };
        if vocab.role != Role::Vocab {
            return fail(format!(
                "rows are chosen on axis `{}` of role {}, not on a vocabulary",
                vocab.name,
                vocab.role.word()
            ));
        }
        let mut least = 0;
        for (start, end) in ranges {
            let within = vocab.size.is_some_and(|size| *end <= size);
            if *start < least || start >= end || !within {
                return fail(format!(
                    "rows {start}..{end} are out of order, empty, or beyond the vocabulary"
                ));
            }
            least = *end;
        }
        Ok(())
    }

    fn call(&self, name: &str, args: &[ValueId]) -> Result<ValueType> {
        let Some(callee) = self.model.blocks.get(name) else {
            return fail(format!("there is no block `{name}`"));
        };
        if callee.inputs.len() != args.len() {
            return fail(format!(
                "block `{name}` takes {} values, not {}",
                callee.inputs.len(),
                args.len()
            ));
        }
        let wanted = Scope {
            model: self.model,
            block: callee,
        };
        for (input, arg) in callee.inputs.iter().zip(args) {
            let (input_name, input_ty) = wanted.value(*input)?;
            let (arg_name, arg_ty) = self.value(*arg)?;
            if input_ty != arg_ty {
                return fail(format!(
                    "input `{input_name}` of block `{name}` is {}, but `{arg_name}` is {}",
                    type_text(self.model, input_ty),
                    type_text(self.model, arg_ty)
                ));
            }
        }
        wanted.ty(callee.result).cloned()
    }
}
