//! Models handed on: as a Hugging Face folder where an architecture fits, else as a JAM folder.
//!
//! Both have the same conventions: shards of bounded size under an index, a configuration or a graph, the
//! tokenizer, a model card, the `.jam` source and checksums. The folder is complete or absent.

use std::path::Path;

use jam_ir::{END_MARK, Model};
use serde_json::{Map, Value, json};

use super::{
    ModelDraft, Tokenizers, copy_companions, is_something, put, write_by_rows, write_model,
};
use crate::{Error, ErrorKind, Result};
use jam_data::tokens::text::TextTokenizer;
use jam_weights::checkpoints::export::HuggingFaceModel;
use jam_weights::checkpoints::import::CONFIG_FILE;
use jam_weights::checkpoints::{
    AtomicFolder, CheckpointWriter, Dtype, WeightSource, WriteOptions, seal_folder, write_file,
};
use jam_weights::progress::{Progress, Stop};

/// Fields of a configuration that say what ids mean, and are kept where the model came with them.
const IDS: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];

/// A model about to be handed on.
pub struct Export<'a> {
    /// The graph.
    pub model: &'a Model,
    /// Its weights.
    pub weights: &'a dyn WeightSource,
    /// The program it comes from.
    pub source: &'a str,
    /// The model card.
    pub card: String,
    /// The folder with its tokenizer, and with the configuration that it was read with, if any.
    pub from: &'a Path,
    /// Most bytes of weights in one file.
    pub shard_bytes: u64,
    /// Other files that belong to the folder, by name.
    pub files: Vec<(String, Vec<u8>)>,
    /// Whether a folder that stands at the target is replaced.
    pub replace: bool,
}

/// What became of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// A folder of this `model_type`.
    HuggingFace(String),
    /// A JAM folder, because of this.
    Jam(String),
    /// Nothing: it was stopped.
    Stopped,
}

/// Writes a folder at `target`, where nothing may stand that is not to be replaced.
///
/// # Errors
/// When something stands at `target`, a weight cannot be read or a file not be written.
pub fn export_model(
    target: &Path,
    export: &Export<'_>,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Exported> {
    if is_something(target) && !export.replace {
        return Err(Error::of(ErrorKind::Exists, "there is something already")
            .with_path(target)
            .with_help("name a folder that is not there yet"));
    }
    let options = WriteOptions {
        shard_bytes: export.shard_bytes,
        ..WriteOptions::default()
    };
    match HuggingFaceModel::of(export.model) {
        Ok(layout) => {
            let complete = hugging_face(target, export, &layout, options, progress, stop)?;
            Ok(match complete {
                true => Exported::HuggingFace(layout.model_type),
                false => Exported::Stopped,
            })
        }
        Err(why) => match jam(target, export, options, progress, stop) {
            Ok(true) => Ok(Exported::Jam(why.message)),
            Ok(false) => Ok(Exported::Stopped),
            Err(_) if stop.asked() => Ok(Exported::Stopped),
            Err(error) => Err(error),
        },
    }
}

