//! Names of a graph and what is bound to them: what an expression means inside of a model.

use jam_ir::Op;
use jam_ir::diagnostic::Diagnostic;
use jam_ir::span::Span;

use crate::checker::{Checker, Kind};
use crate::evaluate::Scope;
use crate::graph::Graph;
use crate::layers;
use crate::number::{self, Exact};
use crate::syntax::{Expression, Name, Operator};
use crate::value::{Call, Spanned, Stream, Value};

/// Most operations of one block.
const MAX_OPERATIONS: usize = 10_000;

impl<'a> Graph<'a> {
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
