//! How long work tells where it stands, and how it is asked to stop.
//!
//! The runtime prints nothing: whoever runs it gives a [`Progress`], and a [`Stop`] that an
//! interrupt sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where long work tells how far it is.
pub trait Progress {
    /// Begins a piece of work of `total` units (steps, pictures, bytes).
    fn begin(&self, label: &str, total: u64) -> Box<dyn Bar>;

    /// Tells something worth a line of its own.
    fn note(&self, line: &str);
}

/// One piece of work under way; dropping it ends it.
pub trait Bar {
    /// `done` units are done; `message` says what matters now (a loss, a rate).
    fn at(&mut self, done: u64, message: &str);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _label: &str, _total: u64) -> Box<dyn Bar> {
        Box::new(Silent)
    }

    fn note(&self, _line: &str) {}
}

impl Bar for Silent {
    fn at(&mut self, _done: u64, _message: &str) {}
}

/// A request to stop at the next sound point, shared by whoever asks and whoever works.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for work that takes one.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }
}

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it is done.
    Complete,
    /// It stopped on request; what is done is kept, and it goes on from there next time.
    Stopped,
}
