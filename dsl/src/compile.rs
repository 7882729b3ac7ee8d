//! From the text of a program, and what lies outside of it, to a checked [`Program`].

use std::collections::BTreeMap;

use jam_ir::diagnostic::{Diagnostic, Diagnostics, Severity};
use jam_ir::span::{FileId, SourceMap, Span};
use jam_ir::{Program, StrategySignature};

use crate::checker::Checker;
use crate::parse::{parse, parse_value};
use crate::scan::{MAX_BYTES, too_long};
use crate::syntax::{Expression, File, Name, Statement, Subject};

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
#[derive(Clone, Copy, Debug, Default)]
pub struct CompileOptions<'a> {
    /// The strategies of fusion that there are.
    pub strategies: &'a [StrategySignature],
    /// Values from the command line: name of a setting, or `recipe.key`, and the value's text.
    pub set: &'a [(String, String)],
    /// Seed in place of the program's own.
    pub seed: Option<u64>,
}

/// What became of a program.
#[derive(Debug)]
pub struct Compiled {
    /// Everything that could be checked; complete when there is no error. `None` when nothing
    /// could be read.
    pub program: Option<Program>,
    /// What is to be said about it, in the order of the places.
    pub diagnostics: Diagnostics,
    /// The texts that places point into.
    pub sources: SourceMap,
}

