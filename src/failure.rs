//! How a command fails, and its exit code.

use std::fmt;
use std::io::Write;

use jam_ir::{Error, ErrorKind};
use serde_json::{Value, json};

/// A failure: 1 when the program or its input is wrong, 2 when the command line is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Its reports stand on standard error already.
    Reported,
    /// The program or its input is wrong.
    Input(Error),
    /// The command line is wrong.
    Usage(String),
    /// Stopped on request.
    Stopped,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure::Input(Error::new(message))
    }

    /// Something stands where a result was to go.
    pub(crate) fn exists(error: Error) -> Failure {
        Failure::Input(error.with_kind(ErrorKind::Exists))
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

    /// What a machine reads: an object of the form that reports have; `None` where they stand
    /// there already.
    pub(crate) fn json(&self) -> Option<Value> {
        let (code, message) = match self {
            Failure::Reported => return None,
            Failure::Input(error) => (error.kind.word(), error.message.clone()),
            Failure::Usage(message) => ("usage", message.clone()),
            Failure::Stopped => ("stopped", "stopped on request".to_owned()),
        };
        let mut object = json!({
            "severity": "error",
            "code": code,
            "message": message,
            "places": [],
            "notes": [],
        });
        if let Failure::Input(Error { path, help, .. }) = self {
            if let Some(path) = path {
                object["path"] = json!(path.display().to_string());
            }
            if let Some(help) = help {
                object["help"] = json!(help);
            }
        }
        Some(object)
    }
}

/// Tells on standard error why a command fails: a sentence, or an object on a line.
pub(crate) fn tell(failure: &Failure, json: bool) {
    let text = match json {
        true => failure.json().map(|object| object.to_string()),
        false => Some(format!("error: {failure}")).filter(|_| !failure.to_string().is_empty()),
    };
    if let Some(text) = text {
        // A failing terminal is no reason to fail otherwise.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Reported | Failure::Stopped => Ok(()),
            Failure::Input(error) => error.fmt(f),
            Failure::Usage(message) => f.write_str(message),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Input(error)
    }
}

impl From<jam_backends::ExecError> for Failure {
    fn from(error: jam_backends::ExecError) -> Failure {
        Failure::Input(error.into())
    }
}
