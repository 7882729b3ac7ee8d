//! The definitions of a program: which there are, in what order they are checked, and what a
//! record is when it is an update of another.

use indexmap::IndexMap;
use jam_ir::Program;
use jam_ir::diagnostic::{Diagnostic, Diagnostics};
use jam_ir::recipe::Step;
use jam_ir::span::Span;

use crate::compile::{CompileOptions, Override, World};
use crate::evaluate::{Global, too_early};
use crate::given::{Given, twice};
use crate::suggest;
use crate::syntax::{Body, Expression, ExpressionKind, Name, Statement, Subject};
use crate::value::{CallArgument, Spanned, Value};

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
    const ALL: [Self; 14] = [
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

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether its definitions are `{ key = value }`.
    fn is_record(self) -> bool {
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
struct Record<'a> {
    /// Values by key; `None` for one that could not be read.
    fields: IndexMap<&'a str, (&'a Name, Option<&'a Expression>)>,
    /// Whether the record that it updates is broken, so that fields are missing here.
    partial: bool,
}

/// Checks a program, definition by definition.
pub(crate) struct Checker<'a> {
    pub(crate) options: CompileOptions<'a>,
    pub(crate) diagnostics: Diagnostics,
    pub(crate) definitions: IndexMap<String, Definition<'a>>,
    pub(crate) program: Program,
    pub(crate) folders: Vec<String>,
    /// Records by name, for updates.
    records: IndexMap<&'a str, Record<'a>>,
    /// Statements of models by name, for updates.
    pub(crate) model_texts: IndexMap<&'a str, Vec<crate::model::ModelLine<'a>>>,
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

    /// Checks everything.
    pub(crate) fn run(&mut self, world: &dyn World) {
        self.collect();
        self.check_overrides();
        self.seed();
        for statement in self.statements {
            if let Some(kind) = Kind::from_word(&statement.word.text) {
                self.definition(kind, statement, world);
            }
        }
    }

    /// Finds the names that are defined, and statements that are none.
    fn collect(&mut self) {
        for statement in self.statements {
            let word = statement.word.text.as_str();
            let Some(kind) = Kind::from_word(word) else {
                if !statement.broken && word != "seed" {
                    let report = unknown_statement(statement);
                    self.diagnostics.push(report);
                }
                continue;
            };
            let Some(Subject::Name(name)) = &statement.subject else {
                if !statement.broken {
                    self.diagnostics.push(
                        Diagnostic::error(statement.word.span, format!("`{word}` needs a name"))
                            .code("missing")
                            .label(statement.word.span, "what is it called?")
                            .help(format!("write `{word} name …`")),
                    );
                }
                continue;
            };
            if matches!(name.text.as_str(), "yes" | "no") {
                self.diagnostics.push(
                    Diagnostic::error(
                        name.span,
                        format!("`{}` is a word of the language", name.text),
                    )
                    .code("twice")
                    .label(name.span, "cannot be defined"),
                );
                continue;
            }
            if let Some(first) = self.definitions.get(&name.text) {
                let report =
                    Diagnostic::error(name.span, format!("`{}` is defined twice", name.text))
                        .code("twice")
                        .label(name.span, "defined again here")
                        .label(
                            first.name_span,
                            format!("first defined here, as {}", first.kind.noun()),
                        )
                        .help("give one of the two another name");
                self.diagnostics.push(report);
                continue;
            }
            let state = if statement.broken {
                State::Broken
            } else {
                State::Pending
            };
            let definition = Definition {
                kind,
                name_span: name.span,
                statement,
                state,
            };
            self.definitions.insert(name.text.clone(), definition);
        }
    }

    fn definition(&mut self, kind: Kind, statement: &'a Statement, world: &dyn World) {
        let Some(Subject::Name(name)) = &statement.subject else {
            return;
        };
        let own = self.definitions.get(&name.text);
        if !own.is_some_and(|own| std::ptr::eq(own.statement, statement)) || statement.broken {
            return;
        }
        let before = self.diagnostics.errors_seen();
        if kind != Kind::Block {
            self.no_parameters(statement);
        }
        let value = match kind {
            Kind::Setting => self.setting(name, statement, world),
            Kind::Let => self.value(statement).map(|value| value.value),
            _ => {
                if kind.is_record() {
                    self.record(kind, name, statement);
                }
                match kind {
                    Kind::Setting | Kind::Let => {}
                    Kind::Lessons => self.lessons(name),
                    Kind::Data => self.data(name, statement),
                    Kind::Tokenizer => self.tokenizer(name, statement),
                    Kind::Tokens => self.tokens(name, world),
                    Kind::Block => self.block(name, statement),
                    Kind::Model => self.model(name, statement, world),
                    Kind::Fuse => self.fuse(name, statement),
                    Kind::Memory => self.memory(name),
                    Kind::Train => self.train(name),
                    Kind::Decode => self.decode(name),
                    Kind::Eval => self.eval(name),
                    Kind::Page => self.page(name),
                }
                None
            }
        };
        let sound = self.diagnostics.errors_seen() == before && !has_broken(statement);
        let state = match (sound, value) {
            (true, Some(value)) => State::Value(value),
            (true, None) => State::Done,
            (false, _) => State::Broken,
        };
        if let Some(definition) = self.definitions.get_mut(&name.text) {
            definition.state = state;
        }
        if sound {
            let name = name.text.clone();
            let step = match kind {
                Kind::Lessons => Some(Step::Lessons(name)),
                Kind::Tokenizer => Some(Step::Tokenizer(name)),
                Kind::Fuse => Some(Step::Fuse(name)),
                Kind::Train => Some(Step::Train(name)),
                Kind::Eval => Some(Step::Eval(name)),
                Kind::Page => Some(Step::Page(name)),
                _ => None,
            };
            self.program.steps.extend(step);
        }
    }

    fn no_parameters(&mut self, statement: &Statement) {
        if let Some(parameters) = &statement.parameters {
            self.diagnostics.push(
                Diagnostic::error(
                    parameters.span,
                    format!("`{}` takes no parameters", statement.word.text),
                )
                .code("surplus")
                .label(parameters.span, "only blocks have parameters"),
            );
        }
    }

    /// The value after `=`; its absence is reported.
    pub(crate) fn value(&mut self, statement: &'a Statement) -> Option<Spanned> {
        match &statement.value {
            Some(value) => Some(self.evaluate(value, &mut Global)),
            None => {
                let place = statement.word.span;
                let word = &statement.word.text;
                self.diagnostics.push(
                    Diagnostic::error(place, format!("`{word}` needs a value"))
                        .code("missing")
                        .label(place, "no `=` follows")
                        .help(format!("write `{word} name = …`")),
                );
                None
            }
        }
    }

    /// Reads the fields of a record, after those it updates.
    fn record(&mut self, kind: Kind, name: &'a Name, statement: &'a Statement) {
        let mut record = Record::default();
        match (&statement.value, &statement.body) {
            (Some(value), _) => {
                let (base, bodies): (&Expression, &[Body]) = match &value.kind {
                    ExpressionKind::Update(base, bodies) => (base, bodies),
                    _ => (value, &[]),
                };
                match self.base(kind, base) {
                    Some(base) => record = base,
                    None => record.partial = true,
                }
                for body in bodies {
                    self.fields(&mut record, body);
                }
            }
            (None, Some(body)) => self.fields(&mut record, body),
            (None, None) => {
                let word = kind.word();
                let place = statement.span;
                self.diagnostics.push(
                    Diagnostic::error(place, format!("`{word} {}` is empty", name.text))
                        .code("missing")
                        .label(place, "no `{ … }` follows")
                        .help(format!("write `{word} {} {{ … }}`", name.text)),
                );
            }
        }
        self.records.insert(&name.text, record);
    }

    /// The fields of the record that another one updates.
    fn base(&mut self, kind: Kind, base: &Expression) -> Option<Record<'a>> {
        let name = match &base.kind {
            ExpressionKind::Path(path) if path.len() == 1 => &path[0],
            _ => {
                let word = kind.word();
                self.diagnostics.push(
                    Diagnostic::error(base.span, format!("{} is written `{{ … }}`", kind.noun()))
                        .code("wrong-kind")
                        .label(base.span, format!("not {} to update", kind.noun()))
                        .help(format!(
                            "write `{word} name {{ … }}`, or `{word} b = a {{ … }}`"
                        )),
                );
                return None;
            }
        };
        self.defined(name, &[kind])?;
        self.records.get(name.text.as_str()).cloned()
    }

    fn fields(&mut self, record: &mut Record<'a>, body: &'a Body) {
        let mut seen: Vec<&Name> = Vec::new();
        for statement in &body.statements {
            if statement.broken {
                record
                    .fields
                    .insert(&statement.word.text, (&statement.word, None));
                continue;
            }
            let key = &statement.word;
            let Some(value) = statement
                .value
                .as_ref()
                .filter(|_| statement.subject.is_none())
            else {
                self.diagnostics.push(
                    Diagnostic::error(statement.span, format!("`{}` needs a value", key.text))
                        .code("missing")
                        .label(statement.span, "not `key = value`")
                        .help(format!("write `{} = …`", key.text)),
                );
                continue;
            };
            if let Some(first) = seen.iter().find(|first| first.text == key.text) {
                self.diagnostics.push(twice(key, first.span));
                continue;
            }
            seen.push(key);
            record.fields.insert(&key.text, (key, Some(value)));
        }
    }

    /// The values of a record that was read before, those of the command line last.
    pub(crate) fn given(&mut self, kind: Kind, name: &Name) -> Given {
        let what = format!("{} `{}`", kind.word(), name.text);
        let mut given = Given::record(what, name.span);
        let record = self
            .records
            .get(name.text.as_str())
            .cloned()
            .unwrap_or_default();
        given.partial = record.partial;
        for (key, expression) in record.fields.into_values() {
            let value = match expression {
                Some(expression) => self.evaluate(expression, &mut Global),
                None => Spanned::new(Value::Broken, key.span),
            };
            given.insert(key.clone(), value, &mut self.diagnostics);
        }
        self.set(name, &mut given);
        given
    }

    /// Puts the command line's values in the place of the program's.
    pub(crate) fn set(&mut self, name: &Name, given: &mut Given) {
        for set in self
            .overrides
            .iter()
            .filter(|set| set.target.text == name.text)
        {
            let (Some(key), Ok(value)) = (&set.key, &set.value) else {
                continue;
            };
            let value = self.evaluate(value, &mut Global);
            // `--set run.optimizer.lr=1e-3` changes one setting of a variant.
            if let Some((outer, label)) = key.text.split_once('.')
                && let Some((
                    _,
                    Spanned {
                        value: Value::Call(call),
                        ..
                    },
                )) = given.keyed.get_mut(outer)
            {
                call.arguments.retain(|argument| {
                    argument
                        .label
                        .as_ref()
                        .is_none_or(|known| known.text != label)
                });
                let label = Some(Name {
                    text: label.to_owned(),
                    span: key.span,
                });
                call.arguments.push(CallArgument { label, value });
                continue;
            }
            given.keyed.insert(key.text.clone(), (key.clone(), value));
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

/// Whether a part of a statement could not be read.
fn has_broken(statement: &Statement) -> bool {
    let updates = match statement.value.as_ref().map(|value| &value.kind) {
        Some(ExpressionKind::Update(_, bodies)) => bodies.as_slice(),
        _ => &[],
    };
    let bodies = updates.iter().chain(&statement.body);
    statement.broken || bodies.flat_map(|body| &body.statements).any(has_broken)
}

/// The report of a statement whose first word nothing knows.
fn unknown_statement(statement: &Statement) -> Diagnostic {
    let word = &statement.word;
    let words = Kind::ALL
        .iter()
        .map(|kind| kind.word())
        .chain(["use", "seed"]);
    if word.text == "use" {
        return Diagnostic::error(statement.span, "`use` needs the name of a file")
            .code("use")
            .label(statement.span, "not a text")
            .help("write `use \"parents.jam\"`");
    }
    let report = Diagnostic::error(word.span, format!("`{}` begins no statement", word.text))
        .code("unknown-statement")
        .label(word.span, "not known here");
    if let Some(near) = suggest::nearest(&word.text, words.clone()) {
        return report.help(format!("did you mean `{near}`?"));
    }
    if statement.subject.is_none() && statement.value.is_some() {
        return report.help(format!(
            "values have names with `let`: `let {} = …`",
            word.text
        ));
    }
    let words: Vec<&str> = words.collect();
    report.help(format!("statements begin with {}", suggest::listed(&words)))
}
