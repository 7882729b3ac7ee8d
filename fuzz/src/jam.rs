//! `.jam` source: parsed, checked, fused, and formatted.
//!
//! What must hold of any text: it is answered; every report points into a text and can be rendered; a model of
//! a program without errors verifies, a fused one too; formatting twice is formatting once, and keeps every
//! comment and everything else but blanks, line ends and commas.

use std::sync::LazyLock;

use jam_dsl::{CompileOptions, World, compile, format, parse, report};
use jam_fusion_passes::{NoPieces, Parent};
use jam_ir::span::FileId;
use jam_ir::{Program, Words, verify};

use super::seeds::{contents, tidy};

/// A file that `use` finds, and no other.
const USED: (&str, &str) = ("a", "let n = 2\nblock b(x) { x = x + mlp(x, hidden: n) }\n");

/// The words of the rooms above Burn are taken from their copy, which a test holds to them.
static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let written = include_str!("../../dsl/tests/words.ron");
    Words::read(written).expect("the words of the repository")
});

/// Everything that a program names is there.
struct Everywhere;

impl World for Everywhere {
    fn read(&self, path: &str) -> Result<String, String> {
        match path == USED.0 {
            true => Ok(USED.1.to_owned()),
            false => Err(format!("there is no file `{path}`")),
        }
    }

    fn exists(&self, _: &str) -> bool {
        true
    }
}

/// Checks and formats a text; what is not UTF-8 is no text.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let _ = check(text);
    lay_out(text);
}

/// The program of a text without errors; else the reports.
pub(crate) fn check(text: &str) -> Result<Program, String> {
    let options = CompileOptions {
        words: &WORDS,
        ..CompileOptions::default()
    };
    let compiled = compile("fuzz.jam", text, &Everywhere, &options);
    for diagnostic in compiled.diagnostics.iter() {
        for label in &diagnostic.labels {
            let source = compiled.sources.get(label.span.file);
            let source = source.expect("a label points into a file");
            let (start, end) = (label.span.start as usize, label.span.end as usize);
            assert!(
                source.text.get(start..end).is_some(),
                "{diagnostic:?} points at {start}..{end} of {:?}",
                source.text
            );
        }
        report::json(diagnostic, &compiled.sources);
    }
    let reports = report::render_all(&compiled.diagnostics, &compiled.sources, false);
    let failed = compiled.diagnostics.has_errors();
    let program = compiled.program.filter(|_| !failed).ok_or(reports)?;
    for (name, recipe) in &program.models {
        assert_eq!(verify(&recipe.model), Ok(()), "{name}");
    }
    fuse(&program);
    Ok(program)
}

/// Fusions of models that the program describes.
fn fuse(program: &Program) {
    for (name, fusion) in &program.fusions {
        let models = fusion.parents.iter().map(|parent| {
            let recipe = program.models.get(&parent.name)?;
            Some(Parent {
                model: &recipe.model,
                source: parent.to_string(),
                span: None,
            })
        });
        let Some(parents) = models.collect::<Option<Vec<_>>>() else {
            continue;
        };
        let (strategy, settings) = (&fusion.strategy, &fusion.settings);
        let fused = jam_fusion_passes::fuse_verified(strategy, name, &parents, settings, &NoPieces);
        match fused {
            Ok(fused) => assert_eq!(verify(&fused.model), Ok(()), "{name}"),
            Err(errors) => assert!(!errors.is_empty(), "{name} fails without a reason"),
        }
    }
}

fn lay_out(text: &str) {
    let file = FileId(0);
    let once = match format(file, text) {
        Ok(once) => once,
        Err(diagnostics) => {
            assert!(diagnostics.has_errors());
            return;
        }
    };
    match format(file, &once) {
        Ok(twice) => assert_eq!(once, twice, "formatted twice"),
        Err(errors) => panic!("formatted, it is broken: {errors:#?}\n{once}"),
    }
    let comments = |text: &str| {
        let comments = parse(file, text).file.comments.into_iter();
        comments
            .map(|comment| comment.text)
            .collect::<Vec<String>>()
    };
    assert_eq!(comments(text), comments(&once), "comments of\n{once}");
    assert_eq!(substance(text), substance(&once), "words of\n{once}");
}

/// A text without its byte order mark, comments, blanks, line ends and commas; what stands in quotes stays.
fn substance(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' if quoted => {
                kept.push(character);
                kept.extend(characters.next());
                continue;
            }
            '"' => quoted = !quoted,
            '/' if !quoted && characters.peek() == Some(&'/') => {
                while characters.next_if(|next| *next != '\n').is_some() {}
                continue;
            }
            ',' | '\n' if !quoted => continue,
            _ if !quoted && character.is_whitespace() => continue,
            _ => {}
        }
        kept.push(character);
    }
    kept
}

/// Programs of the examples and of the tests, whole and statement by statement.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for text in ["examples", "tests/cases"]
        .map(|folder| contents(folder, ".jam"))
        .concat()
    {
        let text = String::from_utf8(text).expect("a program is text");
        // What a case expects stands after its program.
        let text = text.split("\n//~").next().unwrap_or_default();
        seeds.push(text.into());
        seeds.extend(text.split_inclusive("\n}\n").map(Into::into));
    }
    tidy(seeds)
}
