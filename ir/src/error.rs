//! The error of everything below the command line: what kind it is, a message that stands alone, the file
//! it is about, a way out.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong while reading, writing, building, training or decoding.
///
/// Prints as one line, `PATH: MESSAGE (HELP)`. There is no conversion from [`io::Error`]: a bare "No such
/// file or directory" helps nobody, so an I/O failure is told with [`Error::io`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure it is, for programs.
    pub kind: ErrorKind,
    /// What is wrong, complete without the rest.
    pub message: String,
    /// The file or folder it is about.
    pub path: Option<PathBuf>,
    /// What to do about it.
    pub help: Option<String>,
}

/// A result of everything below the command line.
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds of failures, told apart because programs that call `jamc` act on them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// What was given is wrong.
    #[default]
    Input,
    /// A file or folder that is needed is not there.
    Absent,
    /// The system could not read or write: a full disk, a missing permission, too many open files.
    Io,
    /// A file is not the one that was written: its checksum differs, or it was cut off.
    Damaged,
    /// Something stands where a result was to go, and is not replaced.
    Exists,
    /// Another process works in the same folder.
    Busy,
    /// Memory does not suffice.
    Memory,
    /// Numbers are not finite: a loss, a weight, logits.
    NotFinite,
    /// A device is not there, or failed.
    Device,
}

impl ErrorKind {
    /// Every kind, in the order of their words' list.
    pub const ALL: [ErrorKind; 9] = [
        ErrorKind::Input,
        ErrorKind::Absent,
        ErrorKind::Io,
        ErrorKind::Damaged,
        ErrorKind::Exists,
        ErrorKind::Busy,
        ErrorKind::Memory,
        ErrorKind::NotFinite,
        ErrorKind::Device,
    ];

    /// The word that stands in JSON.
    pub fn word(self) -> &'static str {
        match self {
            ErrorKind::Input => "input",
            ErrorKind::Absent => "absent",
            ErrorKind::Io => "io",
            ErrorKind::Damaged => "damaged",
            ErrorKind::Exists => "exists",
            ErrorKind::Busy => "busy",
            ErrorKind::Memory => "memory",
            ErrorKind::NotFinite => "not_finite",
            ErrorKind::Device => "device",
        }
    }
}

impl Error {
    /// An error of the kind [`ErrorKind::Input`] with a message and nothing else.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Input, message)
    }

    /// An error of a kind.
    pub fn of(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            path: None,
            help: None,
        }
    }

    /// A failed file operation: `doing` says what was tried ("read", "rename"), `path` on what. What is not
    /// found is [`ErrorKind::Absent`], all else [`ErrorKind::Io`]: unreadable is not absent.
    pub fn io(doing: &str, path: &Path, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::Absent,
            _ => ErrorKind::Io,
        };
        Self::of(kind, format!("cannot {doing}: {error}")).with_path(path)
    }

    /// A file that is not what was written.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::of(ErrorKind::Damaged, message)
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

    /// The same error, of another kind.
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_absent() {
        let path = Path::new("a");
        let of = |kind: io::ErrorKind| Error::io("read", path, kind.into()).kind;
        assert_eq!(of(io::ErrorKind::NotFound), ErrorKind::Absent);
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::StorageFull] {
            assert_eq!(of(kind), ErrorKind::Io);
        }
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<_> =
            ErrorKind::ALL.iter().map(|kind| kind.word()).collect();
        assert_eq!(words.len(), ErrorKind::ALL.len());
    }
}
