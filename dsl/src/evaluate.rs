//! Expressions to values: exact arithmetic, names, the few functions of the language.

use jam_ir::Span;
use jam_ir::diagnostic::Diagnostic;

use crate::checker::{Checker, Kind, State, too_early};
use crate::given::{Given, as_list};
use crate::number::{self, Exact};
use crate::suggest;
use crate::syntax::{Expression, ExpressionKind, Name, Number, Operator, Statement, dotted};
use crate::value::{Call, CallArgument, Spanned, Value};

/// Most values of one list or call, inner ones counted.
const MAX_VALUES: usize = 10_000;

/// What an expression may refer to beside the program's definitions.
pub(crate) trait Scope<'a> {
    /// The value of a local name.
    fn local(&mut self, name: &str) -> Option<Value>;
    /// Names that could have been meant.
    fn names(&self) -> Vec<&str>;
    /// What a call makes; `Err` gives the call back when it is no function here.
    fn call(&mut self, checker: &mut Checker<'a>, call: Call) -> Result<Value, Call>;
    /// What an operator makes of values of a graph; `None` when neither is one.
    fn join(
        &mut self,
        checker: &mut Checker<'a>,
        operator: Operator,
        a: &Spanned,
        b: &Spanned,
    ) -> Option<Value>;
}

/// Outside of models there are definitions only.
pub(crate) struct Global;

impl<'a> Scope<'a> for Global {
    fn local(&mut self, _: &str) -> Option<Value> {
        None
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }

    fn call(&mut self, _: &mut Checker<'a>, call: Call) -> Result<Value, Call> {
        Err(call)
    }

    fn join(
        &mut self,
        _: &mut Checker<'a>,
        _: Operator,
        _: &Spanned,
        _: &Spanned,
    ) -> Option<Value> {
        None
    }
}

impl<'a> Checker<'a> {
    /// The value after `=`; its absence is reported.
    pub(crate) fn value(&mut self, statement: &'a Statement) -> Option<Spanned> {
        match &statement.value {
            Some(value) => Some(self.evaluate(value, &mut Global)),
            None => {
                let place = statement.word.span;
                let word = &statement.word.text;
                self.diagnostics.push(
                    Diagnostic::error(place, format!("`{word}` needs a value"))
                        .code("missing")
                        .label(place, "no `=` follows")
                        .help(format!("write `{word} name = …`")),
                );
                None
            }
        }
    }

    /// The value of an expression.
    pub(crate) fn evaluate(
        &mut self,
        expression: &Expression,
        scope: &mut dyn Scope<'a>,
    ) -> Spanned {
        let span = expression.span;
        let value = match &expression.kind {
            ExpressionKind::Number(number) => self.number(number),
            ExpressionKind::Text(text) => Value::Text(text.value()),
            ExpressionKind::List(list) => {
                let list = list.iter().map(|item| self.evaluate(item, scope)).collect();
                self.bounded(Value::List(list), span)
            }
            ExpressionKind::Path(path) => self.path(path, span, scope),
            ExpressionKind::Call(name, arguments) => {
                let is = |wanted: &str| name.len() == 1 && name[0].text == wanted;
                if is("choose") {
                    return Spanned::new(self.choose(arguments, span, scope), span);
                }
                let arguments = arguments.list.iter().map(|argument| CallArgument {
                    label: argument.label.clone(),
                    value: self.evaluate(&argument.value, scope),
                });
                let arguments = arguments.collect();
                let call = Call {
                    name: name.clone(),
                    arguments,
                    span,
                };
                match self.function(call) {
                    Ok(value) => value,
                    Err(call) => match scope.call(self, call) {
                        Ok(value) => value,
                        Err(call) => self.bounded(Value::Call(call), span),
                    },
                }
            }
            ExpressionKind::Update(base, _) => {
                self.evaluate(base, scope);
                Value::Updated
            }
            ExpressionKind::Chain(first, rest) => {
                let mut value = self.evaluate(first, scope);
                for (operator, operand) in rest {
                    let operand = self.evaluate(operand, scope);
                    let span = value.span.to(operand.span);
                    let joined = self.join(*operator, value, operand, scope);
                    value = Spanned::new(joined, span);
                }
                value.value
            }
            ExpressionKind::Negative(inner) => {
                let inner = self.evaluate(inner, scope);
                let minus = Spanned::new(Value::Number(Exact::from_integer((-1).into())), span);
                self.join(Operator::Multiply, minus, inner, scope)
            }
            ExpressionKind::Group(inner) => self.evaluate(inner, scope).value,
        };
        Spanned::new(value, span)
    }

