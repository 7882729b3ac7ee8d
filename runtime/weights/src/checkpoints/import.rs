//! Models that a Hugging Face `config.json` describes: their sizes, their graph, their `.jam` source.
//!
//! Known are OPT (with and without biases and norm weights, so CM3leon-shaped models too, and the post-norm
//! 350M variant), LLaMA (grouped key/value heads, scaled rotary positions, tied or not; in Hugging Face's and
//! in its original names), GPT-2, and Chameleon's text model.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::checkpoints::decoder::{DecoderConfig, NormConfig, NormKind, NormPlace, PositionConfig};
use jam_ir::headers::{FoundTensor, Headers};
use jam_ir::{DType, RotaryLayout, RotaryScaling, number_text};
use serde_json::Value;

use super::bounded::{JsonLimits, file_of, has, read_json};
use super::configuration::{Config, ORIGINAL_LLAMA};
use super::foreign;
use super::hugging_face::HuggingFaceWeights;
use super::names::{NameTable, Sizes, file_weights, found_tensors};
use super::vocabulary::tokens_source;
use super::{CheckpointReader, Numbers, WeightSource};
use crate::{Error, ErrorKind, Result};

/// Name of the file with a model's configuration.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the same beside original LLaMA checkpoints.
const ORIGINAL_CONFIG_FILE: &str = "params.json";
/// Name of the file that says how texts are drawn.
const GENERATION_FILE: &str = "generation_config.json";
/// Both configurations, in the order in which they are looked for.
const CONFIG_FILES: [&str; 2] = [CONFIG_FILE, ORIGINAL_CONFIG_FILE];
/// The tensor of the head in original LLaMA checkpoints.
const ORIGINAL_HEAD: &str = "output.weight";
/// What is read of a configuration (vocabularies inside it count).
const LIMITS: JsonLimits = JsonLimits {
    bytes: 8_000_000,
    commas: 200_000,
};

/// A `config.json` that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedConfig {
    /// `model_type` as the file has it.
    pub model_type: String,
    /// The model, without a source for its weights; its vocabulary has the marks that the configuration tells.
    pub decoder: DecoderConfig,
    /// Whether the matrices of attention have biases.
    pub attention_bias: bool,
    /// Whether the matrices of the feed-forward part have biases.
    pub mlp_bias: bool,
}

impl ImportedConfig {
    /// Reads the configuration of a checkpoint: the `config.json` or `params.json` of a folder, or the sizes
    /// that a file of llama2.c begins with.
    ///
    /// # Errors
    /// When there is none, or it asks for what is not known.
    pub fn read(checkpoint: &Path) -> Result<Self> {
        let mut config = match configuration_of(checkpoint)? {
            Some(file) => Self::read_json(&file)?,
            None => Self::of_sizes(checkpoint)?,
        };
        if let Some(file) = generation_of(checkpoint)? {
            config.add_ends(&generation_ends(&file)?);
        }
        if config.model_type == ORIGINAL_LLAMA {
            // Not configured: the head is the token table where it has no tensor of its own.
            let reader = CheckpointReader::open(checkpoint)?;
            config.decoder.tied = !reader.tensors().contains_key(ORIGINAL_HEAD);
        }
        Ok(config)
    }

    /// The configuration of a file that begins with its sizes, or of a folder whose checkpoint does.
    fn of_sizes(checkpoint: &Path) -> Result<Self> {
        let sizes = match &CheckpointReader::files(checkpoint)?[..] {
            [file] => foreign::sizes(file)?,
            _ => None,
        };
        let sizes = sizes.ok_or_else(|| {
            Error::of(ErrorKind::Absent, format!("there is no {CONFIG_FILE}"))
                .with_path(checkpoint)
                .with_help("a model needs its configuration beside its weights")
        })?;
        Self::from_json(&sizes.configuration()).map_err(|error| error.with_path(checkpoint))
    }

