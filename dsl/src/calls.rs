//! Calls of blocks and repeats of layers, in graphs under construction.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use jam_ir::diagnostic::{Diagnostic, Label};
use jam_ir::span::Span;
use jam_ir::{AxisId, Op, ValueType};

use crate::checker::{Checker, Kind, not_plain};
use crate::evaluate::Global;
use crate::given::as_count;
use crate::graph::{Frame, Graph, Instance};
use crate::suggest;
use crate::syntax::{Expression, ExpressionKind, Name, Statement, Subject};
use crate::value::{Call, Spanned, Stream, Value};

/// Most layers of one `repeat`.
const MAX_REPEAT: u64 = 4096;
/// Most blocks of a model, each set of parameters counted.
const MAX_INSTANCES: usize = 1000;
/// Deepest nesting of blocks.
const MAX_BLOCKS: usize = 32;

impl<'a> Graph<'a> {
    /// `repeat 32 { x = decoder(x) }`.
    pub(crate) fn repeat(&mut self, checker: &mut Checker<'a>, statement: &'a Statement) {
        // Where the number is wrong, one layer tells what else is.
        let count = self.repeat_count(checker, statement).unwrap_or(1);
        let Some(body) = statement
            .body
            .as_ref()
            .filter(|body| !body.statements.is_empty())
        else {
            checker.diagnostics.push(repeats_nothing(statement));
            return;
        };
        let single = match body.statements.as_slice() {
            [only] => only
                .value
                .as_ref()
                .filter(|value| self.is_block_call(checker, value)),
            _ => None,
        };
        if let (Some(value), [only]) = (single, body.statements.as_slice()) {
            for _ in 0..count {
                let frame = self.frame();
                frame.layer = Some(frame.layers);
                self.bind(checker, &only.word, value);
                let frame = self.frame();
                frame.layer = None;
                frame.layers += 1;
                let bound = frame.locals.get(&only.word.text);
                if bound.is_none_or(|bound| matches!(bound.value, Value::Broken)) {
                    break;
                }
            }
            return;
        }
        self.inline_layers(checker, &body.statements, count, statement.span);
    }

    fn repeat_count(&mut self, checker: &mut Checker<'a>, statement: &'a Statement) -> Option<u64> {
        let place = statement.word.span;
        if let (Some(Subject::Number(_)), Some(parameters)) =
            (&statement.subject, &statement.parameters)
        {
            let place = parameters.span;
            checker.diagnostics.push(
                Diagnostic::error(place, "`repeat` takes one number")
                    .code("surplus")
                    .label(place, "not `{ … }`"),
            );
        }
        let value = match &statement.subject {
            Some(Subject::Number(number)) => Spanned::new(checker.number(number), number.span),
            // `repeat choose(size, …) { … }` is a name with what looks like parameters.
            Some(Subject::Name(name)) => {
                let path = vec![name.clone()];
                let expression = match &statement.parameters {
                    Some(arguments) => Expression {
                        kind: ExpressionKind::Call(path, arguments.clone()),
                        span: name.span.to(arguments.span),
                    },
                    None => Expression {
                        kind: ExpressionKind::Path(path),
                        span: name.span,
                    },
                };
                checker.evaluate(&expression, self)
            }
            _ => {
                checker.diagnostics.push(
                    Diagnostic::error(place, "`repeat` needs a number")
                        .code("missing")
                        .label(place, "how many times?")
                        .help("write `repeat 4 { … }`"),
                );
                return None;
            }
        };
        let count = as_count("repeat", &value, 1, &mut checker.diagnostics)?;
        if count > MAX_REPEAT {
            checker.diagnostics.push(
                Diagnostic::error(value.span, format!("{count} layers are too many"))
                    .code("size")
                    .label(value.span, format!("at most {MAX_REPEAT} in one `repeat`")),
            );
            return None;
        }
        Some(count)
    }

    /// Whether a value is one call of a block, and none in its arguments: two calls in one layer are told apart by
    /// the names of their weights.
    fn is_block_call(&self, checker: &Checker<'_>, value: &Expression) -> bool {
        let calls_block = |value: &Expression| {
            let ExpressionKind::Call(name, _) = &value.kind else {
                return false;
            };
            let definition = name
                .first()
                .and_then(|name| checker.definitions.get(&name.text));
            name.len() == 1 && definition.is_some_and(|definition| definition.kind == Kind::Block)
        };
        let mut calls = 0;
        value.walk(&mut |part| calls += u64::from(calls_block(part)));
        calls == 1 && calls_block(value)
    }

