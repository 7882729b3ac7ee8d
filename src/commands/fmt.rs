//! `jamc fmt`: one layout, no options.

use std::path::{Path, PathBuf};

use jam_ir::span::SourceMap;
use jam_runtime::checkpoints::write_file;

use crate::cli::Common;
use crate::console::Console;
use crate::failure::{Failure, tell};
use crate::program;

pub(crate) fn run(
    files: &[PathBuf],
    check: bool,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let mut wrong = false;
    for file in files {
        let text = program::read_text(file)
            .map_err(|why| Failure::new(format!("cannot read {}: {why}", file.display())))?;
        match format(file, &text, common, console) {
            None => wrong = true,
            Some(laid_out) if laid_out == text => {}
            Some(_) if check => {
                let told = format!("{} is not in its layout", file.display());
                match common.json {
                    true => tell(&Failure::new(told), true),
                    false => console.show(&told),
                }
                wrong = true;
            }
            Some(laid_out) => write_file(file, laid_out.as_bytes())?,
        }
    }
    if wrong {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}

/// The text in its layout; `None`, with reports, when it is not a program.
fn format(file: &Path, text: &str, common: &Common, console: &Console) -> Option<String> {
    let mut sources = SourceMap::new();
    let id = sources.add(file.display().to_string(), text)?;
    match jam_dsl::format(id, text) {
        Ok(laid_out) => Some(laid_out),
        Err(diagnostics) => {
            program::report(&diagnostics, &sources, common, console);
            None
        }
    }
}
