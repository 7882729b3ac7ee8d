//! Printing: a model as text.

use std::collections::HashSet;
use std::fmt::Write;

use super::names::is_bare;
use crate::plan_shape::plan_word;
use crate::{
    AxisId, Block, END_MARK, ImageTokens, Model, Norm, Op, Param, ParamId, Plan, RotaryScaling,
    Span, TextTokens, TokenLayout, ValueId, ValueType, WeightType,
};

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// The token layout and the plans of all weights. Without them the text does not parse back.
    pub weights: bool,
    /// Places in the program.
    pub spans: bool,
}

/// The whole model; parses back to it.
pub fn print(model: &Model) -> String {
    let style = Style {
        weights: true,
        spans: true,
    };
    print_with(model, style)
}

/// The parts of a model that `style` asks for.
pub fn print_with(model: &Model, style: Style) -> String {
    let mut printer = Printer {
        model,
        style,
        out: String::new(),
    };
    printer.model();
    printer.out
}

/// A plan as the text form writes it; `own` is the name under which `load(source)` loads.
pub fn print_plan(plan: &Plan, own: Option<&str>) -> String {
    let mut out = String::new();
    write_plan(&mut out, plan, own);
    out
}

/// A name, in quotes where it needs them.
fn name_text(name: &str) -> String {
    if is_bare(name) {
        return name.to_owned();
    }
    let mut out = String::from("\"");
    for c in name.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Digits in groups of three: `49_408`; four digits stay together.
fn whole_text(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

/// The shortest decimal that reads back as the same number.
fn float_text(number: f64) -> String {
    format!("{number:?}")
}

/// `0..4, 8..10`
fn ranges_text(ranges: &[(u64, u64)]) -> String {
    let text = |(start, end): &(u64, u64)| format!("{start}..{end}");
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn write_plan(out: &mut String, plan: &Plan, own: Option<&str>) {
    let word = plan_word(plan);
    out.push_str(word);
    // Writing to a string does not fail.
    let _ = match plan {
        Plan::Zeros | Plan::Ones | Plan::Identity => return,
        Plan::Load { source, name } if own == Some(name.as_str()) => {
            write!(out, "({}", name_text(source))
        }
        Plan::Load { source, name } => {
            write!(out, "({}: {}", name_text(source), name_text(name))
        }
        Plan::Normal { sd } => write!(out, "({}", float_text(*sd)),
        Plan::TruncatedNormal { sd, cut } => {
            write!(out, "({}, {}", float_text(*sd), float_text(*cut))
        }
        Plan::Bernoulli { p } => write!(out, "({}", float_text(*p)),
        Plan::Sum(terms) => {
            out.push('(');
            write_terms(out, terms, own);
            Ok(())
        }
        Plan::Slerp {
            t,
            straight,
            from,
            to,
        } => {
            let _ = write!(out, "({}, {}, ", float_text(*t), float_text(*straight));
            write_plan(out, from, own);
            out.push_str(", ");
            write_plan(out, to, own);
            Ok(())
        }
        Plan::Stock { base, of } => {
            out.push('(');
            write_plan(out, base, own);
            out.push_str(": ");
            write_plans(out, of, own);
            Ok(())
        }
        Plan::Trim {
            density,
            rescale,
            of,
        } => {
            let rescale = rescale_text(*rescale);
            let _ = write!(out, "({}, {rescale}", float_text(*density));
            write_plan(out, of, own);
            Ok(())
        }
        Plan::Keep { rescale, mask, of } => {
            let _ = write!(out, "({}", rescale_text(*rescale));
            write_plan(out, mask, own);
            out.push_str(", ");
            write_plan(out, of, own);
            Ok(())
        }
        Plan::Elect { mean, terms } => {
            let _ = write!(out, "({}: ", if *mean { "mean" } else { "sum" });
            write_terms(out, terms, own);
            Ok(())
        }
        Plan::Grid {
            row_axis,
            column_axis,
            rows,
        } => {
            let _ = write!(out, "({row_axis}, {column_axis}");
            for row in rows {
                out.push_str(", [");
                write_plans(out, row, own);
                out.push(']');
            }
            Ok(())
        }
        Plan::Concat { axis, parts } => {
            let _ = write!(out, "({axis}: ");
            write_plans(out, parts, own);
            Ok(())
        }
        Plan::Slice {
            axis,
            start,
            len,
            of,
        } => {
            let _ = write!(out, "({axis}: {start} + {len}, ");
            write_plan(out, of, own);
            Ok(())
        }
        Plan::Take { axis, runs, of } => {
            let run = |(start, len): &(u64, u64)| format!("{start} + {len}");
            let runs: Vec<String> = runs.iter().map(run).collect();
            let _ = write!(out, "({axis}: [{}], ", runs.join(", "));
            write_plan(out, of, own);
            Ok(())
        }
        Plan::Rows { runs, sources } => {
            let run = |(len, source): &(u64, usize)| format!("{len}: {source}");
            let runs: Vec<String> = runs.iter().map(run).collect();
            let _ = write!(out, "([{}]: ", runs.join(", "));
            write_plans(out, sources, own);
            Ok(())
        }
        Plan::Permute { order, of } => {
            let _ = write!(out, "({order:?}, ");
            write_plan(out, of, own);
            Ok(())
        }
        Plan::Scale { by, of } => {
            let _ = write!(out, "({}, ", float_text(*by));
            write_plan(out, of, own);
            Ok(())
        }
        Plan::Cast { dtype, of } => {
            let _ = write!(out, "({}, ", dtype.word());
            write_plan(out, of, own);
            Ok(())
        }
    };
    out.push(')');
}

/// What stands before the tensor that is scaled to the norm that it had.
fn rescale_text(rescale: bool) -> &'static str {
    match rescale {
        true => "norm, ",
        false => "",
    }
}

/// `0.5 * load(a: w), 0.5 * load(b: w)`
fn write_terms(out: &mut String, terms: &[(f64, Plan)], own: Option<&str>) {
    for (index, (weight, term)) in terms.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let _ = write!(out, "{comma}{} * ", float_text(*weight));
        write_plan(out, term, own);
    }
}

fn write_plans(out: &mut String, plans: &[Plan], own: Option<&str>) {
    for (index, plan) in plans.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_plan(out, plan, own);
    }
}

