//! What a format of data is, and what several formats share.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use jam_ir::signature::{FormatSignature, Signature};
use jam_ir::{Called, Holds, SettingSignature};
use serde_json::Value;

use super::choice::ChoiceItem;
use super::{Document, records};
use crate::{Error, Result};

/// How a file holds its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A line of JSON each.
    Lines,
    /// JSON values one after the other, or the elements of a list.
    Values,
    /// Rows of a table whose first row has the names; the byte parts its fields.
    Rows(u8),
    /// Running text.
    Text,
    /// Members of a tar file.
    Shard,
}

/// What the records of a data set are.
pub trait Format: Debug + Sync {
    /// What the language may ask of it.
    fn signature(&self) -> FormatSignature;

    /// Whether files of a layout are read.
    fn takes(&self, layout: Layout) -> bool;

    /// Which files are read, as a sentence for those who gave another.
    fn reads(&self) -> &'static str;

    /// What to do about a record that is none of this format.
    fn hint(&self) -> Option<&'static str> {
        None
    }

    /// What stands for a folder: the first of these files that is there, and else all that match the last.
    fn in_folder(&self) -> &'static [&'static str] {
        &["*.jsonl"]
    }

    /// The document of a record of JSON that lies in `folder`.
    ///
    /// # Errors
    /// What is wrong with the record, as a sentence.
    fn document(
        &self,
        called: &Called,
        json: Value,
        folder: &Path,
        id: String,
    ) -> std::result::Result<Document, String>;

    /// Whether a document has nothing to learn.
    fn is_blank(&self, document: &Document) -> bool {
        document.texts().all(records::is_blank) && document.pictures() == 0
    }

    /// Whether a document is one of the set: settings may leave some out.
    fn keeps(&self, called: &Called, document: &Document) -> bool {
        let _ = (called, document);
        true
    }

    /// The multiple-choice items of files.
    ///
    /// # Errors
    /// When a file is damaged, or the format's records are no questions with options.
    fn items(&self, called: &Called, files: &[PathBuf]) -> Result<Vec<ChoiceItem>> {
        let _ = files;
        let message = format!("`{}` holds no multiple choice", called.name);
        Err(Error::new(message))
    }
}

/// A format whose records are documents, some of which can be held out.
pub(super) fn documents(signature: Signature, holds: &[Holds]) -> FormatSignature {
    FormatSignature {
        signature,
        holds: holds.to_vec(),
        held_out: true,
    }
}

/// The setting `max_pictures`.
pub(super) fn max_pictures() -> SettingSignature {
    let help = "leaves out documents with more pictures than that; 0 keeps all";
    SettingSignature::count("max_pictures", (0, u64::MAX), 0, help)
}

/// Whether a document has at most the pictures that `max_pictures` allows.
pub(super) fn few_pictures(called: &Called, document: &Document) -> bool {
    let most = called.count("max_pictures").unwrap_or(0);
    most == 0 || document.pictures() as u64 <= most
}

/// Lists of JSON records.
pub(super) fn is_json(layout: Layout) -> bool {
    matches!(layout, Layout::Lines | Layout::Values)
}
