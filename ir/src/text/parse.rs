//! Parsing: text as a model. Hand-written, one word ahead, errors with line, column and reason.

use std::collections::{HashMap, HashSet};
use std::fmt;

use indexmap::IndexMap;

use super::lex::{Lexer, Token, TokenKind, shortened};
use crate::span::FileId;
use crate::{
    Axis, AxisId, Block, DType, ImageTokens, Model, Param, ParamId, Role, Span, Statement,
    TextTokens, TokenLayout, TokenRange, Value, ValueId, ValueType, Weight, WeightType,
};

mod ops;
mod plans;

/// Why a text is no model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// The model that a text describes. Whether it makes sense is left to the verifier.
///
/// # Errors
/// The first place where the text is not of the form that [`crate::text`] draws.
pub fn parse(text: &str) -> Result<Model, ParseError> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        ahead: None,
        axes: HashMap::new(),
    };
    parser.model().map_err(|fault| {
        let before = &text[..fault.at.min(text.len())];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ParseError {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: fault.message,
        }
    })
}

/// A place, in bytes, and what is wrong there.
struct Fault {
    at: usize,
    message: String,
}

type Parsed<T> = Result<T, Fault>;

fn fault<T>(at: usize, message: impl Into<String>) -> Parsed<T> {
    let message = message.into();
    Err(Fault { at, message })
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    ahead: Option<Token>,
    axes: HashMap<String, AxisId>,
}

/// Names of a block under construction.
#[derive(Default)]
struct Names {
    values: HashMap<String, ValueId>,
    params: HashMap<String, ParamId>,
    /// Values by id; they become a list once all ids are known.
    defined: HashMap<u32, Value>,
    next: u32,
}

