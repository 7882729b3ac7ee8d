//! From a `.jam` file to a checked program with every model it names: what all commands begin with.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use indexmap::IndexMap;
use jam_data::sources::matching_files;
use jam_data::tokens::text::TextTokenizer;
use jam_dsl::{CompileOptions, World};
use jam_fusion_passes::{Parent, Pieces};
use jam_ir::diagnostic::{Diagnostic, Diagnostics, Severity};
use jam_ir::recipe::DataSource;
use jam_ir::span::SourceMap;
use jam_ir::{DType, Model, Program, TextTokens};
use jam_runtime::steps::Workload;

use crate::cli::{Common, Dtype};
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::headers;

/// A program without errors.
pub(crate) struct Loaded {
    pub(crate) program: Program,
    /// The graph behind every model, fusion and training.
    pub(crate) models: IndexMap<String, Arc<Model>>,
    /// Text of the main file.
    pub(crate) source: String,
    /// Every file of the program, for reports.
    pub(crate) sources: SourceMap,
    folder: PathBuf,
}

/// Files as the language sees them.
pub(crate) struct Files;

impl World for Files {
    fn read(&self, path: &str) -> Result<String, String> {
        read_text(Path::new(path))
    }

    fn exists(&self, path: &str) -> bool {
        Path::new(path).exists()
    }

    fn absolute(&self, path: &str) -> Option<String> {
        let path = std::fs::canonicalize(path).ok()?;
        path.to_str().map(str::to_owned)
    }
}

/// The tokenizers of files, as strategies see them; paths start in a folder.
pub(crate) struct Spelling {
    /// Where paths start.
    folder: PathBuf,
    /// What was opened: every fusion of the same parents asks for the same tokenizers.
    opened: RefCell<Vec<(TextTokens, Opened)>>,
    /// What was compared.
    compared: RefCell<Vec<Compared>>,
}

/// A tokenizer, or why there is none.
pub(crate) type Opened = Result<Rc<TextTokenizer>, String>;

/// Tokenizers, and how they differ.
type Compared = (Vec<TextTokens>, Result<(), String>);

impl Spelling {
    pub(crate) fn new(folder: PathBuf) -> Spelling {
        Spelling {
            folder,
            opened: RefCell::default(),
            compared: RefCell::default(),
        }
    }

    fn all(&self, texts: &[&TextTokens]) -> Result<Vec<Rc<TextTokenizer>>, String> {
        texts.iter().map(|text| self.open(text)).collect()
    }

    /// The tokenizer, opened once.
    pub(crate) fn open(&self, text: &TextTokens) -> Opened {
        let known = self.opened.borrow().iter().find_map(|(of, opened)| {
            let found = of == text;
            found.then(|| opened.clone())
        });
        known.unwrap_or_else(|| {
            let opened = self.read(text).map(Rc::new);
            let entry = (text.clone(), opened.clone());
            self.opened.borrow_mut().push(entry);
            opened
        })
    }

    fn read(&self, text: &TextTokens) -> Result<TextTokenizer, String> {
        let open = |path: &String| {
            TextTokenizer::open(self.folder.join(path)).map_err(|error| error.to_string())
        };
        match text {
            TextTokens::Files(path) => open(path),
            TextTokens::Joint(paths) => {
                let all = paths.iter().map(open).collect::<Result<Vec<_>, _>>()?;
                let all: Vec<&TextTokenizer> = all.iter().collect();
                TextTokenizer::union(&all).map_err(|error| error.to_string())
            }
            TextTokens::Tokenizer(name) => Err(format!("`{name}` is trained by the program")),
            TextTokens::Ids => Err("bare ids have no spelling".to_owned()),
        }
    }
}

/// The tokens of a tokenizer in the order of ids.
fn spelled(tokenizer: &TextTokenizer) -> Vec<String> {
    let ids = 0..u32::try_from(tokenizer.size()).unwrap_or(u32::MAX);
    ids.map(|id| tokenizer.token(id).unwrap_or_default())
        .collect()
}

impl Pieces for Spelling {
    fn pieces(&self, text: &TextTokens) -> Option<Vec<String>> {
        self.open(text).ok().map(|tokenizer| spelled(&tokenizer))
    }

    fn spelled_alike(&self, texts: &[&TextTokens]) -> Result<(), String> {
        let all = self.all(texts)?;
        let all: Vec<&TextTokenizer> = all.iter().map(Rc::as_ref).collect();
        TextTokenizer::spelled_alike(&all).map_err(|error| error.message)
    }

    fn cut_alike(&self, texts: &[&TextTokens]) -> Result<(), String> {
        let texts: Vec<TextTokens> = texts.iter().map(|text| (*text).clone()).collect();
        let known = self.compared.borrow().iter().find_map(|(of, result)| {
            let found = *of == texts;
            found.then(|| result.clone())
        });
        known.unwrap_or_else(|| {
            let all = self.all(&texts.iter().collect::<Vec<_>>())?;
            let all: Vec<&TextTokenizer> = all.iter().map(Rc::as_ref).collect();
            let result = TextTokenizer::cut_alike(&all).map_err(|error| error.message);
            let entry = (texts, result.clone());
            self.compared.borrow_mut().push(entry);
            result
        })
    }

