//! `jamc check`: every mistake of a program in one run; nothing is written.

use std::path::Path;

use serde_json::json;

use crate::cli::Common;
use crate::console::{Console, print_json};
use crate::failure::Failure;
use crate::program::{self, Notes};

pub(crate) fn run(file: &Path, common: &Common, console: &Console) -> Result<(), Failure> {
    let loaded = program::load(file, Notes::All, common, console)?;
    let program = &loaded.program;
    program::report(&loaded.absent_data(), &loaded.sources, common, console);
    if common.json {
        print_json(&json!({
            "models": program.models.len(),
            "fusions": program.fusions.len(),
            "trainings": program.trainings.len(),
        }))?;
    }
    console.show(&format!(
        "{}: no mistakes ({} models, {} fusions, {} trainings)",
        file.display(),
        program.models.len(),
        program.fusions.len(),
        program.trainings.len()
    ));
    // The process ends here: taking its graphs apart piece by piece would only cost time.
    std::mem::forget(loaded);
    Ok(())
}
