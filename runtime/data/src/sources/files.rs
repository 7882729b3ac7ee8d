//! Patterns of file names: `*` and `?` within a name, `**` for any folders in between.

use std::fs;
use std::path::{Component, Path, PathBuf};

use indexmap::IndexSet;

use crate::{Error, ErrorKind, Result};

/// The deepest folder that `**` looks into, counted from where it stands.
const MAX_DEPTH: usize = 64;

/// Files and folders that match the patterns, each once: pattern by pattern, the matches of each in the
/// order of their names. Relative patterns start at `folder`. Wildcards do not match names that begin with a
/// dot, and `**` does not follow links to folders.
///
/// # Errors
/// When a pattern matches nothing, or a folder cannot be read.
pub fn matching_files(folder: &Path, patterns: &[String]) -> Result<Vec<PathBuf>> {
    let mut found = IndexSet::new();
    for pattern in patterns {
        let mut matches = Vec::new();
        let parts: Vec<Component<'_>> = Path::new(pattern).components().collect();
        walk(folder.to_owned(), &parts, &mut matches)?;
        if matches.is_empty() {
            return Err(nothing(folder, pattern));
        }
        matches.sort();
        found.extend(matches);
    }
    Ok(found.into_iter().collect())
}

/// That nothing is there, with the place where it was looked for.
fn nothing(folder: &Path, pattern: &str) -> Error {
    let sought = match folder {
        here if here == Path::new(".") => PathBuf::from(pattern),
        _ => folder.join(pattern),
    };
    if has_wildcard(pattern) {
        Error::of(
            ErrorKind::Absent,
            format!("no file matches `{}`", sought.display()),
        )
        .with_help("`*` stands for any part of a name, `**` for any folders in between")
    } else {
        Error::of(
            ErrorKind::Absent,
            format!("`{}` is not there", sought.display()),
        )
    }
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Adds what `parts` match below `place`.
fn walk(place: PathBuf, parts: &[Component<'_>], matches: &mut Vec<PathBuf>) -> Result<()> {
    let Some((first, rest)) = parts.split_first() else {
        if place.exists() {
            matches.push(place);
        }
        return Ok(());
    };
    let name = first.as_os_str().to_string_lossy();
    if name == "**" {
        let mut folders = Vec::new();
        folders_below(&place, 0, &mut folders)?;
        return folders
            .into_iter()
            .try_for_each(|folder| walk(folder, rest, matches));
    }
    if !matches!(first, Component::Normal(_)) || !has_wildcard(&name) {
        return walk(place.join(first), rest, matches);
    }
    if !place.is_dir() {
        return Ok(());
    }
    for entry in entries(&place)? {
        let found = entry
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let visible = found.filter(|found| !found.starts_with('.') || name.starts_with('.'));
        if visible.is_some_and(|found| fits(&name, &found)) {
            walk(entry, rest, matches)?;
        }
    }
    Ok(())
}

/// `folder` and every folder below it, but for hidden ones and links.
fn folders_below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH || !folder.is_dir() {
        return Ok(());
    }
    found.push(folder.to_owned());
    for entry in entries(folder)? {
        let hidden = entry
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && !entry.is_symlink() && entry.is_dir() {
            folders_below(&entry, depth + 1, found)?;
        }
    }
    Ok(())
}

/// What lies in a folder, in the order of names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("list", folder, error);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    Ok(entries)
}

/// Whether a name fits a pattern of `*` and `?`; time grows with the product of their lengths.
fn fits(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: the star takes one more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns() {
        for (pattern, name, expected) in [
            ("*.txt", "a.txt", true),
            ("*.txt", ".txt", true),
            ("*.txt", "a.txt.gz", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXcXb", false),
            ("?", "ñ", true),
            ("?", "", false),
            ("**", "anything", true),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
        let many = "*a".repeat(30) + "b";
        assert!(!fits(&many, &"a".repeat(2000)), "no blow-up");
    }

    #[test]
    fn patterns_find_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [
            "b/2.txt",
            "b/1.txt",
            "b/deep/3.txt",
            "a/4.txt",
            "a/x.md",
            ".hidden/5.txt",
            "a/.6.txt",
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), name).unwrap();
        }
        let found = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|p| p.to_string()).collect();
            let found = matching_files(root, &patterns).map_err(|error| error.message)?;
            let names = found.iter().map(|path| {
                path.strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .replace('\\', "/")
            });
            Ok::<Vec<String>, String>(names.collect())
        };
        assert_eq!(found(&["b/*.txt"]).unwrap(), ["b/1.txt", "b/2.txt"]);
        assert_eq!(
            found(&["**/*.txt"]).unwrap(),
            ["a/4.txt", "b/1.txt", "b/2.txt", "b/deep/3.txt"]
        );
        assert_eq!(
            found(&["b/2.txt", "b/*.txt", "a"]).unwrap(),
            ["b/2.txt", "b/1.txt", "a"]
        );
        let all = root.join("a/*").to_string_lossy().into_owned();
        assert_eq!(
            found(&[&all]).unwrap(),
            ["a/4.txt", "a/x.md"],
            "an absolute pattern"
        );
        let sought = |name: &str| root.join(name).display().to_string();
        assert_eq!(
            found(&["c/*.txt"]).unwrap_err(),
            format!("no file matches `{}`", sought("c/*.txt"))
        );
        assert_eq!(
            found(&["b/9.txt"]).unwrap_err(),
            format!("`{}` is not there", sought("b/9.txt"))
        );
        let here = matching_files(Path::new("."), &["absent.txt".to_owned()]);
        assert_eq!(here.unwrap_err().message, "`absent.txt` is not there");
    }
}
