//! The syntax tree: what was written, with the place of every part.
//!
//! Chains (`a + b - c`, `a { … } { … }`) are lists and not nested pairs, so that the tree is never
//! deeper than the brackets of the source, which [`crate::scan`] limits.

use jam_ir::span::Span;

/// One source file.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct File {
    /// Its statements in order.
    pub statements: Vec<Statement>,
    /// Its comments in order.
    pub comments: Vec<Comment>,
}

/// A comment, without the end of its line.
#[derive(Clone, PartialEq, Debug)]
pub struct Comment {
    /// From the first slash to the last character that is not blank.
    pub span: Span,
    /// The text with its slashes.
    pub text: String,
    /// Whether nothing but blanks stands before it on its line.
    pub own_line: bool,
}

/// A name and its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The name.
    pub text: String,
    /// Its place.
    pub span: Span,
}

/// `word [subject] [(parameters)] [= value] [{ body }]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Statement {
    /// The first word: a keyword, or the name that is bound.
    pub word: Name,
    /// What stands after the word.
    pub subject: Option<Subject>,
    /// Parameters in round brackets: plain names are required, labelled ones have defaults.
    pub parameters: Option<Arguments>,
    /// What stands after `=`. A body after it is an update of it, and part of it.
    pub value: Option<Expression>,
    /// The body, when there is no value.
    pub body: Option<Body>,
    /// The whole statement.
    pub span: Span,
    /// Whether parts of it could not be read; that has been reported already.
    pub broken: bool,
}

impl Statement {
    /// Whether anything stands after the word and the subject.
    pub fn has_more(&self) -> bool {
        self.parameters.is_some() || self.value.is_some() || self.body.is_some()
    }

    /// Visits every expression of the statement and of those in its body.
    pub fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e Expression)) {
        if let Some(value) = &self.value {
            value.walk(visit);
        }
        let inner = self.body.iter().flat_map(|body| &body.statements);
        inner.for_each(|inner| inner.walk(visit));
    }
}

/// What stands after the first word of a statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Subject {
    /// A name: `model llm`, `repeat layers`.
    Name(Name),
    /// A number: `repeat 32`.
    Number(Number),
    /// A text: `use "parents.jam"`.
    Text(Text),
}

impl Subject {
    /// Its place.
    pub fn span(&self) -> Span {
        match self {
            Self::Name(name) => name.span,
            Self::Number(number) => number.span,
            Self::Text(text) => text.span,
        }
    }
}

/// A number as it was written; [`crate::number`] knows what it means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Number {
    /// The characters, unit included.
    pub written: String,
    /// Its place.
    pub span: Span,
}

/// A text in quotation marks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// The characters between the quotation marks, escapes as written.
    pub written: String,
    /// Its place, quotation marks included.
    pub span: Span,
}

impl Text {
    /// The text with its escapes (`\"`, `\\`, `\n`, `\t`) replaced; another escape stays as it is.
    pub fn value(&self) -> String {
        let mut value = String::with_capacity(self.written.len());
        let mut characters = self.written.chars();
        while let Some(character) = characters.next() {
            if character != '\\' {
                value.push(character);
                continue;
            }
            match characters.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(other @ ('"' | '\\')) => value.push(other),
                Some(other) => value.extend(['\\', other]),
                None => value.push('\\'),
            }
        }
        value
    }
}

/// Statements in braces.
#[derive(Clone, PartialEq, Debug)]
pub struct Body {
    /// The statements in order.
    pub statements: Vec<Statement>,
    /// From brace to brace.
    pub span: Span,
}

/// A list of arguments or parameters in round brackets.
#[derive(Clone, PartialEq, Debug)]
pub struct Arguments {
    /// The arguments in order.
    pub list: Vec<Argument>,
    /// From bracket to bracket.
    pub span: Span,
}

/// A value, or `label: value`.
#[derive(Clone, PartialEq, Debug)]
pub struct Argument {
    /// The label, for a setting.
    pub label: Option<Name>,
    /// The value.
    pub value: Expression,
}

impl Argument {
    /// Label and value.
    pub fn span(&self) -> Span {
        self.label
            .as_ref()
            .map_or(self.value.span, |label| label.span.to(self.value.span))
    }
}

/// An expression and its place.
#[derive(Clone, PartialEq, Debug)]
pub struct Expression {
    /// What it is.
    pub kind: ExpressionKind,
    /// Its place.
    pub span: Span,
}

impl Expression {
    /// Visits the expression and every one in it, the outer ones first.
    pub fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e Expression)) {
        visit(self);
        match &self.kind {
            ExpressionKind::Number(_) | ExpressionKind::Text(_) | ExpressionKind::Path(_) => {}
            ExpressionKind::List(list) => list.iter().for_each(|item| item.walk(visit)),
            ExpressionKind::Call(_, arguments) => {
                let list = arguments.list.iter();
                list.for_each(|argument| argument.value.walk(visit));
            }
            ExpressionKind::Update(base, bodies) => {
                base.walk(visit);
                let statements = bodies.iter().flat_map(|body| &body.statements);
                statements.for_each(|statement| statement.walk(visit));
            }
            ExpressionKind::Chain(first, rest) => {
                first.walk(visit);
                rest.iter().for_each(|(_, operand)| operand.walk(visit));
            }
            ExpressionKind::Negative(inner) | ExpressionKind::Group(inner) => inner.walk(visit),
        }
    }
}

/// The forms of an expression.
#[derive(Clone, PartialEq, Debug)]
pub enum ExpressionKind {
    /// `56_320`, `8Mi`, `20%`.
    Number(Number),
    /// `"weights/llm"`.
    Text(Text),
    /// `[a, b]`.
    List(Vec<Expression>),
    /// `align.last`: a name, and names in it.
    Path(Vec<Name>),
    /// `cosine(warmup: 200)`.
    Call(Vec<Name>, Arguments),
    /// `align { steps = 100 }`, possibly several times over.
    Update(Box<Expression>, Vec<Body>),
    /// `a + b - c`, or `a * b / c`: operators of one rank, read from the left.
    Chain(Box<Expression>, Vec<(Operator, Expression)>),
    /// `-a`.
    Negative(Box<Expression>),
    /// `(a)`.
    Group(Box<Expression>),
}

/// What joins two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

impl Operator {
    /// The character it is written with.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
        }
    }

    /// Whether it binds its operands tighter than `+`.
    pub fn binds_tightly(self) -> bool {
        matches!(self, Self::Multiply | Self::Divide)
    }
}

/// A path as it is written: `align.last`.
pub fn dotted(path: &[Name]) -> String {
    path.iter()
        .map(|name| name.text.as_str())
        .collect::<Vec<_>>()
        .join(".")
}
