//! The order of the house: who may import whom, what every file has, how long one may be, and that files of a
//! room do not lean on one another in circles.

#[path = "house_support/uses.rs"]
mod uses;
#[path = "house_support/words.rs"]
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use uses::Uses;

/// What each crate of the house may import, by folder and package name.
const IMPORTS: [(&str, &str, &[&str]); 11] = [
    ("ir", "jam-ir", &[]),
    ("ir/testing", "jam-ir-testing", &["jam-ir"]),
    ("dsl", "jam-dsl", &["jam-ir"]),
    ("fusion-passes", "jam-fusion-passes", &["jam-ir"]),
    ("backends/cube", "jam-cube", &[]),
    ("backends", "jam-backends", &["jam-ir", "jam-cube"]),
    ("runtime/weights", "jam-weights", &["jam-ir"]),
    ("runtime/data", "jam-data", &["jam-ir", "jam-weights"]),
    (
        "runtime/lessons",
        "jam-lessons",
        &["jam-ir", "jam-weights", "jam-data"],
    ),
    (
        "runtime",
        "jam-runtime",
        &[
            "jam-ir",
            "jam-backends",
            "jam-weights",
            "jam-data",
            "jam-lessons",
        ],
    ),
    (
        ".",
        "jamc",
        &[
            "jam-ir",
            "jam-dsl",
            "jam-fusion-passes",
            "jam-backends",
            "jam-weights",
            "jam-data",
            "jam-lessons",
            "jam-runtime",
        ],
    ),
];

/// Rooms that build without Burn, in seconds.
const WITHOUT_BURN: [&str; 6] = [
    "jam-ir",
    "jam-dsl",
    "jam-fusion-passes",
    "jam-weights",
    "jam-data",
    "jam-lessons",
];

/// Rooms that only tests and fuzz targets may import.
const ONLY_TESTS: [&str; 1] = ["jam-ir-testing"];

/// Longest file that one holds in mind, in lines.
const LONGEST: usize = 600;

/// Most files of a room that may use one another in a circle: what cannot be understood apart.
const CIRCLE: usize = 3;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the house.
fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let rooms = [
        "src",
        "dsl",
        "ir",
        "fusion-passes",
        "backends",
        "runtime",
        "tests",
        "examples",
        "fuzz/src",
        "fuzz/fuzz_targets",
    ];
    let mut folders: Vec<PathBuf> = rooms.iter().map(|room| root().join(room)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(files.len() > 20, "the walk found the house");
    files
}

/// Names in the dependency tables of a manifest, but for those of tests.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]")
                && !line.contains("dev-")
                && !line.contains("workspace");
        } else if inside {
            let name = line.split(['.', '=', ' ']).next();
            names.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    names
}

#[test]
fn imports_run_downward_only() {
    for (folder, package, allowed) in IMPORTS {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        assert!(
            manifest.contains(&format!("name = \"{package}\"")),
            "{folder} is {package}"
        );
        for name in dependencies(&manifest)
            .iter()
            .filter(|name| name.starts_with("jam-"))
        {
            assert!(
                allowed.contains(&name.as_str()),
                "{package} must not import {name}"
            );
            assert!(
                !ONLY_TESTS.contains(&name.as_str()),
                "{package} is built with {name}, which is for tests"
            );
        }
    }
}

/// The files of the house and what each uses.
fn uses() -> Uses {
    let mut crates = vec![(
        "jam_fuzz".to_owned(),
        "fuzz".to_owned(),
        "fuzz/src/lib.rs".into(),
    )];
    for (folder, package, _) in IMPORTS {
        let folder = Path::new(folder.trim_start_matches('.'));
        let root = ["lib.rs", "main.rs"].map(|name| folder.join("src").join(name));
        let root = root
            .into_iter()
            .find(|root| self::root().join(root).exists());
        crates.push((package.replace('-', "_"), package.to_owned(), root.unwrap()));
    }
    Uses::of(root(), &crates)
}

#[test]
fn no_more_than_three_files_use_one_another_and_none_of_another_room() {
    let uses = uses();
    let mut wrong = String::new();
    for circle in uses.circles() {
        let rooms: BTreeSet<&str> = circle.iter().map(|file| uses.room(*file)).collect();
        if circle.len() > CIRCLE || rooms.len() > 1 {
            let ties = uses.ties(&circle);
            wrong.push_str(&format!("\n{} files of {rooms:?}:{ties}", circle.len()));
        }
    }
    assert!(
        wrong.is_empty(),
        "circles of files: put what they share into a file below them{wrong}"
    );
}

