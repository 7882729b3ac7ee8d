//! What a run can change: settings of a program, its seed, and values from the command line.

use jam_ir::diagnostic::Diagnostic;
use jam_ir::span::Span;

use crate::checker::{Checker, Kind};
use crate::evaluate::Global;
use crate::given::{as_count, twice};
use crate::suggest;
use crate::syntax::{Expression, ExpressionKind, Name, Statement, Subject, dotted};
use crate::value::{Spanned, Value};
use crate::world::{Override, World};

impl<'a> Checker<'a> {
    /// Values of the command line must have a definition that takes them.
    pub(crate) fn check_overrides(&mut self) {
        for given in self.overrides {
            let name = &given.target;
            if name.text == "seed" && given.key.is_none() {
                continue;
            }
            let report = |message: String| {
                Diagnostic::error(name.span, message)
                    .code("set")
                    .label(name.span, "")
            };
            let Some(definition) = self.definitions.get(&name.text) else {
                let names = self.definitions.iter();
                let names = names.filter(|(_, definition)| match given.key {
                    None => definition.kind == Kind::Setting,
                    Some(_) => definition.kind != Kind::Setting,
                });
                let names = names.map(|(name, _)| name.as_str());
                let what = if given.key.is_none() {
                    "the settings are"
                } else {
                    "there are"
                };
                self.diagnostics.push(
                    report(format!("the program defines no `{}`", name.text))
                        .maybe_help(suggest::help(&name.text, what, names)),
                );
                continue;
            };
            if let (Some(_), Err(problem)) = (&given.key, &given.value) {
                self.diagnostics.push(no_expression(problem));
                continue;
            }
            match (&given.key, definition.kind) {
                (None, Kind::Setting) => {}
                (None, kind) => {
                    let message = format!("`{}` is {}, not a setting", name.text, kind.noun());
                    let place = definition.name_span;
                    let help = match kind {
                        Kind::Let | Kind::Block => {
                            format!(
                                "write `setting {} = …` for what a command may set",
                                name.text
                            )
                        }
                        _ => format!("give one of its keys: `--set {}.key=value`", name.text),
                    };
                    let report = report(message).label(place, "defined here");
                    self.diagnostics.push(report.help(help));
                }
                (Some(_), Kind::Setting | Kind::Let | Kind::Block) => {
                    let message = format!(
                        "`{}` is {} and has no keys",
                        name.text,
                        definition.kind.noun()
                    );
                    self.diagnostics
                        .push(report(message).label(definition.name_span, "defined here"));
                }
                (Some(_), _) => {}
            }
        }
    }

    /// `seed 7`, unless the command line gives one.
    pub(crate) fn seed(&mut self) {
        let mut first: Option<Span> = None;
        for statement in self
            .statements
            .iter()
            .filter(|statement| statement.word.text == "seed")
        {
            let place = statement.word.span;
            if let Some(first) = first {
                self.diagnostics.push(twice(&statement.word, first));
                continue;
            }
            first = Some(place);
            match &statement.subject {
                Some(Subject::Number(number)) if !statement.has_more() => {
                    let value = self.number(number);
                    let value = Spanned::new(value, number.span);
                    let seed = as_count("seed", &value, 0, &mut self.diagnostics);
                    self.program.seed = seed.unwrap_or(0);
                }
                _ if statement.broken => {}
                _ => self.diagnostics.push(
                    Diagnostic::error(statement.span, "`seed` takes one whole number")
                        .code("missing")
                        .label(statement.span, "not `seed 7`")
                        .help("write `seed 7`"),
                ),
            }
        }
        // Of several the last counts, as of every value of the command line.
        if let Some(seed) = self
            .overrides
            .iter()
            .rev()
            .find(|given| given.key.is_none() && given.target.text == "seed")
        {
            let value = match &seed.value {
                Ok(value) => self.evaluate(value, &mut Global),
                Err(problem) => {
                    self.diagnostics.push(no_expression(problem));
                    return;
                }
            };
            let seed = as_count("seed", &value, 0, &mut self.diagnostics);
            self.program.seed = seed.unwrap_or(0);
        }
        if let Some(seed) = self.options.seed {
            self.program.seed = seed;
        }
    }

