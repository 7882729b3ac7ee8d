//! Plain text: a field of JSON or of a table, or running text cut into blocks of whole paragraphs.

use std::path::Path;

use jam_ir::signature::{FormatSignature, Signature};
use jam_ir::{Called, Holds, SettingSignature};
use serde_json::Value;

use crate::sources::format::{Format, Layout, documents};
use crate::sources::{Document, records};

/// The format.
#[derive(Debug)]
pub(super) struct Text;

impl Format for Text {
    fn signature(&self) -> FormatSignature {
        let signature = Signature::new(
            "text",
            "plain text: a field of JSON or of a table, or running text, cut at empty lines into blocks of 8 KiB and more",
        )
        .with([SettingSignature::text(
            "field",
            "text",
            "the field of a record that holds its text",
        )]);
        documents(signature, &[Holds::Documents])
    }

    fn takes(&self, layout: Layout) -> bool {
        layout != Layout::Shard
    }

    fn reads(&self) -> &'static str {
        "text is read from .jsonl, .json, .csv, .tsv and text files"
    }

    fn document(
        &self,
        called: &Called,
        json: Value,
        _: &Path,
        id: String,
    ) -> Result<Document, String> {
        let field = called.text("field").map_err(|error| error.message)?;
        records::text(json, field, id)
    }

    fn hint(&self) -> Option<&'static str> {
        Some("`text(…, field: \"NAME\")` says which field is the text")
    }
}