/// Compiles a program: `path` as reports show it and as `use` starts from, and its text.
pub fn compile(
    path: &str,
    text: &str,
    world: &dyn World,
    options: &CompileOptions<'_>,
) -> Compiled {
    let mut loader = Loader {
        world,
        sources: SourceMap::new(),
        diagnostics: Diagnostics::new(),
        files: Vec::new(),
        folders: Vec::new(),
        by_path: BTreeMap::new(),
        order: Vec::new(),
    };
    loader.load(path, text.to_owned(), &mut Vec::new());
    let overrides = loader.overrides(options.set);
    let Loader {
        sources,
        diagnostics,
        files,
        folders,
        order,
        ..
    } = loader;

    let statements: Vec<&Statement> = order
        .iter()
        .filter_map(|(file, statement)| files[*file].statements.get(*statement))
        .collect();
    let nothing = statements.is_empty() && diagnostics.has_errors();
    let mut checker = Checker::new(options, &statements, &overrides, folders, diagnostics);
    checker.program.name = stem(path);
    checker.run(world);
    let Checker {
        program,
        mut diagnostics,
        ..
    } = checker;
    diagnostics.sort();
    Compiled {
        program: (!nothing).then_some(program),
        diagnostics,
        sources,
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

/// Reads the main file and those that it uses.
struct Loader<'w> {
    world: &'w dyn World,
    sources: SourceMap,
    diagnostics: Diagnostics,
    files: Vec<File>,
    /// Folder of each source, relative to that of the main file, with a slash at the end.
    folders: Vec<String>,
    /// Index in `files` by path.
    by_path: BTreeMap<String, usize>,
    /// All statements in the order of the program, as indices of file and statement.
    order: Vec<(usize, usize)>,
}

impl Loader<'_> {
    /// Reads a file and, where it says `use`, others. `open` are the paths that led here.
    fn load(&mut self, path: &str, text: String, open: &mut Vec<String>) {
        let bytes = text.len();
        let kept = match bytes > MAX_BYTES {
            // Not a program: enough of it to show where it is.
            true => text.chars().take(200).collect(),
            false => text,
        };
        let Some(id) = self.sources.add(path, kept) else {
            let message = "a program has at most 65536 files";
            self.diagnostics
                .push(Diagnostic::placeless(Severity::Error, message));
            return;
        };
        let source = self
            .sources
            .get(id)
            .map_or("", |source| source.text.as_str());
        let mut parsed = parse(id, source);
        if bytes > MAX_BYTES {
            parsed.file.statements.clear();
            parsed.diagnostics = Diagnostics::from(too_long(id, bytes as u64));
        }
        self.diagnostics.extend(parsed.diagnostics);
        let index = self.files.len();
        let main = self.by_path.is_empty();
        let main_folder = self.folders.first().map_or("", String::as_str);
        let folder = folder(path);
        let relative = folder
            .strip_prefix(main_folder)
            .unwrap_or(folder)
            .to_owned();
        self.folders
            .push(if main { folder.to_owned() } else { relative });
        self.by_path.insert(path.to_owned(), index);
        let uses: Vec<Option<(String, Span)>> = parsed
            .file
            .statements
            .iter()
            .map(|statement| self.used(statement))
            .collect();
        self.files.push(parsed.file);
        open.push(path.to_owned());
        for (number, used) in uses.into_iter().enumerate() {
            match used {
                Some((name, span)) => self.follow(&join(folder, &name), &name, span, open),
                None => self.order.push((index, number)),
            }
        }
        open.pop();
    }

    /// The file that a statement names, when it is a sound `use`.
    fn used(&mut self, statement: &Statement) -> Option<(String, Span)> {
        if statement.word.text != "use" || statement.broken {
            return None;
        }
        match &statement.subject {
            Some(Subject::Text(text)) if statement.value.is_none() && statement.body.is_none() => {
                Some((text.value(), text.span))
            }
            _ => None,
        }
    }

    fn follow(&mut self, path: &str, name: &str, span: Span, open: &mut Vec<String>) {
        if open.iter().any(|before| before == path) {
            self.diagnostics.push(
                Diagnostic::error(span, format!("`{name}` uses itself"))
                    .code("use")
                    .label(span, "this file is being read already")
                    .help("move what both files need into a third"),
            );
            return;
        }
        // A file that two files use is read once.
        if self.by_path.contains_key(path) {
            return;
        }
        if self.sources.len() > 1000 {
            self.diagnostics
                .push(Diagnostic::error(span, "too many files"));
            return;
        }
        match self.world.read(path) {
            Ok(text) => self.load(path, text, open),
            Err(reason) => self.diagnostics.push(
                Diagnostic::error(span, format!("`{name}` cannot be read"))
                    .code("use")
                    .label(span, "used here")
                    .note(reason),
            ),
        }
    }

    /// Values of the command line as expressions, each with a source of its own: the flag as it stands
    /// there.
    fn overrides(&mut self, set: &[(String, String)]) -> Vec<Override> {
        const FLAG: &str = "--set ";
        let mut overrides = Vec::new();
        for (target, text) in set {
            let shown = format!("{FLAG}{target}={text}");
            let Some(id) = self.sources.add("the command line".to_owned(), shown) else {
                break;
            };
            self.folders.push(String::new());
            // The value is read at its place in the flag.
            let before = FLAG.len() + target.len() + 1;
            let value = parse_value(id, &format!("{:before$}{text}", ""));
            let mut start = FLAG.len();
            let mut parts = target.splitn(2, '.').map(|part| {
                let span = Span::new(id, start as u32, (start + part.len()) as u32);
                start += part.len() + 1;
                Name {
                    text: part.trim().to_owned(),
                    span,
                }
            });
            let Some(target) = parts.next() else { continue };
            overrides.push(Override {
                target,
                key: parts.next(),
                written: text.clone(),
                value,
            });
        }
        overrides
    }
}

/// The folder of a path, with a slash at its end; empty for a bare file name.
pub(crate) fn folder(path: &str) -> &str {
    path.rfind(['/', '\\']).map_or("", |slash| &path[..=slash])
}

/// A path that starts in a folder, without the detours through `..` that can be seen.
pub(crate) fn join(folder: &str, path: &str) -> String {
    let absolute = path.starts_with('/') || path.get(1..2) == Some(":");
    if absolute || folder.is_empty() {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = folder.trim_end_matches(['/', '\\']).split('/').collect();
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
    parts.join("/")
}

fn stem(path: &str) -> String {
    let file = &path[folder(path).len()..];
    file.rsplit_once('.')
        .map_or(file, |(stem, _)| stem)
        .to_owned()
}

/// The folder that paths written in this file start from, relative to the main file's.
pub(crate) fn folder_of(folders: &[String], file: FileId) -> &str {
    if file.0 == 0 {
        return "";
    }
    folders.get(usize::from(file.0)).map_or("", String::as_str)
}
