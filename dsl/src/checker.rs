//! A program that is being checked: its definitions, what is known of each so far, and what it has become.
//!
//! What a definition means stands in files of its own, which add to [`Checker`]; [`definitions`](crate::definitions)
//! goes through them in the order of the program.

use indexmap::IndexMap;
use jam_ir::Program;
use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::span::Span;

use crate::suggest;
use crate::syntax::{Expression, Name, Statement, Subject};
use crate::value::Value;
use crate::world::{CompileOptions, Override};

/// The kinds of definitions, by their first words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Setting,
    Let,
    Lessons,
    Data,
    Tokenizer,
    Tokens,
    Block,
    Model,
    Fuse,
    Memory,
    Train,
    Decode,
    Eval,
    Page,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 14] = [
        Self::Setting,
        Self::Let,
        Self::Lessons,
        Self::Data,
        Self::Tokenizer,
        Self::Tokens,
        Self::Block,
        Self::Model,
        Self::Fuse,
        Self::Memory,
        Self::Train,
        Self::Decode,
        Self::Eval,
        Self::Page,
    ];

    /// The first word of its definitions.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Let => "let",
            Self::Lessons => "lessons",
            Self::Data => "data",
            Self::Tokenizer => "tokenizer",
            Self::Tokens => "tokens",
            Self::Block => "block",
            Self::Model => "model",
            Self::Fuse => "fuse",
            Self::Memory => "memory",
            Self::Train => "train",
            Self::Decode => "decode",
            Self::Eval => "eval",
            Self::Page => "page",
        }
    }

    /// What a sentence calls it.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Setting => "a setting",
            Self::Let => "a value",
            Self::Lessons => "drawing lessons",
            Self::Data => "a data set",
            Self::Tokenizer => "a tokenizer",
            Self::Tokens => "a vocabulary",
            Self::Block => "a block",
            Self::Model => "a model",
            Self::Fuse => "a fusion",
            Self::Memory => "a memory",
            Self::Train => "a training",
            Self::Decode => "a way of sampling",
            Self::Eval => "a report",
            Self::Page => "a page",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether its definitions are `{ key = value }`.
    pub(crate) fn is_record(self) -> bool {
        !matches!(
            self,
            Self::Setting
                | Self::Let
                | Self::Data
                | Self::Tokenizer
                | Self::Block
                | Self::Model
                | Self::Fuse
        )
    }
}

/// How far a definition is.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Not checked yet.
    Pending,
    /// Checked and sound.
    Done,
    /// A value, checked and sound.
    Value(Value),
    /// Wrong, which is reported already.
    Broken,
}

/// A name that the program defines.
pub(crate) struct Definition<'a> {
    /// What it is.
    pub(crate) kind: Kind,
    /// Where its name is written.
    pub(crate) name_span: Span,
    /// The whole definition.
    pub(crate) statement: &'a Statement,
    /// How far it is.
    pub(crate) state: State,
}

/// A record, updates applied.
#[derive(Clone, Default)]
pub(crate) struct Record<'a> {
    /// Values by key; `None` for one that could not be read.
    pub(crate) fields: IndexMap<&'a str, (&'a Name, Option<&'a Expression>)>,
    /// Values of the command line by key or key and setting, for this record and those that it updates.
    pub(crate) set: Vec<(&'a Name, &'a Expression)>,
    /// Whether the record that it updates is broken, so that fields are missing here.
    pub(crate) partial: bool,
}

/// One statement of a model, updates applied.
#[derive(Clone, Copy)]
pub(crate) struct ModelLine<'a> {
    /// The name that is bound, or `repeat`.
    pub(crate) word: &'a Name,
    /// The value that it is bound to.
    pub(crate) value: Option<&'a Expression>,
    /// The statement as it was first written.
    pub(crate) statement: &'a Statement,
}

