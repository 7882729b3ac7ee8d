//! Tells the program which commit it was built from, where there is a repository: `JAM_COMMIT`.
//!
//! Runs again when the commit is another one, and not otherwise. Who builds from an archive may set
//! `JAM_COMMIT` in the environment; without it and without a repository nothing is told.

use std::fs;
use std::path::{Path, PathBuf};

/// Characters of a commit that are shown.
const SHOWN: usize = 12;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=JAM_COMMIT");
    let given = std::env::var("JAM_COMMIT").ok();
    if let Some(commit) = given.or_else(of_repository) {
        let commit: String = commit
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(SHOWN)
            .collect();
        println!("cargo:rustc-env=JAM_COMMIT={commit}");
    }
}

/// The commit that is checked out, read from the files of the repository: `git` itself need not be there.
fn of_repository() -> Option<String> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    let git = folder_of(&root.join(".git"))?;
    // The refs of a further work tree lie in the repository that it belongs to.
    let shared = match fs::read_to_string(git.join("commondir")) {
        Ok(path) => git.join(path.trim()),
        Err(_) => git.clone(),
    };
    let head = watched(&git.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else {
        return Some(head.trim().to_owned());
    };
    let loose = [&git, &shared].map(|folder| folder.join(name));
    if let Some(commit) = loose.iter().find_map(|path| watched(path)) {
        return Some(commit.trim().to_owned());
    }
    let packed = watched(&shared.join("packed-refs"))?;
    let mut lines = packed.lines().filter_map(|line| line.split_once(' '));
    let (commit, _) = lines.find(|(_, found)| *found == name)?;
    Some(commit.to_owned())
}

/// The folder of a repository: `.git` itself, or what the file `.git` of a further work tree names.
fn folder_of(git: &Path) -> Option<PathBuf> {
    if git.is_dir() {
        return Some(git.to_owned());
    }
    let text = fs::read_to_string(git).ok()?;
    let named = text.trim().strip_prefix("gitdir: ")?;
    Some(git.parent()?.join(named))
}

/// The text of a file; a change of it runs this again.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text)
}
