//! Articles of text and pictures, with a question where they answer one.

use std::path::Path;

use jam_ir::signature::{FormatSignature, Signature};
use jam_ir::{Called, Holds};
use serde_json::Value;

use crate::sources::format::{Format, Layout, documents, few_pictures, is_json, max_pictures};
use crate::sources::{Document, records};

/// The format.
#[derive(Debug)]
pub(super) struct Interleaved;

impl Format for Interleaved {
    fn signature(&self) -> FormatSignature {
        let signature = Signature::new(
            "interleaved",
            "articles of texts and pictures: records with `segments` (`{\"text\": …}` and \
             `{\"image\": …}`) and, where they answer something, a `prompt`",
        )
        .with([max_pictures()]);
        documents(
            signature,
            &[Holds::Documents, Holds::Pictures, Holds::Questions],
        )
    }

    fn takes(&self, layout: Layout) -> bool {
        is_json(layout)
    }

    fn reads(&self) -> &'static str {
        "articles are read from .jsonl and .json"
    }

    fn document(
        &self,
        _: &Called,
        json: Value,
        folder: &Path,
        id: String,
    ) -> Result<Document, String> {
        records::interleaved(json, folder, id)
    }

    fn keeps(&self, called: &Called, document: &Document) -> bool {
        few_pictures(called, document)
    }
}
