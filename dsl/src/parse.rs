//! Text to syntax tree.
//!
//! A text without mistakes is parsed at once. One with mistakes is parsed statement by statement,
//! with the insides of braces on their own, so that every mistake is reported and everything
//! else can still be checked: a statement that could not be read is marked as broken.

use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::span::{FileId, Span};
use pest::Parser;
use pest::iterators::{Pair, Pairs};

use crate::scan::{Bracket, MAX_PROBLEMS, Scan, scan};
use crate::syntax::{
    Argument, Arguments, Body, Expression, ExpressionKind, File, Name, Number, Operator, Statement,
    Subject, Text,
};
use crate::syntax_error;

/// The parser that pest makes of the grammar.
#[derive(pest_derive::Parser)]
#[grammar = "grammar.pest"]
pub(crate) struct Grammar;

/// A syntax tree and what is wrong with the text.
#[derive(Debug)]
pub struct Parsed {
    /// What could be read; statements that could not are marked.
    pub file: File,
    /// The problems, in the order of their places.
    pub diagnostics: Diagnostics,
}

/// Parses a source text.
pub fn parse(file: FileId, text: &str) -> Parsed {
    let scan = scan(file, text);
    let mut diagnostics = Diagnostics::new();
    let mut statements = Vec::new();
    if !scan.hopeless {
        match whole(file, &scan) {
            Some(read) => statements = read,
            None => {
                let mut recovery = Recovery {
                    file,
                    scan: &scan,
                    problems: Vec::new(),
                    source: text,
                };
                statements = recovery.statements(0, scan.prepared.len());
                diagnostics.extend(recovery.problems);
            }
        }
    }
    let comments = scan.comments;
    diagnostics.extend(scan.problems);
    diagnostics.sort();
    Parsed {
        file: File {
            statements,
            comments,
        },
        diagnostics,
    }
}

/// Parses the text of one expression, as `--set name=value` gives it.
///
/// # Errors
/// The first problem of the text.
pub fn parse_value(file: FileId, text: &str) -> Result<Expression, Box<Diagnostic>> {
    let scan = scan(file, text);
    if let Some(problem) = scan.problems.into_iter().next() {
        return Err(Box::new(problem));
    }
    let builder = Builder { file, offset: 0 };
    match Grammar::parse(Rule::value, &scan.prepared) {
        Ok(mut pairs) => {
            let inner = pairs.next().and_then(|pair| pair.into_inner().next());
            let end = Span::new(file, 0, 0);
            inner
                .map(|pair| builder.expression(pair))
                .ok_or_else(|| Box::new(Diagnostic::error(end, "a value is missing")))
        }
        Err(error) => {
            let report = syntax_error::explain(file, text, &scan.prepared, 0, &error);
            Err(Box::new(report))
        }
    }
}

/// The statements of a text without mistakes.
fn whole(file: FileId, scan: &Scan) -> Option<Vec<Statement>> {
    if !scan.problems.is_empty() {
        return None;
    }
    let pair = Grammar::parse(Rule::file, &scan.prepared).ok()?.next()?;
    Some(Builder { file, offset: 0 }.statements(pair.into_inner()))
}

/// Parses what can be parsed of a text with mistakes.
struct Recovery<'a> {
    file: FileId,
    scan: &'a Scan,
    source: &'a str,
    problems: Vec<Diagnostic>,
}

