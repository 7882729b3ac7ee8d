//! What is wrong with a model, and where.

use std::fmt;

use crate::diagnostic::Severity;
use crate::{Diagnostic, Span};

/// Where in a model a problem is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The model as a whole.
    Model,
    /// Its token layout.
    Tokens,
    /// An axis.
    Axis(String),
    /// A block.
    Block(String),
    /// A parameter of a block.
    Param {
        /// Name of the block.
        block: String,
        /// Name of the parameter.
        param: String,
    },
    /// A value of a block, and the statement that defines it.
    Value {
        /// Name of the block.
        block: String,
        /// Name of the value.
        value: String,
    },
    /// A weight, by its full name.
    Weight(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Model => f.write_str("model"),
            Place::Tokens => f.write_str("tokens"),
            Place::Axis(name) => write!(f, "axis `{name}`"),
            Place::Block(name) => write!(f, "block `{name}`"),
            Place::Param { block, param } => write!(f, "block `{block}`, parameter `{param}`"),
            Place::Value { block, value } => write!(f, "block `{block}`, value `{value}`"),
            Place::Weight(name) => write!(f, "weight `{name}`"),
        }
    }
}

/// One thing that is wrong with a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where in the model.
    pub place: Place,
    /// Where the program asks for it, if it says so.
    pub span: Option<Span>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for Problem {}

impl From<Problem> for Diagnostic {
    fn from(problem: Problem) -> Diagnostic {
        let message = problem.to_string();
        let diagnostic = match problem.span {
            Some(span) => Diagnostic::error(span, message),
            None => Diagnostic::placeless(Severity::Error, message),
        };
        diagnostic.code("broken-model")
    }
}

/// Problems as they are found.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) list: Vec<Problem>,
}

impl Problems {
    pub(super) fn add(&mut self, place: Place, span: Option<Span>, message: impl Into<String>) {
        self.list.push(Problem {
            message: message.into(),
            place,
            span,
        });
    }
}