/// That the graph is read at all: names that are passed on count for the file that defines them, and a
/// method for the file that it stands in.
#[test]
fn uses_are_found_through_what_passes_them_on() {
    let uses = uses();
    for (file, target) in [
        ("ir/src/verify/calls.rs", "ir/src/verify/problems.rs"),
        (
            "backends/src/interpreter.rs",
            "backends/src/kernels/norm/seam.rs",
        ),
        ("dsl/src/checker.rs", "ir/src/diagnostic.rs"),
        ("dsl/src/definitions.rs", "dsl/src/recipe/fuse.rs"),
        ("fusion-passes/src/ties.rs", "fusion-passes/src/strategy.rs"),
        ("runtime/src/pages/mod.rs", "ir/src/error.rs"),
        ("src/commands/mod.rs", "src/commands/build.rs"),
    ] {
        assert!(uses.has(file, target), "{file} uses {target}");
    }
    for (file, target) in [
        ("fusion-passes/src/lib.rs", "fusion-passes/src/ties.rs"),
        ("ir/src/op.rs", "ir/src/verify.rs"),
    ] {
        assert!(!uses.has(file, target), "{file} does not use {target}");
    }
}

/// Circles of two and of four are told apart from a chain.
#[test]
fn circles_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "lib.rs",
        "mod a;\nmod b;\nmod c;\nmod d;\nmod e;\npub use e::E;\n",
    );
    write("a.rs", "use crate::b::B;\npub struct A(B);\n");
    write(
        "b.rs",
        "pub struct B;\nimpl B { fn f(c: super::c::C) {} }\n",
    );
    write(
        "c.rs",
        "use crate::{d::{self, D as Other}, E};\npub struct C(Other);\n",
    );
    write(
        "d.rs",
        "pub struct D;\n// crate::e::E\nconst TEXT: &str = \"crate::e::E\";\n",
    );
    write(
        "e.rs",
        "pub struct E;\n#[cfg(test)]\nmod tests { use crate::a::A; }\n",
    );
    let find = || {
        let root = ("lib".to_owned(), "lib".to_owned(), "lib.rs".into());
        let uses = Uses::of(folder.path(), &[root]);
        let circles = uses.circles();
        circles
            .iter()
            .map(|circle| {
                let names = circle
                    .iter()
                    .map(|file| uses.path(*file).display().to_string());
                names.collect::<Vec<_>>().join(" ")
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(find(), [""; 0]);
    write(
        "e.rs",
        "pub struct E;\nimpl crate::c::C { pub fn only_here(&self) {} }\n",
    );
    write(
        "d.rs",
        "pub struct D;\nfn f(c: &super::c::C) { c.only_here() }\n",
    );
    assert_eq!(find(), ["c.rs d.rs e.rs"]);
    write("d.rs", "use super::a::*;\npub struct D(A);\n");
    assert_eq!(find(), ["a.rs b.rs c.rs d.rs e.rs"]);
}

/// What each package of the lock file depends on, however far.
fn closure(package: &str) -> BTreeSet<String> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut direct: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let (mut name, mut inside) = ("", false);
    for line in lock.lines() {
        if let Some(found) = line.strip_prefix("name = ") {
            name = found.trim_matches('"');
            direct.entry(name).or_default();
        }
        match line {
            "dependencies = [" => inside = true,
            "]" => inside = false,
            _ if inside => {
                let found = line.trim().trim_matches(['"', ',']);
                let found = found.split(' ').next().unwrap();
                direct.get_mut(name).unwrap().push(found.trim_matches('"'));
            }
            _ => {}
        }
    }
    let mut all = BTreeSet::new();
    let mut waiting = vec![package];
    while let Some(package) = waiting.pop() {
        for found in &direct[package] {
            if all.insert((*found).to_owned()) {
                waiting.push(found);
            }
        }
    }
    all
}

#[test]
fn what_knows_no_device_builds_without_burn() {
    for package in WITHOUT_BURN {
        let all = closure(package);
        let burn = all.iter().find(|name| {
            ["burn", "cubecl", "jam-backends", "jam-runtime"]
                .iter()
                .any(|start| name.starts_with(start))
        });
        assert_eq!(burn, None, "{package} builds it");
    }
    assert!(
        closure("jam-runtime").contains("burn-core"),
        "the lock file is read"
    );
}

#[test]
fn the_ir_knows_no_files_no_device_and_no_command_line() {
    let manifest = fs::read_to_string(root().join("ir/Cargo.toml")).unwrap();
    for name in dependencies(&manifest) {
        let foreign = ["burn", "cubecl", "clap", "pest", "safetensors"];
        assert!(
            !foreign.iter().any(|start| name.starts_with(start)),
            "jam-ir imports {name}"
        );
    }
    for file in rust_files()
        .iter()
        .filter(|file| file.starts_with(root().join("ir/src")))
    {
        let text = fs::read_to_string(file).unwrap();
        assert!(!text.contains("std::fs"), "{} reads files", file.display());
    }
}

#[test]
fn every_file_says_what_it_holds_and_is_of_a_length_one_holds_in_mind() {
    let mut wrong = BTreeMap::new();
    for file in rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            wrong.insert(file.clone(), "does not begin with `//!`".to_owned());
        }
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.insert(
                file.clone(),
                format!("has {lines} lines, more than {LONGEST}"),
            );
        }
        let name = file.file_stem().unwrap().to_string_lossy();
        if ["utils", "util", "base", "helpers", "misc", "common"].contains(&&*name) {
            wrong.insert(file.clone(), "has a name that says nothing".to_owned());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
