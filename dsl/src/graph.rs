//! Graphs under construction: blocks, their local names, calls, repeats and the names of weights.
//!
//! A weight's name is the path of what leads to it. An operation is called by the name it is bound
//! to where that name is bound once in its block (`first = attention(…)` holds `first.q`);
//! otherwise by its kind and, from the second on, its number: `attn.q`, `mlp2.up`, `norm1.gain`.
//! Norms are numbered from the first; the norm after the layers is `final_norm`. Layers are
//! numbered through: `layers.0`, `layers.1`, ….

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use jam_ir::diagnostic::Diagnostic;
use jam_ir::span::Span;
use jam_ir::{
    AxisId, Block, DType, Model, Op, ParamId, Plan, Role, TokenLayout, ValueId, ValueType,
    WeightType,
};

use crate::calls::Instance;
use crate::checker::{Checker, Kind};
use crate::evaluate::Scope;
use crate::layers;
use crate::number::{self, Exact};
use crate::syntax::{Expression, Name, Operator};
use crate::value::{Call, Spanned, Stream, Value};

/// Most operations of one block.
const MAX_OPERATIONS: usize = 10_000;

/// How weights begin where nothing is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh {
    /// Standard deviation of matrices and the token table.
    pub(crate) sd: f64,
    /// Where the normal is cut, in standard deviations.
    pub(crate) cut: Option<f64>,
    /// Standard deviation of learned positions.
    pub(crate) positions: f64,
    /// Standard deviation of the matrices that write to the residual stream; by default `sd`
    /// over the root of twice the number of layers.
    pub(crate) residual: Option<f64>,
}

/// Which standard deviation a fresh weight takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FreshKind {
    /// An ordinary matrix, or the token table.
    Matrix,
    /// A table of positions.
    Positions,
    /// A matrix that writes to the residual stream.
    Residual,
}

/// A model under construction.
pub(crate) struct Graph<'a> {
    pub(crate) model: Model,
    pub(crate) place: Span,
    /// Batch and time.
    pub(crate) row: [AxisId; 2],
    pub(crate) dtype: DType,
    pub(crate) tokens: Option<Span>,
    /// Longest sequence.
    pub(crate) context: Option<u64>,
    /// Features of the residual stream.
    pub(crate) width: Option<u64>,
    /// How weights begin.
    pub(crate) fresh: Fresh,
    /// Blocks under construction, the main block first.
    pub(crate) frames: Vec<Frame<'a>>,
    /// Finished blocks by name of definition and printed parameters; `None` for broken ones.
    pub(crate) instances: IndexMap<String, Option<Instance>>,
    /// The token table of the main block, and its features.
    pub(crate) table: Option<(ParamId, AxisId)>,
    /// Weights whose standard deviation depends on the number of layers.
    pub(crate) residual: Vec<(String, ParamId)>,
    /// Layers, all repeats together.
    pub(crate) layers: u64,
    /// Settings whose value is wrong, which is reported already.
    pub(crate) wrong: BTreeSet<String>,
    /// Local names of the main block that somebody read.
    used: BTreeSet<String>,
}

/// A block under construction.
pub(crate) struct Frame<'a> {
    /// Name of the definition.
    pub(crate) definition: &'a str,
    pub(crate) block: Block,
    pub(crate) locals: IndexMap<String, Spanned>,
    /// Names that the block binds once.
    pub(crate) once: BTreeSet<&'a str>,
    /// The name that is being bound, and the expression bound to it.
    binding: Option<(&'a str, Span)>,
    /// Number of operations by kind.
    ordinals: BTreeMap<String, u64>,
    /// Names of operations that are taken.
    taken: BTreeSet<String>,
    /// Number of values by name.
    names: BTreeMap<String, u64>,
    /// Layers so far.
    pub(crate) layers: u64,
    /// The layer being called, in a repeat of one call.
    pub(crate) layer: Option<u64>,
}

impl<'a> Frame<'a> {
    pub(crate) fn new(
        definition: &'a str,
        name: &str,
        words: impl Iterator<Item = &'a Name>,
    ) -> Self {
        let mut once = BTreeSet::new();
        let mut several = BTreeSet::new();
        for word in words {
            if !once.insert(word.text.as_str()) {
                several.insert(word.text.as_str());
            }
        }
        once.retain(|word| !several.contains(word));
        Self {
            definition,
            block: Block::new(name),
            locals: IndexMap::new(),
            once,
            binding: None,
            ordinals: BTreeMap::new(),
            taken: BTreeSet::new(),
            names: BTreeMap::new(),
            layers: 0,
            layer: None,
        }
    }
}

