//! Models in the layout of Hugging Face folders: the configuration, and every tensor as its files have it.
//!
//! A graph is recognised as a decoder, a configuration is written for every architecture there is a table of, and
//! the first that reads back as the same decoder is taken. So nothing of a model is lost on the way out: what a
//! configuration cannot say makes the architecture another's.

use std::ops::Range;

use crate::checkpoints::decoder::{DecoderConfig, NormPlace, PositionConfig};
use crate::checkpoints::recognise::recognise;
use indexmap::IndexMap;
use jam_ir::{DType, Model, RotaryLayout, RotaryScaling};
use serde_json::{Map, Value, json};

use super::import::ImportedConfig;
use super::names::{FileWeight, NameTable, file_weights};
use super::{CheckpointWriter, Dtype, TensorSpec, WeightSource};
use crate::{Error, Result};

/// Numbers held at once while a tensor is turned (64 MiB of f32).
const BLOCK: u64 = 16 << 20;

/// Architectures of causal language models, by `model_type`, and what their class is called.
const ARCHITECTURES: [(&str, &str); 3] = [
    ("opt", "OPTForCausalLM"),
    ("llama", "LlamaForCausalLM"),
    ("gpt2", "GPT2LMHeadModel"),
];

/// A tensor of a file, made of one weight or of several side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct FileTensor {
    /// Its name.
    pub name: String,
    /// Its sizes.
    pub shape: Vec<u64>,
    /// Weights of the model by name, each with its place in the tensor, in the order of their outputs.
    parts: Vec<(String, FileWeight)>,
    /// Features of a head whose pairs lie side by side, where the file has them in halves.
    pairs: Option<u64>,
}

/// A model as a Hugging Face folder.
#[derive(Debug, Clone, PartialEq)]
pub struct HuggingFaceModel {
    /// `model_type` of the configuration.
    pub model_type: String,
    /// The `config.json`.
    pub config: Value,
    /// Every tensor, in the order of the model.
    pub tensors: Vec<FileTensor>,
}

impl HuggingFaceModel {
    /// The layout of a verified model.
    ///
    /// # Errors
    /// Why no known architecture fits it.
    pub fn of(model: &Model) -> Result<HuggingFaceModel> {
        let found = recognise(model)
            .map_err(|why| Error::new(format!("`{}` is no plain decoder: {why}", model.name)))?;
        let mut wanted = found.config.clone();
        // Files have halves; the features of each head are put in that order.
        let mut pairs = None;
        if let PositionConfig::Rotary {
            layout: layout @ RotaryLayout::Pairs,
            ..
        } = &mut wanted.positions
        {
            *layout = RotaryLayout::Halves;
            pairs = Some(wanted.head_dim);
        }
        let mut reasons = Vec::new();
        for (model_type, class) in ARCHITECTURES {
            let config = Value::Object(configuration(model_type, class, &wanted));
            let read = ImportedConfig::from_json(&config.to_string());
            let same = read.and_then(|read| match difference(&read.decoder, &wanted) {
                None => Ok(read),
                Some(what) => Err(Error::new(format!("it has another {what}"))),
            });
            match same {
                Ok(read) => {
                    let tensors = tensors(&read, &found.weights, pairs)?;
                    return Ok(HuggingFaceModel {
                        model_type: model_type.to_owned(),
                        config,
                        tensors,
                    });
                }
                Err(error) => reasons.push(format!("{model_type}: {}", error.message)),
            }
        }
        Err(Error::new(format!(
            "`{}` has no Hugging Face architecture ({})",
            model.name,
            reasons.join("; ")
        )))
    }

    /// The tensors with the formats they are stored in: that of their weights.
    pub fn specs(&self, stored: impl Fn(&str) -> Dtype) -> Vec<TensorSpec> {
        let spec = |tensor: &FileTensor| {
            let dtype = tensor
                .parts
                .first()
                .map_or(Dtype::F32, |(name, _)| stored(name));
            TensorSpec::new(&tensor.name, dtype, tensor.shape.clone())
        };
        self.tensors.iter().map(spec).collect()
    }
}

