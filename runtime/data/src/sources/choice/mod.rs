//! Multiple choice in its published formats, asked as lm-evaluation-harness asks it.
//!
//! | format | files | asked |
//! |---|---|---|
//! | `jsonl` | `{question, choices, gold}` (`query` is read as `question`) | question, then a choice |
//! | `copa` | the same; or `{premise, choice1, choice2, question, label}` as SuperGLUE has it; or the first publication's XML | the premise and `because` or `therefore`, then a choice |
//! | `piqa` | `{goal, sol1, sol2}`, labels in `…-labels.lst` or `label` | `Question: …\nAnswer:`, then a choice |
//! | `arc` | `{question: {stem, choices: [{text, label}]}, answerKey}`, or `{question, choices: {text: […], label: […]}, answerKey}` as the hub has it | the same |
//! | `storycloze` | CSV with `InputSentence1` … `AnswerRightEnding` | four sentences, then an ending |
//! | `winogrande` | `{sentence with _, option1, option2, answer}`, answers also in `…-labels.lst` | partial |
//! | `winograd` | the collection's XML, in the encoding it declares | partial |
//!
//! *Partial*: the options stand in the context in the place of the pronoun, and what follows, the same for both,
//! is scored (Trinh and Le, 2018). Labels and answers may be numbers or strings of them, and files may begin with
//! a byte order mark.

mod copa;
mod formats;
mod item;
mod winograd;

use std::path::PathBuf;

use crate::{Error, Result};
pub use item::{ChoiceItem, ChoiceOption};

/// The formats that [`choices`] reads.
pub const CHOICE_FORMATS: [&str; 7] = [
    "jsonl",
    "piqa",
    "arc",
    "winograd",
    "winogrande",
    "storycloze",
    "copa",
];

/// Reads the items of files, in the order of files and items. Files of labels (`.lst`) may be among them.
///
/// # Errors
/// When the format is not known, a file cannot be read, or an item is not of the format; the message names
/// file and line.
pub fn choices(format: &str, files: &[PathBuf]) -> Result<Vec<ChoiceItem>> {
    let read = match format {
        "jsonl" => formats::plain,
        "copa" => copa::read,
        "piqa" => formats::piqa,
        "arc" => formats::arc,
        "winogrande" => formats::winogrande,
        "storycloze" => formats::storycloze,
        "winograd" => winograd::read,
        other => {
            return Err(
                Error::new(format!("`{other}` is no known format of multiple choice"))
                    .with_help(format!("known are {}", CHOICE_FORMATS.join(", "))),
            );
        }
    };
    let mut items = Vec::new();
    for path in files
        .iter()
        .filter(|path| path.extension().is_none_or(|ending| ending != "lst"))
    {
        let found = read(path)?;
        if found.is_empty() {
            return Err(Error::new("the file has no items").with_path(path));
        }
        items.extend(found);
    }
    Ok(items)
}

#[cfg(test)]
mod tests;
