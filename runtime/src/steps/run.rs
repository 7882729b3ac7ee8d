//! Steps in order: what is done is passed over, what is begun goes on, what is damaged is said.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use jam_backends::Device;
use jam_ir::recipe::Step;
use jam_weights::checkpoints::Numbers;
use jam_weights::memory;
use jam_weights::progress::{Ended, Progress, Stop};

use super::graph::Graph;
use super::kind::Task;
use super::kinds::kind;
use super::known::Sought;
use super::lock::Lock;
use super::look::Look;
use super::overview;
use super::{Runner, Workload};
use crate::results::{Hashes, Known as _, Place, Record, Standing, find, set_aside};
use crate::{Error, ErrorKind, Result};

impl<'w> Runner<'w> {
    /// A runner of `work` on a device.
    pub fn new(
        work: &'w Workload,
        device: Device,
        progress: &'w dyn Progress,
        stop: Stop,
    ) -> Runner<'w> {
        Runner {
            work,
            hashes: Hashes::open(&work.out),
            kind,
            told: RefCell::default(),
            look: RefCell::new(Rc::new(Look::new(&work.folder))),
            joint: RefCell::default(),
            device,
            progress,
            stop,
            limits: None,
            numbers: Numbers::default(),
            held: memory::held(),
        }
    }

    /// Carries out steps in order. Data, pictures that they name, and weights that are not there are told before the
    /// first. Those of `anew` begin anew, whatever is there: it is kept beside the new result.
    ///
    /// # Errors
    /// When another process works in the folder of results, or a step fails; those before it stay
    /// done.
    pub fn run(&self, steps: &[Step], anew: &[Step]) -> Result<Ended> {
        let _lock = Lock::take(&self.work.out)?;
        self.look_again();
        for step in steps {
            self.graph().wanted(step)?;
        }
        self.hashes.keep();
        let mut looked = false;
        let mut made: Vec<(&Step, String)> = Vec::new();
        for step in steps {
            let folder = self.work.result(step);
            // A result that was found again stands in its place now.
            self.look.borrow().forget_steps();
            let record = self.graph().wanted(step)?;
            let key = record.key.clone();
            for (before, key) in &made {
                self.is_still(before, key, "after it was made")?;
            }
            made.push((step, key.clone()));
            let unchanged = || self.unchanged(step, &key);
            let begins_anew = anew.contains(step);
            if begins_anew && let Some(kept) = set_aside(&folder, "")? {
                let kept = kept.display();
                self.progress.note(&format!(
                    "{step}: begins anew; what was there is kept in {kept}"
                ));
            }
            let Some(task) = self.task(step, record, folder, begins_anew, &unchanged)? else {
                self.progress
                    .note(&format!("{:<28} done before", step.to_string()));
                continue;
            };
            // What keeps a later step from its data is told before hours go into the first.
            if !looked {
                self.check_pictures()?;
                looked = true;
            }
            let begun = Instant::now();
            let ended = match (self.kind)(step).make(self, &task) {
                // Work that cannot be halved gives up with an error when it is asked to stop.
                Err(_) if self.stop.asked() => Ended::Stopped,
                ended => ended.map_err(|error| self.about(error))?,
            };
            self.hashes.keep();
            // Files may have changed meanwhile.
            self.look_again();
            if ended == Ended::Stopped {
                let command = match begins_anew {
                    true => "the same command without `--restart`",
                    false => "the same command",
                };
                self.progress
                    .note(&format!("{step}: stopped; {command} goes on from here"));
                return Ok(Ended::Stopped);
            }
            let seconds = begun.elapsed().as_secs_f64();
            self.progress
                .note(&format!("{:<28} done in {seconds:.1} s", step.to_string()));
        }
        Ok(Ended::Complete)
    }

    /// Refuses to go on where what a step is made from has changed since its key was worked out.
    fn unchanged(&self, step: &Step, key: &str) -> Result<()> {
        self.look_again();
        self.is_still(step, key, "while it was made")
    }

    /// Refuses to go on where a step has another key now: what comes after it would be taken for made from another.
    fn is_still(&self, step: &Step, key: &str, when: &str) -> Result<()> {
        match self.graph().wanted(step)?.key == key {
            true => Ok(()),
            false => Err(
                Error::new(format!("what `{step}` is made from changed {when}"))
                    .with_help("the same command makes it from what is there now"),
            ),
        }
    }

    /// Steps and keys, by files as they were seen last: what a step asks of its data is one look.
    pub(super) fn graph(&self) -> Graph<'_> {
        let look = self.look.borrow().clone();
        Graph::seen(self.work, &self.hashes, self.kind, look)
    }

    /// Sees files as they are now.
    pub(super) fn look_again(&self) {
        self.look.replace(Rc::new(Look::new(&self.work.folder)));
    }

    /// What is to be made of a step; `None` where it is done.
    fn task<'s>(
        &self,
        step: &'s Step,
        wanted: Record,
        folder: PathBuf,
        anew: bool,
        unchanged: &'s dyn Fn() -> Result<()>,
    ) -> Result<Option<Task<'s>>> {
        let kind = (self.kind)(step);
        let note = |text: &str| self.progress.note(text);
        let sought = Sought {
            work: self.work,
            hashes: &self.hashes,
            kind: self.kind,
            step,
        };
        let standing = find(&Place {
            folder: &folder,
            wanted: &wanted,
            known: &sought,
            anew,
            note: &note,
        })?;
        let task = |record, begun| {
            Some(Task {
                name: step.name(),
                folder: folder.clone(),
                record,
                begun,
                unchanged,
            })
        };
        Ok(match standing {
            Standing::Done => None,
            Standing::Absent => task(wanted.begun_anew(anew), false),
            Standing::Begun(before) => {
                let setting = |name: &str| sought.setting(name);
                let changed = wanted.ingredients.changes(&before.ingredients, &setting);
                for change in &changed {
                    note(&format!("{step}: goes on, though {change}"));
                }
                let record = wanted.going_on(&before, changed);
                task(record, true)
            }
            Standing::Damaged(why) if kind.is_learned(self.work, step.name()) => {
                return Err(self.damaged(step, why));
            }
            Standing::Damaged(why) => {
                let kept = set_aside(&folder, "damaged")?;
                let kept = kept.map_or_else(String::new, |kept| kept.display().to_string());
                note(&format!(
                    "{step}: made again, since {why}; the damaged one is kept in {kept}"
                ));
                task(wanted, false)
            }
        })
    }

    /// An error that says how a damaged result is made anew.
    fn damaged(&self, step: &Step, why: Error) -> Error {
        let message = match &why.path {
            Some(path) => format!(
                "the result of `{step}` is damaged: {}: {}",
                path.display(),
                why.message
            ),
            None => format!("the result of `{step}` is damaged: {}", why.message),
        };
        Error::damaged(message)
            .with_path(self.work.result(step))
            .with_help(format!(
                "`{}` makes it anew, and keeps the damaged one beside it",
                self.work.restart(step)
            ))
    }

    /// A failure of a step that read what it or others made: where that turns out to be damaged, it is looked at again
    /// from now on, and the error says how it is made anew.
    fn about(&self, error: Error) -> Error {
        let Some(path) = error
            .path
            .clone()
            .filter(|_| error.kind == ErrorKind::Damaged)
        else {
            return error;
        };
        self.hashes.forget(path.parent().unwrap_or(&path));
        self.hashes.forget(&path);
        let mut steps = self.work.program.steps.iter();
        let made_it = steps.find(|step| path.starts_with(self.work.result(step)));
        match made_it {
            Some(step) if (self.kind)(step).is_learned(self.work, step.name()) => {
                self.damaged(step, error)
            }
            Some(step) => error.with_help(format!("the next command makes `{step}` again")),
            None => error,
        }
    }

    /// Whether the result of a step stands finished and whole.
    pub(super) fn is_done(&self, step: &Step) -> Result<bool> {
        overview::is_done(self.work, &self.hashes, step)
    }
}
