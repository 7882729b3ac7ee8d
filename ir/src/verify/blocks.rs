//! Blocks one by one: names, types, definitions and operations.

use std::collections::HashSet;

use super::problems::{Place, Problems};
use crate::infer::{axes_text, infer, type_text};
use crate::plan_shape::plan_shape;
use crate::{Axis, AxisId, Block, DType, Model, Param, Role, Statement, ValueId, ValueType};

/// Every block, the main one first.
pub(super) fn check_blocks(model: &Model, problems: &mut Problems) {
    check_block(model, &model.main, problems);
    if model.main.name != "main" {
        let place = Place::Block(model.main.name.clone());
        problems.add(place, model.main.span, "the main block is called `main`");
    }
    for (name, block) in &model.blocks {
        let place = || Place::Block(name.clone());
        if *name != block.name {
            let message = format!(
                "it is filed under another name than its own, `{}`",
                block.name
            );
            problems.add(place(), block.span, message);
        }
        if name.is_empty() || name == "main" {
            let message = "a block that is called has a name, other than `main`";
            problems.add(place(), block.span, message);
        }
        check_block(model, block, problems);
    }
}

/// What the main block takes and gives.
pub(super) fn check_main(model: &Model, problems: &mut Problems) {
    let main = &model.main;
    let mut check = |what: &str, id: ValueId, dtype: DType, roles: &[Role]| {
        let Some(value) = main.values.get(id.0 as usize) else {
            return; // Reported with the block.
        };
        let role = |axis: &AxisId| model.axes.get(axis.0 as usize).map(|axis| axis.role);
        let found: Option<Vec<Role>> = value.ty.axes.iter().map(role).collect();
        if value.ty.dtype != dtype || found.as_deref() != Some(roles) {
            let place = Place::Value {
                block: main.name.clone(),
                value: value.name.clone(),
            };
            let mut found = type_text(model, &value.ty);
            // Names of axes say nothing of their roles.
            if value.ty.dtype == dtype && value.ty.axes.len() == roles.len() {
                let words = value.ty.axes.iter().map(role);
                let words: Vec<&str> = words.map(|role| role.map_or("?", Role::word)).collect();
                found.push_str(&format!(" with axes of role {}", words.join(", ")));
            }
            problems.add(place, main.span, format!("{what} expected, found {found}"));
        }
    };
    let (input, output) = ("tokens u32[b, t]", "logits f32[b, t, vocab]");
    if let [tokens] = main.inputs.as_slice() {
        check(input, *tokens, DType::U32, &[Role::Batch, Role::Time]);
    }
    let logits = [Role::Batch, Role::Time, Role::Vocab];
    check(output, main.result, DType::F32, &logits);
    if main.inputs.len() != 1 {
        let message = format!(
            "the main block takes {input} alone, not {} values",
            main.inputs.len()
        );
        problems.add(Place::Block(main.name.clone()), main.span, message);
    }
}

fn check_block(model: &Model, block: &Block, problems: &mut Problems) {
    check_params(model, block, problems);
    check_values(model, block, problems);
    check_body(model, block, problems);
}

/// Names, types and fresh values of parameters.
fn check_params(model: &Model, block: &Block, problems: &mut Problems) {
    let mut names = HashSet::new();
    for param in &block.params {
        let mut report = |message: String| {
            let place = Place::Param {
                block: block.name.clone(),
                param: param.name.clone(),
            };
            problems.add(place, param.span, message);
        };
        if param.name.is_empty() {
            report("a parameter has no name".to_owned());
        }
        if !names.insert(param.name.as_str()) {
            report("two parameters of the block have this name".to_owned());
        }
        param_problems(model, param, &mut report);
    }
}

