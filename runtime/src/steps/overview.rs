//! What there is in a folder of results, and what of it the program as it stands asks for.

use std::path::{Path, PathBuf};

use jam_ir::recipe::Step;
use serde::Serialize;

use super::Workload;
use super::graph::Graph;
use super::kinds::kind;
use super::lock::Lock;
use crate::Result;
use crate::results::{
    Entry, Hashes, RESULT_FILE, Record, State, list, read_optional, removable, remove,
};

/// A result, and whether the program asks for it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// What it is.
    #[serde(flatten)]
    pub entry: Entry,
    /// Whether the program as it stands asks for it; none where there is no program.
    pub wanted: Option<bool>,
    /// Why not, in words.
    pub why: Option<String>,
}

/// Everything in a folder of results, compared with what a program asks for.
///
/// # Errors
/// When the folder cannot be read.
pub fn overview(out: &Path, work: Option<&Workload>) -> Result<Vec<Listed>> {
    let hashes = Hashes::open(out);
    let sound = |folder: &str, path: &Path| {
        let mut steps = Step::KINDS.iter().map(|step| step(String::new()));
        let step = steps.find(|step| step.folder() == folder);
        step.map_or(Ok(()), |step| kind(&step).sound(&hashes, path))
    };
    let entries = list(out, &folders(), &sound)?;
    let graph = work.map(|work| (work, Graph::new(work, &hashes, kind)));
    let listed = entries.into_iter().map(|entry| {
        let (wanted, why) = match &graph {
            None => (None, None),
            Some((work, graph)) => {
                let why = unwanted(work, graph, &entry);
                (Some(why.is_none()), why)
            }
        };
        Listed { entry, wanted, why }
    });
    Ok(listed.collect())
}

/// Takes results away, as [`remove`] does, while nobody works in the folder: all of them, or none where one may not be.
///
/// # Errors
/// As [`remove`], and when another process works there.
pub fn remove_results(out: &Path, ids: &[&str]) -> Result<Vec<PathBuf>> {
    let _lock = Lock::take(out)?;
    for id in ids {
        removable(out, &folders(), id)?;
    }
    ids.iter().map(|id| remove(out, &folders(), id)).collect()
}

/// The folders of all kinds.
fn folders() -> Vec<&'static str> {
    let steps = Step::KINDS.iter().map(|step| step(String::new()));
    steps.map(|step| step.folder()).collect()
}

/// Why a program does not ask for a result; none where it does.
fn unwanted(work: &Workload, graph: &Graph<'_>, entry: &Entry) -> Option<String> {
    let (Some(name), Some(word), Some(key)) = (&entry.name, &entry.kind, &entry.key) else {
        return Some(match entry.state {
            State::Foreign => "no step made it".to_owned(),
            State::LeftOver => "a killed process left it".to_owned(),
            _ => "nobody can tell what it is".to_owned(),
        });
    };
    let mut steps = work.program.steps.iter();
    let Some(step) = steps.find(|step| step.word() == word && step.name() == name) else {
        return Some(format!("the program has no `{word} {name}`"));
    };
    let wanted = match graph.wanted(step) {
        Ok(wanted) => wanted,
        Err(error) => return Some(format!("its inputs cannot be read: {error}")),
    };
    let here = work.result(step);
    let own = here.file_name().is_some_and(|file| {
        let folder = step.folder();
        entry.id == format!("{folder}/{}", file.to_string_lossy())
    });
    let same = match entry.state {
        State::Begun(_) => entry
            .ingredients
            .as_ref()
            .is_some_and(|made| made.key_of(&|name| !kind(step).may_change(name)) == wanted.base),
        _ => *key == wanted.key,
    };
    match (same, own) {
        (true, true) => None,
        (true, false) => Some("another one of the same stands in its place".to_owned()),
        (false, _) => {
            let setting = |name: &str| work.place_of(step, name);
            let made = entry.ingredients.as_ref();
            let told = made.map(|made| wanted.ingredients.told_changes(made, &setting));
            Some(told.unwrap_or_default())
        }
    }
}

/// How the result that stands in the place of a step's differs from what the program as it stands asks for; none where it
/// does not, or nobody can tell since its inputs are not there any more.
pub fn outdated(work: &Workload, step: &Step) -> Option<String> {
    let hashes = Hashes::open(&work.out);
    let wanted = Graph::new(work, &hashes, kind).wanted(step).ok()?;
    let record = made(work, step).ok()??;
    let setting = |name: &str| work.place_of(step, name);
    (record.key != wanted.key).then(|| {
        let made = &record.ingredients;
        wanted.ingredients.told_changes(made, &setting)
    })
}

/// Whether the result of a step stands finished and whole. Nothing is moved.
pub(super) fn is_done(work: &Workload, hashes: &Hashes, step: &Step) -> Result<bool> {
    let wanted = Graph::new(work, hashes, kind).wanted(step)?;
    let done = made(work, step)?.is_some_and(|made| made.is_done() && made.key == wanted.key);
    Ok(done && kind(step).sound(hashes, &work.result(step)).is_ok())
}

/// The record of what stands in the place of a step's result; none where nothing does, or its record is damaged.
fn made(work: &Workload, step: &Step) -> Result<Option<Record>> {
    let bytes = read_optional(&work.result(step).join(RESULT_FILE))?;
    Ok(bytes.and_then(|bytes| Record::parse(&bytes).ok()))
}
