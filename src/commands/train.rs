//! `jamc train`: one training run, and what it needs.

use std::path::Path;

use jam_ir::recipe::Step;
use serde_json::json;

use super::{carry_out, known};
use crate::cli::Common;
use crate::console::{Console, print, print_json};
use crate::failure::Failure;
use crate::program::{self, Purpose};

pub(crate) fn run(
    file: &Path,
    recipe: &str,
    restart: bool,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let work = program::load(file, Purpose::Make, common, console)?.workload(common);
    known(&work.program.trainings, "training", recipe)?;
    let step = Step::Train(recipe.to_owned());
    let target = std::slice::from_ref(&step);
    let anew = if restart { target } else { &[] };
    carry_out(&work, target, anew, common, console)?;
    let folder = work.result(&step);
    let model = folder.join("last").display().to_string();
    if common.json {
        return print_json(&json!({ "model": model }));
    }
    print(&format!("{model}\n"))
}
