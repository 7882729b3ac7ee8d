//! What manifests ask for, and lints: every dependency that one names is used, by the sources that it is named for;
//! rooms that know no files are held to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of every manifest of the house, the fuzz targets' and the stand-in's too.
const MANIFESTS: [&str; 13] = [
    ".",
    "ir",
    "ir/testing",
    "dsl",
    "fusion-passes",
    "backends",
    "backends/cube",
    "backends/cubecl-llvm",
    "runtime",
    "runtime/weights",
    "runtime/data",
    "runtime/lessons",
    "fuzz",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names of the dependencies of a manifest, each with whether it is for tests alone.
fn dependencies(manifest: &str) -> BTreeSet<(String, bool)> {
    let mut names = BTreeSet::new();
    let mut section = "";
    for line in manifest.lines() {
        let Some(title) = line.strip_prefix('[') else {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            let named = !name.is_empty() && !name.starts_with('#');
            if named && section.ends_with("dependencies") && section != "workspace.dependencies" {
                names.insert((name.to_owned(), section.ends_with("dev-dependencies")));
            }
            continue;
        };
        section = title.trim_end_matches(']');
    }
    names
}

/// Every Rust file below a folder.
fn rust_files(folder: PathBuf) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// Whether a file below `src` is compiled for tests alone, by its name.
fn is_of_tests(path: &Path) -> bool {
    let in_tests = path.iter().any(|part| part == "tests");
    let stem = path.file_stem().unwrap().to_string_lossy();
    in_tests || stem == "tests" || stem.ends_with("_tests")
}

/// The code of a crate, without comments: what is built, and what is for tests, examples and benches.
fn code(folder: &Path) -> (String, String) {
    let (mut built, mut tests) = (String::new(), String::new());
    let mut take = |text: &str, of_tests: bool| {
        let to = if of_tests { &mut tests } else { &mut built };
        for line in text.lines() {
            if !line.trim_start().starts_with("//") {
                to.push_str(line);
                to.push('\n');
            }
        }
    };
    for part in ["src", "fuzz_targets"] {
        for path in rust_files(folder.join(part)) {
            let text = fs::read_to_string(&path).unwrap();
            let below = path.strip_prefix(folder).unwrap();
            let inner = "#[cfg(test)]\nmod tests {";
            let (built, inner) = text.split_once(inner).unwrap_or((&text, ""));
            take(built, is_of_tests(below));
            take(inner, true);
        }
    }
    for part in ["tests", "examples", "benches"] {
        for path in rust_files(folder.join(part)) {
            take(&fs::read_to_string(path).unwrap(), true);
        }
    }
    (built, tests)
}

/// Whether code names a crate: `name::`, `name!` or `name;` with nothing of a word before it.
fn names(code: &str, package: &str) -> bool {
    let name = package.replace('-', "_");
    code.match_indices(&name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let of_a_word = |c: char| c.is_alphanumeric() || c == '_';
        !before.is_some_and(of_a_word)
            && ["::", "!", ";", " as "]
                .iter()
                .any(|mark| after.starts_with(mark))
    })
}

#[test]
fn every_dependency_is_used_by_the_sources_that_it_is_named_for() {
    let mut wrong = Vec::new();
    for folder in MANIFESTS {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let (built, tests) = code(&root().join(folder));
        assert!(!built.is_empty(), "{folder} has sources");
        let dependencies = dependencies(&manifest);
        assert!(!dependencies.is_empty(), "{folder} has dependencies");
        for (name, for_tests) in &dependencies {
            let what = match (names(&built, name), names(&tests, name), for_tests) {
                (true, _, false) | (false, true, true) => None,
                (true, _, true) if dependencies.contains(&(name.clone(), false)) => {
                    Some("stands among those of tests a second time")
                }
                (true, _, true) => Some("is built with, and stands among those of tests"),
                (false, true, false) => Some("belongs to `[dev-dependencies]`: only tests use it"),
                (false, false, _) => Some("is used by nothing"),
            };
            wrong.extend(what.map(|what| format!("{folder}/Cargo.toml: `{name}` {what}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_dependency_of_the_workspace_is_named_by_a_member() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, shared) = manifest.split_once("[workspace.dependencies]\n").unwrap();
    let (shared, _) = shared.split_once("\n[").unwrap();
    let mut named = BTreeSet::new();
    for folder in MANIFESTS {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        named.extend(dependencies(&manifest).into_iter().map(|(name, _)| name));
    }
    let shared = dependencies(&format!("[dependencies]\n{shared}"));
    assert!(shared.len() > 10, "the table is read");
    for (name, _) in shared {
        assert!(named.contains(&name), "no member asks for `{name}`");
    }
}

#[test]
fn the_toolchain_is_the_oldest_that_the_house_builds_with() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split('"').nth(1).unwrap().to_owned()
    };
    let oldest = value(&read("Cargo.toml"), "rust-version = \"");
    let pinned = value(&read("rust-toolchain.toml"), "channel");
    assert_eq!(pinned, format!("{oldest}.0"));
}

#[test]
fn packages_come_from_one_registry_and_from_the_house() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let sources: BTreeSet<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .collect();
    assert_eq!(sources.len(), 1, "{sources:?}");
    assert!(sources.iter().all(|source| source.contains("registry+")));
}

/// The list of what they must not call is `clippy.toml`'s.
#[test]
fn rooms_that_know_no_files_turn_the_lints_on() {
    for room in ["ir", "dsl", "fusion-passes", "backends"] {
        let text = fs::read_to_string(root().join(room).join("src/lib.rs")).unwrap();
        let lints = "#![warn(clippy::disallowed_methods, clippy::disallowed_types)]";
        assert!(text.contains(lints), "{room} turns them on");
        for path in rust_files(root().join(room).join("src")) {
            let text = fs::read_to_string(&path).unwrap();
            let off = text.contains("clippy::disallowed") && !text.contains(lints);
            assert!(!off, "{} turns them off", path.display());
        }
    }
}
