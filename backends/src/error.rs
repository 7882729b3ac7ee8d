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
        match error {
            ExecError::Weight { name, source } => match source.downcast::<jam_ir::Error>() {
                // What kind of failure it is, of which file, and what to do stay as they were told.
                Ok(told) => jam_ir::Error {
                    message: format!("weight {name}: {}", told.message),
                    ..*told
                },
                Err(source) => jam_ir::Error::new(ExecError::Weight { name, source }.to_string()),
            },
            ExecError::Device(_) => jam_ir::Error::of(jam_ir::ErrorKind::Device, error.to_string()),
            error => jam_ir::Error::new(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_of_weights_tells_is_kept() {
        let told = jam_ir::Error::damaged("its checksum differs")
            .with_path("last/model.safetensors")
            .with_help("make it again");
        let error = ExecError::Weight {
            name: "embed.table".to_owned(),
            source: told.clone().into(),
        };
        let message = "weight embed.table: its checksum differs".to_owned();
        assert_eq!(
            jam_ir::Error::from(error),
            jam_ir::Error { message, ..told }
        );
        let other = ExecError::Weight {
            name: "embed.table".to_owned(),
            source: "no number".into(),
        };
        let other = jam_ir::Error::from(other);
        assert_eq!(other, jam_ir::Error::new("weight embed.table: no number"));
    }
}
