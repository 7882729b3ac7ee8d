//! The formatter: one layout, no options, no comment lost.
//!
//! - Four blanks a level; lines of at most 100 columns where brackets allow it.
//! - `=` stands in one column in statements that follow one another without an empty line, and so
//!   do comments at the ends of lines.
//! - A body stays on one line when it was written so, fits and has no comment.
//! - What does not fit is broken at its outermost brackets, one value a line.
//! - At most one empty line in a row, none at the beginning and end of a body.

use jam_ir::diagnostic::Diagnostics;
use jam_ir::span::{FileId, Span};

use crate::parse::parse;
use crate::syntax::{
    Argument, Arguments, Body, Comment, Expression, ExpressionKind, Statement, Subject, dotted,
};

/// Lines are at most this long, in characters.
const MAX_WIDTH: usize = 100;
/// Blanks of a level.
const INDENT: usize = 4;

/// The text in the one layout.
///
/// # Errors
/// The syntax errors of the text; a text with errors is not formatted.
pub fn format(file: FileId, text: &str) -> Result<String, Diagnostics> {
    let parsed = parse(file, text);
    if parsed.diagnostics.has_errors() {
        return Err(parsed.diagnostics);
    }
    let comments = &parsed.file.comments;
    let printed = vec![false; comments.len()];
    let mut printer = Printer {
        source: text,
        comments,
        printed,
    };
    let mut printed = printer.statements(&parsed.file.statements, 0, 0, text.len());
    if !printed.is_empty() {
        printed.push('\n');
    }
    Ok(printed)
}

struct Printer<'a> {
    source: &'a str,
    comments: &'a [Comment],
    /// Which comments are printed already.
    printed: Vec<bool>,
}

/// One line or several in a list of statements or arguments.
struct Item {
    /// The text, indented.
    text: String,
    /// A comment at the end of its last line.
    trailing: Option<String>,
    /// Whether an empty line stands before it.
    blank_before: bool,
}

impl<'a> Printer<'a> {
    /// Statements of a body that reaches from `start` to `end`, indented, without a last line end.
    fn statements(
        &mut self,
        statements: &[Statement],
        indent: usize,
        start: usize,
        end: usize,
    ) -> String {
        let columns = self.equal_columns(statements);
        let mut items: Vec<Item> = Vec::new();
        let mut before = start;
        for (index, statement) in statements.iter().enumerate() {
            let (from, to) = range(statement.span);
            self.own_lines(&mut items, &mut before, indent, from);
            let blank_before = !items.is_empty() && self.blank_line(before, from);
            let text = format!(
                "{}{}",
                blanks(indent),
                self.statement(statement, indent, columns[index])
            );
            let until = statements
                .get(index + 1)
                .map_or(end, |next| range(next.span).0);
            let trailing = self.trailing(to, until);
            before = trailing.map_or(to, |comment| range(comment.span).1);
            let trailing = trailing.map(|comment| comment.text.clone());
            items.push(Item {
                text,
                trailing,
                blank_before,
            });
        }
        self.own_lines(&mut items, &mut before, indent, end);
        joined(items)
    }

    /// The columns of `=`, counted from the beginning of each statement.
    fn equal_columns(&self, statements: &[Statement]) -> Vec<usize> {
        let mut columns = vec![0; statements.len()];
        let mut first = 0;
        while first < statements.len() {
            let mut last = first + 1;
            while last < statements.len() {
                let (before, after) = (&statements[last - 1], &statements[last]);
                if self.blank_line(range(before.span).1, range(after.span).0) {
                    break;
                }
                last += 1;
            }
            let group = &statements[first..last];
            let widths = group.iter().filter(|statement| statement.value.is_some());
            let widest = widths
                .map(|statement| width(&head(statement)))
                .max()
                .unwrap_or(0);
            columns[first..last].fill(widest + 1);
            first = last;
        }
        columns
    }

    fn statement(&mut self, statement: &Statement, indent: usize, column: usize) -> String {
        let mut text = head_without_parameters(statement);
        if let Some(parameters) = &statement.parameters {
            let at = indent + width(&text);
            text.push_str(&self.arguments(parameters, indent, at, 2));
        }
        if let Some(value) = &statement.value {
            let used = last_width(&text);
            text.push_str(&blanks(column.saturating_sub(used).max(1)));
            text.push_str("= ");
            let at = if text.contains('\n') {
                last_width(&text)
            } else {
                indent + width(&text)
            };
            text.push_str(&self.expression(value, indent, at, 0));
        } else if let Some(body) = &statement.body {
            text.push(' ');
            let at = if text.contains('\n') {
                last_width(&text)
            } else {
                indent + width(&text)
            };
            text.push_str(&self.body(body, indent, at, 0));
        }
        text
    }