/// What differs first between two decoders that a checkpoint must agree on; names and the meaning of ids are
/// no part of one.
fn difference(one: &DecoderConfig, other: &DecoderConfig) -> Option<&'static str> {
    let differs = [
        ("vocabulary", one.tokens.size == other.tokens.size),
        ("context", one.context == other.context),
        (
            "size",
            (one.width, one.layers, one.hidden, one.embed_width)
                == (other.width, other.layers, other.hidden, other.embed_width),
        ),
        (
            "division into heads",
            (one.heads, one.kv_heads, one.head_dim)
                == (other.heads, other.kv_heads, other.head_dim),
        ),
        (
            "feed-forward part",
            (one.activation, one.gated, one.mlp_biases)
                == (other.activation, other.gated, other.mlp_biases),
        ),
        ("norm", one.norm == other.norm),
        ("place of norms", one.norm_place == other.norm_place),
        ("kind of positions", one.positions == other.positions),
        ("set of biases", one.biases == other.biases),
        ("head", one.tied == other.tied),
        ("norm on queries and keys", one.qk_norm == other.qk_norm),
        ("mask of ids", one.masked == other.masked),
        ("element type", one.dtype == other.dtype),
    ];
    let found = differs.into_iter().find(|(_, same)| !same);
    found.map(|(what, _)| what)
}

/// The fields of a `config.json` that say as much of a decoder as the architecture can.
fn configuration(model_type: &str, class: &str, d: &DecoderConfig) -> Map<String, Value> {
    let dtype = match d.dtype {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        DType::F32 | DType::U32 => "float32",
    };
    let mut fields = json!({
        "architectures": [class],
        "model_type": model_type,
        "vocab_size": d.tokens.size,
        "tie_word_embeddings": d.tied,
        "torch_dtype": dtype,
    });
    let act = d.activation.published();
    let own = match model_type {
        "opt" => json!({
            "hidden_size": d.width,
            "word_embed_proj_dim": d.embed_width.unwrap_or(d.width),
            "num_hidden_layers": d.layers,
            "num_attention_heads": d.heads,
            "ffn_dim": d.hidden,
            "max_position_embeddings": d.context,
            "activation_function": act,
            "enable_bias": d.biases,
            "layer_norm_elementwise_affine": d.norm.affine,
            "do_layer_norm_before": d.norm_place == NormPlace::Before,
            "_remove_final_layer_norm": false,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "layerdrop": 0.0,
        }),
        "llama" => {
            let (base, scaling) = match d.positions {
                PositionConfig::Rotary { base, scaling, .. } => (base, scaling),
                PositionConfig::Learned { .. } => (10_000.0, RotaryScaling::None),
            };
            json!({
                "hidden_size": d.width,
                "intermediate_size": d.hidden,
                "num_hidden_layers": d.layers,
                "num_attention_heads": d.heads,
                "num_key_value_heads": d.kv_heads,
                "head_dim": d.head_dim,
                "max_position_embeddings": d.context,
                "rms_norm_eps": d.norm.eps,
                "rope_theta": base,
                "rope_scaling": rope_scaling(&scaling),
                "hidden_act": act,
                "attention_bias": d.biases,
                "mlp_bias": d.mlp_biases,
                "attention_dropout": 0.0,
            })
        }
        _ => json!({
            "n_embd": d.width,
            "n_head": d.heads,
            "n_layer": d.layers,
            "n_positions": d.context,
            "n_inner": d.hidden,
            "activation_function": act,
            "layer_norm_epsilon": d.norm.eps,
            "scale_attn_weights": true,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }),
    };
    let mut all = Map::new();
    for part in [&mut fields, &mut { own }] {
        if let Value::Object(part) = part {
            all.append(part);
        }
    }
    // Ids that programs of others look for; a vocabulary without them says so.
    for (field, mark) in [
        ("bos_token_id", "bos"),
        ("eos_token_id", "eos"),
        ("pad_token_id", "pad"),
    ] {
        // A fused model may have the ends of several parents.
        let more = d.tokens.marks.iter();
        let more = more.filter(|(name, _)| mark == "eos" && name.starts_with("eos:"));
        let more: Vec<Value> = more.map(|(_, id)| json!(id)).collect();
        let id = json!(d.tokens.marks.get(mark));
        let told = match more.is_empty() {
            true => id,
            false => std::iter::once(id).chain(more).collect(),
        };
        all.insert(field.to_owned(), told);
    }
    all
}

