//! The fields of a `config.json`, architecture by architecture.
//!
//! A field that changes the model in a way that is not built is an error, never left out in silence: what is not
//! read must be known to change nothing (`harmless.rs`).

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::checkpoints::decoder::{
    DecoderConfig, NormConfig, NormKind, NormPlace, PositionConfig, QkNorm, decoder_only,
};
use jam_ir::{Activation, DType, END_MARK, RotaryLayout, RotaryScaling, TokenLayout, verify};
use serde_json::Value;

use super::harmless::Harmless;
use super::import::ImportedConfig;
use crate::{Error, Result};

/// The largest size that is believed: no model comes near it, and products of four fit 64 bits.
const MAX_SIZE: u64 = 1 << 30;
/// The largest number that is believed, as in the language.
const MAX_NUMBER: f64 = 1e12;
/// The most layers that are believed: as many as the language repeats.
const MAX_LAYERS: u64 = 4096;
/// What `model_type` may be.
const MODEL_TYPES: [&str; 4] = ["opt", "llama", "gpt2", "chameleon"];
/// `model_type` of LLaMA checkpoints in their original names and rotary layout, as `llama2.c` has them too.
pub(super) const ORIGINAL_LLAMA: &str = "llama_original";
/// What names of picture tokens begin with in Chameleon's vocabulary.
const CHAMELEON_PICTURE: &str = "IMGIMG";

/// A configuration's fields, read with a reason when they are wrong.
pub(super) struct Config {
    json: Value,
    /// Names of the fields that were asked for.
    asked: RefCell<BTreeSet<String>>,
}

impl Config {
    /// The text of a `config.json`.
    pub(super) fn new(text: &str) -> Result<Self> {
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let json: Value = serde_json::from_str(text)
            .map_err(|error| Error::new(format!("not a configuration: {error}")))?;
        Ok(Self::of(json))
    }

    fn of(json: Value) -> Self {
        Self {
            json,
            asked: RefCell::default(),
        }
    }

    /// The model that the fields describe.
    ///
    /// # Errors
    /// When a size is missing or out of bounds, sizes do not fit one another, or they ask for what is not
    /// known.
    pub(super) fn model(&self) -> Result<ImportedConfig> {
        let harmless = Harmless::read()?;
        harmless.refuse_quantised(&self.json)?;
        let mut config = self.described()?;
        self.mark(&mut config);
        harmless.check(&self.json, &self.asked.borrow(), config.decoder.context)?;
        let layers = config.decoder.layers;
        if layers > MAX_LAYERS {
            let message = format!("{layers} layers are too many; at most {MAX_LAYERS} are read");
            return Err(Error::new(message));
        }
        // Its layers are alike: one tells what is wrong with all.
        let one = DecoderConfig {
            layers: 1,
            ..config.decoder.clone()
        };
        match verify(&decoder_only(&one)) {
            Ok(()) => Ok(config),
            Err(problems) => {
                let first = problems.into_iter().next();
                let message = first.map_or_else(String::new, |problem| problem.to_string());
                Err(Error::new(message).with_help("the sizes of the configuration do not fit"))
            }
        }
    }

