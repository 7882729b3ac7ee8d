//! Which tokens of an imported vocabulary are marks.

use std::path::Path;

use indexmap::IndexMap;
use jam_ir::END_MARK;
use jam_runtime::checkpoints::import::ImportedConfig;
use jam_runtime::tokens::text::TextTokenizer;

use crate::failure::Failure;

/// The marks that the configuration names, and those that only the files of the tokenizer in `folder` name.
/// Where the configuration has several ends of text, the end is the tokenizer's among them.
pub(super) fn of(
    config: &ImportedConfig,
    folder: &Path,
    tokenizer: &TextTokenizer,
) -> Result<IndexMap<String, u64>, Failure> {
    let mut marks = config.decoder.tokens.marks.clone();
    for (mark, id) in tokenizer.marks_of(folder)? {
        if mark == END_MARK && config.ends.contains(&id) {
            marks.insert(mark, id);
        } else {
            marks.entry(mark).or_insert(id);
        }
    }
    Ok(marks)
}
