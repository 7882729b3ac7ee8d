//! Values of expressions, before anyone has asked for a certain kind of them.

use jam_ir::{AxisId, Span, ValueId};

use crate::number::{self, Exact};
use crate::syntax::{Name, dotted};

/// A value and the expression it came from.
#[derive(Clone, Debug)]
pub(crate) struct Spanned {
    /// The value.
    pub(crate) value: Value,
    /// Where it was written.
    pub(crate) span: Span,
}

/// What an expression can be.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// An exact number.
    Number(Exact),
    /// A text.
    Text(String),
    /// `yes` or `no`.
    Flag(bool),
    /// A name that nothing defines: a word like `causal`, or a slip. Who reads it decides.
    Word {
        /// The name.
        word: String,
        /// A defined name that is close to it.
        near: Option<String>,
    },
    /// The word that a setting has, with the words it may have.
    Choice {
        /// The word.
        word: String,
        /// All words.
        words: Vec<String>,
        /// Name of the setting.
        setting: String,
    },
    /// A list.
    List(Vec<Spanned>),
    /// A definition of the program, and names in it: `pairs.val`.
    Named(Vec<Name>),
    /// A variant: `adamw(lr: 3e-5)`.
    Call(Call),
    /// A number times something that is no number: `0.5 * pairs`.
    Weighted(Exact, Box<Spanned>),
    /// `bank { count = 2 }` inside of an expression.
    Updated,
    /// Token ids `[b, t]` of a model.
    Tokens(ValueId),
    /// Numbers `[b, t, …]` of a model.
    Stream(Stream),
    /// Something that was reported already.
    Broken,
}

/// A value of a graph under construction.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Its id in the block under construction.
    pub(crate) value: ValueId,
    /// Its axes, outermost first.
    pub(crate) axes: Vec<AxisId>,
}

/// A name with arguments.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// What is called.
    pub(crate) name: Vec<Name>,
    /// With what.
    pub(crate) arguments: Vec<CallArgument>,
    /// The whole call.
    pub(crate) span: Span,
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub(crate) struct CallArgument {
    /// Its label, for a setting.
    pub(crate) label: Option<Name>,
    /// Its value.
    pub(crate) value: Spanned,
}

impl Value {
    /// The word that it is written as, where it is one; a definition of the same name does not take it away.
    pub(crate) fn bare_word(&self) -> Option<&str> {
        match self {
            Self::Word { word, .. } | Self::Choice { word, .. } => Some(word),
            Self::Named(path) if path.len() == 1 => Some(&path[0].text),
            Self::Flag(true) => Some("yes"),
            Self::Flag(false) => Some("no"),
            _ => None,
        }
    }

    /// How many values it holds, itself counted.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::List(list) => 1 + list.iter().map(|item| item.value.size()).sum::<usize>(),
            Self::Call(call) => {
                let arguments = call.arguments.iter();
                1 + arguments
                    .map(|argument| argument.value.value.size())
                    .sum::<usize>()
            }
            Self::Weighted(_, inner) => 1 + inner.value.size(),
            _ => 1,
        }
    }
}

impl Spanned {
    /// The call that a bare word stands for, where it may be one: `cosine` for `cosine()`.
    pub(crate) fn bare_call(&self) -> Option<Call> {
        let name = Name {
            text: self.value.bare_word()?.to_owned(),
            span: self.span,
        };
        Some(Call {
            name: vec![name],
            arguments: Vec::new(),
            span: self.span,
        })
    }

    /// The value at a place.
    pub(crate) fn new(value: Value, span: Span) -> Self {
        Self { value, span }
    }

    /// The call that it is, or that a word stands for where it names no definition: settings of it are given at `place`.
    pub(crate) fn as_call(&mut self, place: Span) -> Option<&mut Call> {
        if let Value::Word { .. } | Value::Choice { .. } = self.value
            && let Some(mut call) = self.bare_call()
        {
            call.span = place;
            call.name.iter_mut().for_each(|name| name.span = place);
            *self = Spanned::new(Value::Call(call), place);
        }
        match &mut self.value {
            Value::Call(call) => Some(call),
            _ => None,
        }
    }

    /// What an error calls it: "a text", "the number 3".
    pub(crate) fn described(&self) -> String {
        match &self.value {
            Value::Number(number) => format!("the number {}", number::shown(number)),
            Value::Text(_) => "a text".to_owned(),
            Value::Flag(true) => "`yes`".to_owned(),
            Value::Flag(false) => "`no`".to_owned(),
            Value::Word { word, .. } | Value::Choice { word, .. } => format!("`{word}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Named(path) => format!("`{}`", dotted(path)),
            Value::Call(call) => format!("`{}(…)`", dotted(&call.name)),
            Value::Weighted(..) => "a weighted value".to_owned(),
            Value::Updated => "an updated record".to_owned(),
            Value::Tokens(_) => "token ids".to_owned(),
            Value::Stream(_) => "values of the model".to_owned(),
            Value::Broken => "nothing".to_owned(),
        }
    }

    /// As the program would write it; what tells instances of a block apart.
    pub(crate) fn printed(&self) -> String {
        match &self.value {
            Value::Number(number) => format!("{}/{}", number.numer(), number.denom()),
            Value::Text(text) => format!("{text:?}"),
            Value::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Value::Word { word, .. } | Value::Choice { word, .. } => word.clone(),
            Value::List(list) => {
                let items: Vec<String> = list.iter().map(Spanned::printed).collect();
                format!("[{}]", items.join(","))
            }
            Value::Named(path) => dotted(path),
            Value::Call(call) => {
                let arguments = call.arguments.iter().map(|argument| {
                    let label = argument
                        .label
                        .as_ref()
                        .map_or("", |label| label.text.as_str());
                    format!("{label}:{}", argument.value.printed())
                });
                let arguments: Vec<String> = arguments.collect();
                format!("{}({})", dotted(&call.name), arguments.join(","))
            }
            Value::Weighted(weight, inner) => format!("{weight}*{}", inner.printed()),
            Value::Stream(stream) => format!("{:?}", stream.axes),
            Value::Tokens(_) => "tokens".to_owned(),
            Value::Updated | Value::Broken => "?".to_owned(),
        }
    }
}
