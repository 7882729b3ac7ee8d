//! What a kind of step is, and what it is given to make a result.

use std::path::{Path, PathBuf};

use jam_ir::recipe::Step;
use jam_weights::checkpoints::{AtomicFolder, seal_folder};
use jam_weights::progress::Ended;

use super::graph::Inputs;
use super::{Runner, Workload};
use crate::Result;
use crate::results::{Hashes, RESULT_FILE, Record};

/// Finds the kind of a step: the table of kinds, as it is handed to what lies below it.
pub(crate) type KindOf = fn(&Step) -> &'static dyn Kind;

/// A kind of step.
pub(crate) trait Kind: Sync {
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

    /// Whether a begun result may come to be the one that the program asks for: it is not past its end.
    ///
    /// # Errors
    /// When it cannot be read.
    fn fits(&self, _work: &Workload, _name: &str, _folder: &Path) -> Result<bool> {
        Ok(true)
    }

    /// Makes the result.
    ///
    /// # Errors
    /// When it cannot be made.
    fn make(&self, runner: &Runner<'_>, task: &Task<'_>) -> Result<Ended>;
}

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
    /// Whether what it is made from is still what its record says.
    pub(crate) unchanged: &'t dyn Fn() -> Result<()>,
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
        (self.unchanged)()?;
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
