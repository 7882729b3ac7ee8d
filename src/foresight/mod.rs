//! What `jamc run` would refuse of a program that is right in itself, told before anything is made: results that
//! would be written over what is read (`places`), files that are not what the program takes them for (`data`), and
//! vocabularies that lack what a step asks of them (`vocabulary`).
//!
//! Weights and pictures are not read. Files that are absent are notes: they are needed to run, not to check.

mod data;
mod places;
mod vocabulary;
mod written;

use jam_ir::diagnostic::Diagnostics;

use crate::program::{Loaded, Purpose};

/// Adds what would be refused, as far as the purpose asks for it.
pub(crate) fn check(loaded: &Loaded, purpose: Purpose, diagnostics: &mut Diagnostics) {
    let seen = match purpose {
        Purpose::Look => return,
        Purpose::Make => data::Seen::default(),
        Purpose::Check => data::check(loaded, diagnostics),
    };
    places::check(loaded, diagnostics);
    vocabulary::check(&loaded.program, &loaded.models, &seen, diagnostics);
}
