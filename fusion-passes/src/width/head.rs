//! The head of a widened model: untied by a factor, or read half by half.
//!
//! `head: sum` leaves the first parent's head, whose table or matrix is widened like any other;
//! a factor other than 1 on a tied head makes it a matrix of its own, `unembed.weight`.
//!
//! `head: rows` cuts the last state into halves and reads each through its own parent's head:
//!
//! ```text
//! a = slice x, from 0             la = unembed a, embed.table.first
//! b = slice x, from width_first   lb = unembed b, embed.table.second
//! logits = choose_rows la, lb     // image rows from lb
//! ```
//!
//! A tied token table is then two tables, embedded side by side: the head stays tied, and nothing
//! is computed twice.

use jam_ir::{
    AxisId, Block, Diagnostic, Op, Param, ParamId, Plan, Statement, TokenKind, ValueId, ValueType,
    WeightType,
};

use super::{Widening, scaled};
use crate::reports::{Place, error, no_image_rows};

/// Changes the head of the widened graph as the settings ask.
pub(super) fn widen_head(widening: &mut Widening<'_>) -> Result<(), Vec<Diagnostic>> {
    let scale = widening.settings.scale;
    let readout = widening.anatomy.readout;
    let statement = widening.model.main.body[readout].clone();
    let tied = match &statement.op {
        Op::Unembed { table, .. } => widening.anatomy.table(&widening.model) == Some(*table),
        _ => false,
    };
    if widening.settings.rows {
        return read_halves(widening, &statement, tied);
    }
    let Op::Unembed { x, table } = statement.op else {
        return Ok(()); // A linear head is a matrix like any other.
    };
    let param = widening.model.main.param_of(table).clone();
    if !tied {
        // The features of an untied table are its inputs, though they stand on its output side.
        if let Some(plan) = widening.plans.swap_remove(&param.name) {
            widening.plans.insert(param.name, scaled(plan, true, scale));
        }
        return Ok(());
    }
    if scale != 1.0 {
        let plan = widening
            .plans
            .get(&param.name)
            .cloned()
            .unwrap_or(Plan::Zeros);
        let weight = matrix_of(widening, &param, "unembed.weight", plan);
        let op = Op::Linear {
            x,
            weight,
            bias: None,
        };
        widening.model.main.body[readout].op = op;
    }
    Ok(())
}

/// A matrix `[features -> vocab]` made of a table `[vocab -> features]`, scaled.
fn matrix_of(widening: &mut Widening<'_>, table: &Param, name: &str, plan: Plan) -> ParamId {
    let name = free_name(&widening.model.main, name);
    let plan = Plan::Permute {
        order: vec![1, 0],
        of: Box::new(plan),
    };
    let plan = scaled(plan, true, widening.settings.scale);
    widening.plans.insert(name.clone(), plan);
    let ty = WeightType {
        dtype: table.ty.dtype,
        input: table.ty.output.clone(),
        output: table.ty.input.clone(),
    };
    add_param(&mut widening.model.main, name, ty, table)
}

/// Adds a parameter that begins, fresh, as another does.
fn add_param(block: &mut Block, name: String, ty: WeightType, like: &Param) -> ParamId {
    let id = block.param(name, ty, like.init.clone());
    block.params[id.0 as usize].span = like.span;
    id
}

/// `name`, or `name.2`, … where that is taken.
fn free_name(block: &Block, name: &str) -> String {
    let mut free = name.to_owned();
    let mut number = 2;
    while block.params.iter().any(|param| param.name == free) {
        free = format!("{name}.{number}");
        number += 1;
    }
    free
}

