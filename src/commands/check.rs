//! `jamc check`: every mistake of programs in one run; nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jam_dsl::syntax::Subject;
use jam_ir::span::SourceMap;
use jam_runtime::folders::is_model_folder;
use serde_json::json;

use crate::cli::Common;
use crate::console::{Console, print_json};
use crate::failure::Failure;
use crate::program::{self, Purpose};

pub(crate) fn run(files: &[PathBuf], common: &Common, console: &Console) -> Result<(), Failure> {
    let programs = programs(files)?;
    let mut right = Vec::new();
    let mut failed = None;
    for (index, file) in programs.iter().enumerate() {
        if index > 0 && failed.is_some() && !common.json {
            console.told("");
        }
        let loaded = match program::load(file, Purpose::Check, common, console) {
            Ok(loaded) => loaded,
            // What cannot be read is told here where others follow.
            Err(failure) => {
                if let (Some(before), false) = (failed.replace(failure), programs.len() == 1) {
                    crate::failure::tell(&before, common.json);
                }
                continue;
            }
        };
        let program = &loaded.program;
        console.show(&format!(
            "{}: no mistakes ({} models, {} fusions, {} trainings)",
            file.display(),
            program.models.len(),
            program.fusions.len(),
            program.trainings.len()
        ));
        right.push(json!({
            "file": file.display().to_string(),
            "models": program.models.len(),
            "fusions": program.fusions.len(),
            "trainings": program.trainings.len(),
        }));
        // The process ends soon: taking its graphs apart piece by piece would only cost time.
        std::mem::forget(loaded);
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    if common.json {
        let sum = |key: &str| -> u64 { right.iter().filter_map(|file| file[key].as_u64()).sum() };
        return print_json(&json!({
            "models": sum("models"),
            "fusions": sum("fusions"),
            "trainings": sum("trainings"),
            "files": right,
        }));
    }
    Ok(())
}

/// The programs that are named, and those of folders that are.
fn programs(files: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut programs = Vec::new();
    for file in files {
        if !file.is_dir() {
            programs.push(file.clone());
            continue;
        }
        let mut found = Vec::new();
        below(file, &mut found)?;
        if found.is_empty() {
            let message = format!(
                "cannot check {}: it is a folder without programs (`.jam`); `jamc import` writes the program of a \
                 checkpoint",
                file.display()
            );
            return Err(Failure::new(message));
        }
        // What others use is checked as a part of them.
        programs.extend(wholes(found));
    }
    let mut known = BTreeSet::new();
    programs.retain(|file| known.insert(whole(file)));
    Ok(programs)
}

/// Every program below a folder in the order of names, but for hidden folders, links, and model folders, whose
/// `source.jam` tells what they were made from.
fn below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Input(jam_ir::Error::io("list", folder, error));
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    for entry in entries {
        let hidden = entry
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if entry.is_dir() {
            if !entry.is_symlink() && !is_model_folder(&entry) {
                below(&entry, found)?;
            }
        } else if entry.extension().is_some_and(|ending| ending == "jam") {
            found.push(entry);
        }
    }
    Ok(())
}

/// Of programs, those that no other one uses; of files that only use one another, the first, so that every file is checked
/// by itself or as a part of one that is.
fn wholes(found: Vec<PathBuf>) -> Vec<PathBuf> {
    let uses: BTreeMap<PathBuf, BTreeSet<PathBuf>> = found
        .iter()
        .map(|file| (whole(file), used_by(file)))
        .collect();
    let of_others = |file: &PathBuf| {
        let mut others = uses.iter().filter(|(other, _)| *other != file);
        others.any(|(_, used)| used.contains(file))
    };
    let mut kept: BTreeSet<PathBuf> = uses
        .keys()
        .filter(|file| !of_others(file))
        .cloned()
        .collect();
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<PathBuf> = kept.iter().cloned().collect();
    for file in found.iter().map(|file| whole(file)) {
        while let Some(next) = waiting.pop() {
            if let (Some(used), true) = (uses.get(&next), reached.insert(next.clone())) {
                waiting.extend(used.iter().cloned());
            }
        }
        if !reached.contains(&file) {
            kept.insert(file.clone());
            waiting.push(file);
        }
    }
    let mut found = found;
    found.retain(|file| kept.contains(&whole(file)));
    found
}

/// The files that a program uses, without links and detours.
fn used_by(file: &Path) -> BTreeSet<PathBuf> {
    let mut used = BTreeSet::new();
    // What cannot be read is told when it is checked.
    let Ok(text) = program::read_text(file) else {
        return used;
    };
    let mut sources = SourceMap::new();
    let Some(id) = sources.add(file.display().to_string(), text.as_str()) else {
        return used;
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    for statement in jam_dsl::parse(id, &text).file.statements {
        if let (true, Some(Subject::Text(path))) =
            (statement.word.text == "use", &statement.subject)
        {
            used.insert(whole(&folder.join(path.value())));
        }
    }
    used
}

/// A path without links and detours, where it is there.
fn whole(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
