//! One file per command.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod fmt;
pub(crate) mod forward;
pub(crate) mod generate;
pub(crate) mod help;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod results;
pub(crate) mod run;
pub(crate) mod synth;
pub(crate) mod train;

use jam_ir::recipe::Step;
use jam_runtime::steps::{Runner, Workload, needed};
use jam_weights::progress::Ended;

use crate::cli::Common;
use crate::console::{Console, stop_on_interrupt};
use crate::failure::Failure;

/// Carries out steps, and those they need, on the chosen device; those of `anew` begin anew, and what they had made is
/// kept.
pub(crate) fn carry_out(
    work: &Workload,
    targets: &[Step],
    anew: &[Step],
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let device = common.open_device()?;
    console.detail(&format!("device: {device:?}"));
    let steps = needed(work, targets)?;
    let stop = stop_on_interrupt(console);
    let mut runner = Runner::new(work, device, console, stop).taking(common.numbers());
    if let Some(limits) = common.limits() {
        runner = runner.with_limits(limits);
    }
    match runner.run(&steps, anew)? {
        Ended::Complete => Ok(()),
        Ended::Stopped => Err(Failure::Stopped),
    }
}

/// The name of a thing in the program, or what there is instead.
pub(crate) fn known<'a, T>(
    map: &'a indexmap::IndexMap<String, T>,
    what: &str,
    name: &str,
) -> Result<&'a T, Failure> {
    map.get(name).ok_or_else(|| {
        let names: Vec<_> = map.keys().map(|name| format!("`{name}`")).collect();
        let there = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        Failure::new(format!(
            "the program has no {what} `{name}`; it has {there}"
        ))
    })
}