    fn read_json(path: &Path) -> Result<Self> {
        let text = String::from_utf8(read_json(path, LIMITS)?)
            .map_err(|_| Error::new("it is not UTF-8 text").with_path(path))?;
        Self::from_json(&text).map_err(|error| error.with_path(path))
    }

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// When a size is missing or out of bounds, or it asks for what is not known.
    pub fn from_json(text: &str) -> Result<Self> {
        Config::new(text)?.model()
    }

    /// The sizes that give the weights their shapes.
    pub fn sizes(&self) -> Sizes {
        let decoder = &self.decoder;
        Sizes {
            layers: decoder.layers,
            vocab: decoder.tokens.size,
            embed: decoder.embed_width.unwrap_or(decoder.width),
            width: decoder.width,
            heads: decoder.heads,
            kv_heads: decoder.kv_heads,
            head_dim: decoder.head_dim,
            hidden: decoder.hidden,
            positions: match decoder.positions {
                PositionConfig::Learned { offset } => decoder.context + offset,
                PositionConfig::Rotary { .. } => 0,
            },
            tied: decoder.tied,
        }
    }

    /// The model as `.jam` source, with its weights in `weights`.
    pub fn jam_source(&self, name: &str, weights: &str) -> String {
        let d = &self.decoder;
        let norm = |x: &str| norm_source(&d.norm, &[x]);
        let mut text = format!(
            "// Written from the {CONFIG_FILE} of a `{}` model.\n\n",
            self.model_type
        );
        let mut vocabulary = d.tokens.size.to_string();
        if let Some((tokens, source)) = tokens_source(name, &d.tokens) {
            text.push_str(&source);
            vocabulary = tokens;
        }
        let _ = writeln!(text, "block {name}_layer(x) {{");
        let layer = match d.norm_place {
            NormPlace::Before => [
                ("norm1", norm("x")),
                ("attn", self.attention("norm1")),
                ("x", "x + attn".to_owned()),
                ("norm2", norm("x")),
                ("mlp", self.feed_forward("norm2")),
                ("x", "x + mlp".to_owned()),
            ],
            NormPlace::After => [
                ("attn", self.attention("x")),
                ("x", "x + attn".to_owned()),
                ("norm1", norm("x")),
                ("mlp", self.feed_forward("norm1")),
                ("x", "norm1 + mlp".to_owned()),
                ("norm2", norm("x")),
            ],
            NormPlace::Inside => [
                ("attn", self.attention("x")),
                ("norm1", norm("attn")),
                ("x", "x + norm1".to_owned()),
                ("mlp", self.feed_forward("x")),
                ("norm2", norm("mlp")),
                ("x", "x + norm2".to_owned()),
            ],
        };
        for (binding, value) in layer {
            let _ = writeln!(text, "    {binding:<5} = {value}");
        }
        let _ = write!(text, "}}\n\nmodel {name} {{\n");
        let mut line = |binding: &str, value: &str| {
            let _ = writeln!(text, "    {binding:<11} = {value}");
        };
        line("tokens", &vocabulary);
        line("context", &d.context.to_string());
        line("width", &d.width.to_string());
        if d.dtype != DType::F32 {
            line("precision", d.dtype.word());
        }
        let mut embedded = "embed(tokens)".to_owned();
        if let Some(width) = d.embed_width {
            line("table", &format!("embed(tokens, width: {width})"));
            line("project_in", &format!("linear(table, width: {})", d.width));
            embedded = "project_in".to_owned();
        }
        match d.positions {
            PositionConfig::Learned { offset: 0 } => embedded.push_str(" + positions(learned)"),
            PositionConfig::Learned { offset } => {
                let _ = write!(embedded, " + positions(learned, offset: {offset})");
            }
            PositionConfig::Rotary { .. } => {}
        }
        line("x", &embedded);
        let _ = writeln!(text, "    repeat {} {{ x = {name}_layer(x) }}", d.layers);
        let mut line = |binding: &str, value: &str| {
            let _ = writeln!(text, "    {binding:<11} = {value}");
        };
        let mut state = "x";
        if d.norm_place != NormPlace::After {
            line("final_norm", &norm("x"));
            state = "final_norm";
        }
        if let Some(width) = d.embed_width {
            line("project_out", &format!("linear({state}, width: {width})"));
            state = "project_out";
        }
        let masked: Vec<String> = d
            .masked
            .iter()
            .map(|(start, end)| format!("ids({start}, {})", end - 1))
            .collect();
        let masked = match &masked[..] {
            [] => String::new(),
            [one] => format!(", masked: {one}"),
            several => format!(", masked: [{}]", several.join(", ")),
        };
        line(
            "logits",
            &format!("unembed({state}, tied: {}{masked})", yes(d.tied)),
        );
        line("weights", &quoted(weights));
        text.push_str("}\n");
        text
    }