    /// Marks the ids that the configuration names, where the vocabulary has them: some name what was never added.
    fn mark(&self, config: &mut ImportedConfig) {
        for mark in ["bos", "pad", END_MARK] {
            let ids: Vec<u64> = match self.field(&format!("{mark}_token_id")) {
                Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_u64).collect(),
                Some(id) => id.as_u64().into_iter().collect(),
                None => Vec::new(),
            };
            match mark {
                // Texts may have more ends than one.
                END_MARK => config.add_ends(&ids),
                _ => {
                    ids.iter().find(|id| config.set_mark(mark, **id));
                }
            }
        }
        config.guess_begin();
    }

    fn described(&self) -> Result<ImportedConfig> {
        // Original checkpoints have no `model_type`, and their own names for sizes.
        let original = ["dim", "n_layers", "n_heads"];
        if self.field("model_type").is_none() && original.iter().all(|f| self.field(f).is_some()) {
            return self.original_llama();
        }
        match self.word("model_type")?.as_str() {
            "opt" => self.opt(),
            "llama" => self.llama(),
            "gpt2" => self.gpt2(),
            "chameleon" => self.chameleon(),
            other => {
                let help = match self.alike() {
                    Some(known) => format!(
                        "its fields are all those of a `{known}` model: if it is one by another name, write \
                         `\"model_type\": \"{known}\"` in its config.json"
                    ),
                    None => format!("known are {}", MODEL_TYPES.join(", ")),
                };
                let message = format!("models of the type `{other}` are not known");
                Err(Error::new(message).with_help(help))
            }
        }
    }

    /// The known architecture whose configuration this would be under its name, every field understood.
    fn alike(&self) -> Option<&'static str> {
        MODEL_TYPES.into_iter().find(|known| {
            let mut json = self.json.clone();
            json["model_type"] = Value::from(*known);
            Config::of(json).model().is_ok()
        })
    }

    /// A field that is there and not `null`.
    fn field(&self, name: &str) -> Option<&Value> {
        self.asked.borrow_mut().insert(name.to_owned());
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
        self.within(name, default, (f64::MIN_POSITIVE, MAX_NUMBER))
    }

    /// What a norm adds below its root.
    fn eps_or(&self, name: &str, default: f64) -> Result<f64> {
        self.within(name, default, (f64::MIN_POSITIVE, 1.0))
    }

    fn within(&self, name: &str, default: f64, (least, most): (f64, f64)) -> Result<f64> {
        match self.field(name) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|x| (least..=most).contains(x))
                .ok_or_else(|| {
                    let from = if least < 1.0 { "above 0" } else { "from 1" };
                    let what = format!("is {value}, not a number {from} and up to {most:e}");
                    Self::wrong(name, &what)
                }),
        }
    }

    fn activation(&self, name: &str, default: Activation) -> Result<Activation> {
        if self.field(name).is_none() {
            return Ok(default);
        }
        let told = self.word(name)?;
        Activation::from_published(&told).ok_or_else(|| {
            let known: Vec<&str> = Activation::ALL.map(Activation::published).into();
            Self::wrong(name, &format!("is `{told}`, which is not known"))
                .with_help(format!("known are {}", known.join(", ")))
        })
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

    /// Key and value heads: as many as query heads where they are not told.
    fn kv_heads(&self, name: &str, heads: u64) -> Result<u64> {
        let kv_heads = self.size_or(name, heads)?;
        if !heads.is_multiple_of(kv_heads) {
            let message = format!("{heads} heads are not shared evenly by {kv_heads} kv heads");
            return Err(Error::new(message));
        }
        Ok(kv_heads)
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

    /// LLaMA, and what Chameleon has of it.
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
        decoder.kv_heads = self.kv_heads("num_key_value_heads", heads)?;
        decoder.activation = self.activation("hidden_act", Activation::Silu)?;
        decoder.norm.eps = self.eps_or("rms_norm_eps", 1e-6)?;
        decoder.tied = self.flag_or("tie_word_embeddings", false)?;
        decoder.dtype = self.dtype()?;
        decoder.positions = PositionConfig::Rotary {
            base: self.rotary_base()?,
            layout: RotaryLayout::Halves,
            scaling: self.rotary_scaling(context)?,
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

    /// The record that tells of rotary positions, where there is one, and its name.
    fn rotary_settings(&self) -> Option<(&'static str, Config)> {
        ["rope_parameters", "rope_scaling"]
            .into_iter()
            .find_map(|name| {
                let json = self.field(name)?.clone();
                Some((name, Config::of(json)))
            })
    }

    /// The base of rotary positions.
    fn rotary_base(&self) -> Result<f64> {
        match self.rotary_settings() {
            Some((_, own)) if own.field("rope_theta").is_some() => own.own_base(),
            _ => self.own_base(),
        }
    }

    fn own_base(&self) -> Result<f64> {
        self.within("rope_theta", 10_000.0, (1.0, MAX_NUMBER))
    }

    /// How rotary positions were stretched.
    fn rotary_scaling(&self, context: u64) -> Result<RotaryScaling> {
        if self.number_or("partial_rotary_factor", 1.0)? != 1.0 {
            return Err(Self::wrong(
                "partial_rotary_factor",
                "turns a part of a head, which is not built",
            ));
        }
        let Some((name, own)) = self.rotary_settings() else {
            return Ok(RotaryScaling::None);
        };
        if !own.json.is_object() {
            return Err(Self::wrong(name, "is not a record"));
        }
        let kind = match (own.field("rope_type"), own.field("type")) {
            (Some(_), _) => own.word("rope_type")?,
            (None, Some(_)) => own.word("type")?,
            (None, None) => "default".to_owned(),
        };
        let needed = |field: &str| {
            let value = own.number_or(field, f64::NAN)?;
            if value.is_nan() {
                let what = format!("has no `{field}`, which `{kind}` positions need");
                return Err(Self::wrong(name, &what));
            }
            Ok(value)
        };
        let scaling = match kind.as_str() {
            "default" => RotaryScaling::None,
            "dynamic" => RotaryScaling::Dynamic {
                factor: needed("factor")?,
            },
            "linear" => RotaryScaling::Linear {
                factor: needed("factor")?,
            },
            "llama3" => RotaryScaling::Llama3 {
                factor: needed("factor")?,
                low: needed("low_freq_factor")?,
                high: needed("high_freq_factor")?,
                original: own.size("original_max_position_embeddings")?,
            },
            "yarn" => {
                let factor = needed("factor")?;
                RotaryScaling::Yarn {
                    factor,
                    fast: own.number_or("beta_fast", 32.0)?,
                    slow: own.number_or("beta_slow", 1.0)?,
                    original: own.size_or("original_max_position_embeddings", context)?,
                    attention: own.yarn_attention(factor)?,
                    whole: own.flag_or("truncate", true)?,
                }
            }
            other => {
                let message = format!("`{name}` asks for `{other}` rotary positions");
                return Err(Error::new(message)
                    .with_help("known are default, linear, dynamic, llama3, yarn"));
            }
        };
        // The base is read for itself.
        Harmless::read()?.check_rotary(name, &own.json, &own.asked.borrow())?;
        let large = |(_, value): &(&str, f64)| *value > MAX_NUMBER;
        let fault = match scaling.settings().into_iter().find(large) {
            Some((name, value)) => Some(format!("`{name}` is {value:e}")),
            None => scaling.fault(),
        };
        match fault {
            Some(fault) => Err(Self::wrong(name, &format!("cannot be used: {fault}"))),
            None => Ok(scaling),
        }
    }

    /// The factor on queries and keys: told, or from two weights of the logarithm, or YaRN's own.
    fn yarn_attention(&self, factor: f64) -> Result<f64> {
        if self.field("attention_factor").is_some() {
            return self.number_or("attention_factor", 1.0);
        }
        let weight = |name: &str| match self.field(name).and_then(Value::as_f64) {
            Some(0.0) | None => Ok(None), // as the reference implementation does
            Some(_) => self.number_or(name, 1.0).map(Some),
        };
        let scale = |weight: f64| 1.0 + weight * (RotaryScaling::yarn_attention(factor) - 1.0);
        Ok(match (weight("mscale")?, weight("mscale_all_dim")?) {
            (Some(queries), Some(all)) => scale(queries) / scale(all),
            _ => scale(1.0),
        })
    }

    fn chameleon(&self) -> Result<ImportedConfig> {
        let mut config = self.llama()?;
        config.model_type = "chameleon".to_owned();
        let decoder = &mut config.decoder;
        decoder.name = "chameleon".to_owned();
        decoder.norm.eps = self.eps_or("rms_norm_eps", 1e-5)?;
        // Every head has gains and biases of its own; the constant is not configured.
        decoder.qk_norm = Some(QkNorm {
            norm: NormConfig {
                kind: NormKind::Layer,
                affine: true,
                bias: true,
                eps: 1e-5,
            },
            per_head: true,
        });
        if self.flag_or("swin_norm", false)? {
            decoder.norm_place = NormPlace::Inside;
        }
        let vocab = decoder.tokens.size;
        let mut masked = Vec::new();
        if let Some(names) = self.field("vocabulary_map") {
            let names = names
                .as_object()
                .ok_or_else(|| Self::wrong("vocabulary_map", "is not a table of names and ids"))?;
            for (name, id) in names {
                let id = id.as_u64().filter(|id| *id < vocab);
                let id = id.ok_or_else(|| {
                    let what = format!("has an id for `{name}` that is none of {vocab}");
                    Self::wrong("vocabulary_map", &what)
                })?;
                if name.starts_with(CHAMELEON_PICTURE) {
                    masked.push(id);
                }
            }
        }
        decoder.masked = runs(masked);
        if decoder.masked == [(0, vocab)] {
            let what = "names a picture for every id: no logit is left";
            return Err(Self::wrong("vocabulary_map", what));
        }
        Ok(config)
    }

    /// Checkpoints with the names and the rotary layout of the first releases (`params.json`, `llama2.c`).
    /// Whether the head is the token table is not told here; it is where there is no tensor of its own.
    fn original_llama(&self) -> Result<ImportedConfig> {
        let width = self.size("dim")?;
        let heads = self.size("n_heads")?;
        let hidden = match self.field("hidden_dim") {
            Some(_) => self.size("hidden_dim")?,
            None => self.original_hidden(width)?,
        };
        let vocab = TokenLayout::bare(self.size("vocab_size")?);
        let context = self.size_or("max_seq_len", 2048)?;
        let layers = self.size("n_layers")?;
        let mut decoder = DecoderConfig::llama(vocab, context, width, layers, heads, hidden);
        decoder.head_dim = self.divided(width, heads)?;
        decoder.kv_heads = self.kv_heads("n_kv_heads", heads)?;
        decoder.norm.eps = self.eps_or("norm_eps", 1e-5)?;
        decoder.tied = self.flag_or("tie_word_embeddings", false)?;
        decoder.dtype = self.dtype()?;
        let scaling = match self.flag_or("use_scaled_rope", false)? {
            true => RotaryScaling::Llama3 {
                factor: 8.0,
                low: 1.0,
                high: 4.0,
                original: 8192,
            },
            false => RotaryScaling::None,
        };
        decoder.positions = PositionConfig::Rotary {
            base: self.own_base()?,
            layout: RotaryLayout::Pairs,
            scaling,
        };
        Ok(ImportedConfig {
            model_type: ORIGINAL_LLAMA.to_owned(),
            decoder,
            attention_bias: false,
            mlp_bias: false,
        })
    }

    /// Two thirds of four times the width, times a factor, up to a multiple.
    fn original_hidden(&self, width: u64) -> Result<u64> {
        let factor = self.number_or("ffn_dim_multiplier", 1.0)?;
        let multiple = self.size_or("multiple_of", 256)?;
        let hidden = (2 * 4 * width / 3) as f64 * factor;
        if hidden > MAX_SIZE as f64 {
            return Err(Self::wrong("ffn_dim_multiplier", "is too large"));
        }
        Ok((hidden as u64).next_multiple_of(multiple))
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
            eps: self.eps_or("layer_norm_epsilon", 1e-5)?,
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

/// Half-open runs of ids, ascending.
fn runs(mut ids: Vec<u64>) -> Vec<(u64, u64)> {
    ids.sort_unstable();
    ids.dedup();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, end)) if *end == id => *end += 1,
            _ => runs.push((id, id + 1)),
        }
    }
    runs
}
