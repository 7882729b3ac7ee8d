//! The definitions of a program: which there are, and in what order they are checked.

use jam_ir::diagnostic::Diagnostic;
use jam_ir::recipe::Step;

use crate::checker::{Checker, Definition, Kind, State};
use crate::suggest;
use crate::syntax::{ExpressionKind, Statement, Subject};
use crate::world::World;

/// Checks everything.
pub(crate) fn check(checker: &mut Checker<'_>, world: &dyn World) {
    collect(checker);
    checker.check_overrides();
    checker.seed();
    for statement in checker.statements {
        if let Some(kind) = Kind::from_word(&statement.word.text) {
            definition(checker, kind, statement, world);
        }
    }
}

/// Finds the names that are defined, and statements that are none.
fn collect(checker: &mut Checker<'_>) {
    for statement in checker.statements {
        let word = statement.word.text.as_str();
        let Some(kind) = Kind::from_word(word) else {
            if !statement.broken && word != "seed" {
                let report = unknown_statement(statement);
                checker.diagnostics.push(report);
            }
            continue;
        };
        let Some(Subject::Name(name)) = &statement.subject else {
            if !statement.broken {
                checker.diagnostics.push(
                    Diagnostic::error(statement.word.span, format!("`{word}` needs a name"))
                        .code("missing")
                        .label(statement.word.span, "what is it called?")
                        .help(format!("write `{word} name …`")),
                );
            }
            continue;
        };
        if matches!(name.text.as_str(), "yes" | "no") {
            checker.diagnostics.push(
                Diagnostic::error(
                    name.span,
                    format!("`{}` is a word of the language", name.text),
                )
                .code("twice")
                .label(name.span, "cannot be defined"),
            );
            continue;
        }
        if let Some(first) = checker.definitions.get(&name.text) {
            let report = Diagnostic::error(name.span, format!("`{}` is defined twice", name.text))
                .code("twice")
                .label(name.span, "defined again here")
                .label(
                    first.name_span,
                    format!("first defined here, as {}", first.kind.noun()),
                )
                .help("give one of the two another name");
            checker.diagnostics.push(report);
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
        checker.definitions.insert(name.text.clone(), definition);
    }
}

/// Checks one definition by what its first word says.
fn definition<'a>(
    checker: &mut Checker<'a>,
    kind: Kind,
    statement: &'a Statement,
    world: &dyn World,
) {
    let Some(Subject::Name(name)) = &statement.subject else {
        return;
    };
    let own = checker.definitions.get(&name.text);
    if !own.is_some_and(|own| std::ptr::eq(own.statement, statement)) || statement.broken {
        return;
    }
    let before = checker.diagnostics.errors_seen();
    if kind != Kind::Block {
        no_parameters(checker, statement);
    }
    let value = match kind {
        Kind::Setting => checker.setting(name, statement, world),
        Kind::Let => checker.value(statement).map(|value| value.value),
        _ => {
            if kind.is_record() {
                checker.record(kind, name, statement);
            }
            match kind {
                Kind::Setting | Kind::Let => {}
                Kind::Lessons => checker.lessons(name),
                Kind::Data => checker.data(name, statement),
                Kind::Tokenizer => checker.tokenizer(name, statement),
                Kind::Tokens => checker.tokens(name, world),
                Kind::Block => checker.block(name, statement),
                Kind::Model => checker.model(name, statement, world),
                Kind::Fuse => checker.fuse(name, statement),
                Kind::Memory => checker.memory(name),
                Kind::Train => checker.train(name),
                Kind::Decode => checker.decode(name),
                Kind::Eval => checker.eval(name),
                Kind::Page => checker.page(name),
            }
            None
        }
    };
    let sound = checker.diagnostics.errors_seen() == before && !has_broken(statement);
    let state = match (sound, value) {
        (true, Some(value)) => State::Value(value),
        (true, None) => State::Done,
        (false, _) => State::Broken,
    };
    if let Some(definition) = checker.definitions.get_mut(&name.text) {
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
        checker.program.steps.extend(step);
    }
}

fn no_parameters(checker: &mut Checker<'_>, statement: &Statement) {
    if let Some(parameters) = &statement.parameters {
        checker.diagnostics.push(
            Diagnostic::error(
                parameters.span,
                format!("`{}` takes no parameters", statement.word.text),
            )
            .code("surplus")
            .label(parameters.span, "only blocks have parameters"),
        );
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
            .label(statement.span, "not a text alone")
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
