//! From a `.jam` file to a checked program with every model it names: what all commands begin with.
//!
//! One job, one file: `files` (what a program may read), `spelling` (tokenizers of files), `graphs` (the graph of
//! every model), `loaded` (what has been read), `reports` (what is told of it), `results` (where its results go), `source` (its text, for model folders). What `jamc run` would refuse is
//! seen by [`crate::foresight`].

mod files;
mod graphs;
mod loaded;
mod reports;
mod results;
mod source;
mod spelling;

use std::path::Path;

use jam_dsl::{COMMAND_LINE, CompileOptions};

pub(crate) use files::{Files, read_text, unread};
pub(crate) use loaded::{Loaded, Purpose};
pub(crate) use reports::report;
pub(crate) use spelling::Spelling;

use crate::cli::Common;
use crate::console::Console;
use crate::failure::Failure;
use crate::words::words;
use crate::{foresight, headers};

/// Reads, compiles and fuses; every mistake is reported before this fails. What strategies remark on fusions, and notes,
/// are told by `jamc check`, so that not every command repeats them, and to those who ask for more.
pub(crate) fn load(
    path: &Path,
    purpose: Purpose,
    common: &Common,
    console: &Console,
) -> Result<Loaded, Failure> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|why| unread(path, &why))?;
    let mut set = Vec::new();
    for pair in &common.set {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--set takes NAME=VALUE, and `{pair}` has no `=`"))
        })?;
        set.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let options = CompileOptions {
        words: words(),
        set: &set,
        seed: common.seed,
    };
    let compiled = jam_dsl::compile(&name, &text, &Files, &options);
    let mut diagnostics = compiled.diagnostics;
    let sources = compiled.sources;
    let places = compiled.places.iter().filter_map(|(path, span)| {
        let file = &sources.get(span.file)?.name;
        let (line, _) = sources.line_column(span.file, span.start)?;
        let place = match file == COMMAND_LINE {
            true => file.clone(),
            false => format!("{file}:{line}"),
        };
        Some((path.clone(), place))
    });
    let places = places.collect();
    let folder = files::folder_of(path);
    let remarks = purpose == Purpose::Check || console.is_verbose();
    let mut loaded = None;
    if let Some(mut program) = compiled.program {
        let spelling = Spelling::new(folder.clone());
        let models = graphs::resolve_models(&program, &spelling, remarks, &mut diagnostics);
        headers::check(&program, &folder, &spelling, &mut diagnostics);
        program.folder = folder.display().to_string();
        let out = match &common.out {
            Some(out) => out.clone(),
            None => results::default_folder(&name, &text, &program, &sources, &options),
        };
        let found = Loaded {
            program,
            models,
            source: source::whole_text(&sources, &folder),
            file: path.to_owned(),
            folder,
            out,
            places,
        };
        // What follows from a mistake is none of its own.
        if !diagnostics.has_errors() {
            foresight::check(&found, purpose, &mut diagnostics);
        }
        loaded = Some(found);
    }
    reports::keep_notes(&mut diagnostics, remarks);
    report(&diagnostics, &sources, common, console);
    let failed = diagnostics.has_errors();
    match loaded {
        Some(loaded) if !failed => Ok(loaded),
        _ => Err(Failure::Reported),
    }
}
