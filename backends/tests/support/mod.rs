//! Golden parents (checkpoints of other software, with what it computed from them) and small models.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use jam_backends::{Device, ExecOptions, Executable};
use jam_ir::{Model, RotaryLayout, TokenLayout};
use jam_weights::checkpoints::decoder::{DecoderConfig, PositionConfig, decoder_only};
use safetensors::{Dtype, SafeTensors};

/// Tensors of one file by name: shape and values, integers and floats alike as f64.
pub(crate) struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl Tensors {
    /// Reads a whole file.
    fn open(path: &std::path::Path) -> Tensors {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let tensors = file.iter().map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data
                    .chunks_exact(4)
                    .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                    .collect(),
                Dtype::I64 => data
                    .chunks_exact(8)
                    .map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")) as f64)
                    .collect(),
                other => panic!("{name} has type {other:?}"),
            };
            (name.to_owned(), (view.shape().to_vec(), values))
        });
        Tensors(tensors.collect())
    }

    /// Whether there is such a tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Names that begin with `prefix`, without it.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let names = self.0.keys().filter_map(|name| name.strip_prefix(prefix));
        names.map(str::to_owned).collect()
    }

    /// Sizes of a tensor's axes.
    pub(crate) fn shape(&self, name: &str) -> &[usize] {
        &self.get(name).0
    }

    fn get(&self, name: &str) -> &(Vec<usize>, Vec<f64>) {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Values as floats.
    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        self.get(name).1.iter().map(|&x| x as f32).collect()
    }

    /// Values as token ids.
    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.get(name).1.iter().map(|&x| x as u32).collect()
    }

    /// Values as given.
    pub(crate) fn raw(&self, name: &str) -> &[f64] {
        &self.get(name).1
    }
}

/// One golden parent: its model, weights under JAM's names, inputs and expected values.
pub(crate) struct Golden {
    pub(crate) model: Model,
    pub(crate) weights: Tensors,
    pub(crate) inputs: Tensors,
    pub(crate) expected: Tensors,
    llama: bool,
}

/// The parents that the tests below know.
pub(crate) const PARENTS: [&str; 4] = ["opt_tiny", "opt_cm3leon", "llama_gqa", "llama_mha"];

/// Folder of golden cases: `$JAM_GOLDEN`, else the repository's own.
fn golden_folder() -> PathBuf {
    match std::env::var_os("JAM_GOLDEN") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden"),
    }
}

