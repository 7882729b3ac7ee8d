//! Programs and what commands say of them, without Rust: `tests/cases/commands/NAME.jam`, and fusions in
//! `tests/cases/fusions/NAME.jam`: the graph and the plans of every strategy, and what is said of parents that do
//! not fit.
//!
//! A case is a program, and below it lines `//~ jamc COMMAND …` (the file is its first argument), each
//! with what the command prints in comments, and `exit CODE` where that is not 0. Places of a graph in the program
//! (`@0:12..34`) are left out. `JAM_BLESS=1` writes what is printed now into the cases; look at it before keeping it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a line with a command begins with.
const MARK: &str = "//~ jamc ";

/// What a command prints about a file, standard error after standard output.
fn printed(folder: &Path, file: &str, words: &str) -> String {
    let mut words = words.split_whitespace();
    let output = Command::new(env!("CARGO_BIN_EXE_jamc"))
        .current_dir(folder)
        .args(words.next())
        .arg(file)
        .args(words)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let mut text = String::from_utf8(text).unwrap();
    match output.status.code() {
        Some(0) => {}
        Some(code) => text.push_str(&format!("exit {code}\n")),
        None => panic!("{file}: the command was ended"),
    }
    text
}

/// A line of a graph without its place in the program, ` @0:12..34`, which a word more in a comment would change.
fn without_place(line: &str) -> String {
    let Some((kept, place)) = line.rsplit_once(" @") else {
        return line.to_owned();
    };
    let end = place.trim_start_matches(|c: char| c.is_ascii_digit() || ":.".contains(c));
    match end {
        "" | " {" => format!("{kept}{end}"),
        _ => line.to_owned(),
    }
}

/// Compares every case of a folder with what is printed now.
fn compare(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases")
        .join(folder);
    let bless = std::env::var_os("JAM_BLESS").is_some();
    let files = fs::read_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "jam"));
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let start = text.find(MARK).unwrap_or(text.len());
        let mut now = format!("{}\n", text[..start].trim_end());
        let commands = text.lines().filter_map(|line| line.strip_prefix(MARK));
        let mut count = 0;
        for words in commands {
            now.push_str(&format!("\n{MARK}{words}\n"));
            for line in printed(&folder, &name, words).trim_end().lines() {
                now.push_str(format!("// {}", without_place(line)).trim_end());
                now.push('\n');
            }
            count += 1;
        }
        assert!(count > 0, "{name} asks for no command");
        if now != text && bless {
            fs::write(&path, &now).unwrap();
        } else if now != text {
            wrong.push(now);
        }
    }
    assert!(
        wrong.is_empty(),
        "these say otherwise:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn commands_say_what_the_cases_say() {
    compare("commands");
}

#[test]
fn fusions_are_what_the_cases_say() {
    compare("fusions");
}

/// Every strategy has a case that shows its graph.
#[test]
fn every_strategy_has_a_case() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/fusions");
    let files = fs::read_dir(&folder).unwrap();
    let texts: Vec<String> = files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .filter(|text| text.contains("--view ir"))
        .collect();
    for strategy in jam_fusion_passes::signatures() {
        let used = format!("= {}(", strategy.signature.word);
        assert!(texts.iter().any(|text| text.contains(&used)), "{used}");
    }
}