fn jam(
    target: &Path,
    export: &Export<'_>,
    options: WriteOptions,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<bool> {
    let draft = ModelDraft {
        model: export.model,
        source: export.source,
        card: export.card.clone(),
        tokenizers: Tokenizers::of(export.from),
        files: export.files.clone(),
        replace: export.replace,
    };
    let mut weights = |writer: &mut CheckpointWriter, bar: &mut dyn jam_weights::progress::Bar| {
        let mut rows = |name: &str, rows| match stop.asked() {
            true => Err(Error::new("stopped")),
            false => export.weights.rows(name, rows),
        };
        write_by_rows(export.model, &mut rows, writer, bar)
    };
    write_model(target, &draft, options, &mut weights, progress)
}

fn hugging_face(
    target: &Path,
    export: &Export<'_>,
    layout: &HuggingFaceModel,
    options: WriteOptions,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<bool> {
    let folder = AtomicFolder::create(target)?;
    let write = |name: &str, bytes: &[u8]| write_file(&folder.path().join(name), bytes);
    let mut config = layout.config.clone();
    keep_ids(&mut config, export.from, &layout.model_type);
    write(CONFIG_FILE, pretty(&config)?.as_bytes())?;
    let card = format!("{}{}", front_matter(), export.card);
    write("README.md", card.as_bytes())?;
    write("source.jam", export.source.as_bytes())?;
    for (name, bytes) in &export.files {
        write(name, bytes)?;
    }
    Tokenizers::of(export.from).write(folder.path(), false)?;
    copy_companions(export.from, folder.path())?;
    tell_ids(folder.path(), export.model, &config, progress)?;

    let uses = export.model.weight_uses();
    let stored = |name: &str| {
        let own = uses.get(name).map(|param| Dtype::from(param.ty.dtype));
        let file = export.weights.stored(name).map(|stored| stored.dtype);
        file.or(own).unwrap_or(Dtype::F32)
    };
    let mut writer = CheckpointWriter::create(folder.path(), layout.specs(stored), options)?;
    let entries = |shape: &[u64]| shape.iter().product::<u64>();
    let total = layout.tensors.iter().map(|t| entries(&t.shape)).sum();
    let mut bar = progress.begin("weights", total);
    let mut done = 0;
    for tensor in &layout.tensors {
        if !tensor.write(export.weights, &mut writer, &|| stop.asked())? {
            return Ok(false);
        }
        done += entries(&tensor.shape);
        bar.at(done, &tensor.name);
    }
    writer.finish()?;
    seal_folder(folder.path(), &[])?;
    put(folder, export.replace)?;
    Ok(true)
}

/// Makes the tokenizer's ids those of the model, and names its marks where no file of its own does. A tokenizer that
/// cannot have these ids is left out: with others it would be wrong in silence.
fn tell_ids(folder: &Path, model: &Model, config: &Value, progress: &dyn Progress) -> Result<()> {
    let file = folder.join(super::TEXT_TOKENIZER);
    if !file.is_file() {
        return Ok(());
    }
    let own = TextTokenizer::open(&file)?;
    let mut placed = match own.placed(&model.tokens) {
        Ok(placed) => placed,
        Err(error) => {
            progress.note(&format!("the tokenizer is left out: {error}"));
            return std::fs::remove_file(&file).map_err(|error| Error::io("remove", &file, error));
        }
    };
    let told = folder.join("tokenizer_config.json");
    if !told.is_file() {
        let marks = &model.tokens.marks;
        let mut fields = placed.named_marks(marks);
        for (name, value) in [
            ("tokenizer_class", json!("PreTrainedTokenizerFast")),
            ("model_max_length", json!(model.context)),
            // What a decoder takes: else there would be types of tokens too.
            ("model_input_names", json!(["input_ids", "attention_mask"])),
            ("clean_up_tokenization_spaces", json!(false)),
        ] {
            fields.insert(name.to_owned(), value);
        }
        write_file(&told, pretty(&Value::Object(fields))?.as_bytes())?;
    }
    // What it puts before texts is what documents begin with.
    let begin = model.tokens.marks.get(&model.tokens.begin).copied();
    let token = begin.and_then(|id| placed.token(u32::try_from(id).ok()?));
    if let (Some(id), Some(token)) = (begin, token)
        && !placed.begins_with(id)?
    {
        if model.tokens.begin != END_MARK {
            placed = placed.beginning(&token)?;
        } else if placed.puts_around()? {
            placed = placed.bare()?;
        }
    }
    if placed.content_hash() != own.content_hash() {
        placed.save(&file)?;
    }
    let generation = folder.join("generation_config.json");
    if !generation.is_file() {
        let ids = IDS.iter().filter_map(|name| {
            let id = config.get(name).filter(|id| !id.is_null());
            Some(((*name).to_owned(), id?.clone()))
        });
        let fields: Map<String, Value> = ids.collect();
        if !fields.is_empty() {
            write_file(&generation, pretty(&Value::Object(fields))?.as_bytes())?;
        }
    }
    Ok(())
}

/// The ids of marks that the model came with, where the language does not know them.
fn keep_ids(config: &mut Value, from: &Path, model_type: &str) {
    let text = std::fs::read_to_string(from.join(CONFIG_FILE));
    let before: Option<Map<String, Value>> =
        text.ok().and_then(|text| serde_json::from_str(&text).ok());
    let Some(before) = before.filter(|fields| fields.get("model_type") == Some(&json!(model_type)))
    else {
        return;
    };
    for name in IDS.into_iter().chain(["image_token_id"]) {
        let told = before.get(name).unwrap_or(&Value::Null);
        let own = config.get(name).unwrap_or(&Value::Null);
        // Several ends of texts: the mark is one of them.
        let has = told.as_array().is_some_and(|all| all.contains(own));
        if own.is_null() && !told.is_null() || has {
            config[name] = told.clone();
        }
    }
}

/// What a model card begins with for the programs of others.
fn front_matter() -> &'static str {
    "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- jam\n---\n\n"
}

fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| Error::new(format!("a configuration cannot be written: {error}")))
}
