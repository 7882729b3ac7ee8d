//! Model folders: a model that stands alone.
//!
//! ```text
//! model.ron                 the graph, the vocabulary and the weight plans, for programs
//! model.ir                  the same as text, for people
//! model*.safetensors        the weights, by JAM names in JAM layout (input side, output side)
//! tokenizer.json            the text tokenizer, where there is one
//! tokenizer_config.json, …  what the files of a parent say of it and of sampling, where it is that parent's
//! vq.json, vq.safetensors   the image tokenizer, where there is one
//! source.jam                the program it comes from, and behind it the files that it uses
//! README.md                 the model card: parents, strategy, counts
//! result.json               what it was made from, where it is the result of a fusion
//! checksums.json            BLAKE3 checksums of every tensor, every header and every file, and its own
//! ```

mod card;
mod export;
mod place;
mod tokenizers;

use std::ops::Range;
use std::path::{Path, PathBuf};

use jam_ir::{ImageTokens, Model, TextTokens};
use jam_weights::plans::weight_shapes;

pub use card::model_card;
pub use export::{Export, Exported, export_model};
pub use place::{is_something, put};
pub use tokenizers::Tokenizers;

use crate::results::RESULT_FILE;
use crate::{Error, ErrorKind, Result};
use jam_weights::checkpoints::atomic::refuse_unfinished;
use jam_weights::checkpoints::bounded::{file_of, has, read};
use jam_weights::checkpoints::{
    AtomicFolder, CheckpointReader, CheckpointWriter, Dtype, TensorSpec, WriteOptions, recover,
    seal_folder, verify_sealed, write_file,
};
use jam_weights::progress::{Bar, Progress};
use tokenizers::copy_companions;

/// The graph.
const GRAPH: &str = "model.ron";

/// Whether a folder is one of a model of JAM, by the file of its graph; it may be damaged all the same.
pub fn is_model_folder(folder: &Path) -> bool {
    folder.join(GRAPH).is_file()
}

/// The longest graph that is read, in bytes: the rows of a large vocabulary, chosen one by one.
const MAX_GRAPH_BYTES: u64 = 16_000_000;
/// Files of a text tokenizer that travel with a model.
pub(crate) const TEXT_TOKENIZER: &str = "tokenizer.json";
/// Files of an image tokenizer that travel with a model.
pub(crate) const IMAGE_TOKENIZER: [&str; 2] = ["vq.json", "vq.safetensors"];

/// Files of a Hugging Face folder that belong to its tokenizer or its sampling, and travel as they are.
pub(crate) const COMPANIONS: [&str; 9] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "generation_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
];

/// An open model folder.
#[derive(Debug)]
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// The graph, the vocabulary, and where the weights once came from.
    pub model: Model,
    /// The weights.
    pub weights: CheckpointReader,
}

impl ModelFolder {
    /// Opens a folder and compares its weights with its graph. No tensor is read yet.
    ///
    /// # Errors
    /// When a file is missing or damaged, the graph does not verify, or a weight that it asks for
    /// is missing or of another shape.
    pub fn open(path: &Path) -> Result<ModelFolder> {
        let file = path.join(GRAPH);
        recover(path)?;
        if !has(path, GRAPH) {
            return Err(
                Error::of(ErrorKind::Absent, format!("the folder has no {GRAPH}"))
                    .with_path(path)
                    .with_help(format!("a model folder has a {GRAPH}")),
            );
        }
        refuse_unfinished(path)?;
        verify_sealed(path)?;
        let text = String::from_utf8(read(&file_of(path, GRAPH)?, MAX_GRAPH_BYTES)?)
            .map_err(|_| Error::new("it is not UTF-8 text").with_path(&file))?;
        let model: Model = ron::from_str(&text).map_err(|error| {
            Error::new(format!("is not a model: {error}"))
                .with_path(&file)
                .with_help("what another version of JAM built is built again with `jamc build`")
        })?;
        if let Err(problems) = jam_ir::verify(&model) {
            let first = problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            let message = format!("does not verify ({} problems): {first}", problems.len());
            return Err(Error::new(message).with_path(&file));
        }
        let weights = CheckpointReader::open(path)?;
        for (name, shape) in weight_shapes(&model)? {
            match weights.tensors().get(&name) {
                None => {
                    return Err(Error::new(format!("has no weight `{name}`")).with_path(path));
                }
                Some(info) if info.shape != shape => {
                    let message = format!(
                        "weight `{name}` is {:?}, and the graph asks for {shape:?}",
                        info.shape
                    );
                    return Err(Error::new(message).with_path(path));
                }
                Some(_) => {}
            }
        }
        Ok(ModelFolder {
            path: path.to_owned(),
            model,
            weights,
        })
    }
}

