//! Models that a Hugging Face `config.json` describes: their sizes, their graph, their `.jam` source.
//!
//! Known are OPT (with and without biases and norm weights, so CM3leon-shaped models too, and the post-norm
//! 350M variant), LLaMA (grouped key/value heads, tied or not) and GPT-2. What a configuration asks for and
//! this file does not know is an error, never left out in silence.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use jam_ir::decoder::{DecoderConfig, NormConfig, NormKind, NormPlace, PositionConfig};
use jam_ir::{Activation, DType, RotaryLayout, TokenLayout};
use serde_json::Value;

use super::names::{HuggingFaceWeights, NameTable, Sizes};
use super::{CheckpointReader, WeightSource};
use crate::{Error, Result};

/// Name of the file with a model's configuration.
pub const CONFIG_FILE: &str = "config.json";
/// The longest configuration that is read, in bytes (vocabularies inside it count).
const MAX_CONFIG_BYTES: u64 = 16_000_000;
/// The largest size that is believed: no model comes near it, and products of four fit 64 bits.
const MAX_SIZE: u64 = 1 << 30;

/// A `config.json` that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedConfig {
    /// `model_type` as the file has it.
    pub model_type: String,
    /// The model, without a source for its weights.
    pub decoder: DecoderConfig,
    /// Whether the matrices of attention have biases.
    pub attention_bias: bool,
    /// Whether the matrices of the feed-forward part have biases.
    pub mlp_bias: bool,
}

