//! Imported models: sizes, source, and weights that lie where the tables say.

use std::fs;
use std::path::PathBuf;

use crate::checkpoints::decoder::decoder_only;

use super::super::{CheckpointWriter, Dtype, TensorSpec, WriteOptions};
use super::*;

const OPT: &str = r#"{"model_type":"opt","hidden_size":8,"num_attention_heads":2,"vocab_size":11,
    "num_hidden_layers":2,"ffn_dim":12,"max_position_embeddings":5,"torch_dtype":"float16"}"#;
const LLAMA: &str = r#"{"model_type":"llama","hidden_size":8,"num_attention_heads":4,
    "num_key_value_heads":2,"head_dim":6,"vocab_size":11,"num_hidden_layers":2,
    "intermediate_size":12,"max_position_embeddings":5,"rope_theta":500000.0,
    "tie_word_embeddings":false,"rms_norm_eps":1e-6}"#;
const GPT2: &str = r#"{"model_type":"gpt2","n_embd":8,"n_head":2,"n_layer":2,"vocab_size":11,
    "n_positions":5,"n_inner":null,"activation_function":"gelu_new"}"#;

/// A Hugging Face folder whose tensors count up from a number of their own.
fn folder(config: &str, prefix: &str) -> (tempfile::TempDir, ImportedConfig) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(CONFIG_FILE), config).unwrap();
    let imported = ImportedConfig::from_json(config).unwrap();
    let table = NameTable::of(&imported.model_type).unwrap();
    let asked = decoder_only(&imported.decoder).weights;
    let weights = file_weights(&table, &imported.sizes(), prefix).unwrap();
    let mut specs: Vec<TensorSpec> = Vec::new();
    for (name, weight) in &weights {
        let known = specs.iter().any(|spec| spec.name == weight.file_name);
        if asked.contains_key(name) && !known {
            specs.push(TensorSpec::new(
                &weight.file_name,
                Dtype::F32,
                weight.file_shape(),
            ));
        }
    }
    specs.push(TensorSpec::new("something.else", Dtype::F32, [1]));
    let mut writer =
        CheckpointWriter::create(folder.path(), specs.clone(), WriteOptions::default()).unwrap();
    for (number, spec) in specs.iter().enumerate() {
        let count: u64 = spec.shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|i| (number as u64 * 1000 + i) as f32)
            .collect();
        writer.append_f32(&spec.name, &values).unwrap();
    }
    writer.finish().unwrap();
    (folder, imported)
}

#[test]
fn every_weight_that_the_graph_asks_for_is_in_the_tables() {
    for (config, prefix) in [
        (OPT, "model.decoder."),
        (OPT, "decoder."),
        (LLAMA, "model."),
        (GPT2, ""),
    ] {
        let (folder, imported) = folder(config, prefix);
        let weights = open_weights(folder.path()).unwrap();
        let model = decoder_only(&imported.decoder);
        let uses = model.weight_uses();
        assert_eq!(weights.names().len(), uses.len(), "{config}");
        for (name, param) in uses {
            let asked = model.weight_shape(&param.ty).unwrap();
            assert_eq!(weights.shape(&name), Some(asked), "{name}");
        }
    }
}

