//! `jamc build`: fused models, each in a folder that stands alone.

use std::path::Path;

use jam_ir::recipe::Step;
use jam_runtime::steps::ResultKind;

use super::{carry_out, known};
use crate::cli::Common;
use crate::console::{Console, print};
use crate::failure::Failure;
use crate::program;

pub(crate) fn run(
    file: &Path,
    names: &[String],
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let work = program::load(file, common, console)?.workload(common);
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
    carry_out(&work, &steps, common, console)?;
    for name in chosen {
        print(&format!(
            "{}\n",
            work.result(ResultKind::Model, name).display()
        ));
    }
    Ok(())
}