    /// A value that names cannot blow up: `let b = [a, a]`, `let c = [b, b]`, ….
    fn bounded(&mut self, value: Value, span: Span) -> Value {
        if value.size() <= MAX_VALUES {
            return value;
        }
        self.diagnostics.push(
            Diagnostic::error(span, "the value is too long")
                .code("size")
                .label(span, format!("more than {MAX_VALUES} values")),
        );
        Value::Broken
    }

    /// A written number.
    pub(crate) fn number(&mut self, number: &Number) -> Value {
        match number::read(&number.written) {
            Ok(exact) => Value::Number(exact),
            Err(problem) => {
                self.diagnostics.push(
                    Diagnostic::error(number.span, problem.message)
                        .code("number")
                        .label(number.span, "")
                        .maybe_help(problem.help),
                );
                Value::Broken
            }
        }
    }

    /// What a path stands for.
    pub(crate) fn path(&mut self, path: &[Name], span: Span, scope: &mut dyn Scope<'a>) -> Value {
        let Some(head) = path.first() else {
            return Value::Broken;
        };
        let single = path.len() == 1;
        if let Some(value) = scope.local(&head.text) {
            if single {
                return value;
            }
            self.no_parts(head, path, span);
            return Value::Broken;
        }
        match (single, head.text.as_str()) {
            (true, "yes") => return Value::Flag(true),
            (true, "no") => return Value::Flag(false),
            _ => {}
        }
        let Some(definition) = self.definitions.get(&head.text) else {
            let mut names = scope.names();
            names.extend(self.definitions.keys().map(String::as_str));
            let near = suggest::nearest(&head.text, names).map(str::to_owned);
            if single {
                return Value::Word {
                    word: head.text.clone(),
                    near,
                };
            }
            self.diagnostics.push(
                Diagnostic::error(head.span, format!("`{}` is not defined", head.text))
                    .code("unknown-name")
                    .label(head.span, "not known here")
                    .maybe_help(near.map(|near| format!("did you mean `{near}`?"))),
            );
            return Value::Broken;
        };
        match &definition.state {
            State::Broken => Value::Broken,
            State::Pending => {
                let place = definition.name_span;
                if matches!(definition.kind, Kind::Let | Kind::Setting) || !single {
                    self.diagnostics.push(too_early(head, place));
                    return Value::Broken;
                }
                // It may be a word all the same: a decoding can be called `linear`.
                Value::Named(path.to_vec())
            }
            State::Value(value) if single => value.clone(),
            State::Value(_) => {
                self.no_parts(head, path, span);
                Value::Broken
            }
            State::Done => Value::Named(path.to_vec()),
        }
    }

    fn no_parts(&mut self, head: &Name, path: &[Name], span: Span) {
        let rest = dotted(&path[1..]);
        self.diagnostics.push(
            Diagnostic::error(span, format!("`{}` has no `{rest}`", head.text))
                .code("unknown-name")
                .label(span, "a value has no parts"),
        );
    }

