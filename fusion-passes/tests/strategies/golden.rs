//! Fusions that others computed: weights and logits of the cases under `$JAM_GOLDEN`, or
//! `tests/golden` of the repository, whose `kind` is `fusion`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jam_fusion_passes::{Parent, fuse};
use jam_ir::{Model, SettingValue, Settings, TokenLayout};
use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::reference::plan::{execute, permute};
use crate::reference::{Tensor, Weights, graph};

fn folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    match std::env::var_os("JAM_GOLDEN") {
        Some(folder) => PathBuf::from(folder),
        None => here.join("../tests/golden"),
    }
}

/// Folders below that hold a case.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.join("case.json").exists() {
            found.push(folder.clone());
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            folders.extend(Some(entry.path()).filter(|path| path.is_dir()));
        }
    }
    found.sort();
    found
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Float and integer tensors of a file.
fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let data = match view.dtype() {
            safetensors::Dtype::F32 => {
                let chunks = view.data().chunks_exact(4);
                chunks
                    .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                    .collect()
            }
            safetensors::Dtype::I64 => {
                let chunks = view.data().chunks_exact(8);
                chunks
                    .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
                    .collect()
            }
            other => panic!("{name}: {other:?}"),
        };
        (name, Tensor::new(view.shape(), data))
    });
    tensors.collect()
}