#[test]
fn rows_are_those_of_the_whole_and_lie_input_first() {
    for config in [OPT, LLAMA, GPT2] {
        let (folder, imported) = folder(config, if config == OPT { "decoder." } else { "" });
        let weights = open_weights(folder.path()).unwrap();
        for name in weights.names() {
            let shape = weights.shape(&name).unwrap();
            let whole = weights.rows(&name, 0..shape[0]).unwrap();
            assert_eq!(whole.len() as u64, shape.iter().product::<u64>(), "{name}");
            let pieces: Vec<f32> = (0..shape[0])
                .flat_map(|row| weights.rows(&name, row..row + 1).unwrap())
                .collect();
            assert_eq!(pieces, whole, "{name}");
            assert!(weights.rows(&name, 0..shape[0] + 1).is_err());
        }
        let reader = CheckpointReader::open(folder.path()).unwrap();
        let width = imported.decoder.width as usize;
        let hidden = imported.decoder.hidden as usize;
        // [width, hidden] of JAM, [hidden, width] of OPT and LLaMA, [width, hidden] of GPT-2.
        let up = weights.rows("layers.1.mlp.up", 0..width as u64).unwrap();
        let (file, transposed) = match imported.model_type.as_str() {
            "opt" => ("decoder.layers.1.fc1.weight", true),
            "llama" => ("layers.1.mlp.up_proj.weight", true),
            _ => ("h.1.mlp.c_fc.weight", false),
        };
        let stored = reader.read_f32(file).unwrap();
        let place = |i: usize, j: usize| {
            if transposed {
                j * width + i
            } else {
                i * hidden + j
            }
        };
        for (i, j) in [(0, 0), (3, 7), (7, 11), (5, 2)] {
            assert_eq!(up[i * hidden + j], stored[place(i, j)], "{file} {i} {j}");
        }
    }
}

#[test]
fn joined_queries_keys_and_values_come_apart() {
    let (folder, _) = folder(GPT2, "transformer.");
    let weights = open_weights(folder.path()).unwrap();
    let reader = CheckpointReader::open(folder.path()).unwrap();
    let joined = reader
        .read_f32("transformer.h.0.attn.c_attn.weight")
        .unwrap(); // [8, 24]
    for (part, name) in ["attn.q", "attn.k", "attn.v"].iter().enumerate() {
        let own = weights.rows(&format!("layers.0.{name}"), 2..4).unwrap(); // [2, head 2, key 4]
        let expected: Vec<f32> = (2..4)
            .flat_map(|row| &joined[row * 24 + part * 8..][..8])
            .copied()
            .collect();
        assert_eq!(own, expected);
        let bias = weights
            .rows(&format!("layers.0.{name}_bias"), 1..2)
            .unwrap(); // [1, key 4]
        let joined = reader.read_f32("transformer.h.0.attn.c_attn.bias").unwrap();
        assert_eq!(bias, joined[part * 8 + 4..part * 8 + 8]);
    }
}

#[test]
fn shapes_that_differ_from_the_configuration_are_told_first() {
    let (folder, imported) = folder(OPT, "model.decoder.");
    let other = OPT.replace("\"vocab_size\":11", "\"vocab_size\":12");
    fs::write(folder.path().join(CONFIG_FILE), &other).unwrap();
    let error = open_weights(folder.path()).err().unwrap();
    assert!(
        error.message.contains("[11, 8]") && error.message.contains("[12, 8]"),
        "{error}"
    );
    let reader = CheckpointReader::open(folder.path()).unwrap();
    let table = NameTable::of("opt").unwrap();
    let weights = HuggingFaceWeights::new(reader, &table, &imported.sizes()).unwrap();
    assert_eq!(weights.surplus(), ["something.else"]);
    let reader = CheckpointReader::open(folder.path()).unwrap();
    let llama = ImportedConfig::from_json(LLAMA).unwrap();
    let error = HuggingFaceWeights::new(reader, &NameTable::of("llama").unwrap(), &llama.sizes());
    assert!(error.unwrap_err().message.contains("no tensor has a name"));
}