    fn join(
        &mut self,
        operator: Operator,
        a: Spanned,
        b: Spanned,
        scope: &mut dyn Scope<'a>,
    ) -> Value {
        let span = a.span.to(b.span);
        match (&a.value, &b.value) {
            (Value::Broken, _) | (_, Value::Broken) => return Value::Broken,
            (Value::Number(left), Value::Number(right)) => {
                return self.arithmetic(operator, left, right, &b, span);
            }
            (Value::Text(left), Value::Text(right)) if operator == Operator::Add => {
                if left.len() + right.len() > 1 << 16 {
                    self.diagnostics
                        .push(Diagnostic::error(span, "the text is too long"));
                    return Value::Broken;
                }
                return Value::Text(format!("{left}{right}"));
            }
            _ => {}
        }
        if let Some(value) = scope.join(self, operator, &a, &b) {
            return value;
        }
        match (&a.value, &b.value) {
            (Value::Number(weight), Value::Named(_)) if operator == Operator::Multiply => {
                return Value::Weighted(weight.clone(), Box::new(b));
            }
            (Value::Named(_), Value::Number(weight)) if operator == Operator::Multiply => {
                return Value::Weighted(weight.clone(), Box::new(a));
            }
            _ => {}
        }
        let wrong = if matches!(a.value, Value::Number(_)) {
            &b
        } else {
            &a
        };
        let report = match &wrong.value {
            Value::Word { word, near } => {
                Diagnostic::error(wrong.span, format!("`{word}` is not defined"))
                    .code("unknown-name")
                    .label(wrong.span, "not known here")
                    .maybe_help(near.as_ref().map(|near| format!("did you mean `{near}`?")))
            }
            _ => {
                let message = format!(
                    "`{}` does not work on {} and {}",
                    operator.symbol(),
                    a.described(),
                    b.described()
                );
                Diagnostic::error(span, message)
                    .code("wrong-kind")
                    .label(a.span, a.described())
                    .label(b.span, b.described())
            }
        };
        self.diagnostics.push(report);
        Value::Broken
    }

    fn arithmetic(
        &mut self,
        operator: Operator,
        left: &Exact,
        right: &Exact,
        divisor: &Spanned,
        span: Span,
    ) -> Value {
        let value = match operator {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide if *right == Exact::from_integer(0.into()) => {
                self.diagnostics.push(
                    Diagnostic::error(span, "division by zero")
                        .code("number")
                        .label(divisor.span, "this is zero"),
                );
                return Value::Broken;
            }
            Operator::Divide => left / right,
        };
        if number::is_too_large(&value) {
            self.diagnostics.push(
                Diagnostic::error(span, "the result is too large to compute with")
                    .code("number")
                    .label(span, "thousands of digits"),
            );
            return Value::Broken;
        }
        Value::Number(value)
    }

    /// The functions on numbers; `Err` gives back what is none of them.
    fn function(&mut self, call: Call) -> Result<Value, Call> {
        let name = match call.name.as_slice() {
            [name] => name.text.clone(),
            _ => return Err(call),
        };
        if !matches!(name.as_str(), "round_up" | "round_down" | "min" | "max") {
            return Err(call);
        }
        let span = call.span;
        let given = Given::call(call, &mut self.diagnostics);
        let values = given.positional.clone();
        let mut numbers = Vec::new();
        for value in values.into_iter().flat_map(as_list) {
            match &value.value {
                Value::Number(number) => numbers.push(number.clone()),
                Value::Broken => return Ok(Value::Broken),
                _ => {
                    self.diagnostics
                        .push(crate::given::wrong_kind(&name, &value, "numbers"));
                    return Ok(Value::Broken);
                }
            }
        }
        if let Some((label, _)) = given.keyed.values().next() {
            self.diagnostics.push(
                Diagnostic::error(label.span, format!("`{name}` takes no settings"))
                    .code("unknown-name")
                    .label(label.span, "write the number alone"),
            );
            return Ok(Value::Broken);
        }
        let value = match (name.as_str(), numbers.as_slice()) {
            ("min", [_, ..]) => numbers.into_iter().min(),
            ("max", [_, ..]) => numbers.into_iter().max(),
            ("round_up", [value, step]) => number::round_up(value, step),
            ("round_down", [value, step]) => number::round_down(value, step),
            _ => {
                let help = match name.as_str() {
                    "round_up" | "round_down" => format!("write `{name}(value, multiple of)`"),
                    _ => format!("write `{name}(a, b, …)`"),
                };
                self.diagnostics.push(
                    Diagnostic::error(span, format!("`{name}` takes other values"))
                        .code("missing")
                        .help(help),
                );
                return Ok(Value::Broken);
            }
        };
        Ok(value.map_or_else(
            || {
                self.diagnostics.push(
                    Diagnostic::error(span, "a number cannot be rounded to a multiple of this")
                        .code("range")
                        .label(span, "the second number must be above zero"),
                );
                Value::Broken
            },
            Value::Number,
        ))
    }

