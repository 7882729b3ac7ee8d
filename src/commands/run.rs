//! `jamc run`: everything that a program asks for, in order, passing over what is done.

use std::path::Path;

use jam_runtime::steps::{ResultKind, read_report};

use super::carry_out;
use crate::cli::Common;
use crate::console::{Console, print};
use crate::failure::Failure;
use crate::program;

pub(crate) fn run(file: &Path, common: &Common, console: &Console) -> Result<(), Failure> {
    let work = program::load(file, common, console)?.workload(common);
    let steps = work.program.steps.clone();
    carry_out(&work, &steps, common, console)?;
    for report in work.program.evaluations.keys() {
        print(&format!(
            "\n{}\n",
            read_report(&work, report)?.table().markdown()
        ));
    }
    for page in work.program.pages.keys() {
        let path = work.result(ResultKind::Page, page).join("index.html");
        print(&format!("page: {}\n", path.display()));
    }
    if work.program.pages.is_empty() {
        print(&format!("results: {}\n", work.out.display()));
    }
    Ok(())
}