impl<'a> Graph<'a> {
    /// An empty model; `words` are the names that its statements bind.
    pub(crate) fn new(name: &'a str, place: Span, words: impl Iterator<Item = &'a Name>) -> Self {
        let mut model = Model {
            name: name.to_owned(),
            tokens: TokenLayout::bare(0),
            context: None,
            axes: Vec::new(),
            blocks: IndexMap::new(),
            main: Block::new("main"),
            weights: IndexMap::new(),
        };
        let row = [
            model.add_axis("b", None, Role::Batch),
            model.add_axis("t", None, Role::Time),
        ];
        let mut main = Frame::new(name, "main", words);
        main.block.span = Some(place);
        Self {
            model,
            place,
            row,
            dtype: DType::F32,
            tokens: None,
            context: None,
            width: None,
            fresh: Fresh {
                sd: 0.02,
                cut: Some(3.0),
                positions: 0.02,
                residual: None,
            },
            frames: vec![main],
            instances: IndexMap::new(),
            table: None,
            residual: Vec::new(),
            layers: 0,
            wrong: BTreeSet::new(),
            used: BTreeSet::new(),
        }
    }

    /// The block under construction.
    pub(crate) fn frame(&mut self) -> &mut Frame<'a> {
        // The main block is there from the beginning and is never taken away.
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    /// Whether the main block is under construction.
    pub(crate) fn in_main(&self) -> bool {
        self.frames.len() == 1
    }

    /// Whether the main block has layers already.
    pub(crate) fn after_layers(&self) -> bool {
        self.in_main() && self.frames[0].layers > 0
    }

    /// Sets the vocabulary and makes the token ids known as `tokens`.
    pub(crate) fn tokens(&mut self, tokens: TokenLayout, span: Span) {
        self.tokens = Some(span);
        self.model.tokens = tokens;
        let ty = ValueType {
            dtype: DType::U32,
            axes: self.row.to_vec(),
        };
        if self.frames[0].block.inputs.is_empty() {
            self.frames[0].block.input("tokens", ty);
        }
        let input = self.frames[0].block.inputs[0];
        self.local("tokens", Spanned::new(Value::Tokens(input), span));
        self.used.insert("tokens".to_owned());
    }

    /// The token ids of the main block.
    pub(crate) fn token_input(&self) -> Option<ValueId> {
        self.frames[0].block.inputs.first().copied()
    }

    /// Number of rows of the token table.
    pub(crate) fn vocabulary(&self) -> Option<u64> {
        self.tokens.map(|_| self.model.tokens.size)
    }

    /// Sets the stored type of weights.
    pub(crate) fn precision(&mut self, dtype: DType) {
        self.dtype = dtype;
    }

    /// Makes a name known whose value is wrong, which is reported already.
    pub(crate) fn wrong(&mut self, name: &str, span: Span) {
        self.wrong.insert(name.to_owned());
        self.local(name, Spanned::new(Value::Broken, span));
    }

    /// Gives a local name a value.
    pub(crate) fn local(&mut self, name: &str, value: Spanned) {
        self.frame().locals.insert(name.to_owned(), value);
    }

    /// Names of numbers and words that nothing read, with their places.
    pub(crate) fn unused(&self) -> Vec<(String, Span)> {
        let settings = ["tokens", "context", "width", "logits"];
        let locals = self.frames[0].locals.iter();
        let unused = locals.filter(|(name, value)| {
            !settings.contains(&name.as_str())
                && !self.used.contains(*name)
                && !matches!(value.value, Value::Broken)
        });
        unused
            .map(|(name, value)| (name.clone(), value.span))
            .collect()
    }

    /// Local names of the block under construction.
    pub(crate) fn local_names(&self) -> Vec<&str> {
        let last = self.frames.last();
        last.map_or(Vec::new(), |frame| {
            frame.locals.keys().map(String::as_str).collect()
        })
    }

    /// The size of an axis, 0 for batch and time.
    pub(crate) fn size(&self, axis: AxisId) -> u64 {
        self.model
            .axes
            .get(axis.0 as usize)
            .and_then(|axis| axis.size)
            .unwrap_or(0)
    }

    /// The axis of a role and size; a new one where there is none.
    pub(crate) fn axis(&mut self, role: Role, size: u64, name: &str) -> AxisId {
        let found = self
            .model
            .axes
            .iter()
            .position(|axis| axis.role == role && axis.size == Some(size));
        if let Some(found) = found {
            return AxisId(found as u32);
        }
        let mut unique = name.to_owned();
        let mut number = 2;
        while self.model.axes.iter().any(|axis| axis.name == unique) {
            unique = format!("{name}{number}");
            number += 1;
        }
        self.model.add_axis(unique, Some(size), role)
    }

