//! The steps of a program, carried out in order; what is done already is passed over.
//!
//! A kind of step ([`kind`]) states what its result is made from ([`kinds`]); order, needs and keys follow from it
//! ([`graph`]). A result is done when one with its key stands finished and whole in the folder of results, see
//! [`crate::results`]. So a program can be interrupted anywhere and goes on, and what another version of it made
//! stays.

mod corpora;
mod forecast;
mod graph;
mod kind;
mod kinds;
mod known;
mod lock;
mod look;
mod overview;
mod run;
mod runner;
mod workload;

use jam_ir::recipe::Step;

pub use forecast::{Forecast, Reads, Writes};
pub use kinds::{Measured, Report, ReportRow, read_report};
pub use overview::{Listed, answering, overview, remove_results};
pub use runner::{Runner, load_executable};
pub use workload::{Workload, result_folder};

use crate::Result;

/// The steps of a program that `targets` need, themselves included: each after those it needs, and else in the order
/// of the program.
///
/// # Errors
/// When the program refers to what it does not have.
pub fn needed(work: &Workload, targets: &[Step]) -> Result<Vec<Step>> {
    graph::needed(work, targets, kinds::kind)
}
