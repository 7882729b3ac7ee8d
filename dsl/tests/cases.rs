//! Programs that are wrong, one file each, with the report that a person gets.
//!
//! A case is `tests/cases/errors/NAME.jam`: the program, a line `//~ report`, and the report in
//! comments. `JAM_BLESS=1` writes what is reported now into the cases; look at it before keeping
//! it.

mod support;

use std::fs;
use std::path::PathBuf;

use jam_dsl::{CompileOptions, World, compile, report};
use support::{repository, words};

/// The line between a program and its report.
const MARK: &str = "//~ report";

/// The folder of the cases is all that a case can see.
struct Cases(PathBuf);

impl World for Cases {
    fn read(&self, path: &str) -> Result<String, String> {
        let text = fs::read_to_string(self.0.join(path));
        text.map_err(|_| format!("there is no file `{path}`"))
    }

    fn exists(&self, _: &str) -> bool {
        true
    }
}

/// What is reported of a program.
fn reported(world: &Cases, name: &str, program: &str) -> (String, usize) {
    let words = words();
    let set: Vec<(String, String)> = program
        .lines()
        .filter_map(|line| line.strip_prefix("// --set ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let options = CompileOptions {
        words: &words,
        set: &set,
        seed: None,
    };
    let compiled = compile(name, program, world, &options);
    let text = report::render_all(&compiled.diagnostics, &compiled.sources, false);
    (text, compiled.diagnostics.error_count())
}

#[test]
fn broken_programs_are_answered_as_their_files_say() {
    let folder = repository().join("tests/cases/errors");
    let world = Cases(folder.clone());
    let bless = std::env::var_os("JAM_BLESS").is_some();
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jam"))
        .collect();
    files.sort();
    assert!(files.len() >= 40, "{} cases", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (program, expected) = text.split_once(MARK).unwrap_or((&text, ""));
        let expected: Vec<&str> = expected
            .trim()
            .lines()
            .map(|line| line.trim_start_matches("//").trim_start_matches(' '))
            .collect();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let (report, errors) = reported(&world, &name, program);
        assert!(errors > 0, "{name} is not wrong");
        let lines: Vec<&str> = report
            .trim_end()
            .lines()
            .map(|line| line.trim_start_matches(' '))
            .collect();
        if lines == expected {
            continue;
        }
        if bless {
            let comments: String = report
                .trim_end()
                .lines()
                .map(|line| {
                    if line.is_empty() {
                        "//\n".to_owned()
                    } else {
                        format!("// {line}\n")
                    }
                })
                .collect();
            fs::write(
                &file,
                format!("{}\n\n{MARK}\n{comments}", program.trim_end()),
            )
            .unwrap();
        } else {
            wrong.push(format!("{name}:\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