fn number(config: &Value, name: &str) -> u64 {
    config[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {config}"))
}

/// The model that a Hugging Face configuration describes.
fn model(config: &Value, tokens: TokenLayout) -> Model {
    let number = |name| number(config, name);
    let (width, layers, heads) = (
        number("hidden_size"),
        number("num_hidden_layers"),
        number("num_attention_heads"),
    );
    let context = number("max_position_embeddings");
    let mut decoder = match config["model_type"].as_str().unwrap() {
        "opt" => {
            let hidden = number("ffn_dim");
            match config["enable_bias"].as_bool().unwrap() {
                true => DecoderConfig::opt(tokens, context, width, layers, heads, hidden),
                false => DecoderConfig::cm3leon(tokens, context, width, layers, heads, hidden),
            }
        }
        "llama" => {
            let hidden = number("intermediate_size");
            let mut config_ = DecoderConfig::llama(tokens, context, width, layers, heads, hidden);
            config_.kv_heads = number("num_key_value_heads");
            config_.norm.eps = config["rms_norm_eps"].as_f64().unwrap();
            config_
        }
        other => panic!("{other}"),
    };
    decoder.tied = config["tie_word_embeddings"].as_bool().unwrap_or(true);
    decoder_only(&decoder)
}

/// The file's name of one of our weights; tensors of both have their axes in the other order.
fn file_name(name: &str, llama: bool) -> String {
    let (stem, kind) = match name.strip_suffix("_bias") {
        Some(stem) => (stem, "bias"),
        None => (name, "weight"),
    };
    let (stem, kind) = match stem.rsplit_once('.') {
        Some((stem, "gain")) => (stem, "weight"),
        Some((stem, "bias")) => (stem, "bias"),
        Some((stem, "table" | "weight")) => (stem, "weight"),
        _ => (stem, kind),
    };
    let (before, after) = match stem.rfind("attn.").or_else(|| stem.rfind("mlp.")) {
        Some(at) => stem.split_at(at),
        None => stem.split_at(stem.rfind('.').map_or(0, |at| at + 1)),
    };
    let after = match (after, llama) {
        ("attn.q", _) => "self_attn.q_proj",
        ("attn.k", _) => "self_attn.k_proj",
        ("attn.v", _) => "self_attn.v_proj",
        ("attn.out", false) => "self_attn.out_proj",
        ("attn.out", true) => "self_attn.o_proj",
        ("mlp.up", false) => "fc1",
        ("mlp.down", false) => "fc2",
        ("mlp.gate", _) => "mlp.gate_proj",
        ("mlp.up", _) => "mlp.up_proj",
        ("mlp.down", _) => "mlp.down_proj",
        ("norm1", false) => "self_attn_layer_norm",
        ("norm2", false) => "final_layer_norm",
        ("norm1", true) => "input_layernorm",
        ("norm2", true) => "post_attention_layernorm",
        ("final_norm", false) => "final_layer_norm",
        ("final_norm", true) => "norm",
        ("embed", _) => "embed_tokens",
        ("positions", _) => "embed_positions",
        ("unembed", _) => "lm_head",
        (other, _) => other,
    };
    let name = format!("{before}{after}.{kind}");
    match (name.as_str(), llama) {
        ("lm_head.weight", _) => name,
        (_, true) => format!("model.{name}"),
        (_, false) => format!("model.decoder.{name}"),
    }
}

/// The name of a cross fusion's weight in the authors' manner.
fn cross_name(name: &str) -> String {
    match name {
        "shared.embed" => return "shared_embed.weight".to_owned(),
        "shared.positions" => return "shared_positions.weight".to_owned(),
        "join.weight" => return "out_combine.weight".to_owned(),
        _ => {}
    }
    let name = file_name(name, false);
    let name = name.strip_prefix("model.decoder.").unwrap_or(&name);
    match name.starts_with("cross.") {
        true => name.replace("self_attn.", ""),
        false => name.to_owned(),
    }
}

/// A tensor of a file in our order of axes and with our axes.
fn ours(file: &BTreeMap<String, Tensor>, name: &str, ty_shape: &[u64], table: bool) -> Tensor {
    let tensor = file
        .get(name)
        .unwrap_or_else(|| panic!("there is no `{name}`"));
    let tensor = match tensor.shape.len() == 2 && !table {
        true => permute(tensor, &[1, 0]),
        false => tensor.clone(),
    };
    let shape: Vec<usize> = ty_shape.iter().map(|size| *size as usize).collect();
    Tensor::new(&shape, tensor.data)
}

/// All weights of a model from a file.
fn load(
    model: &Model,
    file: &BTreeMap<String, Tensor>,
    rename: &dyn Fn(&str) -> String,
) -> Weights {
    let uses = model.weight_uses();
    let weights = uses.into_iter().map(|(name, param)| {
        let shape = model.weight_shape(&param.ty).unwrap();
        let table =
            name.contains("table") || ["shared.embed", "shared.positions"].contains(&name.as_str());
        (name.clone(), ours(file, &rename(&name), &shape, table))
    });
    weights.collect()
}

fn setting(value: &Value) -> SettingValue {
    match value {
        Value::Bool(flag) => SettingValue::Flag(*flag),
        Value::String(word) => SettingValue::Word(word.clone()),
        number => SettingValue::Number(number.as_f64().unwrap()),
    }
}

#[test]
fn fusions_of_others_are_ours() {
    let mut count = 0;
    for case in cases(&folder()) {
        let about = json(&case.join("case.json"));
        if about["kind"] != "fusion" {
            continue;
        }
        run(&case, &about);
        count += 1;
    }
    let jam = folder().join("jam");
    assert!(count > 0 || !jam.exists(), "no fusion in {}", jam.display());
}

fn run(case: &Path, about: &Value) {
    let label = case.display().to_string();
    let strategy = about["strategy"].as_str().unwrap();
    let config = json(&case.join("config.json"));
    let mut tokens = TokenLayout::bare(number(&config, "vocab_size"));
    if let (Some(start), Some(end)) = (
        config["image_token_rows"][0].as_u64(),
        config["image_token_rows"][1].as_u64(),
    ) {
        assert!(tokens.take_images(start, end - start));
    }
    let mut models = Vec::new();
    let mut sources = BTreeMap::new();
    let mut llama = false;
    for parent in about["parents"].as_array().unwrap() {
        let folder = case.join(parent.as_str().unwrap());
        let config = json(&folder.join("config.json"));
        llama = config["model_type"] == "llama";
        let model = model(&config, tokens.clone());
        let file = tensors(&folder.join("model.safetensors"));
        let weights = load(&model, &file, &|name| file_name(name, llama));
        let source = folder.file_name().unwrap().to_string_lossy().into_owned();
        sources.insert(source.clone(), weights);
        models.push((source, model));
    }
    let parents: Vec<Parent<'_>> = models
        .iter()
        .map(|(source, model)| Parent {
            model,
            source: source.clone(),
            span: None,
        })
        .collect();
    let given = about["settings"].as_object().unwrap();
    let given: Settings = given
        .iter()
        .map(|(name, value)| (name.clone(), setting(value)))
        .collect();
    let fused =
        fuse(strategy, "fused", &parents, &given).unwrap_or_else(|e| panic!("{label}: {e:#?}"));

    // Every weight of the file is one of ours, and every one of ours that is planned is equal.
    let file = tensors(&case.join("model.safetensors"));
    let rename = |name: &str| match strategy {
        "cross" => cross_name(name),
        _ => file_name(name, llama),
    };
    let expected = load(&fused.model, &file, &rename);
    assert_eq!(expected.len(), file.len(), "{label}");
    for (name, expected) in &expected {
        let plan = &fused.model.weights[name].plan;
        if plan.is_fresh() {
            assert!(strategy == "cross" && (name.starts_with("cross.") || name == "join.weight"));
            continue;
        }
        let shape: Vec<u64> = expected.shape.iter().map(|size| *size as u64).collect();
        let found = execute(plan, &shape, &sources, name);
        assert!(found.distance(expected) <= 1e-6, "{label}: {name}");
    }

    let inputs = tensors(&case.join("inputs.safetensors"));
    let ids = &inputs["input_ids"];
    let rows = ids.data.chunks(ids.shape[1]);
    let rows: Vec<Vec<usize>> = rows
        .map(|row| row.iter().map(|id| *id as usize).collect())
        .collect();
    let logits = graph::logits(&fused.model, &expected, &rows);
    let wanted = &tensors(&case.join("expected.safetensors"))["logits"];
    let distance = logits.distance(wanted);
    assert!(distance <= 2e-4, "{label}: logits differ by {distance}");
}
