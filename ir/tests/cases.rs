//! Models in text form, and what is said of them when something in them is changed: `ir/tests/cases/NAME.ir`, without
//! Rust.
//!
//! A case is a sound model and below it what is asked of it, each with the answer in comments:
//!
//! - `//~ WORDS => OTHER WORDS` puts other words in the place of words that stand in the model once; lines that follow
//!   one another are one change. The answer is what the verifier says, `LINE:COLUMN: REASON` where the text is no model
//!   any more, or `sound`.
//! - `//~ printed` prints the model.
//!
//! `JAM_BLESS=1` writes what is answered now into the cases; look at it before keeping it.

use std::fs;
use std::path::{Path, PathBuf};

use jam_ir::text::{parse, print};
use jam_ir::verify;

/// What a line that asks begins with.
const MARK: &str = "//~ ";

/// What is asked of a model.
enum Ask<'t> {
    Printed,
    Changed(Vec<(&'t str, &'t str)>),
}

/// A model's text, and what is asked of it.
fn asks(text: &str) -> (&str, Vec<Ask<'_>>) {
    let model = &text[..text.find(MARK).unwrap_or(text.len())];
    let mut asks: Vec<Ask<'_>> = Vec::new();
    let mut follows = false;
    for line in text[model.len()..].lines() {
        let Some(asked) = line.strip_prefix(MARK) else {
            follows = false;
            continue;
        };
        if asked == "printed" {
            asks.push(Ask::Printed);
            continue;
        }
        let change = asked.split_once(" => ");
        let change = change.or_else(|| Some((asked.strip_suffix(" =>")?, "")));
        let change = change.unwrap_or_else(|| panic!("no change is asked for by {line}"));
        match asks.last_mut() {
            Some(Ask::Changed(changes)) if follows => changes.push(change),
            _ => asks.push(Ask::Changed(vec![change])),
        }
        follows = true;
    }
    (model, asks)
}

/// What is said of a text: problems, the reason why it is no model, or that nothing is wrong.
fn answered(text: &str) -> String {
    let model = match parse(text) {
        Ok(model) => model,
        Err(error) => return error.to_string(),
    };
    match verify(&model) {
        Ok(()) => {
            assert_eq!(parse(&print(&model)), Ok(model), "it comes back as it was");
            "sound".to_owned()
        }
        Err(problems) => {
            // What is not sound is printed all the same.
            assert!(!print(&model).is_empty());
            let problems = problems.iter().map(ToString::to_string);
            problems.collect::<Vec<_>>().join("\n")
        }
    }
}

/// A case as it would be with the answers of now.
fn with_answers(name: &str, text: &str) -> String {
    let (model, asks) = asks(text);
    assert_eq!(answered(model), "sound", "{name} before any change");
    assert!(!asks.is_empty(), "{name} asks nothing");
    let mut now = format!("{}\n", model.trim_end());
    for ask in asks {
        now.push('\n');
        let answer = match ask {
            Ask::Printed => {
                now.push_str(&format!("{MARK}printed\n"));
                print(&parse(model).unwrap())
            }
            Ask::Changed(changes) => {
                let mut changed = model.to_owned();
                for (from, to) in changes {
                    let count = changed.matches(from).count();
                    assert_eq!(count, 1, "{name}: `{from}` stands there {count} times");
                    changed = changed.replacen(from, to, 1);
                    now.push_str(format!("{MARK}{from} => {to}").trim_end());
                    now.push('\n');
                }
                answered(&changed)
            }
        };
        for line in answer.trim_end().lines() {
            now.push_str(format!("// {line}").trim_end());
            now.push('\n');
        }
    }
    now
}

#[test]
fn changed_models_are_answered_as_the_cases_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let bless = std::env::var_os("JAM_BLESS").is_some();
    let files = fs::read_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "ir"));
    files.sort();
    assert!(files.len() >= 8, "{} cases", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let now = with_answers(&name, &text);
        if now != text && bless {
            fs::write(&path, &now).unwrap();
        } else if now != text {
            wrong.push(now);
        }
    }
    assert!(
        wrong.is_empty(),
        "answered otherwise:\n{}",
        wrong.join("\n")
    );
}
