//! The vocabulary of a checkpoint of others: what the files of its tokenizers say of its ids.

mod pictures;

use std::path::Path;

use jam_data::tokens::text::{SpecialTokens, TextTokenizer};
use jam_ir::ErrorKind;
use jam_weights::checkpoints::import::ImportedConfig;

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
    match TextTokenizer::files(files) {
        // What is there must be sound: ids without words are paired by place.
        Ok(_) => {
            let tokenizer = TextTokenizer::open(files)?;
            let SpecialTokens { mut marks, begin } = tokenizer.special_tokens(files)?;
            // A configuration keeps ids of other vocabularies: what nobody writes is a mark, and no word.
            let told = config.decoder.tokens.clone();
            let ends: Vec<u64> = told.ends().filter(|id| tokenizer.may_be_mark(*id)).collect();
            for (mark, id) in &told.marks {
                let other_end = mark.starts_with("eos:");
                if !other_end && !marks.contains_key(mark) && tokenizer.may_be_mark(*id) {
                    marks.insert(mark.clone(), *id);
                }
            }
            let begin = match (begin, marks.get("bos")) {
                (Some(told), _) => told,
                (None, Some(bos)) => tokenizer.begins_with(*bos)?,
                (None, None) => false,
            };
            config.set_tokenizer(&named(files)?, tokenizer.size(), &marks, begin);
            config.add_ends(&ends);
        }
        Err(error) if error.kind != ErrorKind::Absent => return Err(error.into()),
        Err(_) => console.remark(&format!(
            "{} has no text tokenizer: its ids have no words, and other vocabularies of their number are \
             taken for the same",
            files.display()
        )),
    }
    pictures::set(config, checkpoint, &named(checkpoint)?, console)
}