    fn union(&self, texts: &[&TextTokens]) -> Result<Vec<String>, String> {
        let all = self.all(texts)?;
        let all: Vec<&TextTokenizer> = all.iter().map(Rc::as_ref).collect();
        let joint = TextTokenizer::union(&all).map_err(|error| error.message)?;
        Ok(spelled(&joint))
    }
}

/// A program file; one that is far too long is not read.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    if path.is_dir() {
        return Err("it is a folder; `jamc import` writes the program of a checkpoint".to_owned());
    }
    let size = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if size > jam_dsl::MAX_BYTES as u64 {
        return Err(format!(
            "it has {size} bytes, and a program has at most {}",
            jam_dsl::MAX_BYTES
        ));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// Which notes of a program are worth telling; its mistakes and warnings always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notes<'a> {
    /// All: it is checked, or all of it is made or shown.
    All,
    /// Of fusions those of these models, and of what they are made from.
    Of(&'a [&'a str]),
    /// None: it is used.
    None,
}

impl<'a> Notes<'a> {
    /// Those of models, where some are named.
    pub(crate) fn of(names: &'a [&'a str]) -> Notes<'a> {
        match names {
            [] => Notes::All,
            names => Notes::Of(names),
        }
    }
}

/// Reads, compiles and fuses; every mistake is reported before this fails, and what is worth knowing
/// about the models.
pub(crate) fn load(
    path: &Path,
    notes: Notes<'_>,
    common: &Common,
    console: &Console,
) -> Result<Loaded, Failure> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|why| Failure::new(format!("cannot read {name}: {why}")))?;
    let mut set = Vec::new();
    for pair in &common.set {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--set takes NAME=VALUE, and `{pair}` has no `=`"))
        })?;
        set.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let strategies = jam_fusion_passes::signatures();
    let options = CompileOptions {
        strategies: &strategies,
        set: &set,
        seed: common.seed,
    };
    let compiled = jam_dsl::compile(&name, &text, &Files, &options);
    let mut diagnostics = compiled.diagnostics;
    let mut models = IndexMap::new();
    if let Some(program) = &compiled.program {
        let spelling = Spelling::new(folder_of(path));
        let about = |fusion: &str| match notes {
            Notes::Of(names) => names.iter().any(|name| needs(program, name, fusion)),
            Notes::All => true,
            Notes::None => false,
        };
        models = resolve_models(program, &spelling, &about, &mut diagnostics);
        headers::check(program, &folder_of(path), &spelling, &mut diagnostics);
    }
    keep_notes(&mut diagnostics, notes != Notes::None);
    report(&diagnostics, &compiled.sources, common, console);
    let failed = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error);
    match compiled.program {
        Some(mut program) if !failed => {
            let folder = folder_of(path);
            program.folder = folder.display().to_string();
            Ok(Loaded {
                program,
                models,
                source: text,
                sources: compiled.sources,
                folder,
            })
        }
        _ => Err(Failure::Reported),
    }
}

/// Where the relative paths of a program start.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The graph of every model, fusion and training, in an order in which each needs only those
/// before it.
fn resolve_models(
    program: &Program,
    spelling: &Spelling,
    about: &dyn Fn(&str) -> bool,
    diagnostics: &mut Diagnostics,
) -> IndexMap<String, Arc<Model>> {
    let mut models: IndexMap<String, Arc<Model>> = IndexMap::new();
    for (name, recipe) in &program.models {
        models.insert(name.clone(), Arc::new(recipe.model.clone()));
    }
    // A fusion may stand before the training it needs: go on until nothing new comes.
    let mut waiting: Vec<&String> = program
        .fusions
        .keys()
        .chain(program.trainings.keys())
        .collect();
    loop {
        let before = waiting.len();
        waiting.retain(|name| !resolve(program, name, spelling, about, &mut models, diagnostics));
        if waiting.len() == before {
            return models;
        }
    }
}

/// Whether a model is a fusion or is made from it, near or far.
fn needs(program: &Program, name: &str, fusion: &str) -> bool {
    let mut known: Vec<&str> = Vec::new();
    let mut waiting = vec![name];
    while let Some(name) = waiting.pop() {
        if name == fusion {
            return true;
        }
        if known.contains(&name) {
            continue;
        }
        known.push(name);
        let parents = program.fusions.get(name).map(|fusion| &fusion.parents);
        let model = program.trainings.get(name).map(|training| &training.model);
        let all = parents.into_iter().flatten().chain(model);
        waiting.extend(all.map(|reference| reference.name.as_str()));
    }
    false
}