#[test]
fn what_is_not_known_is_an_error() {
    let broken = [
        ("{", "not a configuration"),
        ("{}", "`model_type` is missing"),
        (r#"{"model_type":"bert"}"#, "`bert` are not known"),
        (
            &LLAMA.replace("\"rope_theta\"", "\"logits_scaling\":8.0,\"rope_theta\""),
            "`logits_scaling` (8.0)",
        ),
        (
            &LLAMA.replace(
                "\"rope_theta\"",
                "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0,\"short_factor\":[1.0]},\"rope_theta\"",
            ),
            "`short_factor` ([1.0]) is a field of `rope_scaling`",
        ),
        (
            &OPT.replace("\"ffn_dim\"", "\"quantization_config\":{\"quant_method\":\"gptq\"},\"ffn_dim\""),
            "quantised by `gptq`",
        ),
        (
            &OPT.replace("\"ffn_dim\":12", "\"ffn_dim\":0"),
            "`ffn_dim` is 0",
        ),
        (
            &OPT.replace("\"ffn_dim\":12", "\"ffn_dim\":1e9"),
            "`ffn_dim` is 1000000000.0",
        ),
        (
            &OPT.replace("heads\":2", "heads\":3"),
            "not divided by 3 heads",
        ),
        (&OPT.replace("float16", "int4"), "`torch_dtype` is `int4`"),
        (
            &LLAMA.replace(
                "\"rope_theta\"",
                "\"rope_scaling\":{\"rope_type\":\"longrope\"},\"rope_theta\"",
            ),
            "`longrope` rotary",
        ),
        (
            &LLAMA.replace("heads\":2", "heads\":3"),
            "not shared evenly",
        ),
        (&GPT2.replace("gelu_new", "mish"), "`mish`"),
    ];
    for (text, expected) in broken {
        let error = ImportedConfig::from_json(text).unwrap_err();
        assert!(error.message.contains(expected), "{text}: {error}");
    }
}

/// A name that is not known, for what is known: the way on is told where every field is understood, and only there.
#[test]
fn an_unknown_type_with_the_fields_of_a_known_one_is_told_so() {
    let help = |text: &str| ImportedConfig::from_json(text).unwrap_err().help.unwrap();
    let mistral = LLAMA.replace("\"llama\"", "\"mistral\"");
    assert!(help(&mistral).contains("\"model_type\": \"llama\""));
    let windowed = mistral.replace("\"rope_theta\"", "\"sliding_window\":1,\"rope_theta\"");
    assert!(help(&windowed).contains("known are"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_configuration() {
    let marked = format!("\u{feff}{LLAMA}");
    assert_eq!(
        ImportedConfig::from_json(&marked).unwrap(),
        ImportedConfig::from_json(LLAMA).unwrap()
    );
}

/// Every end that a configuration names ends texts, and stretched positions are kept.
#[test]
fn several_ends_and_stretched_positions_are_kept() {
    let more = "\"eos_token_id\":[2,6,2],\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4.0},\"rope_theta\"";
    let config = ImportedConfig::from_json(&LLAMA.replace("\"rope_theta\"", more)).unwrap();
    assert_eq!(config.decoder.tokens.ends().collect::<Vec<_>>(), [2, 6]);
    let source = config.jam_source("parent", "w");
    assert!(source.contains("eos(2, 6)"), "{source}");
    assert!(source.contains("scaling: dynamic(factor: 4)"), "{source}");
}

/// What fuzzing found: configurations whose source was a program with errors.
#[test]
fn what_the_language_refuses_is_refused_before() {
    let original = r#"{"dim":8,"n_layers":1,"n_heads":2,"vocab_size":9,"ffn_dim_multiplier":1e-9}"#;
    let broken = [
        (LLAMA.replace("head_dim\":6", "head_dim\":11"), "even"),
        (LLAMA.replace("1e-6", "7"), "`rms_norm_eps` is 7"),
        (LLAMA.replace("1e-6", "5e-324"), "`rms_norm_eps` is 5e-324"),
        (LLAMA.replace("500000.0", "0.5"), "`rope_theta` is 0.5"),
        (LLAMA.replace("500000.0", "1e300"), "`rope_theta` is 1e+300"),
        (
            LLAMA.replace("layers\":2", "layers\":5000"),
            "5000 layers are too many",
        ),
        (original.to_owned(), "at least one entry"),
        (
            r#"{"model_type":"chameleon","vocab_size":1,"hidden_size":8,"num_attention_heads":2,
                "intermediate_size":6,"max_position_embeddings":7,"num_hidden_layers":1,
                "vocabulary_map":{"IMGIMGAa":0}}"#
                .to_owned(),
            "no logit is left",
        ),
    ];
    for (text, expected) in broken {
        let error = ImportedConfig::from_json(&text).unwrap_err();
        assert!(error.message.contains(expected), "{text}: {error}");
    }
    // Digits of a number in the source have an end.
    let small = r#""rope_scaling":{"type":"linear","factor":1e-300},"rope_theta""#;
    let small = ImportedConfig::from_json(&LLAMA.replace("\"rope_theta\"", small)).unwrap();
    let source = small.jam_source("parent", "w");
    assert!(source.contains("linear(factor: 1e-300)"), "{source}");
}

#[test]
fn source_says_what_the_configuration_says() {
    let llama = ImportedConfig::from_json(LLAMA)
        .unwrap()
        .jam_source("parent", "weights/x");
    for part in [
        "attention(norm1, heads: 4, kv_heads: 2, key: 6, rotary: rotary(base: 500000), mask: causal, bias: no)",
        "mlp(norm2, hidden: 12, act: silu, gated: yes, bias: no)",
        "rms_norm(x, eps: 1e-6)",
        "tied: no",
        "weights     = \"weights/x\"",
    ] {
        assert!(llama.contains(part), "{part} in\n{llama}");
    }
    let opt = ImportedConfig::from_json(OPT)
        .unwrap()
        .jam_source("parent", "w");
    assert!(opt.contains("positions(learned, offset: 2)"), "{opt}");
    let after = "\"do_layer_norm_before\":false,\"word_embed_proj_dim\":4,\"ffn_dim\"";
    let after = OPT.replace("\"ffn_dim\"", after);
    let after = ImportedConfig::from_json(&after).unwrap();
    assert_eq!(after.decoder.norm_place, NormPlace::After);
    let after = after.jam_source("parent", "w");
    for part in [
        "attention(x, heads: 2, mask: causal, bias: yes)",
        "norm1 = layer_norm(x)\n    mlp   = mlp(norm1,",
        "table       = embed(tokens, width: 4)\n    project_in  = linear(table, width: 8)\n",
        "x           = project_in + positions(learned, offset: 2)\n",
        "project_out = linear(x, width: 4)\n    logits      = unembed(project_out, tied: yes)",
    ] {
        assert!(after.contains(part), "{part} in\n{after}");
    }
    assert!(!after.contains("final_norm"));
}

/// Parents published by others: every weight of the graph is there, of the asked-for shape, and nothing is
/// left over.
#[test]
fn golden_parents_are_read_through_the_tables() {
    let golden = std::env::var_os("JAM_GOLDEN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden"),
        PathBuf::from,
    );
    let mut count = 0;
    let parents = golden.join("parents");
    let mut folders: Vec<PathBuf> = fs::read_dir(&parents)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    folders.sort();
    if let Some(sharded) = folders
        .iter()
        .map(|f| f.join("sharded"))
        .find(|f| f.is_dir())
    {
        folders.push(sharded);
    }
    for folder in folders {
        let Ok(imported) = ImportedConfig::read(&folder) else {
            continue;
        };
        let reader = CheckpointReader::open(&folder).unwrap();
        let table = NameTable::of(&imported.model_type).unwrap();
        let weights = HuggingFaceWeights::new(reader, &table, &imported.sizes()).unwrap();
        assert!(
            weights.surplus().is_empty(),
            "{}: {:?}",
            folder.display(),
            weights.surplus()
        );
        let model = decoder_only(&imported.decoder);
        let uses = model.weight_uses();
        assert_eq!(weights.names().len(), uses.len(), "{}", folder.display());
        for (name, param) in uses {
            let shape = model.weight_shape(&param.ty).unwrap();
            assert_eq!(
                weights.shape(&name),
                Some(shape.clone()),
                "{} {name}",
                folder.display()
            );
            let values = weights.rows(&name, 0..shape[0]).unwrap();
            assert!(values.iter().all(|x| x.is_finite()));
        }
        count += 1;
    }
    assert!(count > 5, "{count} parents in {}", parents.display());
}