/// The record of `rope_scaling`.
fn rope_scaling(scaling: &RotaryScaling) -> Value {
    match *scaling {
        RotaryScaling::None => Value::Null,
        RotaryScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RotaryScaling::Dynamic { factor } => json!({"rope_type": "dynamic", "factor": factor}),
        RotaryScaling::Llama3 {
            factor,
            low,
            high,
            original,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original,
        }),
        RotaryScaling::Yarn {
            factor,
            fast,
            slow,
            original,
            attention,
            whole,
        } => json!({
            "rope_type": "yarn",
            "factor": factor,
            "beta_fast": fast,
            "beta_slow": slow,
            "original_max_position_embeddings": original,
            "attention_factor": attention,
            "truncate": whole,
        }),
    }
}

/// The tensors of a folder with this configuration; `own` gives the model's names of weights.
fn tensors(
    config: &ImportedConfig,
    own: &IndexMap<String, String>,
    pairs: Option<u64>,
) -> Result<Vec<FileTensor>> {
    let table = NameTable::of(&config.model_type)?;
    let weights = file_weights(&table, &config.sizes(), table.usual_prefix())?;
    let mut tensors: IndexMap<String, FileTensor> = IndexMap::new();
    let mut left = own.len();
    for (name, weight) in weights {
        let Some(own) = own.get(&name) else {
            continue;
        };
        left -= 1;
        let part = name.rsplit('.').next().unwrap_or(&name);
        let turned = name.contains("attn.") && ["q", "k", "q_bias", "k_bias"].contains(&part);
        let tensor = tensors
            .entry(weight.file_name.clone())
            .or_insert_with(|| FileTensor {
                name: weight.file_name.clone(),
                shape: weight.file_shape(),
                parts: Vec::new(),
                pairs: pairs.filter(|_| turned),
            });
        tensor.parts.push((own.clone(), weight));
    }
    for tensor in tensors.values_mut() {
        tensor.parts.sort_by_key(|(_, weight)| weight.outputs.0);
    }
    if left > 0 {
        return Err(Error::new(format!(
            "{left} weights have no name in the `{}` architecture",
            config.model_type
        )));
    }
    Ok(tensors.into_values().collect())
}

impl FileTensor {
    /// Writes the tensor whole, in blocks; false when `stopped` says so between two of them.
    ///
    /// # Errors
    /// When a weight cannot be read or the file not be written.
    pub fn write(
        &self,
        source: &dyn WeightSource,
        writer: &mut CheckpointWriter,
        stopped: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let transposed = self
            .parts
            .first()
            .is_some_and(|(_, weight)| weight.transposed);
        let flat = self
            .parts
            .first()
            .is_some_and(|(_, weight)| weight.rows == 0);
        if flat || transposed {
            // Outputs follow one another, and so do the parts.
            for (name, weight) in &self.parts {
                let rows = weight.rows.max(1);
                let step = (BLOCK / rows).max(1);
                let mut start = 0;
                while start < weight.columns {
                    if stopped() {
                        return Ok(false);
                    }
                    let end = weight.columns.min(start + step);
                    let block = self.outputs(source, name, weight, start..end)?;
                    writer.append_f32(&self.name, &block)?;
                    start = end;
                }
            }
            return Ok(true);
        }
        // Rows of inputs, in which the parts stand side by side.
        let Some((_, first)) = self.parts.first() else {
            return Ok(true);
        };
        let all = first.outputs.1;
        let axis = first.shape.first().copied().unwrap_or(1);
        let inner = first.rows / axis.max(1);
        let step = (BLOCK / (inner * all).max(1)).max(1);
        let mut start = 0;
        while start < axis {
            if stopped() {
                return Ok(false);
            }
            let end = axis.min(start + step);
            let rows = ((end - start) * inner) as usize;
            let mut block = vec![0.0; rows * all as usize];
            for (name, weight) in &self.parts {
                let values = source.rows(name, start..end)?;
                let (at, columns) = (weight.outputs.0 as usize, weight.columns as usize);
                let lines = block.chunks_exact_mut(all as usize);
                for (line, own) in lines.zip(values.chunks_exact(columns)) {
                    line[at..at + columns].copy_from_slice(own);
                }
            }
            writer.append_f32(&self.name, &block)?;
            start = end;
        }
        Ok(true)
    }

