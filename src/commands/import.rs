//! `jamc import`: the model of a checkpoint as `.jam` source that one can read and edit.

use std::path::{Component, Path, PathBuf};

use jam_dsl::CompileOptions;
use jam_ir::Error;
use jam_ir::diagnostic::Severity;
use jam_ir::span::SourceMap;
use jam_runtime::folders::is_model_folder;
use jam_weights::checkpoints::import::ImportedConfig;
use serde_json::json;

use crate::cli::{Common, ForceArgs};
use crate::console::{Console, print, print_json};
use crate::failure::Failure;
use crate::headers;
use crate::output::{check_file, rewrite};
use crate::program::{self, Files, Spelling};
use crate::vocabulary;
use crate::words::words;

pub(crate) fn run(
    checkpoint: &Path,
    output: &Path,
    name: Option<&str>,
    force: ForceArgs,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    if is_model_folder(checkpoint) {
        return Err(Failure::new(format!(
            "{} is a model folder already; its program is its source.jam",
            checkpoint.display()
        )));
    }
    // A program may lie beside the weights that it names; nothing else is written there.
    let beside = checkpoint.is_dir() && output.extension().is_some_and(|end| end == "jam");
    let inputs = [checkpoint];
    check_file(output, force, if beside { &[] } else { &inputs })?;
    let mut config = ImportedConfig::read(checkpoint)?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => name_of(output),
    };
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(letters) || name.chars().next().is_none_or(|c| c.is_ascii_digit()) {
        return Err(Failure::usage(format!(
            "`{name}` is no name of a model: a name has letters, digits and `_`, and begins with no digit"
        )));
    }
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(|error| Error::io("make the folder", folder, error))?;
    let weights = from_folder(checkpoint, folder)?;
    let named = |path: &Path| from_folder(path, folder);
    vocabulary::complete(&mut config, checkpoint, &named, console)?;
    let source = config.jam_source(&name, &weights);
    let label = output.display().to_string();
    let options = CompileOptions {
        words: words(),
        set: &[],
        seed: None,
    };
    let mut compiled = jam_dsl::compile(&label, &source, &Files, &options);
    if let Some(program) = &compiled.program {
        let spelling = Spelling::new(folder.to_owned());
        headers::check(program, folder, &spelling, &mut compiled.diagnostics);
    }
    program::report(&compiled.diagnostics, &compiled.sources, common, console);
    let wrong = |found: &jam_ir::Diagnostic| found.severity == Severity::Error;
    if compiled.program.is_none() || compiled.diagnostics.iter().any(wrong) {
        return Err(Failure::Reported);
    }
    // Its one layout; what compiled has one.
    let mut sources = SourceMap::new();
    let file = sources.add(label.clone(), source.as_str());
    let laid_out = file.and_then(|file| jam_dsl::format(file, &source).ok());
    let source = laid_out.unwrap_or(source);
    rewrite(output, source.as_bytes())?;
    match common.json {
        true => print_json(&json!({ "program": label, "model": name })),
        false => print(&format!("{label}\n")),
    }
}

/// A name of the language from the name of a file.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let letter = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '_',
    };
    let name: String = stem.chars().map(letter).collect();
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => name,
        false => format!("model_{name}"),
    }
}

/// The path of a checkpoint as a program in `folder` names it: relative where it lies below, else absolute.
fn from_folder(checkpoint: &Path, folder: &Path) -> Result<String, Failure> {
    let whole = |path: &Path| {
        path.canonicalize()
            .map_err(|error| Failure::Input(Error::io("open", path, error)))
    };
    let (inner, outer) = (whole(checkpoint)?, whole(folder)?);
    let path: PathBuf = match inner.strip_prefix(&outer) {
        Ok(below)
            if below
                .components()
                .any(|c| matches!(c, Component::Normal(_))) =>
        {
            below.to_owned()
        }
        _ if inner == outer => PathBuf::from("."),
        _ => inner,
    };
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let message = format!("{} is no UTF-8 path", path.display());
        Failure::new(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_language() {
        for (file, name) in [
            ("parents/opt-1.3b.jam", "opt_1_3b"),
            ("7B.jam", "model_7b"),
            ("llm.jam", "llm"),
        ] {
            assert_eq!(name_of(Path::new(file)), name);
        }
    }
}