impl ImportedConfig {
    /// Reads the `config.json` of a folder.
    ///
    /// # Errors
    /// When there is none, or it asks for what is not known.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG_FILE);
        let failed = |error| Error::io("read", &path, error);
        let size = fs::metadata(&path).map_err(failed)?.len();
        if size > MAX_CONFIG_BYTES {
            let message = format!("the file has {size} bytes; at most {MAX_CONFIG_BYTES} are read");
            return Err(Error::new(message).with_path(&path));
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        Self::from_json(&text).map_err(|error| error.with_path(&path))
    }

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// When a size is missing or out of bounds, or it asks for what is not known.
    pub fn from_json(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text)
            .map_err(|error| Error::new(format!("not a configuration: {error}")))?;
        let config = Config { json };
        match config.word("model_type")?.as_str() {
            "opt" => config.opt(),
            "llama" => config.llama(),
            "gpt2" => config.gpt2(),
            other => Err(
                Error::new(format!("models of the type `{other}` are not known"))
                    .with_help("known are opt, llama, gpt2"),
            ),
        }
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
        let mut norm_settings = match d.norm.eps {
            1e-5 => String::new(),
            eps => format!(", eps: {eps:e}"),
        };
        if !d.norm.affine {
            norm_settings.push_str(", affine: no");
        }
        let norm = |x: &str| match d.norm.kind {
            NormKind::Layer => format!("layer_norm({x}{norm_settings})"),
            NormKind::Rms => format!("rms_norm({x}{norm_settings})"),
        };
        let mut text = format!(
            "// Written from the {CONFIG_FILE} of a `{}` model.\n\nblock {name}_layer(x) {{\n",
            self.model_type
        );
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
        };
        for (binding, value) in layer {
            let _ = writeln!(text, "    {binding:<5} = {value}");
        }
        let _ = write!(text, "}}\n\nmodel {name} {{\n");
        let mut line = |binding: &str, value: &str| {
            let _ = writeln!(text, "    {binding:<11} = {value}");
        };
        line("tokens", &d.tokens.size.to_string());
        line("context", &d.context.to_string());
        line("width", &d.width.to_string());
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
        if d.norm_place == NormPlace::Before {
            line("final_norm", &norm("x"));
            state = "final_norm";
        }
        if let Some(width) = d.embed_width {
            line("project_out", &format!("linear({state}, width: {width})"));
            state = "project_out";
        }
        line(
            "logits",
            &format!("unembed({state}, tied: {})", yes(d.tied)),
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
        if let PositionConfig::Rotary { base, .. } = d.positions {
            let _ = write!(text, ", rotary: rotary(base: {})", number(base));
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

/// A flag of the language.
fn yes(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// Opens the weights of a folder under JAM's names: a folder of JAM's own, or a Hugging Face folder whose
/// `config.json` tells the architecture.
///
/// # Errors
/// When there is no checkpoint, its architecture is not known, or tensors have other shapes than told.
pub fn open_weights(folder: &Path) -> Result<Box<dyn WeightSource>> {
    let reader = CheckpointReader::open(folder)?;
    if !folder.join(CONFIG_FILE).is_file() || reader.tensors().contains_key("embed.table") {
        return Ok(Box::new(reader));
    }
    let config = ImportedConfig::read(folder)?;
    let table = NameTable::of(&config.model_type)?;
    Ok(Box::new(HuggingFaceWeights::new(
        reader,
        &table,
        &config.sizes(),
    )?))
}

/// A whole number without a fraction, anything else as it is.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}

/// A string of the language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A configuration's fields, read with a reason when they are wrong.
struct Config {
    json: Value,
}

impl Config {
    /// A field that is there and not `null`.
    fn field(&self, name: &str) -> Option<&Value> {
        self.json.get(name).filter(|value| !value.is_null())
    }

    fn wrong(name: &str, what: &str) -> Error {
        Error::new(format!("`{name}` {what}"))
    }

    fn word(&self, name: &str) -> Result<String> {
        let value = self
            .field(name)
            .ok_or_else(|| Self::wrong(name, "is missing"))?;
        let word = value
            .as_str()
            .ok_or_else(|| Self::wrong(name, "is not a string"))?;
        Ok(word.to_owned())
    }

    fn size(&self, name: &str) -> Result<u64> {
        let value = self
            .field(name)
            .ok_or_else(|| Self::wrong(name, "is missing"))?;
        value
            .as_u64()
            .filter(|size| (1..=MAX_SIZE).contains(size))
            .ok_or_else(|| Self::wrong(name, &format!("is {value}, not a size from 1 to 2^30")))
    }

    fn size_or(&self, name: &str, default: u64) -> Result<u64> {
        if self.field(name).is_some() {
            self.size(name)
        } else {
            Ok(default)
        }
    }

    fn flag_or(&self, name: &str, default: bool) -> Result<bool> {
        match self.field(name) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| Self::wrong(name, "is not true or false")),
        }
    }

    fn number_or(&self, name: &str, default: f64) -> Result<f64> {
        match self.field(name) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|x| x.is_finite() && *x > 0.0)
                .ok_or_else(|| Self::wrong(name, &format!("is {value}, not a number above 0"))),
        }
    }

    fn activation(&self, name: &str, default: Activation) -> Result<Activation> {
        if self.field(name).is_none() {
            return Ok(default);
        }
        match self.word(name)?.as_str() {
            "relu" => Ok(Activation::Relu),
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            "silu" | "swish" => Ok(Activation::Silu),
            other => Err(
                Self::wrong(name, &format!("is `{other}`, which is not known"))
                    .with_help("known are relu, gelu, gelu_new, silu"),
            ),
        }
    }

    /// Refuses a switch that changes the model in a way that is not built.
    fn must_be(&self, name: &str, default: bool, wanted: bool) -> Result<()> {
        if self.flag_or(name, default)? == wanted {
            Ok(())
        } else {
            Err(Self::wrong(
                name,
                &format!("is {}, which is not built", !wanted),
            ))
        }
    }

    /// Stored precision, f32 where the file is silent.
    fn dtype(&self) -> Result<DType> {
        let name = if self.field("dtype").is_some() {
            "dtype"
        } else {
            "torch_dtype"
        };
        if self.field(name).is_none() {
            return Ok(DType::F32);
        }
        match self.word(name)?.as_str() {
            "float32" | "float64" => Ok(DType::F32),
            "float16" => Ok(DType::F16),
            "bfloat16" => Ok(DType::BF16),
            other => Err(Self::wrong(
                name,
                &format!("is `{other}`, which is not known"),
            )),
        }
    }

    /// Query heads, and features of a head where the width is divided among them.
    fn divided(&self, width: u64, heads: u64) -> Result<u64> {
        if width.is_multiple_of(heads) {
            Ok(width / heads)
        } else {
            Err(Error::new(format!(
                "a width of {width} is not divided by {heads} heads"
            )))
        }
    }

    fn opt(&self) -> Result<ImportedConfig> {
        let width = self.size("hidden_size")?;
        let heads = self.size("num_attention_heads")?;
        let vocab = TokenLayout::bare(self.size("vocab_size")?);
        let context = self.size("max_position_embeddings")?;
        let layers = self.size("num_hidden_layers")?;
        let mut decoder =
            DecoderConfig::opt(vocab, context, width, layers, heads, self.size("ffn_dim")?);
        decoder.head_dim = self.divided(width, heads)?;
        decoder.activation = self.activation("activation_function", Activation::Relu)?;
        decoder.biases = self.flag_or("enable_bias", true)?;
        decoder.mlp_biases = decoder.biases;
        decoder.norm.affine = self.flag_or("layer_norm_elementwise_affine", true)?;
        decoder.norm.bias = decoder.norm.affine;
        decoder.tied = self.flag_or("tie_word_embeddings", true)?;
        decoder.dtype = self.dtype()?;
        let embed = self.size_or("word_embed_proj_dim", width)?;
        decoder.embed_width = (embed != width).then_some(embed);
        if self.flag_or("do_layer_norm_before", true)? {
            self.must_be("_remove_final_layer_norm", false, false)?;
        } else {
            decoder.norm_place = NormPlace::After;
        }
        let biases = decoder.biases;
        Ok(ImportedConfig {
            model_type: "opt".to_owned(),
            decoder,
            attention_bias: biases,
            mlp_bias: biases,
        })
    }

    fn llama(&self) -> Result<ImportedConfig> {
        let width = self.size("hidden_size")?;
        let heads = self.size("num_attention_heads")?;
        let vocab = TokenLayout::bare(self.size("vocab_size")?);
        let context = self.size("max_position_embeddings")?;
        let layers = self.size("num_hidden_layers")?;
        let hidden = self.size("intermediate_size")?;
        let mut decoder = DecoderConfig::llama(vocab, context, width, layers, heads, hidden);
        decoder.head_dim = match self.field("head_dim") {
            Some(_) => self.size("head_dim")?,
            None => self.divided(width, heads)?,
        };
        decoder.kv_heads = self.size_or("num_key_value_heads", heads)?;
        if !heads.is_multiple_of(decoder.kv_heads) {
            let kv_heads = decoder.kv_heads;
            let message = format!("{heads} heads are not shared evenly by {kv_heads} kv heads");
            return Err(Error::new(message));
        }
        decoder.activation = self.activation("hidden_act", Activation::Silu)?;
        decoder.norm.eps = self.number_or("rms_norm_eps", 1e-6)?;
        decoder.tied = self.flag_or("tie_word_embeddings", false)?;
        decoder.dtype = self.dtype()?;
        decoder.positions = PositionConfig::Rotary {
            base: self.rotary_base()?,
            layout: RotaryLayout::Halves,
        };
        let attention_bias = self.flag_or("attention_bias", false)?;
        let mlp_bias = self.flag_or("mlp_bias", false)?;
        decoder.biases = attention_bias;
        decoder.mlp_biases = mlp_bias;
        Ok(ImportedConfig {
            model_type: "llama".to_owned(),
            decoder,
            attention_bias,
            mlp_bias,
        })
    }

    /// The base of plain rotary positions; scaled ones are not built.
    fn rotary_base(&self) -> Result<f64> {
        let own = Value::Null;
        for name in ["rope_scaling", "rope_parameters"] {
            let settings = self.field(name).unwrap_or(&own);
            let kind = settings.get("rope_type").or_else(|| settings.get("type"));
            if let Some(kind) = kind
                .and_then(Value::as_str)
                .filter(|kind| *kind != "default")
            {
                let message = format!("`{name}` asks for `{kind}` rotary positions");
                return Err(Error::new(message).with_help("only plain ones are built"));
            }
        }
        if let Some(base) = self
            .field("rope_parameters")
            .and_then(|p| p.get("rope_theta"))
        {
            return base
                .as_f64()
                .filter(|x| x.is_finite() && *x > 0.0)
                .ok_or_else(|| Self::wrong("rope_theta", "is not a number above 0"));
        }
        self.number_or("rope_theta", 10_000.0)
    }

    fn gpt2(&self) -> Result<ImportedConfig> {
        let width = self.size("n_embd")?;
        let heads = self.size("n_head")?;
        let vocab = TokenLayout::bare(self.size("vocab_size")?);
        let context = self.size("n_positions")?;
        let hidden = self.size_or("n_inner", 4 * width)?;
        let mut decoder =
            DecoderConfig::opt(vocab, context, width, self.size("n_layer")?, heads, hidden);
        decoder.name = "gpt2".to_owned();
        decoder.head_dim = self.divided(width, heads)?;
        decoder.activation = self.activation("activation_function", Activation::GeluTanh)?;
        decoder.positions = PositionConfig::Learned { offset: 0 };
        decoder.norm = NormConfig {
            eps: self.number_or("layer_norm_epsilon", 1e-5)?,
            ..decoder.norm
        };
        decoder.dtype = self.dtype()?;
        self.must_be("tie_word_embeddings", true, true)?;
        self.must_be("scale_attn_weights", true, true)?;
        self.must_be("scale_attn_by_inverse_layer_idx", false, false)?;
        self.must_be("add_cross_attention", false, false)?;
        Ok(ImportedConfig {
            model_type: "gpt2".to_owned(),
            decoder,
            attention_bias: true,
            mlp_bias: true,
        })
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