    /// An expression that begins at column `at`, with `reserve` characters to follow on its line.
    fn expression(
        &mut self,
        expression: &Expression,
        indent: usize,
        at: usize,
        reserve: usize,
    ) -> String {
        if !self.must_break(expression) {
            let flat = flat(expression);
            if at + width(&flat) + reserve <= MAX_WIDTH {
                return flat;
            }
        }
        match &expression.kind {
            ExpressionKind::Number(_) | ExpressionKind::Text(_) | ExpressionKind::Path(_) => {
                flat(expression)
            }
            ExpressionKind::List(list) => {
                let items: Vec<(Option<&str>, &Expression)> =
                    list.iter().map(|item| (None, item)).collect();
                self.broken('[', &items, ']', true, indent, expression.span)
            }
            ExpressionKind::Call(path, arguments) => {
                let name = dotted(path);
                let at = at + width(&name);
                name + &self.arguments(arguments, indent, at, reserve)
            }
            ExpressionKind::Group(inner) => {
                self.broken('(', &[(None, inner)], ')', false, indent, expression.span)
            }
            ExpressionKind::Negative(inner) => {
                format!("-{}", self.expression(inner, indent, at + 1, reserve))
            }
            ExpressionKind::Chain(first, rest) => {
                let mut text = self.expression(first, indent, at, 2);
                // The column is carried along: a chain may be as long as a program.
                let mut at = column_after(&text, at);
                for (operator, operand) in rest {
                    let before = text.len();
                    text.push_str(&format!(" {} ", operator.symbol()));
                    at = column_after(&text[before..], at);
                    let operand = self.expression(operand, indent, at, 2);
                    at = column_after(&operand, at);
                    text.push_str(&operand);
                }
                text
            }
            ExpressionKind::Update(base, bodies) => {
                let mut text = self.expression(base, indent, at, 2);
                let mut at = column_after(&text, at);
                for body in bodies {
                    let body = self.body(body, indent, at + 1, reserve);
                    at = column_after(&body, at + 1);
                    text.push(' ');
                    text.push_str(&body);
                }
                text
            }
        }
    }

    fn arguments(
        &mut self,
        arguments: &Arguments,
        indent: usize,
        at: usize,
        reserve: usize,
    ) -> String {
        let breaks = self.has_comment(arguments.span)
            || arguments
                .list
                .iter()
                .any(|argument| self.must_break(&argument.value));
        if !breaks {
            let flat = flat_arguments(arguments);
            if at + width(&flat) + reserve <= MAX_WIDTH {
                return flat;
            }
        }
        let items: Vec<(Option<&str>, &Expression)> = arguments
            .list
            .iter()
            .map(|argument| {
                (
                    argument.label.as_ref().map(|label| label.text.as_str()),
                    &argument.value,
                )
            })
            .collect();
        self.broken('(', &items, ')', true, indent, arguments.span)
    }

    /// Values in brackets, one a line.
    fn broken(
        &mut self,
        open: char,
        items: &[(Option<&str>, &Expression)],
        close: char,
        commas: bool,
        indent: usize,
        span: Span,
    ) -> String {
        let (start, end) = range(span);
        let inner = indent + INDENT;
        let mut lines: Vec<Item> = Vec::new();
        let mut before = start + 1;
        for (index, (label, value)) in items.iter().enumerate() {
            let to = range(value.span).1;
            // A comment in the middle of a value has no line of its own there: it goes before it,
            // unless it stands in brackets of the value, which are broken too.
            let mut brackets = Vec::new();
            outer_brackets(value, &mut brackets);
            let mut from = before;
            for (open, close) in brackets {
                self.own_lines(&mut lines, &mut from, inner, open);
                from = close;
            }
            self.own_lines(&mut lines, &mut from, inner, to);
            let mut text = blanks(inner);
            if let Some(label) = label {
                text.push_str(label);
                text.push_str(": ");
            }
            let at = width(&text);
            text.push_str(&self.expression(value, inner, at, 1));
            if commas {
                text.push(',');
            }
            let until = items
                .get(index + 1)
                .map_or(end, |(_, next)| range(next.span).0);
            let trailing = self.trailing(to, until);
            before = trailing.map_or(to, |comment| range(comment.span).1);
            let trailing = trailing.map(|comment| comment.text.clone());
            lines.push(Item {
                text,
                trailing,
                blank_before: false,
            });
        }
        self.own_lines(&mut lines, &mut before, inner, end);
        for line in &mut lines {
            line.blank_before = false;
        }
        if lines.is_empty() {
            return format!("{open}{close}");
        }
        format!("{open}\n{}\n{}{close}", joined(lines), blanks(indent))
    }

