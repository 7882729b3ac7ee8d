//! Items of multiple choice, and what every format needs to read them.

use std::path::Path;

use super::super::content::read_regular;
use crate::Result;

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
    pub(super) fn completed(id: String, context: &str, choices: &[&str], gold: usize) -> Self {
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
    pub(super) fn partial(id: String, contexts: &[String], rest: &str, gold: usize) -> Self {
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
    pub(super) fn check(&self) -> std::result::Result<(), String> {
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

/// The file name with a number, for items without a name of their own.
pub(super) fn numbered(path: &Path, number: usize) -> String {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    format!("{name}:{number}")
}

/// A file of items, at most 256 MB.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    const MAX_BYTES: u64 = 256 << 20;
    read_regular(path, MAX_BYTES)
}