    /// Some outputs of a weight with all their inputs: `[outputs, inputs]`, or `[outputs]`.
    fn outputs(
        &self,
        source: &dyn WeightSource,
        name: &str,
        weight: &FileWeight,
        outputs: Range<u64>,
    ) -> Result<Vec<f32>> {
        let count = (outputs.end - outputs.start) as usize;
        let from: Vec<usize> = outputs.map(|output| self.column(output) as usize).collect();
        let axis = weight.shape.first().copied().unwrap_or(1);
        let (inputs, columns) = (weight.rows.max(1) as usize, weight.columns as usize);
        if weight.rows == 0 {
            let values = source.rows(name, 0..axis)?;
            return Ok(from.iter().map(|column| values[*column]).collect());
        }
        let mut block = vec![0.0; count * inputs];
        let inner = (weight.rows / axis.max(1)) as usize;
        let step = (BLOCK / weight.columns.max(1) / inner.max(1) as u64).max(1);
        let mut start = 0;
        while start < axis {
            let end = axis.min(start + step);
            let values = source.rows(name, start..end)?;
            let first = start as usize * inner;
            for (row, line) in values.chunks_exact(columns).enumerate() {
                for (output, column) in from.iter().enumerate() {
                    block[output * inputs + first + row] = line[*column];
                }
            }
            start = end;
        }
        Ok(block)
    }