struct Printer<'m> {
    model: &'m Model,
    style: Style,
    out: String,
}

impl Printer<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        self.out.push_str(&"  ".repeat(indent));
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn model(&mut self) {
        let model = self.model;
        self.line(0, &format!("model {} {{", name_text(&model.name)));
        if self.style.weights {
            self.tokens(&model.tokens);
        }
        if let Some(context) = model.context {
            self.line(1, &format!("context = {}", whole_text(context)));
        }
        for axis in &model.axes {
            let mut text = format!("axis {}", name_text(&axis.name));
            if axis.name != axis.role.word() {
                let _ = write!(text, ": {}", axis.role.word());
            }
            if let Some(size) = axis.size {
                let _ = write!(text, " = {}", whole_text(size));
            }
            self.line(1, &text);
        }
        for block in model.blocks.values() {
            let head = format!("block {}", name_text(&block.name));
            self.block(block, &head);
        }
        self.block(&model.main, "main");
        if self.style.weights {
            self.line(1, "weights {");
            for (name, weight) in &model.weights {
                let plan = print_plan(&weight.plan, Some(name));
                let span = self.span(weight.span);
                self.line(2, &format!("{} = {plan}{span}", name_text(name)));
            }
            self.line(1, "}");
        }
        self.line(0, "}");
    }

    fn tokens(&mut self, tokens: &TokenLayout) {
        self.line(1, &format!("tokens {} {{", name_text(&tokens.name)));
        self.line(2, &format!("size = {}", whole_text(tokens.size)));
        let text = match &tokens.text {
            TextTokens::Tokenizer(name) => format!("tokenizer {}", name_text(name)),
            TextTokens::Files(path) => format!("files {}", name_text(path)),
            TextTokens::Joint(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| name_text(path)).collect();
                format!("joint {}", paths.join(", "))
            }
            TextTokens::Ids => "ids".to_owned(),
        };
        self.line(2, &format!("text = {text}"));
        let image = match &tokens.image {
            ImageTokens::Tokenizer(name) => format!("tokenizer {}", name_text(name)),
            ImageTokens::Files(path) => format!("files {}", name_text(path)),
            ImageTokens::Ids => "ids".to_owned(),
        };
        self.line(2, &format!("image = {image}"));
        self.line(2, &format!("grid = {}", whole_text(tokens.grid)));
        for range in &tokens.ranges {
            let kind = range.kind.word();
            let end = range.start.saturating_add(range.len);
            let (start, end) = (whole_text(range.start), whole_text(end));
            self.line(2, &format!("range {kind} = {start}..{end}"));
        }
        if tokens.text_ids != tokens.text_span() {
            let (start, end) = tokens.text_ids;
            let (start, end) = (whole_text(start), whole_text(end));
            self.line(2, &format!("tokenizer = {start}..{end}"));
        }
        for (name, id) in &tokens.marks {
            let (name, id) = (name_text(name), whole_text(*id));
            self.line(2, &format!("mark {name} = {id}"));
        }
        if tokens.begin != END_MARK {
            self.line(2, &format!("begin = {}", name_text(&tokens.begin)));
        }
        self.line(1, "}");
    }

    fn span(&self, span: Option<Span>) -> String {
        match span.filter(|_| self.style.spans) {
            Some(Span { file, start, end }) => format!(" @{}:{start}..{end}", file.0),
            None => String::new(),
        }
    }

    fn block(&mut self, block: &Block, head: &str) {
        // Ids are written where they do not follow one another.
        let mut next = 0;
        let inputs: Vec<String> = block
            .inputs
            .iter()
            .map(|id| self.definition(block, *id, &mut next))
            .collect();
        let result = match block.values.get(block.result.0 as usize) {
            Some(value) => self.value_type(&value.ty),
            None => "?".to_owned(),
        };
        let span = self.span(block.span);
        let inputs = inputs.join(", ");
        self.line(1, &format!("{head}({inputs}) -> {result}{span} {{"));
        for param in &block.params {
            let text = self.param(param);
            self.line(2, &text);
        }
        let results = block.body.iter().map(|statement| statement.result);
        let defined: HashSet<ValueId> = results.chain(block.inputs.iter().copied()).collect();
        for id in (0..block.values.len() as u32).map(ValueId) {
            if !defined.contains(&id) {
                let text = self.definition(block, id, &mut next);
                self.line(2, &format!("value {text}"));
            }
        }
        for statement in &block.body {
            let value = self.definition(block, statement.result, &mut next);
            let op = self.op(block, &statement.op);
            let span = self.span(statement.span);
            self.line(2, &format!("{value} = {op}{span}"));
        }
        let result = self.value(block, block.result);
        self.line(2, &format!("return {result}"));
        self.line(1, "}");
    }

    /// `x: bf16[b, t]`, with the id where it is not `next`.
    fn definition(&self, block: &Block, id: ValueId, next: &mut u32) -> String {
        let Some(value) = block.values.get(id.0 as usize) else {
            return format!("?%{}: ?", id.0);
        };
        let number = match id.0 == *next {
            true => String::new(),
            false => format!("%{}", id.0),
        };
        *next = id.0.saturating_add(1);
        let ty = self.value_type(&value.ty);
        format!("{}{number}: {ty}", name_text(&value.name))
    }

    fn axis(&self, id: AxisId) -> String {
        match self.model.axes.get(id.0 as usize) {
            Some(axis) => name_text(&axis.name),
            None => format!("?{}", id.0),
        }
    }

    fn axes(&self, axes: &[AxisId]) -> String {
        let names: Vec<String> = axes.iter().map(|id| self.axis(*id)).collect();
        names.join(", ")
    }

    fn value_type(&self, ty: &ValueType) -> String {
        format!("{}[{}]", ty.dtype.word(), self.axes(&ty.axes))
    }

    fn param(&self, param: &Param) -> String {
        let WeightType {
            dtype,
            input,
            output,
        } = &param.ty;
        let mut sides = self.axes(output);
        if !input.is_empty() {
            sides = format!("{} -> {sides}", self.axes(input));
        }
        format!(
            "param {}: {}[{sides}] = {}{}",
            name_text(&param.name),
            dtype.word(),
            print_plan(&param.init, None),
            self.span(param.span)
        )
    }

    fn value(&self, block: &Block, id: ValueId) -> String {
        match block.values.get(id.0 as usize) {
            Some(value) => name_text(&value.name),
            None => format!("?%{}", id.0),
        }
    }

    fn weight(&self, block: &Block, id: ParamId) -> String {
        match block.params.get(id.0 as usize) {
            Some(param) => name_text(&param.name),
            None => format!("?%{}", id.0),
        }
    }

    /// Operands, weights and attributes of an operation.
    fn op(&self, block: &Block, op: &Op) -> String {
        let values: Vec<String> = op
            .operands()
            .iter()
            .map(|id| self.value(block, *id))
            .collect();
        if let Op::Call { block, at, .. } = op {
            let (block, values) = (name_text(block), values.join(", "));
            return format!("call {block}({values}) at {}", name_text(at));
        }
        let params: Vec<String> = match op {
            // A bias without a gain keeps its place.
            Op::LayerNorm {
                gain: None,
                bias: Some(bias),
                ..
            } => vec!["_".to_owned(), self.weight(block, *bias)],
            _ => op.params().map(|id| self.weight(block, id)).collect(),
        };
        let operands = [values, params].concat().join(", ");
        let attributes = self.attributes(op).join(", ");
        match attributes.is_empty() {
            true => format!("{} {operands}", op.word()),
            false => format!("{} {operands} {{{attributes}}}", op.word()),
        }
    }

    fn attributes(&self, op: &Op) -> Vec<String> {
        match op {
            Op::Positions { offset, .. } => vec![format!("offset = {offset}")],
            Op::LayerNorm { norm, .. } | Op::RmsNorm { norm, .. } => {
                let Norm { eps, parts } = norm;
                let mut list = vec![format!("eps = {}", float_text(*eps))];
                if !parts.is_empty() {
                    list.push(format!("parts = {parts:?}"));
                }
                list
            }
            Op::Rotary {
                base,
                layout,
                scaling,
                ..
            } => {
                let mut list = vec![
                    format!("base = {}", float_text(*base)),
                    format!("layout = {}", layout.word()),
                ];
                if *scaling != RotaryScaling::None {
                    let settings = scaling.settings();
                    let settings = settings.iter().map(|(_, x)| float_text(*x));
                    let settings: Vec<String> = settings.collect();
                    list.push(format!(
                        "scaling = {}({})",
                        scaling.word(),
                        settings.join(", ")
                    ));
                }
                list
            }
            Op::Attention { mask, scale, .. } => {
                vec![
                    format!("mask = {}", mask.word()),
                    format!("scale = {}", float_text(*scale)),
                ]
            }
            Op::Scale { by, .. } => vec![format!("by = {}", float_text(*by))],
            Op::Concat { axis, .. } => vec![format!("axis = {}", self.axis(*axis))],
            Op::Slice { start, axis, .. } => {
                vec![
                    format!("start = {start}"),
                    format!("axis = {}", self.axis(*axis)),
                ]
            }
            Op::ChooseRows { second, .. } => vec![format!("second = [{}]", ranges_text(second))],
            Op::MaskRows { rows, .. } => vec![format!("rows = [{}]", ranges_text(rows))],
            Op::Cast { dtype, .. } => vec![format!("dtype = {}", dtype.word())],
            _ => Vec::new(),
        }
    }
}
