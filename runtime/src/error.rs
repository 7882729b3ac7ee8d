//! The error of this crate: a message that stands alone, the file it is about, a way out.

use std::fmt;
use std::path::{Path, PathBuf};

/// What went wrong while reading, writing, training or decoding.
///
/// Prints as one line, `PATH: MESSAGE (HELP)`. There is no conversion from [`std::io::Error`]: a bare
/// "No such file or directory" helps nobody, so an I/O failure is told with [`Error::io`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What is wrong, complete without the rest.
    pub message: String,
    /// The file or folder it is about.
    pub path: Option<PathBuf>,
    /// What to do about it.
    pub help: Option<String>,
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with a message and nothing else.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            path: None,
            help: None,
        }
    }

    /// A failed file operation: `doing` says what was tried ("read", "rename"), `path` on what.
    pub fn io(doing: &str, path: &Path, error: std::io::Error) -> Self {
        Self::new(format!("cannot {doing}: {error}")).with_path(path)
    }

    /// The same error, about this file or folder.
    pub fn with_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The same error, with a way out.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// A model that cannot run, a batch that does not fit, a device that fails.
impl From<jam_backends::ExecError> for Error {
    fn from(error: jam_backends::ExecError) -> Error {
        Error::new(error.to_string())
    }
}
