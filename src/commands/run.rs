//! `jamc run`: everything that a program asks for, in order, passing over what is done.

use std::path::Path;

use jam_ir::Error;
use jam_ir::recipe::Step;
use jam_runtime::steps::read_report;
use serde_json::json;

use super::carry_out;
use crate::cli::Common;
use crate::console::{Console, print, print_json};
use crate::failure::Failure;
use crate::program::{self, Purpose};

pub(crate) fn run(
    file: &Path,
    restart: &[String],
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let work = program::load(file, Purpose::Make, common, console)?.workload(common);
    let steps = work.program.steps.clone();
    let mut anew = Vec::new();
    for name in restart {
        let found = steps.iter().find(|step| step.name() == name);
        let found = found.ok_or_else(|| {
            let names: Vec<String> = steps.iter().map(|step| format!("`{step}`")).collect();
            let message = format!("the program has no step `{name}`");
            Failure::Input(Error::new(message).with_help(format!("it has {}", names.join(", "))))
        })?;
        anew.push(found.clone());
    }
    carry_out(&work, &steps, &anew, common, console)?;
    let page = |name: &str| {
        let step = Step::Page(name.to_owned());
        work.result(&step).join("index.html")
    };
    if common.json {
        let mut reports = serde_json::Map::new();
        for name in work.program.evaluations.keys() {
            reports.insert(name.clone(), json!(read_report(&work, name)?));
        }
        let pages = work.program.pages.keys();
        let pages = pages.map(|name| (name.clone(), json!(page(name).display().to_string())));
        return print_json(&json!({
            "results": work.out.display().to_string(),
            "reports": reports,
            "pages": pages.collect::<serde_json::Map<_, _>>(),
        }));
    }
    for report in work.program.evaluations.keys() {
        print(&format!(
            "\n{}\n",
            read_report(&work, report)?.table()?.markdown()
        ))?;
    }
    for name in work.program.pages.keys() {
        print(&format!("page: {}\n", page(name).display()))?;
    }
    if work.program.pages.is_empty() {
        print(&format!("results: {}\n", work.out.display()))?;
    }
    Ok(())
}