    /// The attention of a layer over `x`, as `.jam` source.
    fn attention(&self, x: &str) -> String {
        let d = &self.decoder;
        let mut text = format!("attention({x}, heads: {}", d.heads);
        if d.kv_heads != d.heads {
            let _ = write!(text, ", kv_heads: {}", d.kv_heads);
        }
        if d.head_dim * d.heads != d.width {
            let _ = write!(text, ", key: {}", d.head_dim);
        }
        if let PositionConfig::Rotary {
            base,
            layout,
            scaling,
        } = d.positions
        {
            let _ = write!(text, ", rotary: rotary(base: {}", number_text(base));
            if layout == RotaryLayout::Pairs {
                text.push_str(", layout: pairs");
            }
            if scaling != RotaryScaling::None {
                let _ = write!(text, ", scaling: {scaling}");
            }
            text.push(')');
        }
        if let Some(qk) = &d.qk_norm {
            let per_head = format!("per_head: {}", yes(qk.per_head));
            let _ = write!(text, ", qk_norm: {}", norm_source(&qk.norm, &[&per_head]));
        }
        let _ = write!(text, ", mask: causal, bias: {})", yes(self.attention_bias));
        text
    }

    /// The feed-forward part of a layer over `x`, as `.jam` source.
    fn feed_forward(&self, x: &str) -> String {
        let d = &self.decoder;
        let gated = if d.gated { ", gated: yes" } else { "" };
        let (hidden, act) = (d.hidden, d.activation.word());
        let bias = yes(self.mlp_bias);
        format!("mlp({x}, hidden: {hidden}, act: {act}{gated}, bias: {bias})")
    }
}

/// A norm as `.jam` source.
fn norm_source(norm: &NormConfig, first: &[&str]) -> String {
    let mut settings: Vec<String> = first.iter().map(|&setting| setting.to_owned()).collect();
    if norm.eps != 1e-5 {
        settings.push(format!("eps: {:e}", norm.eps));
    }
    if !norm.affine {
        settings.push("affine: no".to_owned());
    } else if norm.kind == NormKind::Layer && !norm.bias {
        settings.push("bias: no".to_owned());
    }
    let kind = match norm.kind {
        NormKind::Layer => "layer_norm",
        NormKind::Rms => "rms_norm",
    };
    format!("{kind}({})", settings.join(", "))
}