impl Recovery<'_> {
    /// The statements between two offsets.
    fn statements(&mut self, start: usize, end: usize) -> Vec<Statement> {
        let pieces = self.pieces(start, end);
        pieces
            .into_iter()
            .filter_map(|(start, end)| self.statement(start, end))
            .collect()
    }

    /// Cuts at line ends and commas that stand in no bracket.
    fn pieces(&self, start: usize, end: usize) -> Vec<(usize, usize)> {
        let bytes = self.scan.prepared.as_bytes();
        let mut pieces = Vec::new();
        let mut piece_start = start;
        let mut at = start;
        while at < end {
            match bytes[at] {
                b'"' => at = after_text(bytes, at),
                b'(' | b'[' | b'{' => {
                    at = self.bracket(at).map_or(at + 1, |bracket| {
                        bracket.close + usize::from(bracket.closed)
                    });
                }
                b'\n' | b',' => {
                    pieces.push((piece_start, at));
                    at += 1;
                    piece_start = at;
                }
                _ => at += 1,
            }
        }
        pieces.push((piece_start, end.max(piece_start)));
        pieces
    }

    fn bracket(&self, open: usize) -> Option<Bracket> {
        let index = self
            .scan
            .brackets
            .binary_search_by_key(&open, |bracket| bracket.open);
        index.ok().map(|index| self.scan.brackets[index])
    }

    /// The statement between two offsets, if there is anything.
    fn statement(&mut self, start: usize, end: usize) -> Option<Statement> {
        let text = &self.scan.prepared[start..end];
        let trimmed = text.trim_ascii();
        if trimmed.is_empty() {
            return None;
        }
        let start = start + (text.len() - text.trim_ascii_start().len());
        let end = start + trimmed.len();

        // The insides of braces are read on their own.
        let mut shell = trimmed.as_bytes().to_vec();
        let mut inner = Vec::new();
        let mut at = start;
        while at < end {
            let byte = self.scan.prepared.as_bytes()[at];
            if byte == b'"' {
                at = after_text(self.scan.prepared.as_bytes(), at);
            } else if let (b'{', Some(brace)) = (byte, self.bracket(at)) {
                let close = brace.close.min(end);
                shell[at + 1 - start..close - start].fill(b' ');
                inner.push((at, close));
                at = close + usize::from(brace.closed);
            } else {
                at += 1;
            }
        }
        let bodies: Vec<(usize, Vec<Statement>)> = inner
            .iter()
            .map(|(open, close)| (*open, self.statements(open + 1, *close)))
            .collect();

        let shell = String::from_utf8(shell).unwrap_or_default();
        let parsed = Grammar::parse(Rule::lone, &shell);
        let error = match parsed {
            Ok(mut pairs) => {
                let builder = Builder {
                    file: self.file,
                    offset: start,
                };
                let pair = pairs.next()?.into_inner().next()?;
                let mut statement = builder.statement(pair);
                fill(&mut statement, bodies);
                return Some(statement);
            }
            Err(error) => error,
        };
        let reported = self
            .scan
            .problems
            .iter()
            .filter_map(Diagnostic::span)
            .any(|span| {
                let place = span.start as usize;
                let inside = inner
                    .iter()
                    .any(|(open, close)| (open + 1..*close).contains(&place));
                (start..=end).contains(&place) && !inside
            });
        if !reported && self.problems.len() < MAX_PROBLEMS {
            let report = syntax_error::explain(self.file, self.source, &shell, start, &error);
            self.problems.push(report);
        }
        self.broken(&shell, start, end, bodies)
    }

    /// What can be known of a statement that cannot be parsed: its first words and its body.
    fn broken(
        &self,
        shell: &str,
        start: usize,
        end: usize,
        bodies: Vec<(usize, Vec<Statement>)>,
    ) -> Option<Statement> {
        let builder = Builder {
            file: self.file,
            offset: start,
        };
        let mut words = shell.split_inclusive([' ', '\t']).scan(0, |at, piece| {
            let place = *at;
            *at += piece.len();
            Some((place, piece.trim_end()))
        });
        let name = |(at, text): (usize, &str)| {
            let length = text
                .bytes()
                .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            let length = length.count();
            let begins = text
                .bytes()
                .next()
                .is_some_and(|byte| !byte.is_ascii_digit());
            (length > 0 && begins).then(|| Name {
                text: text[..length].to_owned(),
                span: builder.at(at, at + length),
            })
        };
        let word = words.find(|(_, text)| !text.is_empty()).and_then(name)?;
        let subject = words.find(|(_, text)| !text.is_empty()).and_then(name);
        let body = bodies
            .into_iter()
            .next_back()
            .map(|(open, statements)| Body {
                statements,
                span: Span::new(self.file, open as u32, end as u32),
            });
        Some(Statement {
            word,
            subject: subject.map(Subject::Name),
            parameters: None,
            value: None,
            body,
            span: Span::new(self.file, start as u32, end as u32),
            broken: true,
        })
    }
}

/// The offset after the text in quotation marks that begins at `start`.
fn after_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\n' => return start + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    start + 1
}

/// Puts statements that were read on their own into the empty bodies they belong to.
fn fill(statement: &mut Statement, mut bodies: Vec<(usize, Vec<Statement>)>) {
    let mut give = |body: &mut Body| {
        let open = body.span.start as usize;
        if let Some(found) = bodies.iter_mut().find(|(place, _)| *place == open) {
            body.statements = std::mem::take(&mut found.1);
        }
    };
    if let Some(parameters) = &mut statement.parameters {
        for argument in &mut parameters.list {
            fill_expression(&mut argument.value, &mut give);
        }
    }
    if let Some(value) = &mut statement.value {
        fill_expression(value, &mut give);
    }
    if let Some(body) = &mut statement.body {
        give(body);
    }
}

