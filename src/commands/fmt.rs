//! `jamc fmt`: one layout, no options.

use std::io::Read;
use std::path::{Path, PathBuf};

use jam_ir::span::SourceMap;
use serde_json::json;

use crate::cli::Common;
use crate::console::{Console, print, print_json};
use crate::failure::{Failure, tell};
use crate::output::rewrite;
use crate::program;

pub(crate) fn run(
    files: &[PathBuf],
    check: bool,
    common: &Common,
    console: &Console,
) -> Result<(), Failure> {
    let mut wrong = false;
    let mut done = Vec::new();
    for file in files {
        let streamed = file.as_os_str() == "-";
        let text = match streamed {
            true => standard_input(),
            false => program::read_text(file),
        };
        let shown = match streamed {
            true => Path::new("standard input"),
            false => file,
        };
        let text = text.map_err(|why| match streamed {
            true => Failure::new(format!("cannot read {}: {why}", shown.display())),
            false => program::unread(file, &why),
        })?;
        match format(shown, &text, common, console) {
            None => wrong = true,
            Some(laid_out) if streamed && !check && common.json => done.push(json!({
                "file": shown.display().to_string(),
                "changed": laid_out != text,
                "text": laid_out,
            })),
            Some(laid_out) if streamed && !check => print(&laid_out)?,
            Some(laid_out) if laid_out == text => {
                let file = shown.display().to_string();
                done.push(json!({ "file": file, "changed": false }));
            }
            Some(_) if check => {
                let told = format!("{} is not in its layout", shown.display());
                match common.json {
                    true => tell(&Failure::new(told), true),
                    false => console.told(&told),
                }
                wrong = true;
            }
            Some(laid_out) => {
                rewrite(file, laid_out.as_bytes())?;
                let file = shown.display().to_string();
                done.push(json!({ "file": file, "changed": true }));
            }
        }
    }
    match (wrong, common.json) {
        (true, _) => Err(Failure::Reported),
        (false, true) => print_json(&json!({ "files": done })),
        (false, false) => Ok(()),
    }
}

/// A program on standard input; one that is far too long is refused.
fn standard_input() -> Result<String, String> {
    let mut text = String::new();
    let most = jam_dsl::MAX_BYTES as u64;
    let mut input = std::io::stdin().lock().take(most + 1);
    input
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    match text.len() as u64 > most {
        true => Err(format!("a program has at most {most} bytes")),
        false => Ok(text),
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
