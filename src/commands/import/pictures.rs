//! The image tokenizer of an imported checkpoint, and what its codes are called in the vocabulary.

use std::fmt::Write as _;
use std::path::Path;

use jam_runtime::Error;
use jam_runtime::checkpoints::import::CONFIG_FILE;
use jam_runtime::tokens::image::vqgan::{VqganTokenizer, ids_of_codes};
use serde_json::Value;

use crate::console::Console;
use crate::failure::Failure;

/// The name of the token that stands before a picture in Chameleon's documents.
const BREAK: &str = "<racm3:break>";

/// The vocabulary of a model called `name`, of `size` ids of text, with the pictures of its checkpoint: its source
/// with an `image` among its `tokens`. `path` is the checkpoint as the program names it. A checkpoint without an image
/// tokenizer leaves the source as it is.
pub(super) fn with_pictures(
    source: String,
    (name, size): (&str, u64),
    checkpoint: &Path,
    path: &str,
    console: &Console,
) -> Result<String, Failure> {
    let file = checkpoint.join(CONFIG_FILE);
    if !file.is_file() {
        return Ok(source);
    }
    let Some(found) = VqganTokenizer::inspect(checkpoint)? else {
        return Ok(source);
    };
    let told = std::fs::read(&file).map_err(|error| Error::io("read", &file, error))?;
    let config: Value = serde_json::from_slice(&told)
        .map_err(|error| Error::new(format!("not JSON: {error}")).with_path(&file))?;
    let codes = found.settings.codes;
    let first = match first_of(&config["vocabulary_map"], codes, size) {
        Ok(first) => first,
        Err(why) => {
            // The text model is as good without.
            console.show(&format!("note: the image tokenizer is left out: {why}"));
            return Ok(source);
        }
    };
    if !found.decodes {
        console.show("note: the image tokenizer has no decoder: pictures can be read, not drawn");
    }
    let mut lines = format!(
        "    image    = vq({}, codes: {codes}, grid: {}, from: {first})\n",
        quoted(path),
        found.settings.grid()
    );
    let pictures = first..first + codes as u64;
    let of_text = |id: &u64| *id < size && !pictures.contains(id);
    let end = config["eos_token_id"].as_u64().filter(of_text);
    let start = config["vocabulary_map"][BREAK].as_u64().filter(of_text);
    let start = start.filter(|start| Some(*start) != end);
    let marks = [("eos", end), ("break", start)];
    let marks = marks
        .into_iter()
        .filter_map(|(mark, id)| Some(format!("{mark}({})", id?)));
    let marks: Vec<String> = marks.collect();
    if !marks.is_empty() {
        let _ = writeln!(lines, "    marks    = [{}]", marks.join(", "));
    }
    Ok(placed(source, name, size, &lines))
}

/// The id of image code 0 in a vocabulary of `size` ids, which the others follow in order.
fn first_of(names: &Value, codes: usize, size: u64) -> Result<u64, String> {
    let names = names
        .as_object()
        .ok_or("no `vocabulary_map` says which ids its codes have")?;
    let names = names.iter();
    let known = names.filter_map(|(name, id)| Some((name.as_str(), id.as_u64()?)));
    let ids = ids_of_codes(known, codes).map_err(|error| error.to_string())?;
    let first = ids.first().copied().unwrap_or_default();
    let first = u64::from(first);
    let in_order = ids
        .iter()
        .zip(first..)
        .all(|(id, wanted)| u64::from(*id) == wanted);
    match in_order && first + codes as u64 <= size {
        true => Ok(first),
        false => Err("the ids of its codes do not follow one another in the vocabulary".to_owned()),
    }
}

/// The lines among the `tokens` of a model; these are made where the model has a bare vocabulary.
fn placed(source: String, name: &str, size: u64, lines: &str) -> String {
    let head = format!("tokens {name}_tokens {{\n");
    if let Some(at) = source.find(&head) {
        // Behind the text.
        let at = at + head.len();
        let line = source[at..]
            .find('\n')
            .map_or(source.len(), |end| at + end + 1);
        return format!("{}{lines}{}", &source[..line], &source[line..]);
    }
    let bare = format!("    {:<11} = {size}\n", "tokens");
    let own = format!("    {:<11} = {name}_tokens\n", "tokens");
    let source = source.replacen(&bare, &own, 1);
    match source.find(&format!("block {name}_layer")) {
        Some(at) => format!(
            "{}{head}    text     = {size}\n{lines}}}\n\n{}",
            &source[..at],
            &source[at..]
        ),
        None => source,
    }
}

/// A path as the language writes it.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}
