//! Multiple choice: questions with options, one of them right, in a published format.

use std::path::{Path, PathBuf};

use jam_ir::signature::{FormatSignature, Signature};
use jam_ir::{Called, Holds, SettingSignature};
use serde_json::Value;

use crate::Result;
use crate::sources::choice::{CHOICE_FORMATS, choices};
use crate::sources::format::{Format, Layout};
use crate::sources::{ChoiceItem, Document};

/// The format.
#[derive(Debug)]
pub(super) struct Choice;

/// The name of the setting that says which published format.
const FORMAT: &str = "format";

impl Format for Choice {
    fn signature(&self) -> FormatSignature {
        let words = CHOICE_FORMATS.map(|format| format.word);
        let meanings = CHOICE_FORMATS.map(|format| (format.word, format.records));
        let format = SettingSignature::word(FORMAT, &words, "how its files write the questions");
        FormatSignature {
            signature: Signature::new(
                "choice",
                "multiple choice, asked as lm-evaluation-harness asks it",
            )
            .with([format.meaning(&meanings)]),
            holds: vec![Holds::Choices],
            held_out: false,
        }
    }

    fn takes(&self, _: Layout) -> bool {
        false
    }

    fn reads(&self) -> &'static str {
        "multiple choice is read as questions, not documents"
    }

    fn document(
        &self,
        _: &Called,
        _: Value,
        _: &Path,
        _: String,
    ) -> std::result::Result<Document, String> {
        Err("a question is no document".to_owned())
    }

    fn items(&self, called: &Called, files: &[PathBuf]) -> Result<Vec<ChoiceItem>> {
        choices(called.word(FORMAT)?, files)
    }
}
