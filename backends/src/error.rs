//! What can go wrong between a verified model and its results.

use std::error::Error;
use std::fmt;

/// A failure of this crate: bad input, or a device that is not there. Never a panic.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecError {
    /// The graph is broken, or has a form that this crate does not run.
    Graph {
        /// Block and value, as the text form prints them.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// The source of weights failed.
    Weight {
        /// Full name of the weight.
        name: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A weight has not the shape that the graph asks for.
    WeightShape {
        /// Full name of the weight.
        name: String,
        /// Sizes asked for, in storage order.
        wanted: Vec<usize>,
        /// Number of elements given.
        given: usize,
    },
    /// No weight has this name.
    UnknownWeight {
        /// The name.
        name: String,
    },
    /// Tokens, masks or weights of a batch do not fit together or do not fit the model.
    Input(String),
    /// The device is not there, or the program was built without it.
    Device(String),
}

impl ExecError {
    /// A batch that does not fit.
    pub(crate) fn input(reason: impl Into<String>) -> ExecError {
        ExecError::Input(reason.into())
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExecError::Graph { place, reason } => write!(f, "cannot run {place}: {reason}"),
            ExecError::Weight { name, source } => write!(f, "weight {name}: {source}"),
            ExecError::WeightShape {
                name,
                wanted,
                given,
            } => write!(
                f,
                "weight {name} must have shape {wanted:?}, which is {} numbers, but has {given}",
                wanted.iter().product::<usize>()
            ),
            ExecError::UnknownWeight { name } => write!(f, "the model has no weight {name}"),
            ExecError::Input(reason) | ExecError::Device(reason) => f.write_str(reason),
        }
    }
}

impl Error for ExecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ExecError::Weight { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}

/// As the runtime tells it: a message with its kind.
impl From<ExecError> for jam_ir::Error {
    fn from(error: ExecError) -> jam_ir::Error {
        let kind = match &error {
            ExecError::Device(_) => jam_ir::ErrorKind::Device,
            _ => jam_ir::ErrorKind::Input,
        };
        jam_ir::Error::of(kind, error.to_string())
    }
}