/// A model folder about to be written.
pub struct ModelDraft<'a> {
    /// The graph and its plans.
    pub model: &'a Model,
    /// The program it comes from.
    pub source: &'a str,
    /// The model card.
    pub card: String,
    /// The tokenizers that travel along.
    pub tokenizers: Tokenizers,
    /// Other files that belong to it, by name.
    pub files: Vec<(String, Vec<u8>)>,
    /// Whether what stands in its place then is replaced.
    pub replace: bool,
}

/// Rows written at once, in numbers (64 MiB of f32).
const BLOCK: u64 = 16 << 20;

/// Gives the rows of a weight, row-major, as f32.
pub type WeightRows<'a> = dyn FnMut(&str, Range<u64>) -> Result<Vec<f32>> + 'a;

/// Writes every weight of a model; false when it was stopped before the last.
pub type WriteWeights<'a> = dyn FnMut(&mut CheckpointWriter, &mut dyn Bar) -> Result<bool> + 'a;

/// Writes a model folder: complete under a temporary name, then renamed.
///
/// `weights` writes the weights, in the shapes and types that the graph has; `progress` counts their
/// entries. Returns false, and leaves nothing behind, when `weights` was stopped.
///
/// # Errors
/// When a weight cannot be had, a file not be written, or something stands in its place that is not to be replaced.
pub fn write_model(
    target: &Path,
    draft: &ModelDraft<'_>,
    options: WriteOptions,
    weights: &mut WriteWeights<'_>,
    progress: &dyn Progress,
) -> Result<bool> {
    let model = draft.model;
    // A table by token has thousands of runs: a line each would be most of the file.
    let pretty = ron::ser::PrettyConfig::new().compact_arrays(true);
    let graph = ron::ser::to_string_pretty(model, pretty)
        .map_err(|error| Error::new(format!("the model cannot be written: {error}")))?;
    if graph.len() as u64 > MAX_GRAPH_BYTES {
        let message = format!(
            "the graph of `{}` takes {} bytes as text; at most {MAX_GRAPH_BYTES} are read",
            model.name,
            graph.len()
        );
        return Err(Error::new(message).with_path(target));
    }
    let folder = AtomicFolder::create(target)?;
    let write = |name: &str, bytes: &[u8]| write_file(&folder.path().join(name), bytes);
    write(GRAPH, graph.as_bytes())?;
    write("model.ir", jam_ir::text::print(model).as_bytes())?;
    write("source.jam", draft.source.as_bytes())?;
    write("README.md", draft.card.as_bytes())?;
    for (name, bytes) in &draft.files {
        write(name, bytes)?;
    }
    let pictures = matches!(model.tokens.image, ImageTokens::Files(_));
    draft.tokenizers.write(folder.path(), pictures)?;
    // A model that reads the vocabulary of one parent is spoken with as that one is; with marks of its own it is not.
    let tokens = &model.tokens;
    let of_parent = tokens.marks.values().all(|id| tokens.tokenizer_has(*id));
    if let (TextTokens::Files(_), true, Some(text)) =
        (&tokens.text, of_parent, &draft.tokenizers.text)
    {
        copy_companions(text, folder.path())?;
    }
    let uses = model.weight_uses();
    let shapes = weight_shapes(model)?;
    let entries = |shape: &[u64]| shape.iter().product::<u64>();
    let total: u64 = shapes.iter().map(|(_, shape)| entries(shape)).sum();
    let specs = shapes
        .into_iter()
        .map(|(name, shape)| {
            let dtype = Dtype::from(uses[&name].ty.dtype);
            TensorSpec::new(name, dtype, shape)
        })
        .collect();
    let mut writer = CheckpointWriter::create(folder.path(), specs, options)?;
    let mut bar = progress.begin("weights", total);
    if !weights(&mut writer, &mut *bar)? {
        return Ok(false);
    }
    bar.at(total, "flushing");
    writer.finish()?;
    bar.at(total, "checksums");
    seal_folder(folder.path(), &[RESULT_FILE])?;
    bar.at(total, "renaming");
    put(folder, draft.replace)?;
    Ok(true)
}

/// Weights that are had one after the other, by runs of rows: `rows` gives those of a weight,
/// row-major.
///
/// # Errors
/// As `rows`, and when a file cannot be written.
pub fn write_by_rows(
    model: &Model,
    rows: &mut WeightRows<'_>,
    writer: &mut CheckpointWriter,
    bar: &mut dyn Bar,
) -> Result<bool> {
    let mut done = 0;
    for (name, shape) in weight_shapes(model)? {
        let count = shape.first().copied().unwrap_or(1);
        let width = shape.iter().product::<u64>() / count.max(1);
        let step = (BLOCK / width.max(1)).max(1);
        let mut start = 0;
        while start < count {
            let end = count.min(start + step);
            writer.append_f32(&name, &rows(&name, start..end)?)?;
            done += (end - start) * width;
            bar.at(done, &name);
            start = end;
        }
    }
    Ok(true)
}