    /// Several statements a layer: they become a block of their own, called once a layer.
    fn inline_layers(
        &mut self,
        checker: &mut Checker<'a>,
        statements: &'a [Statement],
        count: u64,
        span: Span,
    ) {
        let Some(end) = statements.last() else {
            return;
        };
        let last = match bound(end) {
            Ok(last) => last,
            Err(empty) => {
                checker.diagnostics.push(repeats_nothing(empty));
                return;
            }
        };
        let outer = self.frame();
        let streams: Vec<String> = outer
            .locals
            .iter()
            .filter(|(_, value)| matches!(value.value, Value::Stream(_)))
            .map(|(name, _)| name.clone())
            .collect();
        let lost = statements
            .iter()
            .filter_map(|statement| bound(statement).ok())
            .find(|name| name.text != last.text && streams.contains(&name.text));
        if let Some(lost) = lost {
            checker.diagnostics.push(
                Diagnostic::error(lost.span, "one value only is carried from layer to layer")
                    .code("wrong-kind")
                    .label(lost.span, "this one would be lost")
                    .label(last.span, "this one is carried")
                    .help("bind the layer's result last, and give other values names of their own"),
            );
            return;
        }
        let mut read = BTreeSet::new();
        for statement in statements {
            statement.walk(&mut |part| {
                if let ExpressionKind::Path(path) = &part.kind {
                    read.extend(path.first().map(|name| name.text.as_str()));
                }
            });
        }
        let (inputs, unread): (Vec<String>, Vec<String>) = streams
            .into_iter()
            .partition(|name| read.contains(name.as_str()));

        let name = self.block_name("layer");
        let mut frame = Frame::new(
            None,
            &name,
            statements.iter().map(|statement| &statement.word),
        );
        frame.block.span = Some(span);
        frame.locals = self.frame().locals.clone();
        // Values of the block around are none of this one, unless they are handed in.
        for name in unread {
            frame.locals.shift_remove(&name);
        }
        let mut arguments = Vec::new();
        for input in &inputs {
            let Some(Value::Stream(stream)) =
                frame.locals.get(input).map(|local| local.value.clone())
            else {
                continue;
            };
            let ty = ValueType {
                dtype: self.dtype,
                axes: stream.axes.clone(),
            };
            let value = frame.block.input(input.clone(), ty);
            if let Some(local) = frame.locals.get_mut(input) {
                local.value = Value::Stream(Stream {
                    value,
                    axes: stream.axes.clone(),
                });
            }
            arguments.push(input.clone());
        }
        self.frames.push(frame);
        let result = self.body(checker, statements, span);
        self.frames.pop().into_iter().for_each(|frame| {
            if result.is_some() {
                self.model.blocks.insert(name.clone(), frame.block);
            }
        });
        let Some(axes) = result else {
            self.local(&last.text, Spanned::new(Value::Broken, last.span));
            return;
        };
        for _ in 0..count {
            let frame = self.frame();
            let args = arguments
                .iter()
                .filter_map(|input| match &frame.locals.get(input)?.value {
                    Value::Stream(stream) => Some(stream.value),
                    _ => None,
                });
            let args = args.collect();
            let at = format!("layers.{}", frame.layers);
            frame.layers += 1;
            let op = Op::Call {
                block: name.clone(),
                args,
                at,
            };
            let stream = self.push(&last.text, &axes, op, span);
            self.local(&last.text, Spanned::new(Value::Stream(stream), last.span));
        }
    }

    /// The statements of a block; gives the axes of its result.
    fn body(
        &mut self,
        checker: &mut Checker<'a>,
        statements: &'a [Statement],
        span: Span,
    ) -> Option<Vec<AxisId>> {
        let before = checker.diagnostics.errors_seen();
        for statement in statements {
            match (statement.word.text.as_str(), &statement.value) {
                _ if statement.broken => return None,
                ("repeat", _) => self.repeat(checker, statement),
                (_, Some(value)) => match not_plain(statement) {
                    Some(report) => checker.diagnostics.push(report),
                    None => self.bind(checker, &statement.word, value),
                },
                (word, None) => checker.diagnostics.push(
                    Diagnostic::error(statement.span, format!("`{word}` needs a value"))
                        .code("missing")
                        .label(statement.span, "not `name = value`"),
                ),
            }
        }
        if checker.diagnostics.errors_seen() != before {
            return None;
        }
        let carried = bound(statements.last()?).ok()?;
        let result = self.frame().locals.get(&carried.text).cloned()?;
        match result.value {
            Value::Stream(stream) => {
                self.frame().block.result = stream.value;
                Some(stream.axes)
            }
            Value::Broken => None,
            _ => {
                checker.diagnostics.push(
                    Diagnostic::error(
                        carried.span,
                        format!(
                            "a block results in its last value, which is {}",
                            result.described()
                        ),
                    )
                    .code("wrong-kind")
                    .label(carried.span, "not values of the model")
                    .label(span, "of this block"),
                );
                None
            }
        }
    }