/// A program that is being checked, definition by definition.
pub(crate) struct Checker<'a> {
    pub(crate) options: CompileOptions<'a>,
    pub(crate) diagnostics: Diagnostics,
    pub(crate) definitions: IndexMap<String, Definition<'a>>,
    pub(crate) program: Program,
    pub(crate) folders: Vec<String>,
    /// Records by name, for updates.
    pub(crate) records: IndexMap<&'a str, Record<'a>>,
    /// Statements of models by name, for updates.
    pub(crate) model_texts: IndexMap<&'a str, Vec<ModelLine<'a>>>,
    pub(crate) statements: &'a [&'a Statement],
    pub(crate) overrides: &'a [Override],
}

impl<'a> Checker<'a> {
    pub(crate) fn new(
        options: &CompileOptions<'a>,
        statements: &'a [&'a Statement],
        overrides: &'a [Override],
        folders: Vec<String>,
        diagnostics: Diagnostics,
    ) -> Self {
        Self {
            options: *options,
            diagnostics,
            definitions: IndexMap::new(),
            program: Program::default(),
            folders,
            records: IndexMap::new(),
            model_texts: IndexMap::new(),
            statements,
            overrides,
        }
    }

    /// The definition of a name, which must be of one of some kinds, checked before and sound.
    pub(crate) fn defined(&mut self, name: &Name, kinds: &[Kind]) -> Option<Kind> {
        let wanted: Vec<&str> = kinds.iter().map(|kind| kind.noun()).collect();
        let wanted = wanted.join(" or ");
        let Some(definition) = self.definitions.get(&name.text) else {
            let names = self.definitions.iter();
            let names = names.filter(|(_, definition)| kinds.contains(&definition.kind));
            let names = names.map(|(name, _)| name.as_str());
            let kind = kinds.first().map_or("", |kind| kind.word());
            let help = suggest::help(&name.text, "there are", names)
                .unwrap_or_else(|| format!("define it before: `{kind} {} …`", name.text));
            self.diagnostics.push(
                Diagnostic::error(name.span, format!("`{}` is not defined", name.text))
                    .code("unknown-name")
                    .label(name.span, format!("expected {wanted}"))
                    .help(help),
            );
            return None;
        };
        let (kind, place) = (definition.kind, definition.name_span);
        match definition.state {
            State::Broken => None,
            _ if !kinds.contains(&kind) => {
                let names = self.definitions.iter();
                let names = names.filter(|(_, definition)| kinds.contains(&definition.kind));
                let names = names.map(|(name, _)| name.as_str());
                let help = suggest::help(&name.text, "there are", names);
                self.diagnostics.push(
                    Diagnostic::error(
                        name.span,
                        format!("`{}` is {}, not {wanted}", name.text, kind.noun()),
                    )
                    .code("wrong-kind")
                    .label(name.span, format!("expected {wanted}"))
                    .label(place, format!("defined here, as {}", kind.noun()))
                    .maybe_help(help),
                );
                None
            }
            State::Pending => {
                self.diagnostics.push(too_early(name, place));
                None
            }
            State::Done | State::Value(_) => Some(kind),
        }
    }
}

/// The report of what stands between a name and its value, in a body whose statements are `name = value`.
pub(crate) fn not_plain(statement: &Statement) -> Option<Diagnostic> {
    let word = &statement.word.text;
    let between = statement.subject.as_ref().map(Subject::span);
    let place = between.or(statement.parameters.as_ref().map(|list| list.span))?;
    let report = Diagnostic::error(
        place,
        format!("`{word}` is followed by something else than `=`"),
    )
    .code("surplus")
    .label(place, "not `name = value`");
    Some(match &statement.subject {
        Some(Subject::Name(name)) if word == "let" => report.help(format!(
            "names of a body need no `let`: `{} = …`",
            name.text
        )),
        _ => report.help("remove it"),
    })
}

/// The report of a name that is used before its definition.
pub(crate) fn too_early(name: &Name, place: Span) -> Diagnostic {
    Diagnostic::error(
        name.span,
        format!("`{}` is used before it is defined", name.text),
    )
    .code("order")
    .label(name.span, "used here")
    .label(place, "defined here, further down")
    .help("move the definition up")
}