fn param_problems(model: &Model, param: &Param, report: &mut impl FnMut(String)) {
    if !param.ty.dtype.is_float() {
        report("a weight is of a float type".to_owned());
    }
    if param.ty.output.is_empty() {
        report("a weight has at least one axis on its output side".to_owned());
    }
    let mut whole = true;
    for axis in param.ty.axes() {
        match model.axes.get(axis.0 as usize) {
            None => {
                whole = false;
                report(format!("there is no axis {} in this model", axis.0));
            }
            Some(Axis {
                name, size: None, ..
            }) => {
                whole = false;
                report(format!(
                    "a weight cannot have axis `{name}`, which has no size"
                ));
            }
            Some(_) => {}
        }
    }
    for side in [&param.ty.input, &param.ty.output] {
        if has_twice(side) {
            report(format!(
                "axes of one side differ, unlike [{}]",
                axes_text(model, side)
            ));
        }
    }
    let Some(shape) = model.weight_shape(&param.ty).filter(|_| whole) else {
        return;
    };
    match plan_shape(&param.init, &shape, &|_, _| None) {
        Err(error) => report(format!("its fresh value does not fit it: {error}")),
        // Only a plan that `plan_shape` accepted is shallow enough to be walked.
        Ok(_) if !param.init.is_fresh() => report("its fresh value reads a model".to_owned()),
        Ok(_) => {}
    }
}

fn has_twice(axes: &[AxisId]) -> bool {
    // Types have a few axes; only a hostile one has many.
    if axes.len() <= 8 {
        let earlier = |index: usize| &axes[..index];
        return axes
            .iter()
            .enumerate()
            .any(|(index, axis)| earlier(index).contains(axis));
    }
    let mut seen = HashSet::new();
    !axes.iter().all(|axis| seen.insert(axis))
}

/// Names and types of values.
fn check_values(model: &Model, block: &Block, problems: &mut Problems) {
    let mut names = HashSet::new();
    for value in &block.values {
        let mut report = |message: String| {
            let place = Place::Value {
                block: block.name.clone(),
                value: value.name.clone(),
            };
            problems.add(place, block.span, message);
        };
        if value.name.is_empty() {
            report("a value has no name".to_owned());
        }
        if !names.insert(value.name.as_str()) {
            report("two values of the block have this name".to_owned());
        }
        let ValueType { axes, .. } = &value.ty;
        if axes.iter().any(|axis| axis.0 as usize >= model.axes.len()) {
            report(format!(
                "its type {} names no axis",
                type_text(model, &value.ty)
            ));
        }
        if has_twice(axes) {
            report(format!(
                "its type {} has an axis twice",
                type_text(model, &value.ty)
            ));
        }
    }
}

/// Definitions and operations in their order.
fn check_body(model: &Model, block: &Block, problems: &mut Problems) {
    let place = |id: ValueId| {
        let known = block.values.get(id.0 as usize);
        Place::Value {
            block: block.name.clone(),
            value: known.map_or(format!("%{}", id.0), |value| value.name.clone()),
        }
    };
    let mut defined = vec![false; block.values.len()];
    for input in &block.inputs {
        if let Some(message) = define(&mut defined, *input) {
            problems.add(place(*input), block.span, message);
        }
    }
    for statement in &block.body {
        for operand in statement.op.operands() {
            if defined.get(operand.0 as usize) == Some(&false) {
                let name = &block.values[operand.0 as usize].name;
                let message = format!("`{name}` is read before it is defined");
                problems.add(place(statement.result), statement.span, message);
            }
        }
        if let Some(message) = define(&mut defined, statement.result) {
            problems.add(place(statement.result), statement.span, message);
        }
        check_statement(model, block, statement, &place, problems);
    }
    if defined.get(block.result.0 as usize) != Some(&true) {
        let place = Place::Block(block.name.clone());
        problems.add(place, block.span, "its result is never defined");
    }
}

/// Notes that a value is defined; says why it cannot be.
fn define(defined: &mut [bool], id: ValueId) -> Option<&'static str> {
    match defined.get_mut(id.0 as usize) {
        None => Some("there is no such value in this block"),
        Some(true) => Some("the value is defined twice"),
        Some(slot) => {
            *slot = true;
            None
        }
    }
}

fn check_statement(
    model: &Model,
    block: &Block,
    statement: &Statement,
    place: &impl Fn(ValueId) -> Place,
    problems: &mut Problems,
) {
    let declared = block.values.get(statement.result.0 as usize);
    match infer(model, block, &statement.op) {
        Err(error) => {
            let message = format!("{}: {error}", statement.op.word());
            problems.add(place(statement.result), statement.span, message);
        }
        Ok(found) => {
            if let Some(declared) = declared.filter(|value| value.ty != found) {
                let message = format!(
                    "{} gives {}, but the value is declared {}",
                    statement.op.word(),
                    type_text(model, &found),
                    type_text(model, &declared.ty)
                );
                problems.add(place(statement.result), statement.span, message);
            }
        }
    }
}