    /// `choose(size, smoke: 1, quick: 2)`: the value whose label is the setting's word.
    fn choose(
        &mut self,
        arguments: &crate::syntax::Arguments,
        span: Span,
        scope: &mut dyn Scope<'a>,
    ) -> Value {
        let mut list = arguments.list.iter();
        let first = list.next().filter(|argument| argument.label.is_none());
        let Some(first) = first else {
            self.diagnostics.push(
                Diagnostic::error(span, "`choose` needs the setting that decides")
                    .code("missing")
                    .help("write `choose(setting, word: value, other: value)`"),
            );
            return Value::Broken;
        };
        let decider = self.evaluate(&first.value, scope);
        let (word, words, setting) = match &decider.value {
            Value::Choice {
                word,
                words,
                setting,
            } => (word.clone(), words.clone(), setting.clone()),
            Value::Flag(flag) => {
                let words = vec!["yes".to_owned(), "no".to_owned()];
                (words[usize::from(!*flag)].clone(), words, "flag".to_owned())
            }
            Value::Broken => return Value::Broken,
            _ => {
                let wanted = "a setting that is one of some words";
                self.diagnostics
                    .push(crate::given::wrong_kind("choose", &decider, wanted));
                return Value::Broken;
            }
        };
        let mut chosen = None;
        let mut seen: Vec<&Name> = Vec::new();
        for argument in list {
            let Some(label) = &argument.label else {
                let place = argument.value.span;
                self.diagnostics.push(
                    Diagnostic::error(place, "each value of `choose` needs a label")
                        .code("missing")
                        .label(place, "for which word?")
                        .help(format!(
                            "write `{}: …`",
                            words.first().map_or("", String::as_str)
                        )),
                );
                return Value::Broken;
            };
            if !words.contains(&label.text) {
                let help = suggest::help(
                    &label.text,
                    &format!("`{setting}` is one of"),
                    words.iter().map(String::as_str),
                );
                self.diagnostics.push(
                    Diagnostic::error(label.span, format!("`{setting}` is never `{}`", label.text))
                        .code("unknown-word")
                        .label(label.span, "not one of its words")
                        .maybe_help(help),
                );
                return Value::Broken;
            }
            if let Some(before) = seen.iter().find(|before| before.text == label.text) {
                self.diagnostics
                    .push(crate::given::twice(label, before.span));
                return Value::Broken;
            }
            seen.push(label);
            if label.text == word {
                chosen = Some(&argument.value);
            }
        }
        let missing = words
            .iter()
            .find(|word| !seen.iter().any(|label| label.text == **word));
        if let Some(missing) = missing {
            self.diagnostics.push(
                Diagnostic::error(span, format!("`choose` has no value for `{missing}`"))
                    .code("missing")
                    .label(span, format!("`{setting}` can be `{missing}`"))
                    .help(format!("add `{missing}: …`")),
            );
            return Value::Broken;
        }
        match chosen {
            Some(chosen) => self.evaluate(chosen, scope).value,
            None => Value::Broken,
        }
    }
}
