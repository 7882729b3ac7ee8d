//! Questions with their answers.

use std::path::Path;

use jam_ir::signature::{FormatSignature, Signature};
use jam_ir::{Called, Holds};
use serde_json::Value;

use crate::sources::format::{Format, Layout, documents, is_json};
use crate::sources::{Document, records};

/// The format.
#[derive(Debug)]
pub(super) struct Instruct;

impl Format for Instruct {
    fn signature(&self) -> FormatSignature {
        let signature = Signature::new(
            "instruct",
            "questions with answers: records with `prompt` and `response`",
        );
        documents(signature, &[Holds::Documents, Holds::Questions])
    }

    fn takes(&self, layout: Layout) -> bool {
        is_json(layout) || matches!(layout, Layout::Rows(_))
    }

    fn reads(&self) -> &'static str {
        "questions with answers are read from .jsonl, .json, .csv and .tsv"
    }

    fn document(&self, _: &Called, json: Value, _: &Path, id: String) -> Result<Document, String> {
        records::instruct(json, id)
    }

    fn is_blank(&self, document: &Document) -> bool {
        document.texts().all(records::is_blank)
            || document.prompt.as_deref().is_none_or(records::is_blank)
    }
}