    /// `setting size = one_of(quick, full)` or `setting data = "data"`.
    pub(crate) fn setting(
        &mut self,
        name: &Name,
        statement: &'a Statement,
        world: &dyn World,
    ) -> Option<Value> {
        let default = self.value(statement)?;
        let mut given = self.overrides.iter().rev();
        let given = given.find(|given| given.key.is_none() && given.target.text == name.text);
        let given = match given {
            Some(given) => Some(self.given_setting(given, &default, world)?),
            None => None,
        };
        let value = match &default.value {
            Value::Call(call) if dotted(&call.name) == "one_of" => {
                let mut words: Vec<String> = Vec::new();
                for argument in &call.arguments {
                    match (&argument.label, &argument.value.value) {
                        (None, Value::Word { word, .. }) if !words.contains(word) => {
                            words.push(word.clone());
                        }
                        (None, Value::Broken) => return None,
                        _ => {
                            let place = argument.value.span;
                            self.diagnostics.push(
                                Diagnostic::error(place, "`one_of` takes different plain words")
                                    .code("wrong-kind")
                                    .label(place, "not a word that is free")
                                    .help("write `one_of(quick, full)`; the first is the default"),
                            );
                            return None;
                        }
                    }
                }
                let Some(first) = words.first() else {
                    self.diagnostics.push(
                        Diagnostic::error(call.span, "`one_of` needs words to choose from")
                            .code("missing")
                            .help("write `one_of(quick, full)`; the first is the default"),
                    );
                    return None;
                };
                let mut word = first.clone();
                if let Some(given) = given {
                    let wanted = match &given.value {
                        Value::Word { word, .. } | Value::Text(word) => word.clone(),
                        Value::Broken => return None,
                        _ => given.described(),
                    };
                    if !words.contains(&wanted) {
                        let names = words.iter().map(String::as_str);
                        let help = suggest::help(&wanted, "it is one of", names);
                        self.diagnostics.push(
                            Diagnostic::error(
                                given.span,
                                format!("the setting `{}` cannot be `{wanted}`", name.text),
                            )
                            .code("set")
                            .label(given.span, "not one of its words")
                            .label(default.span, "these are its words")
                            .maybe_help(help),
                        );
                        return None;
                    }
                    word = wanted;
                }
                Value::Choice {
                    word,
                    words,
                    setting: name.text.clone(),
                }
            }
            Value::Number(_) | Value::Text(_) | Value::Flag(_) => {
                let value = match given {
                    None => default.clone(),
                    Some(Spanned {
                        value: Value::Broken,
                        ..
                    }) => return None,
                    Some(given) => match (&default.value, &given.value) {
                        (Value::Number(_), Value::Number(_))
                        | (Value::Text(_), Value::Text(_))
                        | (Value::Flag(_), Value::Flag(_)) => given,
                        _ => {
                            let wanted = default.described();
                            self.diagnostics.push(
                                Diagnostic::error(
                                    given.span,
                                    format!(
                                        "the setting `{}` takes {wanted}, not {}",
                                        name.text,
                                        given.described()
                                    ),
                                )
                                .code("set")
                                .label(given.span, "of another kind")
                                .label(default.span, "its default"),
                            );
                            return None;
                        }
                    },
                };
                value.value
            }
            Value::Broken => return None,
            _ => {
                self.diagnostics.push(
                    crate::given::wrong_kind(
                        &name.text,
                        &default,
                        "a number, a text, `yes` or `no`, or `one_of(…)`",
                    )
                    .help("write `setting name = one_of(quick, full)`; the first is the default"),
                );
                return None;
            }
        };
        let shown = match &value {
            Value::Text(text) => text.clone(),
            Value::Number(exact) => crate::number::shown(exact),
            other => Spanned::new(other.clone(), default.span).printed(),
        };
        self.program.settings.insert(name.text.clone(), shown);
        Some(value)
    }

    /// The value of a setting from the command line.
    fn given_setting(
        &mut self,
        given: &Override,
        default: &Spanned,
        world: &dyn World,
    ) -> Option<Spanned> {
        let span = given.target.span;
        let quoted = matches!(
            &given.value,
            Ok(Expression {
                kind: ExpressionKind::Text(_),
                ..
            })
        );
        // A shell eats quotation marks: where a text is wanted, everything is one.
        if matches!(default.value, Value::Text(_)) && !quoted {
            let text = world.absolute(&given.written);
            let text = text.unwrap_or_else(|| given.written.clone());
            return Some(Spanned::new(Value::Text(text), span));
        }
        match &given.value {
            Ok(value) => {
                let value = self.evaluate(value, &mut Global);
                match value.value {
                    Value::Text(text) => {
                        let text = world.absolute(&text).unwrap_or(text);
                        Some(Spanned::new(Value::Text(text), value.span))
                    }
                    _ => Some(value),
                }
            }
            Err(problem) => {
                self.diagnostics.push(no_expression(problem));
                None
            }
        }
    }
}

/// The report of a value of the command line that cannot be read.
fn no_expression(problem: &Diagnostic) -> Diagnostic {
    let problem = problem.clone();
    problem.note("a text stands in quotation marks, for the shell too: '\"…\"'")
}
