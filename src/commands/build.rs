//! `jamc build`: fused models, each in a folder that stands alone.

use std::path::Path;

use jam_ir::recipe::Step;
use jam_runtime::steps::ResultKind;
use serde_json::json;

use super::{carry_out, known};
use crate::cli::{Common, PassArgs};
use crate::console::{Console, print, print_json};
use crate::failure::Failure;
use crate::program;

pub(crate) fn run(
    file: &Path,
    names: &[String],
    passes: &PassArgs,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    passes.check(common)?;
    let mut work = program::load(file, common, console)?.workload(common);
    if passes.asked() {
        passes.run_on_fusions(&mut work, names, common, console)?;
    }
    let all = &work.program.fusions;
    for name in names {
        known(all, "fusion", name)?;
    }
    let chosen: Vec<_> = all
        .keys()
        .filter(|name| names.is_empty() || names.contains(name))
        .collect();
    if chosen.is_empty() {
        return Err(Failure::new(format!(
            "{} has no `fuse` to build",
            file.display()
        )));
    }
    let steps: Vec<_> = chosen
        .iter()
        .map(|name| Step::Fuse((*name).clone()))
        .collect();
    carry_out(&work, &steps, None, common, console)?;
    let folder = |name: &str| work.result(ResultKind::Model, name).display().to_string();
    if common.json {
        let models = chosen
            .iter()
            .map(|name| json!({ "name": name, "folder": folder(name) }));
        return print_json(&json!({ "models": models.collect::<Vec<_>>() }));
    }
    for name in chosen {
        print(&format!("{}\n", folder(name)));
    }
    Ok(())
}
