//! The vocabulary of a checkpoint of others: what the files of its tokenizers say of its ids.

mod pictures;

use std::path::Path;

use indexmap::IndexMap;
use jam_ir::END_MARK;
use jam_runtime::checkpoints::import::ImportedConfig;
use jam_runtime::tokens::text::TextTokenizer;

use crate::console::Console;
use crate::failure::Failure;

/// Where the tokenizer of a checkpoint is looked for: in its folder.
pub(crate) fn tokenizer_of(checkpoint: &Path) -> &Path {
    match checkpoint.is_dir() {
        true => checkpoint,
        false => match checkpoint.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        },
    }
}

/// Says in a configuration which ids are text, marks and pictures, as far as the files beside the weights do;
/// what they do not say stays. `named` is how a program names a path.
pub(crate) fn complete(
    config: &mut ImportedConfig,
    checkpoint: &Path,
    named: &dyn Fn(&Path) -> Result<String, Failure>,
    console: &Console,
) -> Result<(), Failure> {
    let files = tokenizer_of(checkpoint);
    match TextTokenizer::open(files) {
        Ok(tokenizer) => {
            let marks = marks(config, files, &tokenizer)?;
            config.set_tokenizer(&named(files)?, tokenizer.size(), &marks);
        }
        Err(error) => console.detail(&format!("no text tokenizer: {error}")),
    }
    pictures::set(config, checkpoint, &named(checkpoint)?, console)
}

/// The marks that the configuration names, and those that only the files of the tokenizer in `folder` name.
/// Where the configuration has several ends of text, the end is the tokenizer's among them.
fn marks(
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
