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
mod winograd;

use std::path::{Path, PathBuf};

use super::content::read_regular;
use crate::{Error, Result};

/// One option of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceOption {
    /// What is read.
    pub context: String,
    /// What is scored; it begins with the blank that parts it from the context.
    pub continuation: String,
}

/// A question with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceItem {
    /// A name that stays: the item's own, or its file and line.
    pub id: String,
    /// The options, at least two.
    pub options: Vec<ChoiceOption>,
    /// The right one.
    pub gold: usize,
}

impl ChoiceItem {
    /// One context with choices that follow it after a blank.
    fn completed(id: String, context: &str, choices: &[&str], gold: usize) -> Self {
        let options = choices.iter().map(|choice| ChoiceOption {
            context: context.to_owned(),
            continuation: format!(" {}", choice.trim()),
        });
        Self {
            id,
            options: options.collect(),
            gold,
        }
    }

    /// Several contexts that go on in the same way.
    fn partial(id: String, contexts: &[String], rest: &str, gold: usize) -> Self {
        let rest = rest.trim();
        // Punctuation follows a word without a blank.
        let blank = if rest.starts_with([',', '.', ';', ':', '!', '?', '\'', '’']) {
            ""
        } else {
            " "
        };
        let options = contexts.iter().map(|context| ChoiceOption {
            context: context.trim_end().to_owned(),
            continuation: format!("{blank}{rest}"),
        });
        Self {
            id,
            options: options.collect(),
            gold,
        }
    }

    /// What an item has to be: at least two options, a gold among them, nothing empty that is scored.
    fn check(&self) -> std::result::Result<(), String> {
        if self.options.len() < 2 {
            return Err(format!("the item has {} choices", self.options.len()));
        }
        if self.gold >= self.options.len() {
            return Err(format!(
                "the gold answer is {} of {}",
                self.gold,
                self.options.len()
            ));
        }
        if self
            .options
            .iter()
            .any(|option| option.continuation.trim().is_empty())
        {
            return Err("there is nothing to score".to_owned());
        }
        Ok(())
    }
}

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

/// The file name with a number, for items without a name of their own.
fn numbered(path: &Path, number: usize) -> String {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    format!("{name}:{number}")
}

/// A file of items, at most 256 MB.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    const MAX_BYTES: u64 = 256 << 20;
    read_regular(path, MAX_BYTES)
}

#[cfg(test)]
mod tests;