fn fill_expression(expression: &mut Expression, give: &mut impl FnMut(&mut Body)) {
    match &mut expression.kind {
        ExpressionKind::Number(_) | ExpressionKind::Text(_) | ExpressionKind::Path(_) => {}
        ExpressionKind::List(list) => list.iter_mut().for_each(|item| fill_expression(item, give)),
        ExpressionKind::Call(_, arguments) => {
            for argument in &mut arguments.list {
                fill_expression(&mut argument.value, give);
            }
        }
        ExpressionKind::Update(base, bodies) => {
            fill_expression(base, give);
            bodies.iter_mut().for_each(give);
        }
        ExpressionKind::Chain(first, rest) => {
            fill_expression(first, give);
            rest.iter_mut()
                .for_each(|(_, operand)| fill_expression(operand, give));
        }
        ExpressionKind::Negative(inner) | ExpressionKind::Group(inner) => {
            fill_expression(inner, give);
        }
    }
}

/// Makes the syntax tree of pest's pairs.
struct Builder {
    file: FileId,
    /// Where the parsed text begins in the source.
    offset: usize,
}

impl Builder {
    fn at(&self, start: usize, end: usize) -> Span {
        Span::new(
            self.file,
            (self.offset + start) as u32,
            (self.offset + end) as u32,
        )
    }

    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        let text = pair.as_str();
        self.at(span.start(), span.start() + text.trim_ascii_end().len())
    }

    fn name(&self, pair: &Pair<'_, Rule>) -> Name {
        Name {
            text: pair.as_str().to_owned(),
            span: self.span(pair),
        }
    }

    fn number(&self, pair: &Pair<'_, Rule>) -> Number {
        Number {
            written: pair.as_str().to_owned(),
            span: self.span(pair),
        }
    }

    fn text(&self, pair: &Pair<'_, Rule>) -> Text {
        let written = pair.as_str();
        let inner = written.get(1..written.len() - 1).unwrap_or("");
        Text {
            written: inner.to_owned(),
            span: self.span(pair),
        }
    }

    fn statements(&self, pairs: Pairs<'_, Rule>) -> Vec<Statement> {
        pairs
            .filter(|pair| pair.as_rule() == Rule::statement)
            .map(|pair| self.statement(pair))
            .collect()
    }

    fn body(&self, pair: Pair<'_, Rule>) -> Body {
        Body {
            span: self.span(&pair),
            statements: self.statements(pair.into_inner()),
        }
    }

    fn statement(&self, pair: Pair<'_, Rule>) -> Statement {
        let span = self.span(&pair);
        let mut statement = Statement {
            word: Name {
                text: String::new(),
                span,
            },
            subject: None,
            parameters: None,
            value: None,
            body: None,
            span,
            broken: false,
        };
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::word => statement.word = self.name(&part),
                Rule::subject => {
                    statement.subject =
                        part.into_inner().next().map(|inner| match inner.as_rule() {
                            Rule::number => Subject::Number(self.number(&inner)),
                            Rule::text => Subject::Text(self.text(&inner)),
                            _ => Subject::Name(self.name(&inner)),
                        })
                }
                Rule::parameters => {
                    statement.parameters =
                        part.into_inner().next().map(|inner| self.arguments(inner));
                }
                Rule::expression => statement.value = Some(self.expression(part)),
                Rule::body => statement.body = Some(self.body(part)),
                _ => {}
            }
        }
        statement
    }

    fn arguments(&self, pair: Pair<'_, Rule>) -> Arguments {
        let span = self.span(&pair);
        let list = pair
            .into_inner()
            .filter(|inner| inner.as_rule() == Rule::argument);
        let list = list.filter_map(|argument| {
            let mut label = None;
            let mut value = None;
            for part in argument.into_inner() {
                match part.as_rule() {
                    Rule::label => label = Some(self.name(&part)),
                    _ => value = Some(self.expression(part)),
                }
            }
            value.map(|value| Argument { label, value })
        });
        Arguments {
            list: list.collect(),
            span,
        }
    }

    /// Operands and operators in a row; `*` and `/` bind tighter.
    fn expression(&self, pair: Pair<'_, Rule>) -> Expression {
        let whole = self.span(&pair);
        let mut operands: Vec<Expression> = Vec::new();
        let mut operators: Vec<Operator> = Vec::new();
        let mut minus: Option<Span> = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::operator => operators.push(match part.as_str() {
                    "+" => Operator::Add,
                    "-" => Operator::Subtract,
                    "*" => Operator::Multiply,
                    _ => Operator::Divide,
                }),
                Rule::minus => minus = Some(self.span(&part)),
                Rule::body => {
                    let body = self.body(part);
                    if let Some(base) = operands.pop() {
                        operands.push(updated(base, body));
                    }
                }
                _ => {
                    let operand = self.operand(part);
                    operands.push(match minus.take() {
                        Some(sign) => Expression {
                            span: sign.to(operand.span),
                            kind: ExpressionKind::Negative(Box::new(operand)),
                        },
                        None => operand,
                    });
                }
            }
        }
        joined(operands, operators, whole)
    }

    fn operand(&self, pair: Pair<'_, Rule>) -> Expression {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::number => ExpressionKind::Number(self.number(&pair)),
            Rule::text => ExpressionKind::Text(self.text(&pair)),
            Rule::list => ExpressionKind::List(
                pair.into_inner()
                    .map(|item| self.expression(item))
                    .collect(),
            ),
            Rule::group => {
                let inner = pair.into_inner().next().map(|inner| self.expression(inner));
                match inner {
                    Some(inner) => ExpressionKind::Group(Box::new(inner)),
                    None => ExpressionKind::Path(Vec::new()),
                }
            }
            _ => {
                let mut path = Vec::new();
                let mut arguments = None;
                for part in pair.into_inner() {
                    match part.as_rule() {
                        Rule::path => path = self.path(&part),
                        _ => arguments = Some(self.arguments(part)),
                    }
                }
                match arguments {
                    Some(arguments) => ExpressionKind::Call(path, arguments),
                    None => ExpressionKind::Path(path),
                }
            }
        };
        Expression { kind, span }
    }

    fn path(&self, pair: &Pair<'_, Rule>) -> Vec<Name> {
        let mut at = pair.as_span().start();
        let segments = pair.as_str().split('.').map(|segment| {
            let span = self.at(at, at + segment.len());
            at += segment.len() + 1;
            Name {
                text: segment.to_owned(),
                span,
            }
        });
        segments.collect()
    }
}

