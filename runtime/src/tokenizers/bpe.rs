//! Byte-pair encoding over bytes: every text has tokens.

use jam_data::tokens::text::TextTokenizer;
use jam_ir::signature::{Makes, TokenizerSignature};
use jam_ir::{Called, Holds, SettingSignature, Signature};

use super::trains::{Job, Trained, Trains, train};
use crate::Result;
use crate::folders::TEXT_TOKENIZER;

/// The tokenizer.
#[derive(Debug)]
pub(super) struct Bpe;

/// Most tokens: more are no vocabulary that anyone trains.
const MOST: u64 = 1 << 24;

impl Trains for Bpe {
    fn signature(&self) -> TokenizerSignature {
        let size = "number of tokens; bytes are the first 256, so every text has tokens";
        TokenizerSignature {
            signature: Signature::new("bpe", "byte-pair encoding of texts, over bytes").with([
                train(Holds::Documents, "texts and captions that it learns from"),
                SettingSignature::count("size", (257, MOST), None, size),
            ]),
            makes: Makes::Texts {
                size: "size".to_owned(),
            },
        }
    }

    fn train(&self, called: &Called, job: &Job<'_>) -> Result<Option<Trained>> {
        let mut texts = Vec::new();
        for data in called.splits("train")? {
            texts.extend(job.inputs.texts(data)?);
        }
        let tokenizer = TextTokenizer::train(texts.into_iter(), called.count("size")?)?;
        Ok(Some(Box::new(move |folder| {
            tokenizer.save(&folder.join(TEXT_TOKENIZER))
        })))
    }
}
