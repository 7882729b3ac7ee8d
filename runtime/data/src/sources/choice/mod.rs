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

use std::path::{Path, PathBuf};

use crate::{Error, Result};
pub use item::{ChoiceItem, ChoiceOption};

/// A published format of multiple choice.
#[derive(Clone, Copy, Debug)]
pub struct ChoiceFormat {
    /// Its word in a program.
    pub word: &'static str,
    /// What its records are, and how they are asked.
    pub records: &'static str,
    /// The items of a file.
    read: fn(&Path) -> Result<Vec<ChoiceItem>>,
}

/// The formats that [`choices`] reads, in the order in which help lists them.
pub const CHOICE_FORMATS: [ChoiceFormat; 7] = [
    ChoiceFormat {
        word: "jsonl",
        records: "`{question, choices, gold}` a line (`query` is read as `question`)",
        read: formats::plain,
    },
    ChoiceFormat {
        word: "piqa",
        records: "`{goal, sol1, sol2}` a line, labels in `label` or in a file `…-labels.lst`",
        read: formats::piqa,
    },
    ChoiceFormat {
        word: "arc",
        records: "`{question: {stem, choices: [{text, label}]}, answerKey}` a line, or as the hub has it",
        read: formats::arc,
    },
    ChoiceFormat {
        word: "winograd",
        records: "the collection's XML; the options stand for the pronoun, what follows is scored",
        read: winograd::read,
    },
    ChoiceFormat {
        word: "winogrande",
        records: "`{sentence, option1, option2, answer}` a line, with `_` for the options, or answers in \
                  `…-labels.lst`",
        read: formats::winogrande,
    },
    ChoiceFormat {
        word: "storycloze",
        records: "CSV with `InputSentence1` … `AnswerRightEnding`",
        read: formats::storycloze,
    },
    ChoiceFormat {
        word: "copa",
        records: "as `jsonl`, or `{premise, choice1, choice2, question, label}` a line, or the first \
                  publication's XML",
        read: copa::read,
    },
];

/// Reads the items of files, in the order of files and items. Files of labels (`.lst`) may be among them.
///
/// # Errors
/// When the format is not known, a file cannot be read, or an item is not of the format; the message names
/// file and line.
pub fn choices(format: &str, files: &[PathBuf]) -> Result<Vec<ChoiceItem>> {
    let known = CHOICE_FORMATS.iter().find(|known| known.word == format);
    let known = known.ok_or_else(|| {
        let words = CHOICE_FORMATS.map(|format| format.word);
        Error::new(format!("`{format}` is no known format of multiple choice"))
            .with_help(format!("known are {}", words.join(", ")))
    })?;
    let mut items = Vec::new();
    for path in files
        .iter()
        .filter(|path| path.extension().is_none_or(|ending| ending != "lst"))
    {
        let found = (known.read)(path)?;
        if found.is_empty() {
            return Err(Error::new("the file has no items").with_path(path));
        }
        items.extend(found);
    }
    Ok(items)
}

#[cfg(test)]
mod tests;