/// A flag of the language.
fn yes(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// The configuration of a checkpoint, where it has one.
fn configuration_of(checkpoint: &Path) -> Result<Option<PathBuf>> {
    let name = CONFIG_FILES.iter().find(|name| has(checkpoint, name));
    name.map(|name| file_of(checkpoint, name)).transpose()
}

/// The file of a checkpoint that says how texts are drawn, where it has one.
fn generation_of(checkpoint: &Path) -> Result<Option<PathBuf>> {
    let there = has(checkpoint, GENERATION_FILE);
    there
        .then(|| file_of(checkpoint, GENERATION_FILE))
        .transpose()
}

/// The files that are read of a checkpoint that is there, whoever wrote it: its configuration, how texts are drawn, and
/// what [`CheckpointReader::files`] has. What else lies beside them is no part of it.
///
/// # Errors
/// When a folder has no checkpoint, or a file that is named is not there or leads out of it.
pub fn files_of(checkpoint: &Path) -> Result<Vec<PathBuf>> {
    let told = [configuration_of(checkpoint)?, generation_of(checkpoint)?];
    let mut files: Vec<PathBuf> = told.into_iter().flatten().collect();
    files.extend(CheckpointReader::files(checkpoint)?);
    files.sort();
    Ok(files)
}

/// The ids that end texts by the file that says how texts are drawn: of a chat model it may name more ends than
/// the configuration of the model.
fn generation_ends(path: &Path) -> Result<Vec<u64>> {
    let text = read_json(path, LIMITS)?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let told: Value = serde_json::from_slice(text)
        .map_err(|error| Error::new(format!("not JSON: {error}")).with_path(path))?;
    Ok(match &told["eos_token_id"] {
        Value::Array(ids) => ids.iter().filter_map(Value::as_u64).collect(),
        id => id.as_u64().into_iter().collect(),
    })
}

/// Opens the weights of a checkpoint under JAM's names: a folder of JAM's own, a Hugging Face folder whose
/// `config.json` tells the architecture, or a checkpoint that tells its own sizes.
/// A number that is not finite is an error when it is read.
///
/// # Errors
/// When there is no checkpoint, its architecture is not known, or tensors have other shapes than told.
pub fn open_weights(checkpoint: &Path) -> Result<Box<dyn WeightSource>> {
    open_weights_of(checkpoint, Numbers::Finite)
}

/// As [`open_weights`], with a choice of the numbers that are taken.
///
/// # Errors
/// As [`open_weights`].
pub fn open_weights_of(checkpoint: &Path, numbers: Numbers) -> Result<Box<dyn WeightSource>> {
    let reader = CheckpointReader::open(checkpoint)?;
    if !is_foreign(&reader, checkpoint) {
        return Ok(numbers.of(Box::new(reader)));
    }
    let config = ImportedConfig::read(checkpoint)?;
    let table = NameTable::of(&config.model_type)?;
    let weights = HuggingFaceWeights::new(reader, &table, &config.sizes())?;
    Ok(numbers.of(Box::new(weights)))
}

/// Whether the tensors of a checkpoint have the names of another program.
fn is_foreign(reader: &CheckpointReader, checkpoint: &Path) -> bool {
    let configured = CONFIG_FILES.iter().any(|name| has(checkpoint, name));
    let own = reader.tensors().contains_key("embed.table");
    let original = reader.tensors().contains_key("tok_embeddings.weight");
    !own && (configured || original)
}

/// Reads the headers of a checkpoint. `wanted` tells which JAM names a model has.
///
/// # Errors
/// When there is no checkpoint, or its architecture is not known.
pub fn read_headers(checkpoint: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Headers> {
    let reader = CheckpointReader::open(checkpoint)?;
    if !is_foreign(&reader, checkpoint) {
        let found = reader.tensors().iter().map(|(name, info)| FoundTensor {
            name: name.clone(),
            stored: name.clone(),
            shape: info.shape.clone(),
            dtype: info.dtype.name().to_owned(),
        });
        return Ok(Headers {
            tensors: found.collect(),
            ..Headers::default()
        });
    }
    let config = ImportedConfig::read(checkpoint)?;
    let table = NameTable::of(&config.model_type)?;
    let mut sizes = config.sizes();
    // More layers than tensors are a mistake that the comparison of tensors tells.
    sizes.layers = sizes.layers.min(reader.tensors().len() as u64);
    let shapes = file_weights(&table, &sizes, "")?.into_iter();
    Ok(Headers {
        tensors: found_tensors(&table, &reader, wanted),
        shapes: shapes.map(|(name, weight)| (name, weight.shape)).collect(),
        wrapper: reader.wrapper().map(str::to_owned),
    })
}

/// A string of the language.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
