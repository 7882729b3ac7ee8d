//! How a command fails, and its exit code.

use std::fmt;

/// A failure: 1 when the program or its input is wrong, 2 when the command line is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Its reports stand on standard error already.
    Reported,
    /// The program or its input is wrong.
    Input(String),
    /// The command line is wrong.
    Usage(String),
    /// Stopped on request.
    Stopped,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure::Input(message.into())
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage(message.into())
    }

    /// The process's exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Reported | Failure::Input(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Stopped => 130,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Reported | Failure::Stopped => Ok(()),
            Failure::Input(message) | Failure::Usage(message) => f.write_str(message),
        }
    }
}

impl From<jam_runtime::Error> for Failure {
    fn from(error: jam_runtime::Error) -> Failure {
        Failure::Input(error.to_string())
    }
}

impl From<jam_backends::ExecError> for Failure {
    fn from(error: jam_backends::ExecError) -> Failure {
        Failure::Input(error.to_string())
    }
}
