//! Pictures with captions: WebDataset shards, and folders with a `captions.jsonl`.

use std::path::Path;

use jam_ir::signature::{FormatSignature, Signature};
use jam_ir::{Called, Holds};
use serde_json::Value;

use crate::sources::format::{Format, Layout, documents, few_pictures, is_json, max_pictures};
use crate::sources::{Document, records};

/// The format.
#[derive(Debug)]
pub(super) struct ImageText;

impl Format for ImageText {
    fn signature(&self) -> FormatSignature {
        let signature = Signature::new(
            "image_text",
            "pictures with captions: WebDataset `.tar`, or `.jsonl` with `image` and `caption`, such as \
             the `captions.jsonl` of a folder",
        )
        .with([max_pictures()]);
        let holds = [
            Holds::Documents,
            Holds::Pictures,
            Holds::Captions,
            Holds::Scenes,
        ];
        documents(signature, &holds)
    }

    fn takes(&self, layout: Layout) -> bool {
        is_json(layout) || layout == Layout::Shard
    }

    fn reads(&self) -> &'static str {
        "captioned pictures are read from .tar shards and captions.jsonl"
    }

    fn in_folder(&self) -> &'static [&'static str] {
        &["captions.jsonl", "*.tar"]
    }

    fn document(
        &self,
        _: &Called,
        json: Value,
        folder: &Path,
        id: String,
    ) -> Result<Document, String> {
        records::captioned(json, folder, id)
    }

    fn keeps(&self, called: &Called, document: &Document) -> bool {
        few_pictures(called, document)
    }

    fn is_blank(&self, document: &Document) -> bool {
        document.texts().all(records::is_blank)
    }
}