    fn body(&mut self, body: &Body, indent: usize, at: usize, reserve: usize) -> String {
        if !self.body_must_break(body) {
            let flat = flat_body(body);
            if at + width(&flat) + reserve <= MAX_WIDTH {
                return flat;
            }
        }
        let (start, end) = range(body.span);
        let first = body
            .statements
            .first()
            .map_or(end, |statement| range(statement.span).0);
        let mut text = "{".to_owned();
        let mut inside = start + 1;
        if let Some(comment) = self.trailing(start + 1, first) {
            text.push(' ');
            text.push_str(&comment.text);
            inside = range(comment.span).1;
        }
        let inner = self.statements(&body.statements, indent + INDENT, inside, end);
        if !inner.is_empty() {
            text.push('\n');
            text.push_str(&inner);
        }
        text.push('\n');
        text.push_str(&blanks(indent));
        text.push('}');
        text
    }

    /// Prints the comments before `until` on lines of their own.
    fn own_lines(
        &mut self,
        items: &mut Vec<Item>,
        before: &mut usize,
        indent: usize,
        until: usize,
    ) {
        for index in self.between(*before, until) {
            let comment = &self.comments[index];
            let (from, to) = range(comment.span);
            let blank_before = !items.is_empty() && self.blank_line(*before, from);
            let text = format!("{}{}", blanks(indent), comment.text);
            items.push(Item {
                text,
                trailing: None,
                blank_before,
            });
            *before = to;
            self.printed[index] = true;
        }
    }

    /// The comments that begin between two places and are not printed yet.
    fn between(&self, from: usize, until: usize) -> Vec<usize> {
        let first = self
            .comments
            .partition_point(|comment| range(comment.span).0 < from);
        let rest = self.comments.iter().enumerate().skip(first);
        let inside = rest.take_while(|(_, comment)| range(comment.span).0 < until);
        inside
            .map(|(index, _)| index)
            .filter(|index| !self.printed[*index])
            .collect()
    }

    /// The comment at the end of the line that `after` stands on, if it stands before `until`.
    fn trailing(&mut self, after: usize, until: usize) -> Option<&'a Comment> {
        let index = self.between(after, until).first().copied()?;
        let comment = &self.comments[index];
        let gap = self.source.get(after..range(comment.span).0)?;
        if gap.contains('\n') {
            return None;
        }
        self.printed[index] = true;
        Some(comment)
    }

    fn blank_line(&self, from: usize, to: usize) -> bool {
        let gap = self.source.get(from..to).unwrap_or("");
        let mut lines = gap.split('\n');
        lines.next();
        let mut lines = lines.peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_some() && line.trim().is_empty() {
                return true;
            }
        }
        false
    }

    fn has_comment(&self, span: Span) -> bool {
        let (from, until) = range(span);
        !self.between(from, until).is_empty()
    }

    fn must_break(&self, expression: &Expression) -> bool {
        if self.has_comment(expression.span) {
            return true;
        }
        match &expression.kind {
            ExpressionKind::Number(_) | ExpressionKind::Text(_) | ExpressionKind::Path(_) => false,
            ExpressionKind::List(list) => list.iter().any(|item| self.must_break(item)),
            ExpressionKind::Call(_, arguments) => arguments
                .list
                .iter()
                .any(|argument| self.must_break(&argument.value)),
            ExpressionKind::Update(base, bodies) => {
                self.must_break(base) || bodies.iter().any(|body| self.body_must_break(body))
            }
            ExpressionKind::Chain(first, rest) => {
                self.must_break(first) || rest.iter().any(|(_, operand)| self.must_break(operand))
            }
            ExpressionKind::Negative(inner) | ExpressionKind::Group(inner) => {
                self.must_break(inner)
            }
        }
    }

    fn body_must_break(&self, body: &Body) -> bool {
        let Some(first) = body.statements.first() else {
            return self.has_comment(body.span);
        };
        let gap = self.source.get(range(body.span).0..range(first.span).0);
        gap.is_none_or(|gap| gap.contains('\n'))
            || self.has_comment(body.span)
            || body.statements.iter().any(|statement| {
                let parameters = statement.parameters.iter().flat_map(|list| &list.list);
                parameters
                    .into_iter()
                    .any(|parameter| self.must_break(&parameter.value))
                    || statement
                        .value
                        .as_ref()
                        .is_some_and(|value| self.must_break(value))
                    || statement
                        .body
                        .as_ref()
                        .is_some_and(|body| self.body_must_break(body))
            })
    }
}

fn range(span: Span) -> (usize, usize) {
    (span.start as usize, span.end as usize)
}

