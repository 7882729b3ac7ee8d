//! From the text of a program, and what lies outside of it, to a checked [`Program`].

use std::collections::BTreeMap;

use indexmap::IndexMap;
use jam_ir::Program;
use jam_ir::diagnostic::{Diagnostic, Diagnostics, Severity};
use jam_ir::span::{SourceMap, Span};

use crate::checker::Checker;
use crate::definitions;
use crate::parse::{parse, parse_value};
use crate::scan::{MAX_BYTES, too_long};
use crate::syntax::{File, Name, Statement, Subject};
use crate::world::{CompileOptions, Override, World, folder, join};

/// The name under which reports show values of the command line.
pub const COMMAND_LINE: &str = "the command line";

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
    /// Where the settings of records stand: `train tune.optimizer`; and what has settings, `train tune`.
    pub places: IndexMap<String, Span>,
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
    loader.load(path, text.to_owned(), "", &mut Vec::new());
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
    definitions::check(&mut checker, world);
    let places = checker.places();
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
        places,
    }
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
    /// Reads a file and, where it says `use`, others. `below` is its folder as seen from the main file's, `open` are
    /// the paths that led here.
    fn load(&mut self, path: &str, text: String, below: &str, open: &mut Vec<String>) {
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
        let folder_of_file = folder(path);
        let kept = if main { folder_of_file } else { below };
        self.folders.push(kept.to_owned());
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
                Some((name, span)) => {
                    let found = join(folder_of_file, &name);
                    let below = join(below, &name);
                    self.follow(&found, &name, folder(&below), span, open);
                }
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
            Some(Subject::Text(text)) if !statement.has_more() => Some((text.value(), text.span)),
            _ => None,
        }
    }

    fn follow(&mut self, path: &str, name: &str, below: &str, span: Span, open: &mut Vec<String>) {
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
            Ok(text) => self.load(path, text, below, open),
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
            let Some(id) = self.sources.add(COMMAND_LINE.to_owned(), shown) else {
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

fn stem(path: &str) -> String {
    let file = &path[folder(path).len()..];
    file.rsplit_once('.')
        .map_or(file, |(stem, _)| stem)
        .to_owned()
}