impl Golden {
    /// Reads a parent.
    pub(crate) fn open(name: &str) -> Golden {
        let folder = golden_folder().join("parents").join(name);
        let config = std::fs::read_to_string(folder.join("config.json")).expect("a config");
        let config: serde_json::Value = serde_json::from_str(&config).expect("json");
        let number = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("no {key}"));
        let tokens = TokenLayout::bare(number("vocab_size"));
        let llama = config["model_type"] == "llama";
        let sizes = |hidden| {
            (
                number("max_position_embeddings"),
                number("hidden_size"),
                number("num_hidden_layers"),
                number("num_attention_heads"),
                number(hidden),
            )
        };
        let mut decoder = if llama {
            let (context, width, layers, heads, hidden) = sizes("intermediate_size");
            let mut c = DecoderConfig::llama(tokens, context, width, layers, heads, hidden);
            c.kv_heads = number("num_key_value_heads");
            c.norm.eps = config["rms_norm_eps"].as_f64().expect("eps");
            c.positions = PositionConfig::Rotary {
                base: config["rope_theta"].as_f64().unwrap_or(10_000.0),
                layout: RotaryLayout::Halves,
                scaling: jam_ir::RotaryScaling::None,
            };
            c
        } else {
            let (context, width, layers, heads, hidden) = sizes("ffn_dim");
            match config["enable_bias"].as_bool() {
                Some(false) => {
                    DecoderConfig::cm3leon(tokens, context, width, layers, heads, hidden)
                }
                _ => DecoderConfig::opt(tokens, context, width, layers, heads, hidden),
            }
        };
        decoder.tied = config["tie_word_embeddings"].as_bool().unwrap_or(true);
        Golden {
            model: decoder_only(&decoder),
            weights: Tensors::open(&folder.join("model.safetensors")),
            inputs: Tensors::open(&folder.join("inputs.safetensors")),
            expected: Tensors::open(&folder.join("expected.safetensors")),
            llama,
        }
    }

    /// The foreign name of a weight, and whether it lies `[out, in]`.
    pub(crate) fn foreign(&self, name: &str) -> (String, bool) {
        let (layer, part) = match name.strip_prefix("layers.") {
            Some(rest) => {
                let (number, part) = rest.split_once('.').expect("a layer's weight");
                (format!("layers.{number}."), part)
            }
            None => (String::new(), name),
        };
        let matrix = !part.contains("norm") && !part.contains("bias") && !part.contains("table");
        let part = match (self.llama, part) {
            (true, "embed.table") => "embed_tokens.weight",
            (true, "final_norm.gain") => "norm.weight",
            (true, "unembed.weight") => return ("lm_head.weight".to_owned(), true),
            (true, "norm1.gain") => "input_layernorm.weight",
            (true, "norm2.gain") => "post_attention_layernorm.weight",
            (true, "attn.q") => "self_attn.q_proj.weight",
            (true, "attn.k") => "self_attn.k_proj.weight",
            (true, "attn.v") => "self_attn.v_proj.weight",
            (true, "attn.out") => "self_attn.o_proj.weight",
            (true, "mlp.gate") => "mlp.gate_proj.weight",
            (true, "mlp.up") => "mlp.up_proj.weight",
            (true, "mlp.down") => "mlp.down_proj.weight",
            (false, "embed.table") => "embed_tokens.weight",
            (false, "positions.table") => "embed_positions.weight",
            (false, "final_norm.gain") => "final_layer_norm.weight",
            (false, "final_norm.bias") => "final_layer_norm.bias",
            (false, "norm1.gain") => "self_attn_layer_norm.weight",
            (false, "norm1.bias") => "self_attn_layer_norm.bias",
            (false, "norm2.gain") => "final_layer_norm.weight",
            (false, "norm2.bias") => "final_layer_norm.bias",
            (false, "attn.q") => "self_attn.q_proj.weight",
            (false, "attn.k") => "self_attn.k_proj.weight",
            (false, "attn.v") => "self_attn.v_proj.weight",
            (false, "attn.out") => "self_attn.out_proj.weight",
            (false, "attn.q_bias") => "self_attn.q_proj.bias",
            (false, "attn.k_bias") => "self_attn.k_proj.bias",
            (false, "attn.v_bias") => "self_attn.v_proj.bias",
            (false, "attn.out_bias") => "self_attn.out_proj.bias",
            (false, "mlp.up") => "fc1.weight",
            (false, "mlp.up_bias") => "fc1.bias",
            (false, "mlp.down") => "fc2.weight",
            (false, "mlp.down_bias") => "fc2.bias",
            (_, other) => panic!("no foreign name for {other}"),
        };
        let model = if self.llama {
            "model."
        } else {
            "model.decoder."
        };
        (format!("{model}{layer}{part}"), matrix)
    }

    /// The executable on the CPU.
    pub(crate) fn executable(&self) -> Executable {
        self.executable_with(ExecOptions::default())
    }

    /// The executable on the CPU, run in a given way.
    pub(crate) fn executable_with(&self, options: ExecOptions) -> Executable {
        let mut weights = |name: &str, shape: &[usize]| {
            let (foreign, transposed) = self.foreign(name);
            let values = self.weights.floats(&foreign);
            let elements: usize = shape.iter().product();
            assert_eq!(values.len(), elements, "{name}");
            let given = self.weights.shape(&foreign);
            Ok(match transposed {
                true => transpose(&values, given[0], given[1]),
                false => values,
            })
        };
        Executable::new(&self.model, &mut weights, &Device::flex(), options).expect("an executable")
    }
}

/// `values [rows, columns]` with rows and columns exchanged.
pub(crate) fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let at = |i: usize| values[i % rows * columns + i / rows];
    (0..rows * columns).map(at).collect()
}

/// Weights for any model: drawn by a small generator, so that every bit is fixed. Matrices have
/// deviation 1/√in, gains lie around 1, biases and tables are small.
pub(crate) fn drawn(name: &str, shape: &[usize]) -> Vec<f32> {
    let elements: usize = shape.iter().product();
    let mut state = name.bytes().fold(0x9e37_79b9_7f4a_7c15u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let (base, spread) = match name {
        _ if name.contains("table") => (0.0, 1.0),
        _ if name.ends_with("gain") => (1.0, 0.4),
        _ if name.contains("bias") => (0.0, 0.3),
        _ => (0.0, 3.4 / (shape[0] as f32).sqrt()),
    };
    (0..elements).map(|_| base + spread * uniform()).collect()
}

/// An executable of a model with drawn weights on the CPU.
pub(crate) fn fresh(model: &Model, options: ExecOptions) -> Executable {
    let mut weights = |name: &str, shape: &[usize]| Ok(drawn(name, shape));
    Executable::new(model, &mut weights, &Device::flex(), options).expect("an executable")
}

/// Token ids that differ from place to place.
pub(crate) fn some_ids(count: usize, vocab: u32, seed: u32) -> Vec<u32> {
    let id = |i: usize| {
        (i as u32 + 1)
            .wrapping_mul(2_654_435_761)
            .wrapping_add(seed * 97)
            >> 7
    };
    (0..count).map(|i| id(i) % vocab).collect()
}

/// The largest difference of two equally long lists, where `counted` allows; NaN counts as endless.
pub(crate) fn distance(a: &[f32], b: &[f32], counted: impl Fn(usize) -> bool) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths");
    let difference = |i: usize| {
        let d = (a[i] - b[i]).abs();
        if d.is_nan() { f32::INFINITY } else { d }
    };
    (0..a.len())
        .filter(|&i| counted(i))
        .map(difference)
        .fold(0.0, f32::max)
}
