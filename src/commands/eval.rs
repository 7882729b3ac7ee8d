//! `jamc eval`: a report as a table, or as JSON.

use std::path::Path;

use jam_ir::recipe::Step;
use jam_runtime::steps::read_report;

use super::{carry_out, known};
use crate::cli::Common;
use crate::console::{Console, print, print_json};
use crate::failure::Failure;
use crate::program::{self, Purpose};

pub(crate) fn run(
    file: &Path,
    report: &str,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let work = program::load(file, Purpose::Make, common, console)?.workload(common);
    known(&work.program.evaluations, "report", report)?;
    carry_out(
        &work,
        &[Step::Eval(report.to_owned())],
        &[],
        common,
        console,
    )?;
    let made = read_report(&work, report)?;
    if common.json {
        return print_json(&made);
    }
    print(&made.table()?.markdown())
}