/// Reads text rows from the first half of the last state and image rows from the second.
fn read_halves(
    widening: &mut Widening<'_>,
    readout: &Statement,
    tied: bool,
) -> Result<(), Vec<Diagnostic>> {
    let [first, second] = widening.parents;
    let images = widening.model.tokens.rows(TokenKind::Image);
    if images.is_empty() {
        let by = match widening.settings.start_parents {
            true => "start: parents",
            false => "head: rows",
        };
        return Err(vec![no_image_rows(by, widening.parents)]);
    }
    let main = &widening.model.main;
    let (x, param, bias) = match &readout.op {
        Op::Unembed { x, table } => (*x, *table, None),
        Op::Linear { x, weight, bias } => (*x, *weight, *bias),
        other => {
            let message = format!(
                "`head: rows` needs a head that is a matrix, not `{}`",
                other.word()
            );
            let places = [Place::new(first, ""), Place::new(second, "")];
            return Err(vec![error(message, &places)]);
        }
    };
    let features = main.value_of(x).ty.axes.last().copied();
    let Some((features, sizes)) = features.and_then(|a| Some((a, *widening.sizes.get(&a)?))) else {
        let message = "`head: rows` needs a head that reads widened features";
        let places = [Place::new(first, ""), Place::new(second, "")];
        return Err(vec![error(message, &places)]);
    };
    let (param, bias) = (
        main.param_of(param).clone(),
        bias.map(|id| main.param_of(id).clone()),
    );
    let mut halves = Vec::new();
    for (index, word) in ["first", "second"].into_iter().enumerate() {
        let name = format!("{}.{word}", widening.model.axis(features).name);
        let name = free_axis(widening, name);
        let role = widening.model.axis(features).role;
        let axis = widening.model.add_axis(name, Some(sizes[index]), role);
        halves.push(Half { index, word, axis });
    }
    let old = widening.model.main.body.len();
    let position = widening.anatomy.readout;

    if tied && widening.settings.scale == 1.0 {
        let tables = half_params(widening, &param, features, &halves);
        embed_halves(widening, &tables, &halves, features);
        let start = widening.anatomy.readout + (widening.model.main.body.len() - old);
        let op = |x, index: usize| Op::Unembed {
            x,
            table: tables[index],
        };
        choose(widening, start, readout, x, &halves, images, op);
        return Ok(());
    }
    let weights = if tied {
        let pairs: Vec<ParamId> = halves
            .iter()
            .map(|half| {
                let plan = half.load(widening, &param.name);
                let mut table = param.clone();
                table.ty.output = vec![half.axis];
                matrix_of(
                    widening,
                    &table,
                    &format!("unembed.weight.{}", half.word),
                    plan,
                )
            })
            .collect();
        pairs
    } else {
        half_params(widening, &param, features, &halves)
    };
    let biases: Vec<Option<ParamId>> = halves
        .iter()
        .map(|half| {
            let bias = bias.as_ref()?;
            let name = free_name(
                &widening.model.main,
                &format!("{}.{}", bias.name, half.word),
            );
            let plan = half.load(widening, &bias.name);
            widening.plans.insert(name.clone(), plan);
            let ty = bias.ty.clone();
            Some(add_param(&mut widening.model.main, name, ty, bias))
        })
        .collect();
    let table = matches!(readout.op, Op::Unembed { .. }) && !tied;
    let op = |x, index: usize| match table {
        true => Op::Unembed {
            x,
            table: weights[index],
        },
        false => Op::Linear {
            x,
            weight: weights[index],
            bias: biases[index],
        },
    };
    choose(widening, position, readout, x, &halves, images, op);
    Ok(())
}

/// One parent's half of the last state.
struct Half {
    index: usize,
    word: &'static str,
    axis: AxisId,
}

impl Half {
    /// The parent's own weight for the fused weight of this name.
    fn load(&self, widening: &Widening<'_>, name: &str) -> Plan {
        let source = widening.parents[self.index].source.clone();
        let name = match self.index {
            0 => name.to_owned(),
            _ => widening
                .matching
                .weights
                .get(name)
                .cloned()
                .unwrap_or_else(|| name.to_owned()),
        };
        Plan::load(source, name)
    }
}

