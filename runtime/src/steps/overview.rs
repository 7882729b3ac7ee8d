//! What there is in a folder of results, and what of it the program as it stands asks for.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use jam_ir::recipe::Step;
use serde::Serialize;

use super::Workload;
use super::graph::Graph;
use super::kinds::kind;
use super::known::Sought;
use super::lock::Lock;
use crate::results::{
    Entry, Hashes, Place, RESULT_FILE, Record, State, list, read_optional, removable, remove, taken,
};
use crate::{Error, Result};

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
    let mut asked = work.map(|work| Asked {
        work,
        hashes: &hashes,
        graph: Graph::new(work, &hashes, kind),
        known: IndexMap::new(),
    });
    let listed = entries.into_iter().map(|entry| {
        let (wanted, why) = match &mut asked {
            None => (None, None),
            Some(asked) => {
                let why = asked.unwanted(&entry);
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
    // What is named twice is taken away once.
    let mut places = IndexMap::new();
    for id in ids {
        places.insert(removable(out, &folders(), id)?, *id);
    }
    let ids = places.into_values();
    ids.map(|id| remove(out, &folders(), id)).collect()
}

/// The folders of all kinds.
fn folders() -> Vec<&'static str> {
    let steps = Step::KINDS.iter().map(|step| step(String::new()));
    steps.map(|step| step.folder()).collect()
}

/// What a program asks for, and which results are taken for it.
struct Asked<'w> {
    work: &'w Workload,
    hashes: &'w Hashes,
    graph: Graph<'w>,
    /// What each step asks for, worked out once, and the name of the result that is taken for it.
    known: IndexMap<Step, Result<(Record, Option<String>)>>,
}

impl Asked<'_> {
    /// Why a program does not ask for a result; none where it does.
    fn unwanted(&mut self, entry: &Entry) -> Option<String> {
        let nobody_knows = || {
            Some(match entry.state {
                State::Foreign => "no step made it".to_owned(),
                State::LeftOver => "a killed process left it".to_owned(),
                _ => "nobody can tell what it is".to_owned(),
            })
        };
        if entry.ingredients.is_none() && !matches!(entry.state, State::Damaged(_)) {
            return nobody_knows();
        }
        let work = self.work;
        let made_it = |step: &&Step| match (&entry.kind, &entry.name) {
            (Some(word), Some(name)) => step.word() == word && step.name() == name,
            // Its record is damaged: it may keep another.
            _ => entry.id == format!("{}/{}", step.folder(), step.name()),
        };
        let Some(step) = work.program.steps.iter().find(made_it) else {
            let (Some(word), Some(name)) = (&entry.kind, &entry.name) else {
                return nobody_knows();
            };
            return Some(format!("the program has no `{word} {name}`"));
        };
        let (wanted, taken) = match self.of(step) {
            Ok(found) => found,
            Err(error) => return Some(error.to_string()),
        };
        if taken.as_ref() == Some(&entry.id) {
            return None;
        }
        let Some(made) = &entry.ingredients else {
            return nobody_knows();
        };
        let setting = |name: &str| work.place_of(step, name);
        let changes = wanted.ingredients.told_changes(made, &setting);
        Some(match (changes.is_empty(), taken) {
            (false, _) => changes,
            (true, Some(taken)) => format!("another one of the same is taken, {taken}"),
            (true, None) => "it is not whole".to_owned(),
        })
    }

    fn of(&mut self, step: &Step) -> &Result<(Record, Option<String>)> {
        if !self.known.contains_key(step) {
            let found = self.look(step);
            self.known.insert(step.clone(), found);
        }
        &self.known[step]
    }

    fn look(&self, step: &Step) -> Result<(Record, Option<String>)> {
        let unread = |error| Error::new(format!("its inputs cannot be read: {error}"));
        let wanted = self.graph.wanted(step).map_err(unread)?;
        let found = found(self.work, self.hashes, step, &wanted)?;
        let name = found.as_deref().and_then(Path::file_name);
        let id = name.map(|name| format!("{}/{}", step.folder(), name.to_string_lossy()));
        Ok((wanted, id))
    }
}

/// The folder of the result that would be taken for a step's, wherever it lies; none where it would be begun.
fn found(
    work: &Workload,
    hashes: &Hashes,
    step: &Step,
    wanted: &Record,
) -> Result<Option<PathBuf>> {
    let sought = Sought {
        work,
        hashes,
        kind,
        step,
    };
    taken(&Place {
        folder: &work.result(step),
        wanted,
        known: &sought,
        anew: false,
        note: &|_| (),
    })
}

/// The result of a step that answers for it: what the program as it stands asks for, wherever it lies, or else what
/// stands in its place, with how that differs. Nobody can tell where inputs are not there any more.
pub fn answering(work: &Workload, step: &Step) -> (PathBuf, Option<String>) {
    let here = work.result(step);
    let hashes = Hashes::open(&work.out);
    let Ok(wanted) = Graph::new(work, &hashes, kind).wanted(step) else {
        return (here, None);
    };
    if let Ok(Some(other)) = found(work, &hashes, step, &wanted) {
        return (other, None);
    }
    let Ok(Some(record)) = made(work, step) else {
        return (here, None);
    };
    let setting = |name: &str| work.place_of(step, name);
    let made = &record.ingredients;
    let changed =
        (record.key != wanted.key).then(|| wanted.ingredients.told_changes(made, &setting));
    (here, changed)
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