/// Resolves a fusion or training whose parents are resolved; true when there is no more to do. `about` says
/// whether notes of a fusion are wanted.
fn resolve(
    program: &Program,
    name: &str,
    spelling: &Spelling,
    about: &dyn Fn(&str) -> bool,
    models: &mut IndexMap<String, Arc<Model>>,
    diagnostics: &mut Diagnostics,
) -> bool {
    if let Some(training) = program.trainings.get(name) {
        let Some(model) = models.get(&training.model.name) else {
            return false;
        };
        models.insert(name.to_owned(), Arc::clone(model));
        return true;
    }
    let Some(fusion) = program.fusions.get(name) else {
        return true;
    };
    let mut parents = Vec::new();
    for (index, reference) in fusion.parents.iter().enumerate() {
        let Some(model) = models.get(&reference.name) else {
            return false;
        };
        let span = fusion.parent_spans.get(index).copied().flatten();
        parents.push(Parent {
            model,
            source: reference.to_string(),
            span,
        });
    }
    // The language verified the parents, or this did: it verifies what it makes.
    let (strategy, settings) = (&fusion.strategy, &fusion.settings);
    match jam_fusion_passes::fuse_verified(strategy, name, &parents, settings, spelling) {
        Ok(fused) => {
            let notes = fused.notes.into_iter().filter(|_| about(name));
            notes.for_each(|note| diagnostics.push(note));
            models.insert(name.to_owned(), Arc::new(fused.model));
        }
        Err(errors) => errors.into_iter().for_each(|error| diagnostics.push(error)),
    }
    true
}

/// Leaves of notes that say the same (of two fusions of the same parents) the first, or none.
fn keep_notes(diagnostics: &mut Diagnostics, notes: bool) {
    let mut known: Vec<String> = Vec::new();
    diagnostics.retain(|diagnostic| {
        let first = !known.contains(&diagnostic.message);
        match diagnostic.severity {
            Severity::Note if notes && first => {
                known.push(diagnostic.message.clone());
                true
            }
            Severity::Note => false,
            Severity::Warning | Severity::Error => true,
        }
    });
}

/// Reports on standard error with an empty line between two and a line that counts mistakes at the end; as
/// JSON, a line each.
pub(crate) fn report(
    diagnostics: &Diagnostics,
    sources: &SourceMap,
    common: &Common,
    console: &Console,
) {
    if diagnostics.is_empty() {
        return;
    }
    if common.json {
        for diagnostic in diagnostics.iter() {
            let line = serde_json::to_string(&jam_dsl::report::json(diagnostic, sources));
            eprintln_line(&line.unwrap_or_default());
        }
        return;
    }
    for diagnostic in diagnostics.iter() {
        let text = jam_dsl::report::render(diagnostic, sources, console::colours()) + "\n";
        if diagnostic.severity == Severity::Error {
            eprintln_line(&text);
        } else {
            console.show(&text);
        }
    }
    match jam_dsl::report::count_line(diagnostics) {
        Some(counts) if diagnostics.has_errors() => eprintln_line(&counts),
        Some(counts) => console.show(&counts),
        None => {}
    }
}

fn eprintln_line(text: &str) {
    use std::io::Write;
    // A failing terminal is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Loaded {
    /// Notes on data files that are not there: needed to run, not to check.
    pub(crate) fn absent_data(&self) -> Diagnostics {
        let mut notes = Diagnostics::default();
        for (name, recipe) in &self.program.data {
            let Some(span) = recipe.span else { continue };
            for (split, source) in &recipe.splits {
                let DataSource::Files(patterns) = source else {
                    continue;
                };
                if let Err(error) = matching_files(&self.folder, patterns) {
                    let message = format!("data `{name}`, {split}: {}", error.message);
                    let note = Diagnostic::note_at(span, message).code("absent");
                    notes.push(note.label(span, "needed to run, not to check"));
                }
            }
        }
        notes
    }

    /// The program with the folder of its results.
    pub(crate) fn workload(mut self, common: &Common) -> Workload {
        if let Some(dtype) = common.dtype {
            let precision = match dtype {
                Dtype::F32 => DType::F32,
                Dtype::Bf16 => DType::BF16,
            };
            let trainings = self.program.trainings.values_mut();
            trainings.for_each(|training| training.precision = precision);
        }
        let out = common.out.clone().unwrap_or_else(|| {
            let mut name = self.program.name.clone();
            for pair in &common.set {
                let (place, value) = pair.split_once('=').unwrap_or((pair, ""));
                let (place, value) = (place.trim(), value.trim());
                // Paths are no names of folders.
                if value.contains(['/', '\\']) {
                    continue;
                }
                if place.contains('.') {
                    name.push_str(&format!("-{place}"));
                }
                name.push('-');
                name.extend(value.chars().map(|c| match c {
                    _ if c.is_alphanumeric() => c,
                    '_' | '-' | '.' => c,
                    _ => '_',
                }));
            }
            PathBuf::from("runs").join(name)
        });
        Workload {
            program: self.program,
            models: self.models,
            source: self.source,
            folder: self.folder,
            out,
            places: BTreeMap::new(),
        }
    }
}