fn blanks(count: usize) -> String {
    " ".repeat(count)
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn last_width(text: &str) -> usize {
    width(text.rsplit('\n').next().unwrap_or(""))
}

/// The column after a text that began at column `at`.
fn column_after(text: &str, at: usize) -> usize {
    if text.contains('\n') {
        last_width(text)
    } else {
        at + width(text)
    }
}

/// Lines with the comments at their ends in one column where they follow one another.
fn joined(items: Vec<Item>) -> String {
    let mut text = String::new();
    let mut column = 0;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        if item.blank_before {
            text.push('\n');
        }
        text.push_str(&item.text);
        let Some(comment) = &item.trailing else {
            column = 0;
            continue;
        };
        if column == 0 || item.blank_before {
            let run = items[index..].iter().enumerate();
            let run = run.take_while(|(offset, item)| {
                item.trailing.is_some() && (*offset == 0 || !item.blank_before)
            });
            column = run
                .map(|(_, item)| last_width(&item.text))
                .max()
                .unwrap_or(0)
                + 2;
        }
        text.push_str(&blanks(
            column.saturating_sub(last_width(&item.text)).max(1),
        ));
        text.push_str(comment);
    }
    text
}

/// The brackets of a value that stand in no other bracket of it.
fn outer_brackets(expression: &Expression, brackets: &mut Vec<(usize, usize)>) {
    match &expression.kind {
        ExpressionKind::Number(_) | ExpressionKind::Text(_) | ExpressionKind::Path(_) => {}
        ExpressionKind::List(_) | ExpressionKind::Group(_) => brackets.push(range(expression.span)),
        ExpressionKind::Call(_, arguments) => brackets.push(range(arguments.span)),
        ExpressionKind::Update(base, bodies) => {
            outer_brackets(base, brackets);
            brackets.extend(bodies.iter().map(|body| range(body.span)));
        }
        ExpressionKind::Chain(first, rest) => {
            outer_brackets(first, brackets);
            rest.iter()
                .for_each(|(_, operand)| outer_brackets(operand, brackets));
        }
        ExpressionKind::Negative(inner) => outer_brackets(inner, brackets),
    }
}

fn head_without_parameters(statement: &Statement) -> String {
    let word = &statement.word.text;
    match &statement.subject {
        None => word.clone(),
        Some(Subject::Name(name)) => format!("{word} {}", name.text),
        Some(Subject::Number(number)) => format!("{word} {}", number.written),
        Some(Subject::Text(text)) => format!("{word} \"{}\"", text.written),
    }
}

fn head(statement: &Statement) -> String {
    let mut head = head_without_parameters(statement);
    if let Some(parameters) = &statement.parameters {
        head.push_str(&flat_arguments(parameters));
    }
    head
}

fn flat_statement(statement: &Statement) -> String {
    let head = head(statement);
    match (&statement.value, &statement.body) {
        (Some(value), _) => format!("{head} = {}", flat(value)),
        (None, Some(body)) => format!("{head} {}", flat_body(body)),
        (None, None) => head,
    }
}

fn flat_body(body: &Body) -> String {
    if body.statements.is_empty() {
        return "{}".to_owned();
    }
    let statements: Vec<String> = body.statements.iter().map(flat_statement).collect();
    format!("{{ {} }}", statements.join(", "))
}

fn flat_arguments(arguments: &Arguments) -> String {
    let argument = |argument: &Argument| match &argument.label {
        Some(label) => format!("{}: {}", label.text, flat(&argument.value)),
        None => flat(&argument.value),
    };
    let arguments: Vec<String> = arguments.list.iter().map(argument).collect();
    format!("({})", arguments.join(", "))
}

/// An expression on one line.
fn flat(expression: &Expression) -> String {
    match &expression.kind {
        ExpressionKind::Number(number) => number.written.clone(),
        ExpressionKind::Text(text) => format!("\"{}\"", text.written),
        ExpressionKind::List(list) => {
            let items: Vec<String> = list.iter().map(flat).collect();
            format!("[{}]", items.join(", "))
        }
        ExpressionKind::Path(path) => dotted(path),
        ExpressionKind::Call(path, arguments) => dotted(path) + &flat_arguments(arguments),
        ExpressionKind::Update(base, bodies) => {
            let mut text = flat(base);
            for body in bodies {
                text.push(' ');
                text.push_str(&flat_body(body));
            }
            text
        }
        ExpressionKind::Chain(first, rest) => {
            let mut text = flat(first);
            for (operator, operand) in rest {
                text.push_str(&format!(" {} {}", operator.symbol(), flat(operand)));
            }
            text
        }
        ExpressionKind::Negative(inner) => format!("-{}", flat(inner)),
        ExpressionKind::Group(inner) => format!("({})", flat(inner)),
    }
}
