//! What a step knows of its results, for what looks for one.

use std::path::Path;

use jam_ir::recipe::Step;

use super::Workload;
use super::kind::KindOf;
use crate::Result;
use crate::results::{Hashes, Known, Record};

/// A step whose result is looked for.
pub(super) struct Sought<'s> {
    pub(super) work: &'s Workload,
    pub(super) hashes: &'s Hashes,
    pub(super) kind: KindOf,
    pub(super) step: &'s Step,
}

impl Known for Sought<'_> {
    fn sound(&self, folder: &Path) -> Result<()> {
        (self.kind)(self.step).sound(self.hashes, folder)
    }

    fn heal(&self, folder: &Path) -> Result<Option<Record>> {
        (self.kind)(self.step).other_record(folder)
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.work.place_of(self.step, name)
    }

    fn fits(&self, folder: &Path) -> Result<bool> {
        (self.kind)(self.step).fits(self.work, self.step.name(), folder)
    }
}