/// `base { … }`; a sign binds less than an update.
fn updated(base: Expression, body: Body) -> Expression {
    let span = base.span.to(body.span);
    let kind = match base.kind {
        ExpressionKind::Update(inner, mut bodies) => {
            bodies.push(body);
            ExpressionKind::Update(inner, bodies)
        }
        ExpressionKind::Negative(inner) => {
            ExpressionKind::Negative(Box::new(updated(*inner, body)))
        }
        kind => {
            let base = Expression {
                kind,
                span: base.span,
            };
            ExpressionKind::Update(Box::new(base), vec![body])
        }
    };
    Expression { kind, span }
}

/// Joins operands by rank: products first, then sums of them.
fn joined(operands: Vec<Expression>, operators: Vec<Operator>, whole: Span) -> Expression {
    let mut operands = operands.into_iter();
    let Some(first) = operands.next() else {
        return Expression {
            kind: ExpressionKind::Path(Vec::new()),
            span: whole,
        };
    };
    let mut sum: Vec<(Operator, Expression)> = Vec::new();
    let mut before = Operator::Add;
    let mut product = first;
    let mut factors: Vec<(Operator, Expression)> = Vec::new();
    for (operator, operand) in operators.into_iter().zip(operands) {
        if operator.binds_tightly() {
            factors.push((operator, operand));
        } else {
            sum.push((before, chain(product, std::mem::take(&mut factors))));
            before = operator;
            product = operand;
        }
    }
    let last = chain(product, factors);
    if sum.is_empty() {
        return last;
    }
    sum.push((before, last));
    let first = sum.remove(0).1;
    chain(first, sum)
}

fn chain(first: Expression, rest: Vec<(Operator, Expression)>) -> Expression {
    let Some((_, last)) = rest.last() else {
        return first;
    };
    let span = first.span.to(last.span);
    Expression {
        kind: ExpressionKind::Chain(Box::new(first), rest),
        span,
    }
}
