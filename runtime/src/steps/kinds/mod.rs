//! Kinds of steps, a file each: what a step of the kind is made from, and how it is made.
//!
//! A new kind is a file here, its line in [`kind`], and its word in `jam_ir::recipe::Step`.

mod evaluate;
mod fuse;
mod lessons;
mod page;
mod tokenizer;
mod train;

use std::path::{Path, PathBuf};

use jam_ir::recipe::Step;
use jam_weights::checkpoints::{AtomicFolder, seal_folder};
use jam_weights::progress::Ended;

pub use evaluate::{Measured, Report, ReportRow, read_report};

use super::graph::Inputs;
use super::{Runner, Workload};
use crate::Result;
use crate::results::{Hashes, RESULT_FILE, Record};

/// A kind of step.
pub(crate) trait Kind: Sync {
    /// The word that begins its statement, and its titles: `train`.
    fn word(&self) -> &'static str;

    /// The folder of its results below the folder of all.
    fn folder(&self) -> &'static str;

    /// Everything that its result depends on. Order, needs and keys follow from it.
    ///
    /// # Errors
    /// When the program refers to what it does not have.
    fn inputs(&self, work: &Workload, name: &str, inputs: &mut Inputs<'_>) -> Result<()>;

    /// Whether an ingredient may change while the result is made, which then goes on; see `docs/language.md`.
    fn may_change(&self, _ingredient: &str) -> bool {
        false
    }

    /// Whether a result is so dear that it is not made anew without being asked to.
    fn is_learned(&self, _work: &Workload, _name: &str) -> bool {
        false
    }

    /// Whether a finished result is whole.
    ///
    /// # Errors
    /// When something is missing or damaged, or cannot be read.
    fn sound(&self, hashes: &Hashes, folder: &Path) -> Result<()> {
        hashes.verify(folder)
    }

    /// The record that a begun result keeps beside its own, where it keeps one.
    ///
    /// # Errors
    /// When it cannot be read.
    fn other_record(&self, _folder: &Path) -> Result<Option<Record>> {
        Ok(None)
    }

    /// Makes the result.
    ///
    /// # Errors
    /// When it cannot be made.
    fn make(&self, runner: &Runner<'_>, task: &Task<'_>) -> Result<Ended>;
}

/// The kind of a step.
pub(crate) fn kind(step: &Step) -> &'static dyn Kind {
    match step {
        Step::Lessons(_) => &lessons::Lessons,
        Step::Tokenizer(_) => &tokenizer::Tokenizer,
        Step::Fuse(_) => &fuse::Fuse,
        Step::Train(_) => &train::Train,
        Step::Eval(_) => &evaluate::Evaluate,
        Step::Page(_) => &page::Page,
    }
}

/// Every kind, in the order in which they are listed.
pub(crate) const KINDS: [&dyn Kind; 6] = [
    &lessons::Lessons,
    &tokenizer::Tokenizer,
    &fuse::Fuse,
    &train::Train,
    &evaluate::Evaluate,
    &page::Page,
];

/// A result that is to be made.
pub(crate) struct Task<'t> {
    /// Its name in the program.
    pub(crate) name: &'t str,
    /// Where it goes. Nothing stands there, or what was begun.
    pub(crate) folder: PathBuf,
    /// Its record.
    pub(crate) record: Record,
    /// Whether it is begun already.
    pub(crate) begun: bool,
}

impl Task<'_> {
    /// Fills a folder of files, seals it, and puts it in its place as the finished result.
    ///
    /// # Errors
    /// As `fill`, and when a file cannot be written.
    pub(crate) fn write(
        &self,
        hashes: &Hashes,
        fill: &mut dyn FnMut(&Path) -> Result<()>,
    ) -> Result<()> {
        let draft = AtomicFolder::create(&self.folder)?;
        fill(draft.path())?;
        seal_folder(draft.path(), &[RESULT_FILE])?;
        self.record.done().write(draft.path())?;
        draft.commit_new()?;
        hashes.trust(&self.folder);
        Ok(())
    }

    /// Makes the folder of a result that grows, with its record; where it is begun already, its record is written anew.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn begin(&self) -> Result<()> {
        if self.begun {
            return self.record.write(&self.folder);
        }
        let draft = AtomicFolder::create(&self.folder)?;
        self.record.write(draft.path())?;
        draft.commit_new()
    }

    /// Seals a result that grew, and records its end.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn end(&self, hashes: &Hashes) -> Result<()> {
        // States and models in it have lists of their own.
        seal_folder(&self.folder, &[RESULT_FILE])?;
        self.record.done().write(&self.folder)?;
        hashes.trust(&self.folder);
        Ok(())
    }
}
