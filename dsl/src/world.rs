//! What a program is compiled with beside its text: what lies outside, what the command line says, and the
//! paths that it names.

use jam_ir::Words;
use jam_ir::diagnostic::Diagnostic;
use jam_ir::span::FileId;

use crate::syntax::{Expression, Name};

/// What lies outside of a program's text.
pub trait World {
    /// The text of a file named by `use`; the path is joined to the folder of the file that
    /// names it.
    ///
    /// # Errors
    /// Why it cannot be read, as a sentence.
    fn read(&self, path: &str) -> Result<String, String>;

    /// Whether a file or folder is there.
    fn exists(&self, path: &str) -> bool;

    /// The absolute path of a file or folder that a text of the command line names, if it is
    /// there: such a text starts where the command was given, and not in the program's folder.
    fn absolute(&self, path: &str) -> Option<String> {
        let _ = path;
        None
    }
}

/// What a run of the compiler is given beside the program.
#[derive(Clone, Copy, Debug)]
pub struct CompileOptions<'a> {
    /// Strategies of fusion, formats of data, measures and all else that is called by a word.
    pub words: &'a Words,
    /// Values from the command line: name of a setting, or `recipe.key`, and the value's text.
    pub set: &'a [(String, String)],
    /// Seed in place of the program's own.
    pub seed: Option<u64>,
}

impl Default for CompileOptions<'_> {
    /// No words, and nothing from the command line.
    fn default() -> Self {
        static NONE: Words = Words::NONE;
        CompileOptions {
            words: &NONE,
            set: &[],
            seed: None,
        }
    }
}

/// A value from the command line.
pub(crate) struct Override {
    /// The definition.
    pub(crate) target: Name,
    /// The key in it; `None` for the value of a setting.
    pub(crate) key: Option<Name>,
    /// The value as it was given: where a text is wanted, it may stand without quotation marks.
    pub(crate) written: String,
    /// The value as an expression, or why it is none.
    pub(crate) value: Result<Expression, Box<Diagnostic>>,
}

/// The folder of a path, with a slash at its end; empty for a bare file name.
pub(crate) fn folder(path: &str) -> &str {
    path.rfind(['/', '\\']).map_or("", |slash| &path[..=slash])
}

/// A path that starts in a folder, without the detours through `..` that can be seen.
pub(crate) fn join(folder: &str, path: &str) -> String {
    let absolute = path.starts_with('/') || path.get(1..2) == Some(":");
    if absolute {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = match folder {
        "" => Vec::new(),
        folder => folder.trim_end_matches(['/', '\\']).split('/').collect(),
    };
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." if parts
                .last()
                .is_some_and(|last| !matches!(*last, "" | "." | "..")) =>
            {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    match parts.is_empty() {
        true => ".".to_owned(),
        false => parts.join("/"),
    }
}

/// The folder that paths written in this file start from, relative to the main file's.
pub(crate) fn folder_of(folders: &[String], file: FileId) -> &str {
    if file.0 == 0 {
        return "";
    }
    folders.get(usize::from(file.0)).map_or("", String::as_str)
}
