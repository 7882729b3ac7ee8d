//! `jamc check`: every mistake of a program in one run; nothing is written.

use std::path::Path;

use crate::cli::Common;
use crate::console::Console;
use crate::failure::Failure;
use crate::program;

pub(crate) fn run(file: &Path, common: &Common, console: &Console) -> Result<(), Failure> {
    let loaded = program::load(file, common, console)?;
    let program = &loaded.program;
    console.show(&format!(
        "{}: no mistakes ({} models, {} fusions, {} trainings)",
        file.display(),
        program.models.len(),
        program.fusions.len(),
        program.trainings.len()
    ));
    Ok(())
}