    fn block_name(&self, wanted: &str) -> String {
        let taken = |name: &str| {
            name == "main"
                || self.model.blocks.contains_key(name)
                || self.frames.iter().any(|frame| frame.block.name == name)
        };
        let mut name = wanted.to_owned();
        let mut number = 2;
        while taken(&name) {
            name = format!("{wanted}{number}");
            number += 1;
        }
        name
    }

    /// A call of a block that the program defines.
    pub(crate) fn call_block(
        &mut self,
        checker: &mut Checker<'a>,
        call: Call,
        statement: &'a Statement,
    ) -> Value {
        let Some(Subject::Name(name)) = &statement.subject else {
            return Value::Broken;
        };
        let span = call.span;
        let Some(values) = self.parameters(checker, call, name, statement) else {
            return Value::Broken;
        };
        let definition = Some(name.text.as_str());
        if self
            .frames
            .iter()
            .any(|frame| frame.definition == definition)
        {
            let message = format!("the block `{}` calls itself", name.text);
            checker.diagnostics.push(
                Diagnostic::error(span, message)
                    .code("order")
                    .label(span, "called here")
                    .label(name.span, "from inside of itself"),
            );
            return Value::Broken;
        }
        if self.frames.len() > MAX_BLOCKS {
            checker.diagnostics.push(
                Diagnostic::error(span, "blocks are nested too deeply")
                    .code("size")
                    .label(span, format!("more than {MAX_BLOCKS} in one another")),
            );
            return Value::Broken;
        }
        let printed: Vec<String> = values.iter().map(|(_, value)| value.printed()).collect();
        let key = format!("{}({})", name.text, printed.join(";"));
        if !self.instances.contains_key(&key) {
            if self.instances.len() >= MAX_INSTANCES {
                checker.diagnostics.push(
                    Diagnostic::error(span, "too many different blocks")
                        .code("size")
                        .label(
                            span,
                            format!("more than {MAX_INSTANCES} sets of parameters"),
                        ),
                );
                return Value::Broken;
            }
            let before = checker.diagnostics.len();
            let instance = self.instance(checker, name, statement, &values);
            for report in checker.diagnostics.since(before) {
                let label = Label {
                    span,
                    text: "with what is given here".to_owned(),
                    primary: false,
                };
                report.labels.push(label);
            }
            self.instances.insert(key.clone(), instance);
        }
        let Some(Some(Instance { name: block, axes })) = self.instances.get(&key).cloned() else {
            return Value::Broken;
        };
        let at = match self.frame().layer {
            Some(layer) => format!("layers.{layer}"),
            None => self.weights_name(&name.text, false, span),
        };
        let args = values.iter().filter_map(|(_, value)| match &value.value {
            Value::Stream(stream) => Some(stream.value),
            _ => None,
        });
        let op = Op::Call {
            block,
            args: args.collect(),
            at,
        };
        Value::Stream(self.push(&name.text, &axes, op, span))
    }