    /// The feature axis of a size: the residual stream's, or one of its own.
    pub(crate) fn features(&mut self, size: u64) -> AxisId {
        if self.width == Some(size) {
            self.axis(Role::Width, size, "width")
        } else {
            self.axis(Role::Inner, size, "inner")
        }
    }

    /// The name of an operation's weights, see the head of this file.
    pub(crate) fn weights_name(&mut self, kind: &str, numbered: bool, span: Span) -> String {
        let frame = self.frame();
        if let Some((name, bound)) = frame.binding
            && bound == span
            && frame.once.contains(name)
            && frame.taken.insert(name.to_owned())
        {
            return name.to_owned();
        }
        loop {
            let ordinal = frame.ordinals.entry(kind.to_owned()).or_insert(0);
            *ordinal += 1;
            let name = match *ordinal {
                1 if !numbered => kind.to_owned(),
                number => format!("{kind}{number}"),
            };
            if frame.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    /// Asks for a weight.
    pub(crate) fn weight(
        &mut self,
        name: String,
        input: &[AxisId],
        output: &[AxisId],
        init: Plan,
        span: Span,
    ) -> ParamId {
        let ty = WeightType {
            dtype: self.dtype,
            input: input.to_vec(),
            output: output.to_vec(),
        };
        let frame = self.frame();
        let id = frame.block.param(name, ty, init);
        if let Some(param) = frame.block.params.last_mut() {
            param.span = Some(span);
        }
        id
    }

    /// Asks for a matrix or a table.
    pub(crate) fn matrix(
        &mut self,
        name: String,
        input: &[AxisId],
        output: &[AxisId],
        kind: FreshKind,
        span: Span,
    ) -> ParamId {
        let id = self.weight(name, input, output, Plan::Zeros, span);
        // `init` may stand after the layers: plans are set at the end, and these by kind.
        let block = self.frame().block.name.clone();
        let plan = self.plan(kind, 1);
        if kind == FreshKind::Residual {
            self.residual.push((block, id));
        }
        if let Some(param) = self.frame().block.params.last_mut() {
            param.init = plan;
        }
        id
    }

    /// How a fresh weight of a kind begins, in a model of so many layers.
    pub(crate) fn plan(&self, kind: FreshKind, layers: u64) -> Plan {
        let Fresh {
            sd,
            cut,
            positions,
            residual,
        } = self.fresh;
        let sd = match kind {
            FreshKind::Matrix => sd,
            FreshKind::Positions => positions,
            FreshKind::Residual => residual.unwrap_or(sd / (2.0 * layers.max(1) as f64).sqrt()),
        };
        match cut {
            _ if sd == 0.0 => Plan::Zeros,
            Some(cut) => Plan::TruncatedNormal { sd, cut },
            None => Plan::Normal { sd },
        }
    }

    /// Adds an operation.
    pub(crate) fn push(&mut self, name: &str, axes: &[AxisId], op: Op, span: Span) -> Stream {
        let ty = ValueType {
            dtype: self.dtype,
            axes: axes.to_vec(),
        };
        let frame = self.frame();
        let number = frame.names.entry(name.to_owned()).or_insert(0);
        *number += 1;
        let name = match *number {
            1 => name.to_owned(),
            number => format!("{name}.{number}"),
        };
        let value = frame.block.push(name, ty, op);
        if let Some(statement) = frame.block.body.last_mut() {
            statement.span = Some(span);
        }
        Stream {
            value,
            axes: axes.to_vec(),
        }
    }

    /// Axes as errors show them: `f32[b, t, width = 768]`.
    pub(crate) fn shown(&self, axes: &[AxisId]) -> String {
        let axes = axes.iter().map(|axis| {
            let Some(axis) = self.model.axes.get(axis.0 as usize) else {
                return String::new();
            };
            match axis.size {
                Some(size) => format!("{} = {size}", axis.name),
                None => axis.name.clone(),
            }
        });
        format!("[{}]", axes.collect::<Vec<_>>().join(", "))
    }

    /// Whether the block under construction is as long as a block may be; that is reported.
    fn is_full(&mut self, checker: &mut Checker<'a>, span: Span) -> bool {
        let full = self.frame().block.body.len() >= MAX_OPERATIONS;
        if full {
            checker.diagnostics.push(
                Diagnostic::error(span, "the block is too long")
                    .code("size")
                    .label(span, format!("more than {MAX_OPERATIONS} operations"))
                    .help("write what repeats once: `repeat 4 { … }`"),
            );
        }
        full
    }

    /// `name = value` in the block under construction.
    pub(crate) fn bind(
        &mut self,
        checker: &mut Checker<'a>,
        word: &'a Name,
        expression: &'a Expression,
    ) {
        if self.is_full(checker, expression.span) {
            self.local(&word.text, Spanned::new(Value::Broken, word.span));
            return;
        }
        self.frame().binding = Some((&word.text, expression.span));
        let mut value = checker.evaluate(expression, self);
        self.frame().binding = None;
        if let Value::Word {
            word: unknown,
            near,
        } = &value.value
        {
            // A bare word as a value is a slip, unless it names an alternative like `relu`.
            if near.is_some() {
                let report = Diagnostic::error(value.span, format!("`{unknown}` is not defined"))
                    .code("unknown-name")
                    .label(value.span, "not known here")
                    .maybe_help(near.as_ref().map(|near| format!("did you mean `{near}`?")));
                checker.diagnostics.push(report);
                value.value = Value::Broken;
            }
        }
        value.span = word.span;
        self.local(&word.text, value);
    }
}

impl<'a> Scope<'a> for Graph<'a> {
    fn local(&mut self, name: &str) -> Option<Value> {
        let value = self.frames.last()?.locals.get(name)?.value.clone();
        self.used.insert(name.to_owned());
        Some(value)
    }

    fn names(&self) -> Vec<&str> {
        self.local_names()
    }

    fn call(&mut self, checker: &mut Checker<'a>, call: Call) -> Result<Value, Call> {
        let [name] = call.name.as_slice() else {
            return Err(call);
        };
        let definition = checker.definitions.get(&name.text);
        match definition.filter(|found| found.kind == Kind::Block) {
            Some(block) => {
                let statement = block.statement;
                if checker.defined(&name.clone(), &[Kind::Block]).is_none() {
                    return Ok(Value::Broken);
                }
                Ok(self.call_block(checker, call, statement))
            }
            None => layers::layer(self, checker, call),
        }
    }

    fn join(
        &mut self,
        checker: &mut Checker<'a>,
        operator: Operator,
        a: &Spanned,
        b: &Spanned,
    ) -> Option<Value> {
        let span = a.span.to(b.span);
        let name = self.frame().binding.map_or("x", |(name, _)| name);
        let on_streams = matches!(a.value, Value::Stream(_)) || matches!(b.value, Value::Stream(_));
        if on_streams && self.is_full(checker, span) {
            return Some(Value::Broken);
        }
        match (&a.value, &b.value, operator) {
            (Value::Stream(x), Value::Number(by), Operator::Multiply)
            | (Value::Number(by), Value::Stream(x), Operator::Multiply) => {
                Some(self.scaled(checker, name, x, by.clone(), span))
            }
            (Value::Stream(x), Value::Number(by), Operator::Divide) => {
                let zero = Exact::from_integer(0.into());
                let by = if *by == zero { zero } else { by.recip() };
                Some(self.scaled(checker, name, x, by, span))
            }
            (Value::Stream(x), Value::Stream(y), Operator::Add | Operator::Multiply) => {
                if x.axes != y.axes {
                    let message = format!("`{}` joins values of one shape", operator.symbol());
                    checker.diagnostics.push(
                        Diagnostic::error(span, message)
                            .code("shape")
                            .label(a.span, format!("this is {}", self.shown(&x.axes)))
                            .label(b.span, format!("this is {}", self.shown(&y.axes))),
                    );
                    return Some(Value::Broken);
                }
                let (a, b) = (x.value, y.value);
                let op = if operator == Operator::Add {
                    Op::Add { a, b }
                } else {
                    Op::Mul { a, b }
                };
                Some(Value::Stream(self.push(name, &x.axes, op, span)))
            }
            _ => None,
        }
    }
}

impl Graph<'_> {
    fn scaled(
        &mut self,
        checker: &mut Checker<'_>,
        name: &str,
        x: &Stream,
        by: Exact,
        span: Span,
    ) -> Value {
        let Some(by) = number::float(&by) else {
            checker
                .diagnostics
                .push(Diagnostic::error(span, "the factor is too large"));
            return Value::Broken;
        };
        Value::Stream(self.push(name, &x.axes, Op::Scale { x: x.value, by }, span))
    }
}