    /// The output of the weight that is this output of the file.
    fn column(&self, output: u64) -> u64 {
        match self.pairs {
            None => output,
            Some(key) => {
                let (head, feature) = (output / key, output % key);
                let half = key / 2;
                let own = match feature < half {
                    true => 2 * feature,
                    false => 2 * (feature - half) + 1,
                };
                head * key + own
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::checkpoints::decoder::{QkNorm, decoder_only};
    use jam_ir::TokenLayout;

    use super::*;

    /// Weights that count up, each from a number of its own.
    struct Counting(Model);

    impl WeightSource for Counting {
        fn names(&self) -> Vec<String> {
            self.0.weights.keys().cloned().collect()
        }

        fn shape(&self, name: &str) -> Option<Vec<u64>> {
            let uses = self.0.weight_uses();
            self.0.weight_shape(&uses.get(name)?.ty)
        }

        fn rows(&self, name: &str, rows: Range<u64>) -> Result<Vec<f32>> {
            let number = self.0.weights.get_index_of(name).unwrap() as u64;
            let inner: u64 = self.shape(name).unwrap()[1..].iter().product();
            let range = rows.start * inner..rows.end * inner;
            Ok(range.map(|i| (number * 1000 + i) as f32).collect())
        }
    }

    fn configs() -> Vec<(&'static str, DecoderConfig)> {
        let tokens = TokenLayout::bare(11);
        let opt = DecoderConfig::opt(tokens.clone(), 5, 8, 2, 2, 12);
        let mut old = opt.clone();
        old.embed_width = Some(4);
        old.norm_place = NormPlace::After;
        let mut gpt2 = opt.clone();
        gpt2.positions = PositionConfig::Learned { offset: 0 };
        gpt2.activation = jam_ir::Activation::GeluTanh;
        let mut llama = DecoderConfig::llama(tokens.clone(), 5, 8, 2, 4, 12);
        llama.kv_heads = 1;
        llama.head_dim = 6;
        llama.norm.eps = 1e-6;
        llama.biases = true;
        llama.positions = PositionConfig::Rotary {
            base: 500.0,
            layout: RotaryLayout::Halves,
            scaling: RotaryScaling::Yarn {
                factor: 4.0,
                fast: 32.0,
                slow: 1.0,
                original: 3,
                attention: 1.25,
                whole: true,
            },
        };
        vec![
            ("opt", opt),
            ("opt", old),
            ("opt", DecoderConfig::cm3leon(tokens, 5, 8, 2, 2, 12)),
            ("gpt2", gpt2),
            ("llama", llama),
        ]
    }

    fn write(model: &Model) -> (tempfile::TempDir, HuggingFaceModel) {
        let folder = tempfile::tempdir().unwrap();
        let found = HuggingFaceModel::of(model).unwrap();
        let specs = found.specs(|_| Dtype::F32);
        let mut writer =
            CheckpointWriter::create(folder.path(), specs, Default::default()).unwrap();
        let source = Counting(model.clone());
        for tensor in &found.tensors {
            assert!(tensor.write(&source, &mut writer, &|| false).unwrap());
        }
        writer.finish().unwrap();
        std::fs::write(folder.path().join("config.json"), found.config.to_string()).unwrap();
        (folder, found)
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (model_type, config) in configs() {
            let model = decoder_only(&config);
            let (folder, found) = write(&model);
            assert_eq!(found.model_type, model_type);
            let weights = super::super::import::open_weights(folder.path()).unwrap();
            let source = Counting(model);
            assert_eq!(weights.names().len(), source.names().len());
            for name in source.names() {
                let shape = source.shape(&name).unwrap();
                assert_eq!(weights.shape(&name), Some(shape.clone()), "{name}");
                let all = 0..shape[0];
                assert_eq!(
                    weights.rows(&name, all.clone()).unwrap(),
                    source.rows(&name, all).unwrap(),
                    "{model_type} {name}"
                );
            }
        }
    }

    #[test]
    fn pairs_become_halves() {
        let tokens = TokenLayout::bare(11);
        let mut config = DecoderConfig::llama(tokens, 5, 8, 1, 2, 12);
        config.positions = PositionConfig::Rotary {
            base: 10_000.0,
            layout: RotaryLayout::Pairs,
            scaling: RotaryScaling::None,
        };
        let model = decoder_only(&config);
        let (folder, _) = write(&model);
        let read = ImportedConfig::read(folder.path()).unwrap();
        let PositionConfig::Rotary { layout, .. } = read.decoder.positions else {
            panic!("rotary positions");
        };
        assert_eq!(layout, RotaryLayout::Halves);
        let weights = super::super::import::open_weights(folder.path()).unwrap();
        let source = Counting(model);
        for (name, same) in [("attn.q", false), ("attn.k", false), ("attn.v", true)] {
            let name = format!("layers.0.{name}"); // [width 8, head 2, key 4]
            let (own, found) = (
                source.rows(&name, 3..4).unwrap(),
                weights.rows(&name, 3..4).unwrap(),
            );
            let halves: Vec<f32> = [0, 2, 1, 3, 4, 6, 5, 7].map(|i| own[i]).to_vec();
            assert_eq!(found, if same { own } else { halves });
        }
    }

    #[test]
    fn what_no_architecture_says_has_none() {
        let (_, opt) = configs().swap_remove(0);
        let mut other = opt.clone();
        other.gated = true;
        let mut halves = opt.clone();
        halves.norm.eps = 1e-4;
        halves.norm.bias = false;
        let mut with_qk_norm = opt.clone();
        with_qk_norm.qk_norm = Some(QkNorm {
            norm: opt.norm,
            per_head: false,
        });
        for config in [other, halves, with_qk_norm] {
            let error = HuggingFaceModel::of(&decoder_only(&config)).unwrap_err();
            assert!(
                error.message.contains("no Hugging Face architecture (opt:"),
                "{error}"
            );
        }
    }
}
