//! Where the results of a program go.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jam_dsl::syntax::{ExpressionKind, Subject, dotted};
use jam_dsl::{CompileOptions, parse};
use jam_ir::Program;
use jam_ir::span::SourceMap;
use jam_runtime::steps::Workload;

use super::{Files, Loaded};
use crate::cli::Common;

/// Folder below which every program has its own.
const RUNS: &str = "runs";

/// The folder of results of a program where none is named: `runs/PROGRAM`, and one beside it for every word of a
/// setting (`size=smoke`) that changes what is made. Numbers, texts and places of recipes stay in the one folder:
/// results that differ lie side by side there, and an answer drawn otherwise is one of the same model.
pub(super) fn default_folder(
    path: &str,
    text: &str,
    program: &Program,
    sources: &SourceMap,
    options: &CompileOptions<'_>,
) -> PathBuf {
    let mut name = program.name.clone();
    let mut known: Vec<&str> = Vec::new();
    let of_words = match options.set {
        [] => BTreeSet::new(),
        _ => settings_of_words(sources),
    };
    // Of a setting that is given twice the last value counts.
    for (index, (setting, value)) in options.set.iter().enumerate().rev() {
        if known.contains(&setting.as_str()) {
            continue;
        }
        known.push(setting);
        if !of_words.contains(setting) {
            continue;
        }
        let mut others = options.set.to_vec();
        others.retain(|(name, _)| *name != options.set[index].0);
        let without = CompileOptions {
            set: &others,
            ..*options
        };
        let without = jam_dsl::compile(path, text, &Files, &without).program;
        if without.is_none_or(|without| !makes_the_same(program, &without)) {
            name = format!("{}-{value}{}", program.name, &name[program.name.len()..]);
        }
    }
    PathBuf::from(RUNS).join(name)
}

/// Names of settings with words to choose from: `setting size = one_of(quick, full)`.
fn settings_of_words(sources: &SourceMap) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (id, source) in sources.iter() {
        for statement in parse(id, &source.text).file.statements {
            let value = statement.value.as_ref().map(|value| &value.kind);
            let words = matches!(value, Some(ExpressionKind::Call(called, _)) if dotted(called) == "one_of");
            if let (true, true, Some(Subject::Name(name))) =
                (statement.word.text == "setting", words, statement.subject)
            {
                names.insert(name.text);
            }
        }
    }
    names
}

/// Whether two readings of a program make the same data, tokenizers and models.
fn makes_the_same(one: &Program, other: &Program) -> bool {
    one.seed == other.seed
        && one.lessons == other.lessons
        && one.data == other.data
        && one.tokenizers == other.tokenizers
        && one.tokens == other.tokens
        && one.models == other.models
        && one.fusions == other.fusions
        && one.trainings == other.trainings
}

impl Loaded {
    /// The program with the folder of its results. A precision that is given is that of its trainings.
    pub(crate) fn workload(mut self, common: &Common) -> Workload {
        if let Some(dtype) = common.dtype {
            let precision = dtype.precision();
            let trainings = self.program.trainings.values_mut();
            trainings.for_each(|training| training.precision = precision);
        }
        Workload {
            program: self.program,
            models: self.models,
            source: self.source,
            file: self.file,
            folder: self.folder,
            out: self.out,
            places: self.places,
            flags: common.flags(),
        }
    }
}