    /// The values of a block's parameters.
    fn parameters(
        &mut self,
        checker: &mut Checker<'a>,
        call: Call,
        name: &'a Name,
        statement: &'a Statement,
    ) -> Option<Vec<(&'a str, Spanned)>> {
        let mut values: IndexMap<&'a str, Option<Spanned>> = IndexMap::new();
        for parameter in statement
            .parameters
            .iter()
            .flat_map(|parameters| &parameters.list)
        {
            match (&parameter.label, &parameter.value.kind) {
                (Some(label), _) => {
                    let default = checker.evaluate(&parameter.value, &mut Global);
                    values.insert(&label.text, Some(default));
                }
                (None, ExpressionKind::Path(path)) => {
                    values.insert(path.first().map_or("", |name| name.text.as_str()), None);
                }
                _ => return None,
            }
        }
        let mut given: BTreeSet<&'a str> = BTreeSet::new();
        let mut positional = 0;
        let mut sound = true;
        for argument in call.arguments {
            let found = match &argument.label {
                Some(label) => values
                    .get_key_value(label.text.as_str())
                    .map(|(key, _)| *key),
                None => {
                    positional += 1;
                    values.get_index(positional - 1).map(|(key, _)| *key)
                }
            };
            let place = argument
                .label
                .as_ref()
                .map_or(argument.value.span, |label| label.span);
            let Some(parameter) = found else {
                let keys: Vec<&str> = values.keys().copied().collect();
                let report = match &argument.label {
                    Some(label) => Diagnostic::error(
                        place,
                        format!(
                            "the block `{}` has no parameter `{}`",
                            name.text, label.text
                        ),
                    )
                    .code("unknown-name")
                    .label(place, "not known here")
                    .maybe_help(suggest::help(
                        &label.text,
                        "its parameters are",
                        keys,
                    )),
                    None => Diagnostic::error(
                        place,
                        format!("the block `{}` takes {} values", name.text, keys.len()),
                    )
                    .code("surplus")
                    .label(place, "one too many"),
                };
                checker
                    .diagnostics
                    .push(report.label(name.span, "defined here"));
                sound = false;
                continue;
            };
            if !given.insert(parameter) {
                checker.diagnostics.push(
                    Diagnostic::error(place, format!("`{parameter}` is given twice"))
                        .code("twice")
                        .label(place, "given again here")
                        .label(name.span, "the parameters stand here"),
                );
                sound = false;
            }
            sound &= !matches!(argument.value.value, Value::Broken);
            if let Some(value) = values.get_mut(parameter) {
                *value = Some(argument.value);
            }
        }
        for (parameter, value) in &values {
            if value.is_none() {
                checker.diagnostics.push(
                    Diagnostic::error(call.span, format!("`{}` needs `{parameter}`", name.text))
                        .code("missing")
                        .label(call.span, format!("`{parameter}` is not given"))
                        .label(name.span, "the parameters stand here")
                        .help(format!("add `{parameter}: …`")),
                );
                sound = false;
            }
        }
        if !sound {
            return None;
        }
        Some(
            values
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)))
                .collect(),
        )
    }

    /// Builds a block for certain parameters.
    fn instance(
        &mut self,
        checker: &mut Checker<'a>,
        name: &'a Name,
        statement: &'a Statement,
        values: &[(&'a str, Spanned)],
    ) -> Option<Instance> {
        let body = statement.body.as_ref()?;
        let block_name = self.block_name(&name.text);
        // A parameter is bound by the call already.
        let words = body.statements.iter().map(|statement| &statement.word);
        let mut frame = Frame::new(Some(&name.text), &block_name, words);
        frame.block.span = Some(name.span);
        for (parameter, value) in values {
            frame.once.remove(parameter);
            let mut value = value.clone();
            if let Value::Stream(stream) = &mut value.value {
                let ty = ValueType {
                    dtype: self.dtype,
                    axes: stream.axes.clone(),
                };
                stream.value = frame.block.input(*parameter, ty);
            }
            frame.locals.insert((*parameter).to_owned(), value);
        }
        self.frames.push(frame);
        let axes = self.body(checker, &body.statements, name.span);
        let frame = self.frames.pop()?;
        let axes = axes?;
        self.model.blocks.insert(block_name.clone(), frame.block);
        Some(Instance {
            name: block_name,
            axes,
        })
    }
}

/// The name that a statement binds; of a `repeat` the one that it carries from layer to layer, and where there is none
/// the `repeat` that repeats nothing.
fn bound(statement: &Statement) -> Result<&Name, &Statement> {
    if statement.word.text != "repeat" {
        return Ok(&statement.word);
    }
    let body = statement.body.as_ref();
    match body.and_then(|body| body.statements.last()) {
        Some(last) => bound(last),
        None => Err(statement),
    }
}

fn repeats_nothing(statement: &Statement) -> Diagnostic {
    let place = statement.span;
    Diagnostic::error(place, "`repeat` repeats nothing")
        .code("missing")
        .label(place, "no statements in `{ … }`")
        .help("write `repeat 4 { x = layer(x) }`")
}