fn free_axis(widening: &Widening<'_>, name: String) -> String {
    let taken = |name: &str| widening.model.axes.iter().any(|axis| axis.name == name);
    let mut free = name.clone();
    let mut number = 2;
    while taken(&free) {
        free = format!("{name}.{number}");
        number += 1;
    }
    free
}

/// The parents' own weights in the place of one that is widened on `features`.
fn half_params(
    widening: &mut Widening<'_>,
    param: &Param,
    features: AxisId,
    halves: &[Half],
) -> Vec<ParamId> {
    // Where features are read, the head's factor applies; in a tied table it is 1.
    let mut params = Vec::new();
    for half in halves {
        let name = free_name(
            &widening.model.main,
            &format!("{}.{}", param.name, half.word),
        );
        let plan = half.load(widening, &param.name);
        widening
            .plans
            .insert(name.clone(), scaled(plan, true, widening.settings.scale));
        let mut ty = param.ty.clone();
        for axis in ty.input.iter_mut().chain(&mut ty.output) {
            if *axis == features {
                *axis = half.axis;
            }
        }
        params.push(add_param(&mut widening.model.main, name, ty, param));
    }
    params
}

/// Replaces the embedding of a widened table by the embeddings of both tables, side by side.
fn embed_halves(
    widening: &mut Widening<'_>,
    tables: &[ParamId],
    halves: &[Half],
    features: AxisId,
) {
    let index = widening.anatomy.embed;
    let main = &mut widening.model.main;
    let embed = main.body[index].clone();
    let Op::Embed { tokens, .. } = embed.op else {
        return; // Anatomy gives an embed.
    };
    let value = main.value_of(embed.result).clone();
    let mark = main.body.len();
    let mut parts = Vec::new();
    for (half, table) in halves.iter().zip(tables) {
        let ty = with_last(&value.ty, half.axis);
        let op = Op::Embed {
            tokens,
            table: *table,
        };
        parts.push(main.push(format!("{}.{}", value.name, half.word), ty, op));
    }
    let op = Op::Concat {
        parts,
        axis: features,
    };
    main.body[index].op = op;
    put_before(main, mark, index, embed.span);
}

/// Replaces the readout at `start` by both halves' readouts and the choice of rows.
fn choose(
    widening: &mut Widening<'_>,
    start: usize,
    readout: &Statement,
    x: ValueId,
    halves: &[Half],
    images: Vec<(u64, u64)>,
    op: impl Fn(ValueId, usize) -> Op,
) {
    let sizes = halves
        .iter()
        .map(|half| widening.model.axis(half.axis).size.unwrap_or(0));
    let starts: Vec<u64> = sizes
        .scan(0, |sum, size| Some(std::mem::replace(sum, *sum + size)))
        .collect();
    let main = &mut widening.model.main;
    let (state, logits) = (
        main.value_of(x).clone(),
        main.value_of(readout.result).clone(),
    );
    let mark = main.body.len();
    let mut read = Vec::new();
    for half in halves {
        let slice = Op::Slice {
            x,
            start: starts[half.index],
            axis: half.axis,
        };
        let ty = with_last(&state.ty, half.axis);
        let cut = main.push(format!("{}.{}", state.name, half.word), ty, slice);
        let name = format!("{}.{}", logits.name, half.word);
        read.push(main.push(name, logits.ty.clone(), op(cut, half.index)));
    }
    main.body[start].op = Op::ChooseRows {
        a: read[0],
        b: read[1],
        second: images,
    };
    put_before(main, mark, start, readout.span);
}

fn with_last(ty: &ValueType, axis: AxisId) -> ValueType {
    let mut ty = ty.clone();
    if let Some(last) = ty.axes.last_mut() {
        *last = axis;
    }
    ty
}

/// Moves the statements from `mark` on before the one at `index`.
fn put_before(block: &mut Block, mark: usize, index: usize, span: Option<jam_ir::Span>) {
    let mut new = block.body.split_off(mark);
    new.iter_mut().for_each(|statement| statement.span = span);
    block.body.splice(index..index, new);
}
