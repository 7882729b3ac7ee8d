//! Reports on a program: which are told, and how.

use std::io::Write;

use jam_ir::diagnostic::{Diagnostics, Severity};
use jam_ir::span::SourceMap;

use crate::cli::Common;
use crate::console::Console;

/// Leaves of notes that say the same (of two fusions of the same parents) the first, or none.
pub(super) fn keep_notes(diagnostics: &mut Diagnostics, notes: bool) {
    let mut known: Vec<String> = Vec::new();
    diagnostics.retain(|diagnostic| {
        let first = !known.contains(&diagnostic.message);
        match diagnostic.severity {
            Severity::Note if notes && first => {
                known.push(diagnostic.message.clone());
                true
            }
            Severity::Note => false,
            Severity::Warning | Severity::Error => true,
        }
    });
}

/// Reports on standard error with an empty line between two and a line that counts mistakes at the end; as
/// JSON, a line each.
pub(crate) fn report(
    diagnostics: &Diagnostics,
    sources: &SourceMap,
    common: &Common,
    console: &Console,
) {
    if diagnostics.is_empty() {
        return;
    }
    if common.json {
        for diagnostic in diagnostics.iter() {
            let line = serde_json::to_string(&jam_dsl::report::json(diagnostic, sources));
            eprintln_line(&line.unwrap_or_default());
        }
        return;
    }
    for diagnostic in diagnostics.iter() {
        let text = jam_dsl::report::render(diagnostic, sources, console.colours()) + "\n";
        if diagnostic.severity == Severity::Error {
            eprintln_line(&text);
        } else {
            console.show(&text);
        }
    }
    match jam_dsl::report::count_line(diagnostics) {
        Some(counts) if diagnostics.has_errors() => eprintln_line(&counts),
        Some(counts) => console.show(&counts),
        None => {}
    }
}

fn eprintln_line(text: &str) {
    // A failing terminal is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{text}");
}