impl Parser<'_> {
    fn peek(&mut self) -> Parsed<&Token> {
        if self.ahead.is_none() {
            let next = self.lexer.next();
            self.ahead = Some(next.map_err(|(at, message)| Fault { at, message })?);
        }
        match &self.ahead {
            Some(token) => Ok(token),
            None => fault(0, "there is no next word"),
        }
    }

    fn take(&mut self) -> Parsed<Token> {
        self.peek()?;
        match self.ahead.take() {
            Some(token) => Ok(token),
            None => fault(0, "there is no next word"),
        }
    }

    /// The byte at which the next word begins.
    fn at(&mut self) -> Parsed<usize> {
        Ok(self.peek()?.start)
    }

    fn unexpected<T>(&mut self, wanted: &str) -> Parsed<T> {
        let token = self.take()?;
        fault(
            token.start,
            format!("expected {wanted}, found {}", token.kind.text()),
        )
    }

    fn is_sign(&mut self, sign: &str) -> Parsed<bool> {
        Ok(matches!(&self.peek()?.kind, TokenKind::Sign(found) if *found == sign))
    }

    /// Takes a sign if it is next.
    fn skip(&mut self, sign: &str) -> Parsed<bool> {
        let found = self.is_sign(sign)?;
        if found {
            self.ahead = None;
        }
        Ok(found)
    }

    fn sign(&mut self, sign: &str) -> Parsed<()> {
        match self.skip(sign)? {
            true => Ok(()),
            false => self.unexpected(&format!("`{sign}`")),
        }
    }

    /// Takes a bare word if it is next.
    fn skip_word(&mut self, word: &str) -> Parsed<bool> {
        let found = matches!(&self.peek()?.kind, TokenKind::Name(name) if name == word);
        if found {
            self.ahead = None;
        }
        Ok(found)
    }

    fn word(&mut self, word: &str) -> Parsed<()> {
        match self.skip_word(word)? {
            true => Ok(()),
            false => self.unexpected(&format!("`{word}`")),
        }
    }

    /// A bare or quoted name.
    fn name(&mut self, what: &str) -> Parsed<String> {
        if matches!(self.peek()?.kind, TokenKind::Name(_) | TokenKind::Quoted(_))
            && let TokenKind::Name(name) | TokenKind::Quoted(name) = self.take()?.kind
        {
            return Ok(name);
        }
        self.unexpected(what)
    }

    /// A bare word that `known` understands.
    fn known<T>(&mut self, what: &str, known: impl Fn(&str) -> Option<T>) -> Parsed<T> {
        if let TokenKind::Name(name) = &self.peek()?.kind
            && let Some(meaning) = known(name)
        {
            self.ahead = None;
            return Ok(meaning);
        }
        self.unexpected(what)
    }

    fn whole(&mut self) -> Parsed<u64> {
        let at = self.at()?;
        let TokenKind::Number(digits) = &self.peek()?.kind else {
            return self.unexpected("a whole number");
        };
        let Ok(number) = digits.parse() else {
            let digits = shortened(digits);
            return fault(at, format!("{digits} is not a whole number of 64 bits"));
        };
        self.ahead = None;
        Ok(number)
    }

    /// A whole number that fits a smaller type.
    fn small<T: TryFrom<u64>>(&mut self, what: &str) -> Parsed<T> {
        let at = self.at()?;
        let number = self.whole()?;
        T::try_from(number).or_else(|_| fault(at, format!("{number} is too large for {what}")))
    }

    fn float(&mut self) -> Parsed<f64> {
        let negative = self.skip("-")?;
        let number = match &self.peek()?.kind {
            TokenKind::Number(digits) => digits.parse::<f64>().ok(),
            TokenKind::Name(name) if name == "inf" => Some(f64::INFINITY),
            TokenKind::Name(name) if name == "NaN" => Some(f64::NAN),
            _ => None,
        };
        match number {
            Some(number) => {
                self.ahead = None;
                Ok(if negative { -number } else { number })
            }
            None => self.unexpected("a number"),
        }
    }

    /// Items between commas, up to the closing sign, which is taken.
    fn list<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.skip(close)? {
            if !items.is_empty() {
                self.sign(",")?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `@file:start..end`, if it is next.
    fn span(&mut self) -> Parsed<Option<Span>> {
        if !self.skip("@")? {
            return Ok(None);
        }
        let file = FileId(self.small("a file number")?);
        self.sign(":")?;
        let start = self.small("a place in a file")?;
        self.sign("..")?;
        let end = self.small("a place in a file")?;
        Ok(Some(Span { file, start, end }))
    }

    fn model(&mut self) -> Parsed<Model> {
        self.word("model")?;
        let name = self.name("the name of the model")?;
        self.sign("{")?;
        let tokens = self.tokens()?;
        let mut context = None;
        if self.skip_word("context")? {
            self.sign("=")?;
            context = Some(self.whole()?);
        }
        let mut axes = Vec::new();
        while self.skip_word("axis")? {
            let axis = self.axis_line(axes.len())?;
            axes.push(axis);
        }
        let mut blocks = IndexMap::new();
        while self.skip_word("block")? {
            let at = self.at()?;
            let name = self.name("the name of a block")?;
            let block = self.block(name.clone())?;
            if blocks.insert(name.clone(), block).is_some() {
                return fault(at, format!("block `{}` is there twice", shortened(&name)));
            }
        }
        self.word("main")?;
        let main = self.block("main".to_owned())?;
        let weights = self.weights()?;
        self.sign("}")?;
        if self.peek()?.kind != TokenKind::End {
            return self.unexpected("the end");
        }
        Ok(Model {
            name,
            tokens,
            context,
            axes,
            blocks,
            main,
            weights,
        })
    }

    fn tokens(&mut self) -> Parsed<TokenLayout> {
        self.word("tokens")?;
        let name = self.name("the name of the tokens")?;
        self.sign("{")?;
        self.word("size")?;
        self.sign("=")?;
        let mut tokens = TokenLayout::empty(&name);
        tokens.size = self.whole()?;
        self.word("text")?;
        self.sign("=")?;
        if self.skip_word("tokenizer")? {
            tokens.text = TextTokens::Tokenizer(self.name("the name of a tokenizer")?);
        } else if self.skip_word("files")? {
            tokens.text = TextTokens::Files(self.name("a path")?);
        } else if self.skip_word("joint")? {
            let mut paths = vec![self.name("a path")?];
            while self.skip(",")? {
                paths.push(self.name("a path")?);
            }
            tokens.text = TextTokens::Joint(paths);
        } else if !self.skip_word("ids")? {
            return self.unexpected("`tokenizer`, `files`, `joint` or `ids`");
        }
        self.word("image")?;
        self.sign("=")?;
        if self.skip_word("tokenizer")? {
            tokens.image = ImageTokens::Tokenizer(self.name("the name of a tokenizer")?);
        } else if self.skip_word("files")? {
            tokens.image = ImageTokens::Files(self.name("a path")?);
        } else if !self.skip_word("ids")? {
            return self.unexpected("`tokenizer`, `files` or `ids`");
        }
        self.word("grid")?;
        self.sign("=")?;
        tokens.grid = self.whole()?;
        while self.skip_word("range")? {
            let kind = self.known("a kind of tokens", |word| {
                let mut kinds = crate::TokenKind::ALL.into_iter();
                kinds.find(|kind| kind.word() == word)
            })?;
            self.sign("=")?;
            let (start, end) = self.id_range()?;
            let len = end - start;
            tokens.ranges.push(TokenRange { kind, start, len });
        }
        tokens.text_ids = match self.skip_word("tokenizer")? {
            true => {
                self.sign("=")?;
                self.id_range()?
            }
            false => tokens.text_span(),
        };
        while self.skip_word("mark")? {
            let at = self.at()?;
            let name = self.name("the name of a mark")?;
            self.sign("=")?;
            let id = self.whole()?;
            if tokens.marks.insert(name, id).is_some() {
                return fault(at, "this mark is there twice");
            }
        }
        if self.skip_word("begin")? {
            self.sign("=")?;
            tokens.begin = self.name("the name of a mark")?;
        }
        self.sign("}")?;
        Ok(tokens)
    }

    /// `start..end`, half-open.
    fn id_range(&mut self) -> Parsed<(u64, u64)> {
        let start = self.whole()?;
        self.sign("..")?;
        let at = self.at()?;
        let end = self.whole()?;
        match start <= end {
            true => Ok((start, end)),
            false => fault(at, format!("a range from {start} cannot end at {end}")),
        }
    }

    fn axis_line(&mut self, index: usize) -> Parsed<Axis> {
        let at = self.at()?;
        let name = self.name("the name of an axis")?;
        let role = match self.skip(":")? {
            true => self.known("a role of an axis", Role::from_word)?,
            false => match Role::from_word(&name) {
                Some(role) => role,
                None => return self.unexpected("`:` and the role of the axis"),
            },
        };
        let size = match self.skip("=")? {
            true => Some(self.whole()?),
            false => None,
        };
        // A text with 2^32 axes does not fit memory.
        let id = AxisId(index as u32);
        if self.axes.insert(name.clone(), id).is_some() {
            return fault(at, format!("axis `{}` is there twice", shortened(&name)));
        }
        Ok(Axis { name, size, role })
    }

    fn axis(&mut self) -> Parsed<AxisId> {
        let at = self.at()?;
        let name = self.name("an axis")?;
        match self.axes.get(&name) {
            Some(id) => Ok(*id),
            None => fault(at, format!("there is no axis `{}`", shortened(&name))),
        }
    }

    fn dtype(&mut self) -> Parsed<DType> {
        self.known("an element type", DType::from_word)
    }

    fn value_type(&mut self) -> Parsed<ValueType> {
        let dtype = self.dtype()?;
        self.sign("[")?;
        let axes = self.list("]", Self::axis)?;
        Ok(ValueType { dtype, axes })
    }

    fn weight_type(&mut self) -> Parsed<WeightType> {
        let dtype = self.dtype()?;
        self.sign("[")?;
        let mut output = Vec::new();
        let mut input = Vec::new();
        let mut arrow = false;
        while !self.skip("]")? {
            if !arrow && self.skip("->")? {
                arrow = true;
                input = std::mem::take(&mut output);
                continue;
            }
            if !output.is_empty() {
                self.sign(",")?;
            }
            output.push(self.axis()?);
        }
        Ok(WeightType {
            dtype,
            input,
            output,
        })
    }

    /// From the inputs on: `(x: f32[b]) -> f32[b] @0:1..2 { … }`.
    fn block(&mut self, name: String) -> Parsed<Block> {
        let mut block = Block::new(name);
        let mut names = Names::default();
        self.sign("(")?;
        block.inputs = self.list(")", |parser| {
            let at = parser.at()?;
            let name = parser.name("the name of an input")?;
            parser.definition(at, name, &mut names)
        })?;
        self.sign("->")?;
        let result_at = self.at()?;
        let result_type = self.value_type()?;
        block.span = self.span()?;
        self.sign("{")?;
        loop {
            let at = self.at()?;
            let quoted = matches!(self.peek()?.kind, TokenKind::Quoted(_));
            let word = self.name("a statement")?;
            // A statement begins with its value; all else with a word and a name.
            if quoted || self.is_sign(":")? || self.is_sign("%")? {
                let statement = self.statement(at, word, &mut names)?;
                block.body.push(statement);
                continue;
            }
            match word.as_str() {
                "param" => {
                    let param = self.param(&mut names, block.params.len())?;
                    block.params.push(param);
                }
                "value" => {
                    let at = self.at()?;
                    let name = self.name("the name of a value")?;
                    self.definition(at, name, &mut names)?;
                }
                "return" => {
                    block.result = self.value(&names)?;
                    break;
                }
                _ => return self.unexpected("`:` and the type of the value"),
            }
        }
        self.sign("}")?;
        let count = names.defined.len() as u32;
        let values = (0..count).map(|id| names.defined.remove(&id));
        match values.collect::<Option<Vec<Value>>>() {
            Some(values) => block.values = values,
            None => return fault(result_at, "ids of values leave gaps in this block"),
        }
        let value = &block.values[block.result.0 as usize];
        if value.ty != result_type {
            let message = "the type of the result is not that of the value returned";
            return fault(result_at, message);
        }
        Ok(block)
    }

    /// From after the name on: `%7: f32[b]`.
    fn definition(&mut self, at: usize, name: String, names: &mut Names) -> Parsed<ValueId> {
        let id = match self.skip("%")? {
            true => self.small("the id of a value")?,
            false => names.next,
        };
        self.sign(":")?;
        let ty = self.value_type()?;
        names.next = id.saturating_add(1);
        if names.values.insert(name.clone(), ValueId(id)).is_some() {
            let name = shortened(&name);
            return fault(at, format!("value `{name}` is there twice in this block"));
        }
        if names.defined.insert(id, Value { name, ty }).is_some() {
            return fault(at, format!("id %{id} is there twice in this block"));
        }
        Ok(ValueId(id))
    }

    fn param(&mut self, names: &mut Names, index: usize) -> Parsed<Param> {
        let at = self.at()?;
        let name = self.name("the name of a parameter")?;
        self.sign(":")?;
        let ty = self.weight_type()?;
        self.sign("=")?;
        let init = self.plan(None, 0)?;
        let span = self.span()?;
        let id = ParamId(index as u32);
        if names.params.insert(name.clone(), id).is_some() {
            let name = shortened(&name);
            let message = format!("parameter `{name}` is there twice in this block");
            return fault(at, message);
        }
        Ok(Param {
            name,
            ty,
            init,
            span,
        })
    }

    fn statement(&mut self, at: usize, name: String, names: &mut Names) -> Parsed<Statement> {
        let result = self.definition(at, name, names)?;
        self.sign("=")?;
        let op = self.op(names)?;
        let span = self.span()?;
        Ok(Statement { result, op, span })
    }

    fn value(&mut self, names: &Names) -> Parsed<ValueId> {
        let at = self.at()?;
        let name = self.name("a value")?;
        match names.values.get(&name) {
            Some(id) => Ok(*id),
            None => fault(at, format!("there is no value `{}`", shortened(&name))),
        }
    }

    fn weights(&mut self) -> Parsed<IndexMap<String, Weight>> {
        self.word("weights")?;
        self.sign("{")?;
        let mut weights = IndexMap::new();
        let mut seen = HashSet::new();
        while !self.skip("}")? {
            let at = self.at()?;
            let name = self.name("the name of a weight")?;
            self.sign("=")?;
            let plan = self.plan(Some(&name), 0)?;
            let span = self.span()?;
            if !seen.insert(name.clone()) {
                return fault(at, format!("weight `{}` is there twice", shortened(&name)));
            }
            weights.insert(name, Weight { plan, span });
        }
        Ok(weights)
    }
}
